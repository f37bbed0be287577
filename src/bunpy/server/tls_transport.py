"""TLS between a plain transport and a protocol, which sees a transport like any other. HTTP is not known here.

The loops' own TLS would not do. While hands are shaken nobody can count or end their connections, and a uvloop that
has one cannot be closed (EBUSY). What waits in the transport below is not in ``get_write_buffer_size``: 10 MB to a
client that reads nothing are 0 bytes, and no deadline holds. What is left to send 30 s after ``close`` is cut off,
however fast it goes. After close_notify the connection is closed, but under backpressure nobody is told for those 30 s.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from asyncio import TimerHandle
from collections import deque
from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    from bunpy.server.handshakes import Handshakes

__all__ = ["TLSTransport"]

_log = logging.getLogger("bunpy")

_READ_SIZE: Final = 64 * 1024
#: Bytes that are encrypted in one turn of the loop: a body of 64 MiB at once would hold it for 0.3 s.
_PIECE: Final = 256 * 1024


class TLSTransport(asyncio.Transport, asyncio.Protocol):
    """One connection: the protocol of a plain transport, and the transport of a protocol inside TLS.

    The peer's close_notify is what its FIN is without TLS: nothing more will come, and the protocol's ``eof_received``
    tells whether the connection goes on (RFC 8446 section 6.1). FIN without it ends the connection.
    """

    __slots__ = (
        "_handshakes",
        "_has_eof",
        "_has_shut",
        "_incoming",
        "_is_closing",
        "_is_due",
        "_is_ended",
        "_is_full",
        "_is_paused",
        "_is_reading",
        "_loop",
        "_outgoing",
        "_plain",
        "_protocol",
        "_timer",
        "_tls",
        "_waiting",
        "_waiting_size",
    )

    _loop: asyncio.AbstractEventLoop
    _plain: asyncio.Transport
    _tls: ssl.SSLObject
    _timer: TimerHandle

    def __init__(self, handshakes: Handshakes) -> None:
        super().__init__()
        self._handshakes = handshakes
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._protocol: asyncio.Protocol | None = None  # None during the handshake
        self._is_reading = True
        self._is_closing = False
        self._is_ended = False  # no more is to be written
        self._has_shut = False
        self._has_eof = False
        # What is to be encrypted when there is room for it.
        self._waiting: deque[memoryview] = deque()
        self._waiting_size = 0
        self._is_due = False  # the next piece is, when the loop has turned
        self._is_full = False  # the plain transport has said that it is
        self._is_paused = False  # and so the protocol was told

    # The protocol of the plain transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._plain = cast(asyncio.Transport, transport)
        handshakes = self._handshakes
        self._loop = asyncio.get_running_loop()
        self._tls = handshakes.context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._timer = self._loop.call_later(handshakes.timeout, self.abort)
        handshakes.begin(self)
        sock = transport.get_extra_info("socket")
        if sock is not None:
            handshakes.on_accepted(sock.fileno())

    def data_received(self, data: bytes) -> None:
        self._incoming.write(data)
        if self._protocol is None and not self._shake_hands():
            return
        self._read()

    def eof_received(self) -> bool:
        # Without close_notify before it this may be anybody's FIN: what was said is perhaps cut off. What has been
        # written goes out all the same.
        if not self._waiting:
            return self._has_eof and not self.is_closing()
        if not self._has_eof:
            self.close()
        return True

    def pause_writing(self) -> None:
        self._is_full = True
        self._pause()

    def resume_writing(self) -> None:
        self._is_full = False
        self._go_on()

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_closing = True
        self._forget_waiting()
        self._end_handshake()
        if self._protocol is not None:
            self._protocol.connection_lost(exc)

    # Inwards

    def _shake_hands(self) -> bool:
        """Go on with what has come; whether that was the last of it."""
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._send()
            return False
        except (OSError, ValueError) as exc:
            _log.debug("TLS handshake with %s: %s", self.get_extra_info("peername"), exc)
            self._send()  # the alert that says why
            self._is_closing = True
            self._plain.close()
            return False
        self._end_handshake()
        self._send()
        self._protocol = self._handshakes.factory()
        self._protocol.connection_made(self)
        return True

    def _end_handshake(self) -> None:
        self._timer.cancel()
        self._handshakes.end(self)

    def _read(self) -> None:
        """Give the protocol what has come, as long as it reads."""
        if not self._is_reading or self.is_closing() or self._has_eof:
            return
        tls, incoming = self._tls, self._incoming
        pieces: list[bytes] = []
        try:
            # Asked for before each read: the SSLWantReadError of one in vain costs more than the read.
            while incoming.pending or tls.pending():
                piece = tls.read(_READ_SIZE)
                if not piece:
                    self._has_eof = True
                    break
                pieces.append(piece)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self._has_eof = True
        except OSError as exc:
            _log.debug("TLS with %s: %s", self.get_extra_info("peername"), exc)
            self._send()
            self.abort()
            return
        self._send()
        assert self._protocol is not None
        if pieces:
            self._protocol.data_received(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        if self._has_eof and not self.is_closing() and not self._protocol.eof_received():
            self.close()

    # Outwards

    def _send(self) -> None:
        if self._outgoing.pending:
            self._plain.write(self._outgoing.read())

    def _encrypt(self, data: bytes | bytearray | memoryview) -> None:
        try:
            self._tls.write(data)
        except OSError as exc:
            _log.debug("TLS with %s: %s", self.get_extra_info("peername"), exc)
            self.abort()
            return
        self._send()

    def _go_on(self) -> None:
        """Encrypt the next piece of what waits; after the last one do what was to come then."""
        waiting = self._waiting
        if waiting and not (self._is_full or self._is_due):
            data = waiting.popleft()
            if len(data) > _PIECE:
                waiting.appendleft(data[_PIECE:])
                data = data[:_PIECE]
            self._waiting_size -= len(data)
            self._encrypt(data)
        if waiting:
            self._pause()
            if not (self._is_full or self._is_due):
                self._is_due = True
                self._loop.call_soon(self._take_turn)
        else:
            self._end()
            if self._is_paused and not self._is_full:
                self._is_paused = False
                assert self._protocol is not None
                self._protocol.resume_writing()

    def _take_turn(self) -> None:
        self._is_due = False
        self._go_on()

    def _pause(self) -> None:
        if not self._is_paused and self._protocol is not None:
            self._is_paused = True
            self._protocol.pause_writing()

    def _end(self) -> None:
        """All is encrypted: say so, once, if it was all that there is."""
        if self._plain.is_closing():
            return
        if self._is_closing:
            self._shut()
            self._plain.close()
        elif self._is_ended and not self._has_shut:
            self._shut()
            self._plain.write_eof()

    def _shut(self) -> None:
        """Say close_notify, once. The peer's own is not waited for (RFC 8446 section 6.1)."""
        if not self._has_shut and self._protocol is not None:
            self._has_shut = True
            with contextlib.suppress(OSError):  # SSLWantReadError: its own has not come
                self._tls.unwrap()
            self._send()

    def _forget_waiting(self) -> None:
        self._waiting.clear()
        self._waiting_size = 0

    # The transport of the protocol

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not data or self._is_ended or self.is_closing():
            return
        if self._waiting or len(data) > _PIECE:
            self._waiting.append(memoryview(bytes(data)))
            self._waiting_size += len(data)
            self._go_on()
        else:
            self._encrypt(data)

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        return self._plain.can_write_eof()

    def write_eof(self) -> None:
        self._is_ended = True
        if not self._waiting:
            self._end()

    def close(self) -> None:
        if self.is_closing():
            return
        self._is_closing = True
        if self._waiting:
            self._plain.pause_reading()
        else:
            self._end()

    def abort(self) -> None:
        self._is_closing = True
        self._forget_waiting()
        self._plain.abort()

    def is_closing(self) -> bool:
        return self._is_closing or self._plain.is_closing()

    def is_reading(self) -> bool:
        return self._is_reading and not self.is_closing()

    def pause_reading(self) -> None:
        self._is_reading = False
        self._plain.pause_reading()

    def resume_reading(self) -> None:
        if not self._is_reading and not self.is_closing():
            self._is_reading = True
            self._plain.resume_reading()
            self._loop.call_soon(self._read)

    def get_write_buffer_size(self) -> int:
        return self._plain.get_write_buffer_size() + self._waiting_size

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._plain.get_write_buffer_limits()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._plain.set_write_buffer_limits(high, low)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = cast(asyncio.Protocol, protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        assert self._protocol is not None
        return self._protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "sslcontext":
            return self._handshakes.context
        if name == "ssl_object":
            return self._tls
        return self._plain.get_extra_info(name, default)
