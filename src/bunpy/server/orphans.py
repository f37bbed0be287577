"""Children that the first process inherits, as one in a container does: when they have ended, nobody else asks."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from pathlib import Path
from typing import Final

__all__ = ["Orphans"]

#: Seconds for whoever started a child to ask for its exit status.
_PATIENCE: Final = 2.0


class Orphans:
    """Reaps what has ended and is not asked for; does nothing in a process that is not the first."""

    __slots__ = ("_ended", "_is_first")

    def __init__(self) -> None:
        self._is_first = sys.platform == "linux" and os.getpid() == 1
        self._ended: dict[int, float] = {}  # since when each has been seen to have

    def look(self) -> None:
        """Look whether there are any; called every tick."""
        if not self._is_first or not _has_ended_child():
            self._ended.clear()
            return
        now = time.monotonic()
        children = [child for child in _children() if _is_zombie(child)]
        self._ended = {child: self._ended.get(child, now) for child in children}
        for child, since in self._ended.items():
            if now - since >= _PATIENCE:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(child, os.WNOHANG)


def _has_ended_child() -> bool:
    try:
        return os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return False


def _children() -> list[int]:
    """The children of all threads of this process."""
    found = []
    for path in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += [int(word) for word in path.read_text().split()]
    return found


def _is_zombie(process: int) -> bool:
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] == "Z"
