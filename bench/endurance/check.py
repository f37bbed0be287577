"""One thing that must hold: what was measured, and what it is held to."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Check", "at_least", "at_most"]


@dataclass(frozen=True)
class Check:
    """``what`` was measured as ``value``; it holds if that is at most, or at least, ``bound``."""

    what: str
    value: float
    bound: float
    is_upper: bool

    @property
    def holds(self) -> bool:
        """Whether it does."""
        return self.value <= self.bound if self.is_upper else self.value >= self.bound

    def __str__(self) -> str:
        sign = "<=" if self.is_upper else ">="
        verdict = "holds" if self.holds else "DOES NOT HOLD"
        return f"{self.what:<66} {self.value:>12,.5g} {sign} {self.bound:<9,.5g} {verdict}"


def at_most(what: str, value: float, bound: float) -> Check:
    """``value`` may not exceed ``bound``."""
    return Check(what, value, bound, True)


def at_least(what: str, value: float, bound: float) -> Check:
    """``value`` may not be less than ``bound``."""
    return Check(what, value, bound, False)
