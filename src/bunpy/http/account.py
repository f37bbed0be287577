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

    __slots__ = ("_began", "_is_streaming", "_outcome", "_service", "_size", "_status")

    def __init__(self, service: Service) -> None:
        self._service = service
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
        service.counters.add_response(status, size)
        if service.observer is not None:
            request = Request(method, "", {})
            peer.sign(request)
            service.observer.see_end(Ending(request, status, "finished", size, 0.0))

    def fail(self) -> None:
        """It is answered with an error of the server's."""
        self._outcome = "error"

    def turn_away(self) -> None:
        """There is no room for it."""
        self._outcome = "limit"
        self._service.counters.turned_away += 1

    def add_answer(self, status: int, size: int) -> None:
        """The whole answer has been handed over."""
        self._status = status
        self._size += size
        counters = self._service.counters
        counters.responses[status // 100 - 1] += 1
        counters.bytes_sent += size

    def begin_stream(self, request: Request, status: int) -> None:
        """Its answer is a stream, which begins."""
        self._status = status
        self._size = 0
        self._is_streaming = True
        self._service.counters.streams_total += 1
        if self._service.observer is None:
            self._began = time.monotonic()
        else:
            self._service.observer.see_stream(request)

    def close(self, request: Request, stream: Stream | None, loss: EndReason | None) -> None:
        """That was it; ``loss`` is why the client has gone, if it has."""
        service = self._service
        reason = None if stream is None else stream.reason
        if reason is None:  # it was no stream, or was not begun
            reason = loss or self._outcome
        if stream is not None and self._is_streaming:
            self._close_stream(request, stream, reason)
        else:
            if reason == "limit" and stream is not None:
                service.counters.ends["limit"] += 1  # it did not begin
            if service.observer is not None:
                duration = time.monotonic() - self._began
                service.counters.observe_answer(duration)
                service.observer.see_end(
                    Ending(request, self._status, reason, self._size, duration)
                )
        self._is_streaming = False

    def _close_stream(self, request: Request, stream: Stream, reason: EndReason) -> None:
        counters, observer = self._service.counters, self._service.observer
        stream.count()
        duration = time.monotonic() - self._began
        first_event, status = stream.first_sent, self._status
        if first_event is not None:
            # Sent before it began: by another stream on this connection, and of this one nothing has left.
            first_event = first_event - self._began if first_event >= self._began else None
        if not stream.is_committed:
            status = None
        elif status is not None and not self._size:
            # Otherwise an error's status took its place, and has been counted.
            counters.add_response(status, 0)
        counters.ends[reason] += 1
        counters.observe_stream(duration, first_event)
        if observer is not None:
            size = self._size + stream.bytes_sent
            observer.see_end(
                Ending(request, status, reason, size, duration, True, stream.events, first_event)
            )
