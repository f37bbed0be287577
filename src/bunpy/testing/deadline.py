"""Deadlines: one moment for everything that a call does, however many system calls that takes."""

from __future__ import annotations

import time

__all__ = ["Deadline"]


class Deadline:
    """A moment ``seconds`` from now, by which a call must be done with all that it does.

    Raises ``ValueError`` when ``seconds`` is negative or not a number.
    """

    __slots__ = ("_moment", "seconds")

    def __init__(self, seconds: float) -> None:
        if not seconds >= 0:
            raise ValueError(f"a timeout is a number of seconds, 0 or more, not {seconds!r}")
        self.seconds = seconds
        self._moment = time.monotonic() + seconds

    def remaining(self) -> float:
        """The seconds that are left, always more than 0: ``TimeoutError`` when there are none."""
        remaining = self._moment - time.monotonic()
        if remaining <= 0:
            raise TimeoutError(f"not done within {self.seconds:g} s")
        return remaining
