"""Peers that hang up, and being the one who does: what the kernel knows and a transport does not say."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import sys
from asyncio import Transport
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from bunpy.http.agenda import Agenda
    from bunpy.sse.stream import Stream

__all__ = ["Probe", "has_refused", "is_hung_up", "reset", "untaken"]

#: Seconds between looks at a peer that has sent its FIN, and at one that may have behind what is not read yet.
_DELAYS: Final = (0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.5, 1.0, 2.0)
_FIN_DELAY: Final = 0.1
#: Where ``struct tcp_info`` has tcpi_last_ack_recv, in milliseconds (linux/tcp.h).
_LAST_ACK: Final = 56


class Probe:
    """Tells a peer that has sent its FIN and closed from one that has only said all it has to say.

    TCP gives the same sign for both. But the first answers a comment with RST, and then the kernel knows; the
    second goes on with its stream. A transport does not read after a FIN, so without this a silent stream to
    nobody would go on until its next two events. ``has_fin`` is False for a peer of which nothing is read for
    now, because it has sent more than is kept: its FIN is looked for first.
    """

    __slots__ = ("_agenda", "_fd", "_has_fin", "_looks", "_stream", "_transport")

    def __init__(
        self,
        agenda: Agenda,
        transport: Transport,
        fd: int,
        stream: Stream,
        has_fin: bool,
    ) -> None:
        self._agenda = agenda
        self._transport = transport
        self._fd = fd
        self._stream = stream
        self._has_fin = has_fin
        self._looks = 0

    def look(self) -> None:
        """Look now, and again later as long as the stream runs."""
        if self._stream.reason is not None or self._transport.is_closing():
            return
        events = _poll(self._fd)
        if events & _GONE:
            self._transport.abort()
            return
        self._has_fin = self._has_fin or bool(events & _FIN)
        if not self._has_fin:
            self._agenda.call_later(_FIN_DELAY, self.look)
            return
        self._stream.comment()
        if self._looks < len(_DELAYS):
            self._agenda.call_later(_DELAYS[self._looks], self.look)
            self._looks += 1


if sys.platform == "win32":
    _GONE: Final = 0
    _FIN: Final = 0

    def _poll(fd: int) -> int:
        """Windows has no poll; there a write that fails tells."""
        return 0

    def untaken(fd: int) -> int:
        """Unknown there."""
        return 0

else:
    import fcntl
    import termios

    _GONE = select.POLLERR | select.POLLHUP | select.POLLNVAL
    _FIN = getattr(select, "POLLRDHUP", 0)

    def _poll(fd: int) -> int:
        poll = select.poll()
        poll.register(fd, _FIN)
        return sum(events for _, events in poll.poll(0))

    def untaken(fd: int) -> int:
        """How many bytes the kernel holds of what was sent, because the peer has not taken them; 0 if unknown."""
        try:
            return int.from_bytes(fcntl.ioctl(fd, termios.TIOCOUTQ, bytes(4)), sys.byteorder)
        except OSError:
            return 0


def is_hung_up(fd: int) -> bool:
    """Whether the connection on the descriptor is gone in both directions, or broken."""
    return bool(_poll(fd) & _GONE)


def has_refused(transport: Transport) -> bool:
    """Whether the peer of a connection that the kernel has given up was there, and had no room; False if unknown.

    After TCP_USER_TIMEOUT (tcp(7)) the kernel gives up on such a peer, since Linux 5.11, as on one that is gone. But
    the first has acknowledged each probe, the last when half of that time was over; the second has not said a word.
    """
    sock = transport.get_extra_info("socket")
    if sys.platform == "linux" and sock is not None:
        with contextlib.suppress(OSError, ValueError):  # the second from a socket that is closed
            patience: int = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
            info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _LAST_ACK + 4)
            return int.from_bytes(info[_LAST_ACK:], sys.byteorder) < 0.75 * patience
    return False


def reset(transport: Transport) -> None:
    """Abort a connection with RST, so that nothing of what was queued lingers in the kernel."""
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
