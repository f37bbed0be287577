"""The way out of one connection, in Python: the specification of ``outlet_c``.

An outlet puts bytes into a response body's framing and hands them to the socket, or to the transport where the
socket must not be touched. What to send, and when, is for the callers.
"""

from __future__ import annotations

import os
import time
from asyncio import Transport
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bunpy._speedups.encoder_py import EventBuffer

__all__ = ["Outlet"]

LAST_CHUNK = b"0\r\n\r\n"


class Outlet:
    """Where one connection's bytes leave. All of it is called on the connection's loop.

    ``fd`` is the socket's descriptor if bytes may go straight to it (plain TCP or a Unix socket), otherwise -1.
    """

    __slots__ = (
        "bytes_sent",
        "error_number",
        "fd",
        "head",
        "is_chunked",
        "is_closed",
        "is_paused",
        "last_sent",
        "transport",
    )

    def __init__(self, transport: Transport, fd: int) -> None:
        self.transport: Transport | None = transport
        self.fd = fd
        #: A response head that leaves with the first bytes after it (the deferred commit), or None.
        self.head: bytes | None = None
        #: Whether the body is chunked (RFC 9112 section 7.1); if not, the connection's end is its end.
        self.is_chunked = False
        #: Whether the transport holds more than its high-water mark.
        self.is_paused = False
        #: Whether the connection is gone: whatever is written now is dropped.
        self.is_closed = False
        #: Bytes handed over, heads and framing included.
        self.bytes_sent = 0
        #: What a send failed with, as ``errno`` numbers it; 0 as long as none has.
        self.error_number = 0
        #: When bytes were last handed over, in seconds of ``time.monotonic``.
        self.last_sent = 0.0

    def flush(self, buffer: EventBuffer, last: bool = False) -> None:
        """Send the head if it still waits and the buffer's bytes as one chunk; with ``last`` the end of the body."""
        body = buffer.take()
        if self.is_chunked:
            if body:
                body = b"%x\r\n%b\r\n" % (len(body), body)
            if last:
                body += LAST_CHUNK
        if self.head is not None and (body or last):
            body = self.head + body
            self.head = None
        if body:
            self._send(body)

    def write(self, frame: bytes) -> None:
        """Send bytes that are framed as events already as one chunk, and the head before them if it still waits."""
        if frame and self.is_chunked:
            frame = b"%x\r\n%b\r\n" % (len(frame), frame)
        if self.head is not None:
            frame = self.head + frame
            self.head = None
        if frame:
            self._send(frame)

    def close(self) -> None:
        """The connection is gone: drop what comes and let go of the transport."""
        self.is_closed = True
        self.transport = None
        self.fd = -1

    def _send(self, data: bytes) -> None:
        transport = self.transport
        if transport is None or transport.is_closing():
            return
        self.bytes_sent += len(data)
        self.last_sent = time.monotonic()
        # Straight to the socket only while nothing is queued before it; the kernel's answer comes 2 µs sooner
        # and, what matters more, before a generator that blocks the loop makes its next event.
        if self.fd >= 0 and not transport.get_write_buffer_size():
            try:
                sent = os.write(self.fd, data)
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError as exc:
                self.error_number = exc.errno or 0
                transport.abort()  # the peer has gone; the transport tells everyone in its own time
                return
            if sent == len(data):
                return
            data = data[sent:]
        transport.write(data)
