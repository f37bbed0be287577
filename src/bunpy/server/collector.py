"""Python's garbage collector, and how long it stops the loop. What is garbage is not decided here."""

from __future__ import annotations

import gc
import time
from typing import Final

__all__ = ["Collector"]

#: Connections from which on a full collection takes tens of milliseconds.
_MANY: Final = 1000
#: Seconds after which everything is looked through again.
_KEEP_TIME: Final = 600.0
#: PyPy's collector needs no such help.
_CAN_FREEZE: Final = hasattr(gc, "freeze")


class Collector:
    """Keeps full collections short while there are very many connections.

    A stream is 30 objects to the collector. Each full collection looks through those of all streams: with 19,000 that
    stops everything for 0.3 s. What one has found alive is therefore set aside (``gc.freeze``), so that the next looks
    at what is new. It is looked at again after ten minutes, when half the connections have gone, and at the end;
    until then, garbage in cycles among what was alive stays. A program that freezes objects itself is left alone.
    """

    __slots__ = ("_collections", "_connections", "_frozen_at")

    def __init__(self) -> None:
        self._collections = _full_collections()
        self._connections = 0
        self._frozen_at: float | None = None

    def look(self, connections: int) -> None:
        """Look whether there has been a full collection; called every tick with the number of connections."""
        if not _CAN_FREEZE:
            return
        collections, before = _full_collections(), self._collections
        self._collections = collections
        now = time.monotonic()
        if self._frozen_at is not None and (
            now - self._frozen_at > _KEEP_TIME or connections < self._connections / 2
        ):
            self.release()
            return  # the next collection looks at everything
        if connections < _MANY or collections == before:
            return
        if self._frozen_at is None:
            if gc.get_freeze_count():
                return
            self._frozen_at = now
        self._connections = max(self._connections, connections)
        gc.freeze()

    def release(self) -> None:
        """Let the next full collection look at everything."""
        if self._frozen_at is not None:
            self._frozen_at = None
            self._connections = 0
            gc.unfreeze()


def _full_collections() -> int:
    """How many there have been."""
    count: int = gc.get_stats()[2]["collections"] if _CAN_FREEZE else 0
    return count
