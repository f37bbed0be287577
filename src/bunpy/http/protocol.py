"""One connection: an asyncio Protocol between the reader's requests and the handler's answers, in their order.

Requests are taken one at a time: what comes while one is being answered waits, as bytes, in the reader, and above
``READ_AHEAD`` in the kernel. So answers cannot overtake each other, and a client that sends on and on holds
nothing.
"""

from __future__ import annotations

import asyncio
import errno
import sys
import time
from typing import TYPE_CHECKING, Final, cast

from bunpy._speedups import Outlet
from bunpy.errors import RequestRefused
from bunpy.http.answer import error_response, plain_answer
from bunpy.http.exchange import Exchange
from bunpy.http.flow import Flow
from bunpy.http.hangup import has_refused, reset
from bunpy.http.parting import Parting
from bunpy.http.peer import Peer
from bunpy.http.progress import Progress
from bunpy.http.reader import RequestReader
from bunpy.http.wire import CLOSE, CONTINUE, KEEP, NO_FIELDS

if TYPE_CHECKING:
    from bunpy.http.service import Service
    from bunpy.http.wire import Headers
    from bunpy.sse.reason import EndReason

__all__ = ["HTTPProtocol"]

#: Bytes of further requests that are taken in while one is being answered.
READ_AHEAD: Final = 64 * 1024
#: Bytes that may wait for a client, answers of one turn apart, before the next request is answered.
_HIGH_WATER: Final = 64 * 1024
#: What the kernel says of a peer that has not acknowledged what it was sent, or asked, in its time.
_SILENT: Final = frozenset(
    {errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN, errno.EHOSTDOWN}
)
_NEVER: Final = float("inf")

# What a connection is doing, and so what its deadline means. Plain ints: an Enum's members cost 0.1 µs a look in
# 3.11.
_FIRST: Final = 0  # nothing has come yet: close
_HEAD: Final = 1  # a request's head has begun: 408
_BODY: Final = 2  # its body has: 408
_ANSWER: Final = 3  # it is being answered: no deadline
_IDLE: Final = 4  # it has been: close
_LAST: Final = 5  # it has had its last answer: its parting says


class HTTPProtocol(asyncio.Protocol):
    """Reads one client's requests, has them answered, and keeps the time."""

    __slots__ = (
        "_deadline", "_exchange", "_fd", "_flow", "_is_eof", "_is_lost", "_is_reading_paused", "_is_turn_due",
        "_outlet", "_parting", "_peer", "_phase", "_progress", "_reader", "_service", "_transport",
    )  # fmt: skip

    _transport: asyncio.Transport
    _outlet: Outlet
    _flow: Flow
    _exchange: Exchange
    _peer: Peer
    _parting: Parting

    def __init__(self, service: Service) -> None:
        self._service = service
        self._reader = RequestReader(service.limits, service.hosts, service.known_heads)
        # The connection's state.
        self._is_lost = False
        self._is_eof = False
        self._is_reading_paused = False
        self._is_turn_due = False  # more is to be answered when the loop has turned
        # What it waits for, and whether its client takes what waits for it.
        self._phase = _FIRST
        self._deadline = _NEVER
        self._progress: Progress | None = None

    # What the transport tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        service = self._service
        is_encrypted = transport.get_extra_info("sslcontext") is not None
        is_direct = not is_encrypted and sys.platform != "win32"
        sock = transport.get_extra_info("socket")
        fd = -1 if sock is None else sock.fileno()
        self._fd = fd if sys.platform != "win32" else -1
        self._peer = Peer(service, transport, is_encrypted)
        self._outlet = Outlet(self._transport, fd if is_direct else -1)
        self._flow = Flow(service.loop, self._outlet)
        self._exchange = Exchange(
            service,
            self._peer,
            self._transport,
            self._outlet,
            self._flow,
            self._on_answered,
            self._hang_up,
        )
        service.connections.add(self)
        service.counters.connections_total += 1
        self._deadline = time.monotonic() + service.config.head_timeout
        service.on_accepted(fd)

    def data_received(self, data: bytes) -> None:
        if self._phase == _LAST:
            self._parting.drop(len(data))
            return
        if self._peer.header is not None:
            try:
                rest = self._peer.read_header(data)
            except RequestRefused as exc:
                self._refuse(exc)
                return
            if not rest:
                return
            data = rest
        self._reader.feed(data)
        if self._phase != _ANSWER and not self._is_turn_due and not self._outlet.is_paused:
            self._advance()
        elif self._reader.unread > READ_AHEAD and not self._is_reading_paused:
            self._is_reading_paused = True
            self._transport.pause_reading()
            self._exchange.doubt(has_fin=False)

    def eof_received(self) -> bool:
        """The peer has sent its last (FIN): what it asked for is answered, and a stream goes on until it has gone."""
        self._is_eof = True
        if self._phase == _LAST:
            return False
        if self._phase != _ANSWER and not self._is_turn_due:
            self._advance()
        self._exchange.doubt(has_fin=True)
        return self._fd >= 0

    def pause_writing(self) -> None:
        self._flow.pause()
        self._progress = None
        self._service.pressure.add(self)

    def resume_writing(self) -> None:
        self._flow.resume()
        self._service.pressure.discard(self)
        if self._phase != _ANSWER and self._phase != _LAST and not self._is_turn_due:
            # Not now: a transport of asyncio's that is closed while it tells this is lost twice, and logs an error.
            self._is_turn_due = True
            self._service.loop.call_soon(self._take_turn)

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_lost = True
        self._fd = -1
        self._deadline = _NEVER
        self._outlet.close()
        self._flow.resume()
        self._reader.release()
        self._service.pressure.discard(self)
        self._peer.leave()
        number = self._outlet.error_number or getattr(exc, "errno", None)
        if number not in _SILENT:
            self._exchange.lose("client")
        else:
            self._exchange.lose("slow" if has_refused(self._transport) else "half_open")
        if not self._exchange.is_busy:
            self._leave()

    # What the server tells

    def tick(self, now: float) -> None:
        """Look at the time, ``now`` in seconds of ``time.monotonic``: who is silent, slow, or due a heartbeat?"""
        if self._is_lost:
            return  # its generator is still being closed
        outlet, stream = self._outlet, self._exchange.stream
        is_stuck = outlet.is_paused or self._transport.is_closing()
        if is_stuck:
            self._check_progress(now)
        if stream is not None:
            stream.tick(now)
        elif not is_stuck and now >= self._deadline:
            self._time_out(now)

    def stop(self) -> None:
        """The server stops: end what streams, close what idles; what is being answered is answered first."""
        if self._phase == _LAST:
            if self._deadline != _NEVER:
                self._deadline = _NEVER
                self._parting.hasten()
        elif self._exchange.stream is not None:
            if not self._service.lets_finish:
                self._exchange.stream.end("shutdown")
        elif self._phase != _ANSWER:
            self._transport.close()

    def cut_off(self, reason: EndReason) -> None:
        """Cut the connection off with RST; a stream on it ends for ``reason``."""
        self._exchange.lose(reason)
        if not self._is_lost:
            reset(self._transport)

    @property
    def buffered(self) -> int:
        """Bytes that wait for the client in memory."""
        return 0 if self._is_lost else self._transport.get_write_buffer_size()

    # Requests, in their order

    def _advance(self) -> None:
        """Answer what has come, as far as the client takes the answers."""
        reader = self._reader
        answered = 0
        while not (self._outlet.is_paused or self._is_lost or self._transport.is_closing()):
            # The transport says that it is full only when the loop turns.
            if answered and (
                answered == self._service.config.pipeline_limit
                or self._transport.get_write_buffer_size() > _HIGH_WATER
            ):
                self._is_turn_due = True
                self._service.loop.call_soon(self._take_turn)
                return
            try:
                request = reader.next_request()
            except RequestRefused as exc:
                if exc.closes:
                    self._refuse(exc)
                    return
                self._transport.write(self._refusal(exc, KEEP))
                answered += 1
                self._rest()
                continue
            if request is None:
                self._wait()
                return
            answered += 1
            self._peer.sign(request)
            self._phase = _ANSWER
            self._deadline = _NEVER
            if not self._exchange.answer(request, reader.keeps_alive):
                if self._exchange.stream is not None:
                    reader.release()
                return
            if self._phase == _LAST:
                return
            self._rest()
            if reader.is_between and not (self._is_eof or self._is_reading_paused):
                return

    def _take_turn(self) -> None:
        """Go on with what is pipelined, after others have had their turn."""
        self._is_turn_due = False
        if not self._is_lost and self._phase != _LAST:
            self._advance()

    def _on_answered(self) -> None:
        """An answer that took its time is complete."""
        if self._is_lost:
            self._leave()
        elif self._phase != _LAST:
            self._rest()
            self._advance()

    def _rest(self) -> None:
        self._phase = _IDLE
        self._deadline = time.monotonic() + self._service.config.keep_alive_timeout

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

    def _refusal(self, exc: RequestRefused, connection: bytes) -> bytes:
        response, cors = error_response(exc), self._service.config.cors
        headers: Headers | None = response.headers
        if cors is not None:
            headers = cors.fields_for(self._reader.origin, headers)
        content = response.content() or (b"", NO_FIELDS)
        method, date = self._reader.method, self._service.date
        data, _, _ = plain_answer(response.status, headers, content, method, date, connection)
        self._exchange.account.refuse(self._peer, method, response.status, len(data))
        return data

    def _refuse(self, exc: RequestRefused) -> None:
        """Answer what is no request, and close."""
        self._transport.write(self._refusal(exc, CLOSE))
        self._hang_up()

    def _hang_up(self) -> None:
        """Close after the last answer."""
        transport = self._transport
        if transport.is_closing():
            return
        self._phase = _LAST
        if self._is_reading_paused:
            self._is_reading_paused = False
            transport.resume_reading()
        self._parting = Parting(self._service, transport, self._fd)
        # One for which there is no room is not waited for: others want to be told so too.
        is_left_time = self._peer.has_place and not self._is_eof
        self._deadline = self._parting.begin(time.monotonic(), is_left_time)

    # Time

    def _time_out(self, now: float) -> None:
        """What the connection waits for has not come in its time."""
        if self._phase == _LAST:
            self._deadline = self._parting.time_out(now)
            if self._deadline != _NEVER:
                self._check_progress(now)
            return
        self._deadline = _NEVER
        if self._phase == _HEAD:
            self._refuse(RequestRefused(408, "The request's head took too long"))
        elif self._phase == _BODY:
            self._refuse(RequestRefused(408, "The request's body took too long"))
        else:
            self._transport.close()

    def _check_progress(self, now: float) -> None:
        """Cut off a client that has taken nothing of what waits for it in ``send_timeout`` seconds."""
        if self._progress is None:
            self._progress = Progress()
        stalled = self._progress.stalled(self._transport, self._fd, now)
        if stalled >= self._service.config.send_timeout:
            self.cut_off("slow")

    def _leave(self) -> None:
        """The connection and all that ran for it have ended."""
        service = self._service
        service.connections.discard(self)
        self._exchange.forget()
        if service.is_stopping and not service.connections:
            service.on_idle()
