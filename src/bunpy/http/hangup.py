"""Whether a peer has hung up, asked of the kernel: after its FIN has been read, a transport no longer notices."""

from __future__ import annotations

import select
import sys

__all__ = ["is_hung_up"]

if sys.platform == "win32":

    def is_hung_up(fd: int) -> bool:
        """Windows has no poll; there a write that fails tells."""
        return False

else:

    def is_hung_up(fd: int) -> bool:
        """Whether the connection on the descriptor is gone in both directions, or broken."""
        poll = select.poll()
        poll.register(fd, 0)
        return any(event & (select.POLLERR | select.POLLHUP | select.POLLNVAL) for _, event in poll.poll(0))
