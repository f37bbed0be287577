"""Whether a benchmark has lost against its stored result. Pure functions; measuring again is the campaign's."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bench.series import Better, Series

__all__ = ["LIMIT", "Verdict", "judge", "judge_all", "loss"]

#: The part of a speed, or of a time or size on top, that may be lost.
LIMIT = 0.15


def loss(better: Better, stored: float, new: float) -> float:
    """How much worse ``new`` is than ``stored``, as a part of it: 0.2 for a fifth; negative where it is better."""
    if not stored:
        return 0.0
    change = new / stored - 1
    return -change if better == "higher" else change


@dataclass(frozen=True)
class Verdict:
    """One benchmark against its stored result; either may be missing."""

    name: str
    stored: Series | None
    new: Series | None

    @property
    def loss(self) -> float | None:
        """The loss in its own unit; None where there is nothing to compare."""
        if self.stored is None or self.new is None:
            return None
        return loss(self.new.better, self.stored.median, self.new.median)

    @property
    def floor_loss(self) -> float | None:
        """The loss of the ratio to the floor; None where one of them has none."""
        if self.stored is None or self.new is None:
            return None
        before, after = self.stored.ratio, self.new.ratio
        if before is None or after is None:
            return None
        return loss(self.new.better, before, after)

    @property
    def is_lost(self) -> bool:
        """Whether it lost more than ``LIMIT`` both in its own unit and relative to the floor.

        A machine that is slower today moves the value and the floor alike, one that disturbed only the floor moves only
        the ratio: neither is a loss of bunpy's.
        """
        if self.loss is None or self.loss <= LIMIT:
            return False
        return self.floor_loss is None or self.floor_loss > LIMIT

    @property
    def is_missing(self) -> bool:
        """Whether it was measured once and no longer can be, as without the extension: no comparison hides that."""
        return self.stored is not None and self.new is None

    @property
    def word(self) -> str:
        """The verdict in a word."""
        if self.is_missing:
            return "MISSING"
        if self.stored is None:
            return "new"
        return "LOST" if self.is_lost else "ok"


def judge(name: str, stored: dict[str, Series], new: dict[str, Series]) -> Verdict:
    """The verdict on one benchmark."""
    return Verdict(name, stored.get(name), new.get(name))


def judge_all(
    names: Iterable[str], stored: dict[str, Series], new: dict[str, Series]
) -> list[Verdict]:
    """The verdicts on ``names``, in their order."""
    return [judge(name, stored, new) for name in names]
