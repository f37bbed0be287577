"""``python -m bench.compare.workers [--rounds N] [--pure]``: two workers beside one, for plain requests and for bursts.

The client needs a core as well. With two cores there is none free for a second worker, so that two of them are measured
twice: on all cores, which they share with the client (that is the rate that one gets here), and both on the one core
that one has to itself, the client on the other. What they get done there, twice, is what a core for each would give.
Exit status 1 if that is less than 1.7 times what one gets.
"""

from __future__ import annotations

import os
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from bench.compare.command import run
from bench.load import wrk
from bench.load.cores import server_core
from bench.load.process import ServerProcess
from bench.load.scenarios import SCENARIOS, Outcome

__all__ = ["Row", "compare"]

_WORKERS: Final = 2
_CONNECTIONS: Final = 64
_TARGET: Final = 1.7


@dataclass(frozen=True)
class Row:
    """One scenario: what each round measured with one worker on a core, with two on that core, and on all cores."""

    scenario: str
    one: list[Outcome]
    two_on_one_core: list[Outcome]
    two: list[Outcome]

    @property
    def measured(self) -> float:
        """How many times as fast two were on all cores, the client beside them; the middle of the rounds."""
        return _ratio(self.two, self.one)

    @property
    def with_own_cores(self) -> float:
        """How many times as fast two would be with a core each."""
        return _WORKERS * _ratio(self.two_on_one_core, self.one)

    @property
    def is_lost(self) -> bool:
        """Whether that is under its target."""
        return self.with_own_cores < _TARGET

    def __str__(self) -> str:
        return (
            f"workers/{self.scenario:6} one {_words(self.one)}, two on its core {_words(self.two_on_one_core)},"
            f" on all {_words(self.two)}: {self.measured:.2f} x,"
            f" with own cores {self.with_own_cores:.2f} x (target {_TARGET:g} x)"
        )


def _ratio(these: list[Outcome], those: list[Outcome]) -> float:
    return statistics.median(a.value / b.value for a, b in zip(these, those, strict=True))


def _words(outcomes: list[Outcome]) -> str:
    value = statistics.median(outcome.value for outcome in outcomes)
    server = statistics.median(outcome.server for outcome in outcomes)
    client = statistics.median(outcome.client for outcome in outcomes)
    return f"{value:,.0f} (server {server:.2f}, client {client:.2f} cores)"


def compare(
    scenarios: Sequence[str], rounds: int, variant: str, size: float = 1.0
) -> Iterator[Row]:
    """Each scenario's row; ``size`` is how much of the whole load. ``BenchError`` if a server fails."""
    on_one_core = ("taskset", "-c", str(server_core()))
    for scenario in scenarios:
        row = Row(scenario, [], [], [])
        for _ in range(rounds):
            for workers, before, found in (
                (1, (), row.one),
                (_WORKERS, on_one_core, row.two_on_one_core),
                (_WORKERS, (), row.two),
            ):
                with ServerProcess(scenario, variant, before=before, workers=workers) as server:
                    found.append(_measure(scenario, server, workers, size))
        yield row


def _measure(scenario: str, server: ServerProcess, workers: int, size: float) -> Outcome:
    """As ``bench.load`` does, but for plain requests: as many connections a worker, so that each has as much to do."""
    if scenario != "hello":
        return SCENARIOS[scenario].measure(server, size)
    wrk.run(server.port, _CONNECTIONS * workers, 1)
    before = server.cpu_time()
    window = wrk.run(server.port, _CONNECTIONS * workers, 3)
    used = server.cpu_time() - before
    return Outcome(
        window.events / window.seconds, used / window.seconds, window.client_time / window.seconds
    )


def _begin() -> None:
    print(f"{len(os.sched_getaffinity(0))} cores for the workers and the client")


if __name__ == "__main__":
    sys.exit(run("bench.compare.workers", __doc__, compare, ("hello", "burst"), _begin))
