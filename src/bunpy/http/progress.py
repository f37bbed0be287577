"""Whether a client takes what waits for it. What becomes of one that does not is the protocol's to say."""

from __future__ import annotations

from asyncio import Transport

from bunpy.http.hangup import untaken

__all__ = ["Progress", "waiting"]


def waiting(transport: Transport, fd: int) -> int:
    """Bytes that the client has not taken: those in memory, and those in the kernel unless ``fd`` is -1."""
    size = transport.get_write_buffer_size()
    return size + untaken(fd) if fd >= 0 else size


class Progress:
    """Since when a client takes nothing."""

    __slots__ = ("_at", "_size")

    def __init__(self) -> None:
        self._size = -1
        self._at = 0.0

    def stalled(self, transport: Transport, fd: int, now: float) -> float:
        """For how many seconds, at ``now``, the client has taken nothing; 0.0 if it has since the last look."""
        size = waiting(transport, fd)
        if size != self._size:
            self._size = size
            self._at = now
            return 0.0
        return now - self._at
