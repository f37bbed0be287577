"""When a worker that died is replaced, and when that is given up. Nothing is started here."""

from __future__ import annotations

from collections import deque
from typing import Final

__all__ = ["Backoff", "StartLimit"]

#: Seconds that a worker must have lived for its death to be the first again.
_HEALTHY: Final = 10.0
_FIRST: Final = 0.1
_MOST: Final = 10.0

#: So many deaths in so many seconds before a server is up are too many.
_DEATHS: Final = 5
_WITHIN: Final = 10.0


class Backoff:
    """The wait before each new try while they die soon after their start: none, then 0.1, 0.2, 0.4 s … 10 s."""

    def __init__(self) -> None:
        self._wait = 0.0

    def after(self, lifetime: float) -> float:
        """Seconds to wait after the death of one that lived for ``lifetime`` seconds."""
        if lifetime >= _HEALTHY:
            self._wait = 0.0
        wait = self._wait
        self._wait = min(_MOST, max(_FIRST, wait * 2))
        return wait


class StartLimit:
    """Counts deaths while a server starts."""

    def __init__(self) -> None:
        self._deaths: deque[float] = deque(maxlen=_DEATHS)

    def add(self, now: float) -> bool:
        """A worker has died at ``now``; whether these are too many."""
        self._deaths.append(now)
        return len(self._deaths) == _DEATHS and now - self._deaths[0] <= _WITHIN
