"""What one benchmark gave, round by round, and the numbers that are read off it. Nothing here measures or judges."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median
from typing import Literal

__all__ = ["Better", "Reading", "Series"]

Better = Literal["higher", "lower"]


@dataclass(frozen=True)
class Reading:
    """One round of one benchmark: ``value``, and ``floor``, the bare measurement beside it in the same unit."""

    unit: str
    better: Better
    value: float
    floor: float
    #: Of one core, 1.0 being all of it: which process used how much.
    shares: dict[str, float] = field(default_factory=dict)


@dataclass
class Series:
    """All rounds of one benchmark. ``run`` names the run of ``results`` that they belong to."""

    unit: str
    better: Better
    values: list[float] = field(default_factory=list)
    floors: list[float] = field(default_factory=list)
    shares: dict[str, list[float]] = field(default_factory=dict)
    run: str = ""

    def add(self, reading: Reading) -> None:
        """Take one more round in."""
        self.values.append(reading.value)
        self.floors.append(reading.floor)
        for name, share in reading.shares.items():
            self.shares.setdefault(name, []).append(share)

    @property
    def median(self) -> float:
        """The middle of the rounds."""
        return median(self.values)

    @property
    def spread(self) -> float:
        """From the lowest to the highest round, as a part of the median."""
        return (max(self.values) - min(self.values)) / self.median if self.median else 0.0

    @property
    def floor(self) -> float:
        """The middle of the floor's rounds."""
        return median(self.floors)

    @property
    def ratio(self) -> float | None:
        """The value relative to the floor of the same round, in the middle; None where a floor was nothing."""
        if not all(self.floors):
            return None
        return median(v / f for v, f in zip(self.values, self.floors, strict=True))

    def share(self, name: str) -> float | None:
        """How much of its core the process ``name`` used, in the middle; None if nobody looked."""
        shares = self.shares.get(name)
        return median(shares) if shares else None
