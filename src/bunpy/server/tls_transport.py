"""TLS between a plain transport and a protocol, which sees a transport like any other. HTTP is not known here.

The loops' own TLS would not do. While hands are shaken nobody can count or end their connections, and a uvloop that
has one cannot be closed (EBUSY). What waits in the transport below is not in ``get_write_buffer_size``: 10 MB to a
client that reads nothing are 0 bytes, and no deadline holds. What is left to send 30 s after ``close`` is cut off,
however fast it goes. After close_notify the connection is closed, but under backpressure nobody is told for those 30 s.
"""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from asyncio import TimerHandle
from typing import TYPE_CHECKING, Any, Final, cast

from bunpy.server.tls_outgoing import Outgoing

if TYPE_CHECKING:
    from bunpy.server.handshakes import Handshakes

__all__ = ["TLSTransport"]

_log = logging.getLogger("bunpy")

_READ_SIZE: Final = 64 * 1024


class TLSTransport(asyncio.Transport, asyncio.Protocol):
    """One connection: the protocol of a plain transport, and the transport of a protocol inside TLS.

    The peer's close_notify is what its FIN is without TLS: nothing more will come, and the protocol's ``eof_received``
    tells whether the connection goes on (RFC 8446 section 6.1). FIN without it ends the connection.
    """

    __slots__ = (
        "_handshakes",
        "_has_eof",
        "_incoming",
        "_is_closing",
        "_is_reading",
        "_loop",
        "_outgoing",
        "_plain",
        "_protocol",
        "_timer",
        "_tls",
    )

    _loop: asyncio.AbstractEventLoop
    _outgoing: Outgoing
    _plain: asyncio.Transport
    _tls: ssl.SSLObject
    _timer: TimerHandle

    def __init__(self, handshakes: Handshakes) -> None:
        super().__init__()
        self._handshakes = handshakes
        self._incoming = ssl.MemoryBIO()
        self._protocol: asyncio.Protocol | None = None  # None during the handshake
        self._is_reading = True
        self._is_closing = False
        self._has_eof = False

    # The protocol of the plain transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._plain = cast(asyncio.Transport, transport)
        handshakes = self._handshakes
        self._loop = asyncio.get_running_loop()
        records = ssl.MemoryBIO()
        self._tls = handshakes.context.wrap_bio(self._incoming, records, server_side=True)
        self._outgoing = Outgoing(
            self._loop, self._plain, self._tls, records, self._tell, self._fail
        )
        self._timer = self._loop.call_later(handshakes.timeout, self.abort)
        handshakes.begin(self)
        sock = transport.get_extra_info("socket")
        if sock is not None:
            handshakes.on_accepted(sock.fileno())

    def data_received(self, data: bytes) -> None:
        if self._has_eof:
            return  # what comes after close_notify is ignored (RFC 8446 section 6.1)
        self._incoming.write(data)
        if self._protocol is None and not self._shake_hands():
            return
        self._read()

    def eof_received(self) -> bool:
        # Without close_notify before it this may be anybody's FIN: what was said is perhaps cut off. What has been
        # written goes out all the same.
        if not self._has_eof:
            self.close()
        return True

    def pause_writing(self) -> None:
        self._outgoing.pause()

    def resume_writing(self) -> None:
        self._outgoing.resume()

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_closing = True
        self._outgoing.forget()
        self._end_handshake()
        number = self._outgoing.error_number
        if number and exc is None:
            exc = OSError(number, os.strerror(number))
        # They know each other, which would be a cycle for the collector.
        protocol, self._protocol = self._protocol, None
        if protocol is not None:
            protocol.connection_lost(exc)

    # Inwards

    def _shake_hands(self) -> bool:
        """Go on with what has come; whether that was the last of it."""
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._outgoing.send()
            return False
        except (OSError, ValueError) as exc:
            _log.debug("TLS handshake with %s: %s", self.get_extra_info("peername"), exc)
            self._outgoing.send()  # the alert that says why
            self._is_closing = True
            self._plain.close()
            return False
        self._end_handshake()
        self._outgoing.send()
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
            self._outgoing.send()
            self._fail(exc)
            return
        self._outgoing.send()
        assert self._protocol is not None
        if pieces:
            self._protocol.data_received(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        if self._has_eof and not self.is_closing() and not self._protocol.eof_received():
            self.close()

    # Outwards

    def _tell(self, has_room: bool) -> None:
        if self._protocol is None:
            return
        if has_room:
            self._protocol.resume_writing()
        else:
            self._protocol.pause_writing()

    def _fail(self, exc: OSError) -> None:
        _log.debug("TLS with %s: %s", self.get_extra_info("peername"), exc)
        self.abort()

    # The transport of the protocol

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if data and not self.is_closing():
            self._outgoing.write(data)

    def writelines(self, list_of_data: Any) -> None:
        for data in list_of_data:
            self.write(data)

    def can_write_eof(self) -> bool:
        return self._plain.can_write_eof()

    def write_eof(self) -> None:
        self._outgoing.end(closes=False)

    def close(self) -> None:
        if self.is_closing():
            return
        self._is_closing = True
        if self._protocol is None:
            self._plain.close()
            return
        if self._outgoing.size:
            self._plain.pause_reading()
        self._outgoing.end(closes=True)

    def abort(self) -> None:
        self._is_closing = True
        self._outgoing.forget()
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
        return self._plain.get_write_buffer_size() + self._outgoing.size

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
