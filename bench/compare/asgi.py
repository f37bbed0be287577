"""``python -m bench.compare.asgi [--rounds N] [--pure]``: bunpy.asgi beside sse-starlette, on the same uvicorn.

Each round measures both, one after the other, each in a fresh process; exit status 1 if a ratio is under its target.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Final

from bench.compare.command import run
from bench.load.cores import pin_client
from bench.load.process import ServerProcess
from bench.load.scenarios import SCENARIOS
from bunpy.server.sockets import raise_descriptor_limit

__all__ = ["Row", "compare"]

_OURS: Final = "bunpy.asgi"
_THEIRS: Final = "sse_starlette"
_PACKAGES: Final = ("uvicorn", "starlette", "sse-starlette", "uvloop", "httptools")
#: How many times as fast bunpy.asgi is held to be; the others are there to be seen.
_TARGETS: Final = {"burst": 5.0}


@dataclass(frozen=True)
class Row:
    """One scenario: what each round measured, bunpy's and sse-starlette's, and how many times as good bunpy was."""

    scenario: str
    ours: list[float]
    theirs: list[float]

    @property
    def ratio(self) -> float:
        """The middle of the rounds' ratios."""
        pairs = zip(self.ours, self.theirs, strict=True)
        if SCENARIOS[self.scenario].better == "higher":
            return statistics.median(ours / theirs for ours, theirs in pairs)
        return statistics.median(theirs / ours for ours, theirs in pairs)

    @property
    def is_lost(self) -> bool:
        """Whether the ratio is under its target."""
        return self.ratio < _TARGETS.get(self.scenario, 0.0)

    def __str__(self) -> str:
        target = _TARGETS.get(self.scenario)
        return (
            f"asgi/{self.scenario:6} {statistics.median(self.ours):>12,.1f} {statistics.median(self.theirs):>12,.1f}"
            f" {SCENARIOS[self.scenario].unit:10} {self.ratio:5.1f} x"
            + (f" (target {target:g} x)" if target else "")
        )


def compare(
    scenarios: Sequence[str], rounds: int, variant: str, size: float = 1.0
) -> Iterator[Row]:
    """Each scenario's row; ``size`` is how much of the whole load. ``BenchError`` if a server fails."""
    for scenario in scenarios:
        values: dict[str, list[float]] = {_OURS: [], _THEIRS: []}
        for _ in range(rounds):
            for library in values:
                with ServerProcess(
                    f"{scenario}/{library}", variant, "bench.compare.asgi_server"
                ) as server:
                    values[library].append(SCENARIOS[scenario].measure(server, size).value)
        yield Row(scenario, values[_OURS], values[_THEIRS])


def _begin() -> None:
    raise_descriptor_limit()
    pin_client()
    print(", ".join(f"{package} {version(package)}" for package in _PACKAGES))
    print(f"{'':11} {_OURS:>12} {_THEIRS:>12}")


if __name__ == "__main__":
    sys.exit(run("bench.compare.asgi", __doc__, compare, ("burst", "llm", "ticks"), _begin))
