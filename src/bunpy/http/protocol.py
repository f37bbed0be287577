"""One connection: an asyncio Protocol between the reader's requests and the handler's answers, in their order.

Requests are taken one at a time: what comes while one is being answered waits, as bytes, in the reader, and above
``READ_AHEAD`` in the kernel. So answers cannot overtake each other, and a client that sends on and on holds nothing.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import socket
import struct
import sys
import time
from asyncio import Task
from collections.abc import AsyncIterable, Awaitable, Iterator
from typing import TYPE_CHECKING, Any, Final, cast

from bunpy._speedups import Outlet
from bunpy.errors import HTTPError, RequestRefused
from bunpy.http.answer import connection_after, error_response, plain_answer, stream_head
from bunpy.http.flow import Flow
from bunpy.http.hangup import is_hung_up
from bunpy.http.reader import RequestReader
from bunpy.http.response import Content, Response, response_from
from bunpy.http.wire import BODILESS, CLOSE, CONTINUE, KEEP
from bunpy.sse.response import SSEResponse
from bunpy.sse.stream import Stream
from bunpy.sse.threaded import ThreadedSource

if TYPE_CHECKING:
    from bunpy.http.request import Request
    from bunpy.http.service import Service

__all__ = ["HTTPProtocol"]

_log = logging.getLogger("bunpy")

#: Bytes of further requests that are taken in while one is being answered.
READ_AHEAD: Final = 64 * 1024
#: Pipelined requests that are answered in one turn of the loop.
_TURN: Final = 16
#: What a refused client may still send, and for how many seconds, until it is cut off: so long the answer can reach it.
_DRAIN_LIMIT: Final = 1024 * 1024
_DRAIN_TIME: Final = 2.0
#: Seconds between looks at a peer that has sent its FIN: has it closed, or only said all it has to say?
_PROBE_DELAYS: Final = (0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.5, 1.0, 2.0)
_HEARTBEAT: Final = b":\n\n"
_NEVER: Final = float("inf")
#: What most handlers return. Asked for first: whether something is awaitable takes 0.3 µs to tell.
_ANSWERS: Final = (Response, dict, str, bytes)


# What a connection is doing, and so what its deadline means. Plain ints: an Enum's members cost 0.1 µs a look in 3.11.
_FIRST: Final = 0  # nothing has come yet: close
_HEAD: Final = 1  # a request's head has begun: 408
_BODY: Final = 2  # its body has: 408
_ANSWER: Final = 3  # it is being answered: no deadline
_IDLE: Final = 4  # it has been: close
_DRAIN: Final = 5  # it was refused, and has been told so: cut off


class HTTPProtocol(asyncio.Protocol):
    """Answers one client's requests with the service's handler."""

    __slots__ = (
        # the server's
        "_loop", "_service",
        # the connection's
        "_client", "_drained", "_flow", "_is_eof", "_is_lost", "_is_reading_paused", "_outlet", "_reader",
        "_transport",
        # what it waits for
        "_deadline", "_phase", "_stall_deadline", "_stalled",
        # the request's
        "_after", "_request", "_stream", "_task",
    )  # fmt: skip

    _transport: asyncio.Transport
    _outlet: Outlet
    _flow: Flow

    def __init__(self, service: Service) -> None:
        config = service.config
        self._service = service
        self._loop = service.loop
        self._reader = RequestReader(
            line_limit=config.request_line_limit,
            head_limit=config.head_limit,
            body_limit=config.body_limit,
            hosts=service.hosts,
        )
        self._client: tuple[str, int] | None = None
        self._is_lost = False
        self._is_eof = False
        self._is_reading_paused = False
        self._drained = 0
        self._phase = _FIRST
        self._deadline = _NEVER
        self._stalled = 0
        self._stall_deadline = _NEVER
        self._after = KEEP
        self._request: Request | None = None
        self._stream: Stream | None = None
        self._task: Task[None] | None = None

    # What the transport tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        is_direct = transport.get_extra_info("sslcontext") is None and sys.platform != "win32"
        fd = transport.get_extra_info("socket").fileno() if is_direct else -1
        self._outlet = Outlet(self._transport, fd)
        self._flow = Flow(self._loop, self._outlet)
        peer = transport.get_extra_info("peername")
        self._client = peer[:2] if isinstance(peer, tuple) else None
        self._service.connections.add(self)
        self._deadline = time.monotonic() + self._service.config.head_timeout

    def data_received(self, data: bytes) -> None:
        if self._phase == _DRAIN:
            self._drained += len(data)
            if self._drained > _DRAIN_LIMIT:
                self._transport.abort()
            return
        self._reader.feed(data)
        if self._phase != _ANSWER:
            self._advance()
        elif self._reader.unread > READ_AHEAD and not self._is_reading_paused:
            self._is_reading_paused = True
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        """The peer has sent its last (FIN). What it has asked is answered, and a stream goes on until it has gone."""
        self._is_eof = True
        if self._phase == _DRAIN:
            return False
        if self._phase != _ANSWER:
            self._advance()
        elif self._stream is not None:
            self._probe(0)
        return self._outlet.fd >= 0

    def pause_writing(self) -> None:
        self._stalled = 0
        self._flow.pause()

    def resume_writing(self) -> None:
        self._flow.resume()
        if self._phase != _ANSWER and self._phase != _DRAIN:
            self._advance()

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_lost = True
        self._deadline = _NEVER
        self._outlet.close()
        self._flow.resume()
        self._reader.release()
        if self._stream is not None:
            self._stream.end("client")
        elif self._task is not None:
            self._task.cancel()
        else:
            self._leave()

    # What the server tells

    def tick(self, now: float) -> None:
        """Look at the time, ``now`` in seconds of ``time.monotonic``: for heartbeats, for slow clients and for silent ones."""
        outlet = self._outlet
        if outlet.is_paused:
            self._check_progress(now)
        elif self._stream is not None:
            if outlet.last_sent + self._service.config.heartbeat <= now:
                self._stream.comment()
        elif now >= self._deadline:
            self._time_out()

    def stop(self) -> None:
        """The server stops: end what streams, close what idles; what is being answered is answered first."""
        if self._stream is not None:
            self._stream.end("shutdown")
        elif self._phase != _ANSWER and self._phase != _DRAIN:
            self._transport.close()

    def abort(self) -> None:
        """Cut the connection off: with RST, so that nothing of what was queued lingers in the kernel."""
        if not self._is_lost:
            sock = self._transport.get_extra_info("socket")
            if sock is not None and sock.family != getattr(socket, "AF_UNIX", None):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._transport.abort()

    # Requests, in their order

    def _advance(self) -> None:
        """Answer what has come, as far as the client takes the answers."""
        reader = self._reader
        answered = 0
        while not self._outlet.is_paused:
            if self._is_lost or self._transport.is_closing():
                return
            if answered == _TURN:
                self._loop.call_soon(self._advance)
                return
            try:
                request = reader.next_request()
            except RequestRefused as exc:
                self._refuse(exc)
                return
            if request is None:
                self._wait()
                return
            answered += 1
            request.client = self._client
            self._handle(request)
            if self._phase == _ANSWER or (reader.is_between and not self._is_eof):
                return

    def _wait(self) -> None:
        """There is no request to answer: let more come, until the deadline of what is missing."""
        reader, config = self._reader, self._service.config
        if self._is_eof or (self._service.is_stopping and reader.is_between):
            self._transport.close()
            return
        if self._is_reading_paused:
            self._is_reading_paused = False
            self._transport.resume_reading()
        if reader.wants_continue:
            reader.wants_continue = False
            self._transport.write(CONTINUE)
        if reader.is_in_body:
            self._phase = _BODY
            self._deadline = time.monotonic() + config.body_timeout
        elif not reader.is_between and self._phase != _HEAD:
            self._phase = _HEAD
            self._deadline = time.monotonic() + config.head_timeout

    def _handle(self, request: Request) -> None:
        """Ask the handler. Each request has a context of its own, in which its generator runs as well."""
        self._request = request
        self._phase = _ANSWER
        self._deadline = _NEVER
        context = contextvars.copy_context()
        try:
            result = context.run(self._service.handler, request)
        except (Exception, SystemExit) as exc:
            self._answer_error(exc)
            return
        if not isinstance(result, _ANSWERS) and isinstance(result, Awaitable):
            self._task = context.run(self._loop.create_task, self._handle_later(result))
            return
        stream = self._answer(result)
        if stream is not None:
            self._task = context.run(self._loop.create_task, self._run_stream(stream))

    async def _handle_later(self, result: Awaitable[Any]) -> None:
        """Await an async handler, and go on in its task."""
        stream = None
        try:
            stream = self._answer(await result)
        except asyncio.CancelledError:
            if not self._is_lost:
                self._answer_error(RuntimeError("the handler cancelled itself"))
        except (Exception, SystemExit) as exc:
            self._answer_error(exc)
        if stream is not None:
            await self._run_stream(stream)
        else:
            self._task_done()

    async def _run_stream(self, stream: Stream) -> None:
        await stream.run()
        self._stream = None
        self._end_stream(stream)
        self._task_done()

    def _task_done(self) -> None:
        self._task = None
        if self._is_lost:
            self._leave()
        elif self._phase != _ANSWER:
            self._advance()

    def _leave(self) -> None:
        """The connection and all it ran have ended."""
        self._request = None
        self._service.connections.discard(self)
        if self._service.is_stopping and not self._service.connections:
            self._service.on_idle()

    # Answers

    def _connection_after(self) -> bytes:
        return connection_after(
            self._request, self._reader.keeps_alive and not self._service.is_stopping
        )

    def _answer(self, result: object) -> Stream | None:
        """Send what a handler gave; a stream is given back, to be run."""
        try:
            response = response_from(result)
            content = response.content()
            if content is None:
                return self._begin_stream(response)
            self._send(response, content)
        except Exception as exc:
            self._answer_error(exc)
        return None

    def _answer_error(self, exc: BaseException) -> None:
        if not isinstance(exc, HTTPError):
            _log.error("%s: answered 500", self._name(), exc_info=exc)
        try:
            self._send(error_response(exc))
        except Exception as invalid:  # an HTTPError whose headers must not be sent
            _log.error("%s: answered 500", self._name(), exc_info=invalid)
            self._send(error_response(invalid))

    def _send(self, response: Response, content: Content | None = None) -> None:
        request = self._request
        data, self._after = plain_answer(
            response,
            content or response.content() or (b"", ()),
            "" if request is None else request.method,
            self._service.date,
            self._connection_after(),
        )
        if not self._is_lost:
            self._transport.write(data)
        self._complete()

    def _complete(self) -> None:
        """The answer has been given to the transport."""
        self._request = None
        self._phase = _IDLE
        self._deadline = time.monotonic() + self._service.config.keep_alive_timeout
        if self._after is CLOSE:
            self._transport.close()

    def _refuse(self, exc: RequestRefused) -> None:
        """Answer what is no request, and close: half now, the rest when the client has had time to read the answer."""
        self._phase = _DRAIN
        self._deadline = time.monotonic() + _DRAIN_TIME
        response = error_response(exc)
        content = response.content() or (b"", ())
        data, _ = plain_answer(
            response, content, self._reader.method, self._service.date, CLOSE
        )
        self._transport.write(data)
        if self._transport.can_write_eof() and not self._is_eof:
            self._transport.write_eof()
            if self._is_reading_paused:
                self._is_reading_paused = False
                self._transport.resume_reading()
        else:
            self._transport.close()

    # Streams

    def _begin_stream(self, response: Response) -> Stream | None:
        """A stream that is ready to run; None where the answer has no body, and its source is closed unused."""
        service, request, outlet = self._service, self._request, self._outlet
        assert request is not None
        start, self._after = stream_head(response, request, service.date, self._connection_after())
        body = cast("AsyncIterable[Any] | Iterator[Any]", response.body)
        source = body.__aiter__() if isinstance(body, AsyncIterable) else ThreadedSource(body)
        is_event_stream = isinstance(response, SSEResponse)
        stream = Stream(
            source,
            service.events if is_event_stream else service.pieces,
            outlet,
            self._flow,
            self._loop,
            service.config.head_delay,
            _HEARTBEAT if is_event_stream else b"",
            self._name(),
        )
        self._stream = stream
        if self._is_lost:
            stream.end("client")
        elif request.method == "HEAD" or response.status in BODILESS:
            self._transport.write(start)
            stream.end("finished")
        else:
            outlet.head = start
            outlet.is_chunked = request.http_version == "1.1"
            self._reader.release()
            if service.is_stopping:
                stream.end("shutdown")
        return stream

    def _end_stream(self, stream: Stream) -> None:
        """A stream is over and its source closed: end the response as its reason says."""
        outlet = self._outlet
        if stream.error is not None and (self._is_lost or stream.is_committed):
            _log.error("%s: the generator raised", stream.name, exc_info=stream.error)
        if self._is_lost:
            return
        if stream.reason == "finished":
            self._complete()
        elif stream.reason == "shutdown":
            self._after = CLOSE
            self._complete()
        elif stream.is_committed:
            # Without the last chunk the client can tell that this is not the end; an HTTP/1.0 client only from an RST.
            if outlet.is_chunked:
                self._transport.close()
            else:
                self.abort()
        else:
            outlet.head = None
            self._answer_error(stream.error or RuntimeError("the stream was cancelled"))

    # Time

    def _time_out(self) -> None:
        """What the connection waits for has not come in its time."""
        self._deadline = _NEVER
        if self._phase == _HEAD:
            self._refuse(RequestRefused(408, "The request's head took too long"))
        elif self._phase == _BODY:
            self._refuse(RequestRefused(408, "The request's body took too long"))
        elif self._phase == _DRAIN:
            self._transport.abort()
        else:
            self._transport.close()

    def _check_progress(self, now: float) -> None:
        """Cut off a client that has taken nothing of what waits for it in ``send_timeout`` seconds."""
        waiting = self._transport.get_write_buffer_size()
        if waiting != self._stalled:
            self._stalled = waiting
            self._stall_deadline = now + self._service.config.send_timeout
        elif now >= self._stall_deadline:
            self.abort()

    def _probe(self, looks: int) -> None:
        """After its FIN a peer is told from one that has gone by what it does with a comment: reset, or take it."""
        stream = self._stream
        if stream is None or self._is_lost:
            return
        if is_hung_up(self._outlet.fd):
            self._transport.abort()
            return
        if stream.is_committed:
            stream.comment()
        if looks < len(_PROBE_DELAYS):
            self._loop.call_later(_PROBE_DELAYS[looks], self._probe, looks + 1)

    def _name(self) -> str:
        """Which request this is, for the log."""
        return "a request" if self._request is None else f"{self._request.method} {self._request.url}"
