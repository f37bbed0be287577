"""Which core the server runs on, and which the client. Where a process cannot be pinned, neither is."""

from __future__ import annotations

import os
import sys

__all__ = ["client_core", "pin", "pin_client", "server_core"]

if sys.platform == "linux":
    _ALLOWED = sorted(os.sched_getaffinity(0))

    def pin(core: int) -> None:
        """Keep this process, its later threads and its later children on ``core``; negative: wherever they are."""
        if core >= 0:
            os.sched_setaffinity(0, {core})
else:
    _ALLOWED = [-1]

    def pin(core: int) -> None:
        """Processes cannot be pinned here."""


def server_core() -> int:
    """The first core that this process could use when it started."""
    return _ALLOWED[0]


def client_core() -> int:
    """The last; the server's too if there is no other."""
    return _ALLOWED[-1]


def pin_client() -> None:
    """Keep this process on the client's core."""
    pin(client_core())
