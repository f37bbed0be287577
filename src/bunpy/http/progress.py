"""Whether a client takes what waits for it. What becomes of one that does not is the protocol's to say."""

from __future__ import annotations

from asyncio import Transport

from bunpy.http.hangup import silence, untaken

__all__ = ["Progress", "waiting"]


def waiting(transport: Transport, fd: int) -> int:
    """Bytes that the client has not taken: those in memory, and those in the kernel unless ``fd`` is -1."""
    size = transport.get_write_buffer_size()
    return size + untaken(fd) if fd >= 0 else size


class Progress:
    """Since when a client takes nothing."""

    __slots__ = ("_at", "_size", "is_refusing")

    def __init__(self) -> None:
        self._size = -1
        self._at = 0.0
        #: Whether it answers the kernel all the while: it is there, and does not read.
        self.is_refusing = False

    def stalled(self, transport: Transport, fd: int, now: float) -> float:
        """For how many seconds, at ``now``, the client has taken nothing; 0.0 if it has since the last look."""
        size = waiting(transport, fd)
        if size != self._size:
            self._size = size
            self._at = now
            self.is_refusing = False
            return 0.0
        stalled = now - self._at
        # After TCP_USER_TIMEOUT the kernel gives up on a peer that has no room, as on one that is gone. The first
        # acknowledges each probe, and those come at doubling intervals.
        self.is_refusing = silence(transport) < 0.75 * stalled
        return stalled
