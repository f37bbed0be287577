"""The numbers of several processes side by side, in memory that they share. What each counts is elsewhere.

Each worker writes a row of its own, and nobody else does while it lives. When it has ended the supervisor adds what it
counted to the first row, which belongs to nobody; so no sum ever goes back.
"""

from __future__ import annotations

import mmap
import os
import sys
import tempfile
import time
from typing import Final

from bunpy.http.counters import Counters
from bunpy.http.stats import Stats

__all__ = ["Board"]

#: The cells before the rows: odd while the supervisor moves numbers from one row to another; how many workers serve;
#: how many have died and been replaced.
_SEQUENCE, _WORKERS, _RESTARTS = range(3)
_HEAD: Final = 3
_CELL: Final = 8
_GAUGES: Final = frozenset(Counters.GAUGES)
#: How often a reader looks again while numbers are moved, which takes 50 µs, and the seconds in between. A supervisor
#: that died in the middle will not go on.
_TRIES: Final = 50
_WAIT: Final = 0.001


class Board:
    """``rows`` rows of ``Counters.SIZE`` cells, the first that of the workers that have ended.

    Without ``place`` the memory is new, and shared with the forks that are made later. With ``is_named`` other
    processes can have it as well: ``Board(rows, place)`` with the ``place`` of the first, a descriptor that they were
    passed, or on Windows a name.
    """

    def __init__(
        self, rows: int, place: int | str | None = None, *, is_named: bool = False
    ) -> None:
        self.rows = rows
        size = _CELL * (_HEAD + rows * Counters.SIZE)
        #: How another process finds it; None: by inheritance alone.
        self.place = place
        if sys.platform == "win32" and (is_named or place is not None):
            self.place = place or f"bunpy-{os.getpid()}-{os.urandom(8).hex()}"
            self._memory = mmap.mmap(-1, size, tagname=str(self.place))
        elif place is not None:
            self._memory = mmap.mmap(int(place), size)
        elif is_named:
            self.place, path = tempfile.mkstemp(prefix="bunpy-")
            os.unlink(path)
            os.ftruncate(self.place, size)
            self._memory = mmap.mmap(self.place, size)
        else:
            self._memory = mmap.mmap(-1, size)
        self._cells = memoryview(self._memory).cast("d")

    def row(self, number: int) -> memoryview[float]:
        """The cells of a row, for the one who writes it; they are 0 until then."""
        start = _HEAD + number * Counters.SIZE
        return self._cells[start : start + Counters.SIZE]

    def close(self) -> None:
        """Nobody else shall find it any more; who has it keeps it. Again: nothing happens."""
        place, self.place = self.place, None
        if isinstance(place, int):
            os.close(place)

    # For the supervisor

    def retire(self, number: int) -> None:
        """Whoever wrote this row has ended: what was counted is kept, and the row is free."""
        cells = self._cells
        row, kept = self.row(number), self.row(0)
        cells[_SEQUENCE] += 1
        for place in range(Counters.SIZE):
            if place not in _GAUGES:
                kept[place] += row[place]
            row[place] = 0.0
        cells[_SEQUENCE] += 1

    def set_workers(self, count: int) -> None:
        """So many serve."""
        self._cells[_WORKERS] = count

    def add_restart(self) -> None:
        """One has died, and another takes its place."""
        self._cells[_RESTARTS] += 1

    # For everybody

    def stats(self) -> Stats:
        """The sums over all rows."""
        for _ in range(_TRIES):
            before = self._cells[_SEQUENCE]
            cells = memoryview(self._memory[:]).cast("d")
            if before % 2 == 0 and self._cells[_SEQUENCE] == before:
                break
            time.sleep(_WAIT)
        starts = range(_HEAD, _HEAD + self.rows * Counters.SIZE, Counters.SIZE)
        return Counters.stats(
            [cells[start : start + Counters.SIZE] for start in starts],
            workers=int(cells[_WORKERS]),
            restarts=int(cells[_RESTARTS]),
        )
