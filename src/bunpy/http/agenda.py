"""Calls to be made at a time, for very many at once, with one timer of the loop. What they do is the callers'."""

from __future__ import annotations

import heapq
import itertools
from asyncio import AbstractEventLoop, Handle
from collections.abc import Callable
from typing import Final

__all__ = ["Agenda"]

#: Calls that are made in one turn of the loop.
_AT_ONCE: Final = 500


class Agenda:
    """A timer of uvloop is 600 bytes: where thousands leave at once and each wants a look in 5 ms, that is more than
    all else that their leaving takes. Here one is 150.
    """

    __slots__ = ("_calls", "_due", "_handle", "_loop", "_numbers")

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._loop = loop
        self._calls: list[tuple[float, int, Callable[[], object]]] = []
        # What is due at the same time is called in the order in which it came.
        self._numbers = itertools.count()
        self._handle: Handle | None = None
        self._due = 0.0  # when the handle is, if there is one

    def call_later(self, delay: float, call: Callable[[], object]) -> None:
        """Call in ``delay`` seconds, on the loop; there is no way to take that back."""
        due = self._loop.time() + delay
        heapq.heappush(self._calls, (due, next(self._numbers), call))
        if self._handle is None or due < self._due:
            self._arm()

    def _arm(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._due = self._calls[0][0]
        self._handle = self._loop.call_at(self._due, self._run)

    def _run(self) -> None:
        self._handle = None
        calls, now = self._calls, self._loop.time()
        try:
            for _ in range(_AT_ONCE):
                if not calls or calls[0][0] > now:
                    break
                heapq.heappop(calls)[2]()
        finally:
            if calls:
                self._arm()
