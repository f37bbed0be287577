"""What the doctor finds: one thing each, how bad it is, and what mends it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["Finding", "Level", "count"]

#: "unknown": it could not be measured, and ``seen`` says why.
Level = Literal["ok", "warning", "problem", "unknown"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    ``name`` says which ("buffering"), ``seen`` in a sentence what there was to see, with its numbers. ``advice`` is
    the setting that mends it, by the name of the proxy ("nginx") or "bunpy"; empty where there is nothing to mend.
    """

    name: str
    level: Level
    seen: str
    advice: Mapping[str, str] = field(default_factory=dict)


def count(number: int, noun: str) -> str:
    """So many of them, in words: "1 event", "2 events"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
