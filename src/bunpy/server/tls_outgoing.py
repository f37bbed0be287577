"""What leaves by one TLS connection: encrypted a piece a turn, as the transport below takes it."""

from __future__ import annotations

import contextlib
import ssl
import sys
from asyncio import AbstractEventLoop, Transport
from collections import deque
from collections.abc import Callable
from typing import Final

from bunpy._speedups import Outlet

__all__ = ["Outgoing"]

#: Bytes that are encrypted in one turn of the loop: a body of 64 MiB at once would hold it for 0.3 s.
_PIECE: Final = 256 * 1024
#: Bytes of one record (RFC 8446 section 5.1). They are taken out of the BIO one by one: it keeps the memory of the most
#: that it has ever held.
_RECORD: Final = 16 * 1024


class Outgoing:
    """Bytes on their way out by ``plain``; ``records`` is where ``tls`` puts what is to be sent.

    ``tell`` is called with False when no more should be written for now, and with True when it may be again; ``fail``
    with the reason why nothing can be encrypted any more.
    """

    __slots__ = (
        "_fail",
        "_has_shut",
        "_is_closing",
        "_is_due",
        "_is_ended",
        "_is_full",
        "_is_held",
        "_loop",
        "_outlet",
        "_plain",
        "_records",
        "_tell",
        "_tls",
        "_waiting",
        "size",
    )

    def __init__(
        self,
        loop: AbstractEventLoop,
        plain: Transport,
        tls: ssl.SSLObject,
        records: ssl.MemoryBIO,
        tell: Callable[[bool], object],
        fail: Callable[[OSError], object],
    ) -> None:
        self._loop = loop
        self._plain = plain
        sock = plain.get_extra_info("socket")
        fd = -1 if sock is None or sys.platform == "win32" else sock.fileno()
        self._outlet = Outlet(plain, fd)
        self._tls = tls
        self._records = records
        self._tell = tell
        self._fail = fail
        # What waits until there is room for it, as it was written.
        self._waiting: deque[memoryview] = deque()
        #: How many bytes that is.
        self.size = 0
        self._is_due = False  # the next piece is, when the loop has turned
        self._is_full = False  # the transport below has said that it is
        self._is_held = False  # who writes was told not to
        # How it ends.
        self._is_ended = False  # nothing more is to be written
        self._is_closing = False  # nor read
        self._has_shut = False  # close_notify has been said

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send ``data`` after all that was written before; nothing after an end."""
        if self._is_ended:
            return
        if self._waiting or len(data) > _PIECE:
            self._waiting.append(memoryview(bytes(data)))
            self.size += len(data)
            self._go_on()
        else:
            self._encrypt(data)

    def send(self) -> None:
        """Hand on what there is of TLS itself, after a handshake or a read."""
        if self._records.pending:
            self._plain.write(self._records.read())

    def end(self, *, closes: bool) -> None:
        """Say close_notify after all that was written, then FIN, or close the transport below.

        The peer's own close_notify is not waited for (RFC 8446 section 6.1).
        """
        self._is_ended = True
        self._is_closing = self._is_closing or closes
        if not self._waiting:
            self._finish()

    def pause(self) -> None:
        """The transport below is full."""
        self._is_full = True
        self._hold()

    def resume(self) -> None:
        """It is not any more. What there is to do is done in a turn of its own: a transport of asyncio's that is
        closed while it tells this is lost twice, and logs an error.
        """
        self._is_full = False
        self._call_soon()

    def forget(self) -> None:
        """The connection is lost, or to be cut off."""
        self._waiting.clear()
        self.size = 0
        self._outlet.close()
        self._tell = self._fail = _nobody

    @property
    def error_number(self) -> int:
        """What handing on failed with, as ``errno`` numbers it; 0 if it did not."""
        return self._outlet.error_number

    def _go_on(self) -> None:
        """Encrypt the next piece of what waits; after the last one do what was to come then."""
        waiting = self._waiting
        if waiting and not (self._is_full or self._is_due):
            data = waiting.popleft()
            if len(data) > _PIECE:
                waiting.appendleft(data[_PIECE:])
                data = data[:_PIECE]
            self.size -= len(data)
            self._encrypt(data)
        if waiting:
            self._hold()
            if not self._is_full:
                self._call_soon()
            return
        if self._is_ended:
            self._finish()
        if self._is_held and not self._is_full:
            self._is_held = False
            self._tell(True)

    def _call_soon(self) -> None:
        if not self._is_due:
            self._is_due = True
            self._loop.call_soon(self._take_turn)

    def _take_turn(self) -> None:
        self._is_due = False
        self._go_on()

    def _hold(self) -> None:
        if not self._is_held:
            self._is_held = True
            self._tell(False)

    def _encrypt(self, data: bytes | bytearray | memoryview) -> None:
        records = []
        try:
            for start in range(0, len(data), _RECORD):
                self._tls.write(data[start : start + _RECORD])
                records.append(self._records.read())
        except OSError as exc:
            self._fail(exc)
        else:
            self._hand_on(records)

    def _hand_on(self, records: list[bytes]) -> None:
        if len(records) == 1:
            self._plain.write(records[0])
        else:
            # A transport keeps the whole of what it has sent in part: it is given only what the kernel does not take.
            self._outlet.write(b"".join(records))

    def _finish(self) -> None:
        if self._plain.is_closing():
            return
        if not self._has_shut:
            self._has_shut = True
            with contextlib.suppress(OSError):  # SSLWantReadError: the peer's has not come
                self._tls.unwrap()
            self.send()
            if not self._is_closing:
                try:
                    self._plain.write_eof()
                except OSError as exc:  # ENOTCONN, of asyncio's: the peer has reset the connection
                    self._fail(exc)
        if self._is_closing:
            self._plain.close()


def _nobody(word: object) -> None:
    """Whose connection is lost need not be told."""
