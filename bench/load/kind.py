"""The load benchmarks as a kind of the campaign: each scenario's floor and implementations in turn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bench.errors import BenchError
from bench.load.process import HAS_PROC, ServerProcess
from bench.load.scenarios import SCENARIOS, Outcome
from bench.series import Reading
from bunpy._speedups import IMPLEMENTATION

__all__ = ["LoadKind"]


class LoadKind:
    """The scenarios, each in every implementation that there is; ``size`` is how much of the whole load."""

    def __init__(self, size: float = 1.0) -> None:
        self._size = size

    def names(self) -> list[str]:
        """All that can be measured here: a server's time and memory only where there is a /proc."""
        implementations = ["cython", "python"] if IMPLEMENTATION == "cython" else ["python"]
        return [
            f"load/{name}[{implementation}]"
            for name, scenario in SCENARIOS.items()
            for implementation in implementations
            if HAS_PROC or not scenario.needs_proc
        ]

    def measure(self, names: Sequence[str]) -> Iterator[tuple[str, Reading]]:
        """One round, every server in a fresh process; a floor serves all implementations of its scenario."""
        floors: dict[str, Outcome] = {}
        for name in names:
            scenario, _, implementation = name[len("load/") : -1].partition("[")
            if scenario not in floors:
                floors[scenario] = self._take(scenario, "floor")
            yield name, _reading(scenario, self._take(scenario, implementation), floors[scenario])

    def _take(self, scenario: str, variant: str) -> Outcome:
        try:
            with ServerProcess(scenario, variant) as server:
                return SCENARIOS[scenario].measure(server, self._size)
        except (BenchError, OSError) as exc:
            raise BenchError(f"load/{scenario}[{variant}]: {exc}") from exc


def _reading(name: str, outcome: Outcome, floor: Outcome) -> Reading:
    scenario = SCENARIOS[name]
    shares = {
        "server": outcome.server,
        "client": outcome.client,
        "floor server": floor.server,
        "floor client": floor.client,
    }
    shares = {process: share for process, share in shares.items() if share}
    return Reading(scenario.unit, scenario.better, outcome.value, floor.value, shares)
