"""Peers that hang up, and being the one who does: what the kernel knows and a transport does not say."""

from __future__ import annotations

import select
import socket
import struct
import sys
from asyncio import AbstractEventLoop, Transport
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from bunpy.sse.stream import Stream

__all__ = ["Probe", "is_hung_up", "reset"]

#: Seconds between looks at a peer that has sent its FIN.
_DELAYS: Final = (0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.5, 1.0, 2.0)


class Probe:
    """Tells a peer that has sent its FIN and closed from one that has only said all it has to say.

    TCP gives the same sign for both. But the first answers a comment with RST, and then the kernel knows; the
    second goes on with its stream. A transport does not read after a FIN, so without this a silent stream to
    nobody would go on until its next two events.
    """

    __slots__ = ("_fd", "_looks", "_loop", "_stream", "_transport")

    def __init__(
        self, loop: AbstractEventLoop, transport: Transport, fd: int, stream: Stream
    ) -> None:
        self._loop = loop
        self._transport = transport
        self._fd = fd
        self._stream = stream
        self._looks = 0

    def look(self) -> None:
        """Look now, and again later as long as the stream runs."""
        if self._stream.reason is not None or self._transport.is_closing():
            return
        if is_hung_up(self._fd):
            self._transport.abort()
            return
        self._stream.comment()
        if self._looks < len(_DELAYS):
            self._loop.call_later(_DELAYS[self._looks], self.look)
            self._looks += 1


if sys.platform == "win32":

    def is_hung_up(fd: int) -> bool:
        """Windows has no poll; there a write that fails tells."""
        return False

else:

    def is_hung_up(fd: int) -> bool:
        """Whether the connection on the descriptor is gone in both directions, or broken."""
        poll = select.poll()
        poll.register(fd, 0)
        gone = select.POLLERR | select.POLLHUP | select.POLLNVAL
        return any(event & gone for _, event in poll.poll(0))


def reset(transport: Transport) -> None:
    """Abort a connection with RST, so that nothing of what was queued lingers in the kernel."""
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
