"""What becomes of one connection's present request, as it is counted and told. Answering it is done elsewhere."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bunpy.http.ending import Ending
from bunpy.http.request import Request

if TYPE_CHECKING:
    from bunpy.http.peer import Peer
    from bunpy.http.service import Service
    from bunpy.sse.reason import EndReason
    from bunpy.sse.stream import Stream

__all__ = ["Account"]


class Account:
    """One connection's: ``close`` when a request has been answered or its client has gone; ``open`` when it comes.

    Where nobody is told of requests, those that have a plain answer are neither opened nor closed, only counted.
    """

    __slots__ = ("_began", "_counters", "_is_streaming", "_outcome", "_service", "_size", "_status")

    def __init__(self, service: Service) -> None:
        self._service = service
        self._counters = service.counters
        self._began = 0.0
        self._status: int | None = None
        self._size = 0  # of what is no stream
        self._outcome: EndReason = "finished"
        self._is_streaming = False

    def open(self, request: Request) -> None:
        """A request has come, and somebody wants to know of it."""
        self._began = time.monotonic()
        self._status = None
        self._size = 0
        self._outcome = "finished"
        if self._service.observer is not None:
            self._service.observer.see_request(request)

    def refuse(self, peer: Peer, method: str, status: int, size: int) -> None:
        """What came was no request, or one too many or too large, and its sender has been told so."""
        service = self._service
        self._counters.add_response(status, size)
        if service.observer is not None:
            request = Request(method, "", {})
            peer.sign(request)
            # It may come in the task of the request before it, whose variables are not its own.
            ending = Ending(request, status, "finished", size, 0.0)
            service.context.copy().run(service.observer.see_end, ending)

    def fail(self) -> None:
        """It is answered with an error of the server's."""
        self._outcome = "error"

    def turn_away(self) -> None:
        """There is no room for it."""
        self._outcome = "limit"
        self._counters.turned_away += 1

    def add_answer(self, status: int, size: int) -> None:
        """The whole answer has been handed over."""
        self._status = status
        self._size = size
        counters = self._counters
        counters.responses[status // 100 - 1] += 1
        counters.bytes_sent += size

    def begin_stream(self, request: Request, status: int) -> None:
        """Its answer is a stream, which begins."""
        self._status = status
        self._size = 0
        self._is_streaming = True
        self._counters.streams_total += 1
        observer = self._service.observer
        if observer is None:
            self._began = time.monotonic()
        else:
            observer.see_stream(request)

    def close(self, request: Request, stream: Stream | None, loss: EndReason | None) -> None:
        """That was it; ``loss`` is why the client has gone, if it has."""
        if stream is None or not self._is_streaming:
            self._close_answer(request, stream, loss)
            return
        self._is_streaming = False
        counters, observer, reason = self._counters, self._service.observer, stream.reason
        assert reason is not None
        stream.count()
        duration = time.monotonic() - self._began
        first_sent = stream.first_sent
        # Sent before it began: by another stream on this connection, and of this one nothing has left.
        first_event = first_sent - self._began if first_sent >= self._began else None
        size, status = self._size, self._status
        if not size:  # otherwise an error's status took its place, and has been counted
            size = stream.bytes_sent
            if not size:
                status = None
            elif status is not None:
                counters.responses[status // 100 - 1] += 1
        counters.ends[reason] += 1
        counters.observe_stream(duration, first_event)
        if observer is not None:
            observer.see_end(
                Ending(request, status, reason, size, duration, True, stream.events, first_event)
            )

    def _close_answer(
        self, request: Request, stream: Stream | None, loss: EndReason | None
    ) -> None:
        """It was no stream, or one that was not begun."""
        service = self._service
        reason = loss or self._outcome if stream is None else stream.reason or loss or self._outcome
        if reason == "limit" and stream is not None:
            self._counters.ends["limit"] += 1
        if service.observer is not None:
            duration = time.monotonic() - self._began
            self._counters.observe_answer(duration)
            service.observer.see_end(Ending(request, self._status, reason, self._size, duration))
