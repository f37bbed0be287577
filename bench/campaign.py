"""A run of the benchmarks: rounds, interleaved, so that whatever else the machine does falls on all of them alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from bench.judge import judge
from bench.series import Reading, Series

__all__ = ["Kind", "measure", "retry_lost", "select"]


class Kind(Protocol):
    """A kind of benchmark: what there is of it, and how one round is measured."""

    def names(self) -> list[str]:
        """All that can be measured here, in the order of the table."""

    def measure(self, names: Sequence[str]) -> Iterator[tuple[str, Reading]]:
        """One round of each of ``names``, which are all its own. Raises ``BenchError``."""


def select(names: Sequence[str], texts: Sequence[str]) -> list[str]:
    """The names that contain one of ``texts``; all of them if there is none."""
    return [name for name in names if not texts or any(text in name for text in texts)]


def measure(
    kinds: Sequence[Kind], names: Sequence[str], rounds: int, say: Callable[[str], None]
) -> dict[str, Series]:
    """``rounds`` rounds of all of ``names``; ``say`` is told of each."""
    found: dict[str, Series] = {}
    for turn in range(rounds):
        for kind in kinds:
            known = set(kind.names())
            own = [name for name in names if name in known]
            for name, reading in kind.measure(own) if own else ():
                series = found.setdefault(name, Series(reading.unit, reading.better))
                series.add(reading)
                say(f"round {turn + 1} of {rounds}: {name} {reading.value:,.4g} {reading.unit}")
    return {name: found[name] for name in names if name in found}


def retry_lost(
    stored: dict[str, Series],
    found: dict[str, Series],
    again: Callable[[list[str]], dict[str, Series]],
) -> list[str]:
    """Measure what seems lost once more, by ``again``, and let those rounds count in ``found``; gives their names."""
    lost = [name for name in found if judge(name, stored, found).is_lost]
    if lost:
        found.update(again(lost))
    return lost
