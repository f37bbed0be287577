"""One request and its answer: the handler is asked, and what it gives is sent, or streamed. Reading is not done here.

A connection has one of these, and it has one request at a time.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from asyncio import Task, Transport
from collections.abc import AsyncIterable, Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any, Final, cast

from bunpy.errors import HTTPError, InvalidHeader
from bunpy.http.account import Account
from bunpy.http.answer import (
    connection_after,
    error_response,
    fields_of,
    plain_answer,
    stream_head,
    turned_away,
)
from bunpy.http.hangup import Probe, reset
from bunpy.http.response import ASYNC, Content, Response, response_from
from bunpy.http.wire import BODILESS, CLOSE, KEEP, NO_FIELDS
from bunpy.sse.abandonment import is_abandoned
from bunpy.sse.response import SSEResponse
from bunpy.sse.stream import Stream
from bunpy.sse.threaded import ThreadedSource

if TYPE_CHECKING:
    from bunpy._speedups import Outlet
    from bunpy.http.flow import Flow
    from bunpy.http.peer import Peer
    from bunpy.http.request import Request
    from bunpy.http.service import Service
    from bunpy.http.wire import Headers
    from bunpy.sse.reason import EndReason

__all__ = ["Exchange"]

_log = logging.getLogger("bunpy")

_NOTHING: Final = (b"", NO_FIELDS)
_HEARTBEAT: Final = b":\n\n"
#: What most handlers return. Asked for first: whether something is awaitable takes 0.3 µs to tell.
_ANSWERS: Final = (Response, dict, str, bytes)


def _do_nothing() -> None:
    pass


class Exchange:
    """Answers requests on one connection, one after the other.

    ``on_answered`` is called when an answer that took its time is complete, and its task about to end; before that
    ``hang_up``, if it is the connection's last. A ``peer`` that has no place among the server's connections is told to
    come back later.
    """

    __slots__ = (
        "_after", "_counted_for", "_doubt", "_flow", "_hang_up", "_has_begun", "_is_counted", "_is_lost",
        "_keeps_alive", "_loss", "_on_answered", "_outlet", "_peer", "_request", "_service", "_task", "_transport",
        "account", "stream",
    )  # fmt: skip

    def __init__(
        self,
        service: Service,
        peer: Peer,
        transport: Transport,
        outlet: Outlet,
        flow: Flow,
        on_answered: Callable[[], None],
        hang_up: Callable[[], None],
    ) -> None:
        self._service = service
        self._peer = peer
        #: What is counted and told of its requests.
        self.account = Account(service)
        self._transport = transport
        self._outlet = outlet
        self._flow = flow
        self._on_answered = on_answered
        self._hang_up = hang_up
        self._is_lost = False
        self._loss: EndReason = "client"  # why, if it is
        self._doubt: bool | None = None
        self._request: Request | None = None
        self._keeps_alive = True
        self._after = KEEP
        self._task: Task[None] | None = None
        self._has_begun = False
        self._is_counted = False  # the stream, as one of those that there may be
        self._counted_for: str | None = None  # and of the client with that address
        #: The stream that is the answer to the present request, or None.
        self.stream: Stream | None = None

    @property
    def is_busy(self) -> bool:
        """Whether a request is being answered, or its generator still being closed."""
        return self._task is not None

    def answer(self, request: Request, keeps_alive: bool) -> bool:
        """Answer a request. True if that is done; if not, ``on_answered`` will be called.

        Each request has a context of its own, in which its handler and its generator run.
        """
        self._request = request
        self._keeps_alive = keeps_alive
        service = self._service
        context = service.context.copy()
        if service.observer is not None:
            context.run(self.account.open, request)
        try:
            result: Any = None
            if service.config.cors is not None or service.pages or not self._peer.has_place:
                result = self._answer_ourselves(request)
            if result is None:
                result = context.run(service.handler, request)
        except BaseException as exc:
            context.run(self._send_error, exc)
            return True
        if not isinstance(result, _ANSWERS) and isinstance(result, Awaitable):
            self._has_begun = False
            self._task = context.run(service.loop.create_task, self._work(result))
            return False
        context.run(self._give, result)
        if self.stream is None:
            return True
        self._task = context.run(service.loop.create_task, self._work(None))
        return False

    def _answer_ourselves(self, request: Request) -> Response | None:
        """What no handler is asked for: the answer to a client that has no place, one of our pages, a preflight."""
        service = self._service
        has_place = self._peer.has_place or self._peer.ask_again()
        page = service.pages.get(request.path)
        if page is not None and request.method in ("GET", "HEAD"):
            # Also without a place: a server that is full is healthy, and to be seen by who watches it.
            self._keeps_alive = self._keeps_alive and has_place
            return page(service, request)
        if not has_place:
            self.account.turn_away()
            return turned_away(request)
        cors = service.config.cors
        return None if cors is None else cors.preflight(request)

    def lose(self, reason: EndReason) -> None:
        """The client has gone: cancel whatever is still made for it. The first reason counts."""
        if self._is_lost:
            return
        self._is_lost = True
        self._loss = reason
        if self.stream is not None:
            self.stream.end(reason)
        elif self._task is not None and self._has_begun:
            self._task.cancel()

    def forget(self) -> None:
        """The connection has ended, and so has this: let go of it, which is a cycle less for the collector."""
        self._on_answered = self._hang_up = _do_nothing

    def doubt(self, has_fin: bool) -> None:
        """The client may have gone, which reading will not tell: have a look, now or when a stream begins."""
        self._doubt = has_fin
        sock = self._transport.get_extra_info("socket")
        if self.stream is not None and sock is not None and sys.platform != "win32":
            agenda = self._service.agenda
            Probe(agenda, self._transport, sock.fileno(), self.stream, has_fin).look()

    async def _work(self, result: Awaitable[Any] | None) -> None:
        """The one task: await what an async handler gives, and stream.

        What a future raises is thrown into the outermost coroutine, which this is, and a ``GeneratorExit`` closes those
        below it: it is here, and no deeper, that one is told from the end of the loop.
        """
        if result is not None:
            self._has_begun = True
            if self._is_lost:
                # A task that is cancelled before its first step would never come to its end.
                cast("Task[None]", self._task).cancel()
            try:
                self._give(await result)
            except BaseException as exc:  # whatever it is, it ends this request and not the loop
                if isinstance(exc, GeneratorExit) and is_abandoned(self._task):
                    raise
                if self._is_lost and isinstance(exc, asyncio.CancelledError):
                    self._finish()
                else:
                    self._send_error(exc)
        stream = self.stream
        if stream is not None:
            try:
                while not stream.is_over:
                    try:
                        await stream.run()
                    except GeneratorExit as exc:
                        stream.fail(exc)
            finally:
                if self._is_counted:
                    self._is_counted = False
                    self._service.streams.give_back(self._counted_for)
            self._end(stream)
            stream.error = None  # its traceback holds the stream
            self.stream = None
        self._task = None
        self._on_answered()

    # What the handler gave

    def _give(self, result: object) -> None:
        """Send the answer, or make it the stream that is to be run."""
        try:
            response = response_from(result)
            content = response.content()
            if content is None:
                self._open(response)
            else:
                self._send(response, content)
        except Exception as exc:
            self._send_error(exc)

    def _send(self, response: Response, content: Content) -> None:
        request, service = self._request, self._service
        assert request is not None
        keeps_alive = self._keeps_alive and not service.is_stopping
        headers: Headers | None = response.headers
        date = service.date
        if request.has_id or service.config.cors is not None:  # the call is 0.1 us of an answer's 3
            headers, date = fields_of(response, request, service)
        data, body, self._after = plain_answer(
            response.status,
            headers,
            content,
            request.method,
            date,
            connection_after(request, keeps_alive),
        )
        if not self._is_lost:
            if body:
                self._transport.writelines((data, body))
            else:
                self._transport.write(data)
            self.account.add_answer(response.status, len(data) + len(body))
        self._finish()

    def _send_error(self, exc: BaseException) -> None:
        """Tell the client what an error says for it, and the log the rest."""
        if not isinstance(exc, HTTPError):
            self._log_error(exc)
        if isinstance(exc, InvalidHeader):
            self._keeps_alive = False
        response = error_response(exc)
        if response.status >= 500:
            self.account.fail()
        try:
            self._send(response, response.content() or _NOTHING)
        except Exception as invalid:  # an HTTPError whose headers must not be sent
            self._keeps_alive = False
            self._log_error(invalid)
            response = error_response(invalid)
            self._send(response, response.content() or _NOTHING)

    def _log_error(self, exc: BaseException) -> None:
        assert self._request is not None
        # Made now where none was sent: the client is told by what to ask for it.
        about = {"request_id": self._request.id}
        _log.error("%s: answered 500", self._request, exc_info=exc, extra=about)

    def _finish(self) -> None:
        """The whole answer has been given to the transport, or the client has gone."""
        request, self._request = self._request, None
        assert request is not None
        if self.stream is not None or self._service.observer is not None:
            self.account.close(request, self.stream, self._loss if self._is_lost else None)
        if self._after is CLOSE and not self._is_lost:
            self._hang_up()

    # Streams

    def _open(self, response: Response) -> None:
        """Make the stream ready. Where the answer has no body it will only close its source."""
        service, request, outlet = self._service, self._request, self._outlet
        assert request is not None
        body = cast("AsyncIterable[Any] | Iterator[Any]", response.body)
        is_event_stream = isinstance(response, SSEResponse)
        failure: BaseException | None = None
        try:
            source = body.__aiter__() if isinstance(body, ASYNC) else ThreadedSource(body)
        except BaseException as exc:
            failure, source = exc, ThreadedSource(iter(()))
        self.stream = stream = Stream(
            source,
            service.events if is_event_stream else service.pieces,
            outlet,
            self._flow,
            service,
            _HEARTBEAT if is_event_stream else b"",
            request,
            response.on_close,
            request.id if request.has_id else None,
        )
        if self._is_lost:
            stream.end(self._loss)
            return
        if failure is not None:
            stream.end("error")
            self._send_error(failure)
            return
        keeps_alive = self._keeps_alive and not service.is_stopping
        try:
            headers, date = fields_of(response, request, service)
            head, self._after = stream_head(
                response,
                headers,
                request,
                date,
                connection_after(request, keeps_alive),
            )
        except Exception as exc:
            stream.end("error")
            self._send_error(exc)
            return
        if request.method == "HEAD" or response.status in BODILESS:
            self._transport.write(head)
            self.account.add_answer(response.status, len(head))
            stream.end("finished")
        elif not self._count_stream(request):
            self.account.turn_away()
            stream.end("limit")
            self._give(turned_away(request))
        else:
            outlet.head = head
            outlet.is_chunked = request.http_version == "1.1"
            self.account.begin_stream(request, response.status)
            if service.is_stopping and not service.lets_finish:
                stream.end("shutdown")
            elif self._doubt is not None:
                self.doubt(self._doubt)

    def _count_stream(self, request: Request) -> bool:
        self._counted_for = None if request.client is None else request.client[0]
        self._is_counted = self._service.streams.take(self._counted_for)
        return self._is_counted

    def _end(self, stream: Stream) -> None:
        """The stream is over and its source closed: end the response as the reason says."""
        if stream.error is not None and (self._is_lost or stream.is_committed):
            about = {"request_id": stream.request_id}
            _log.error("%s: the generator raised", stream.name, exc_info=stream.error, extra=about)
        if self._request is None:  # there was no room, or the head must not be sent: that is said
            return
        if stream.reason == "shutdown":
            self._after = CLOSE
        if self._is_lost or stream.is_complete:
            self._finish()
        elif not stream.is_committed:
            self._outlet.head = None
            self._send_error(stream.error or HTTPError(503, "The server stops"))
        elif self._outlet.is_chunked:
            # Without the last chunk the client can tell that this is not the end (RFC 9112 section 8).
            self._after = CLOSE
            self._finish()
        else:
            reset(self._transport)  # an HTTP/1.0 client can tell only from an RST
            self._finish()
