"""``python -m bench.compare.workers [--rounds N] [--pure]``: two workers beside one, for plain requests and for bursts.

The client needs a core as well. Where it has to share the two cores with the workers, the rate alone says little: what
counts is how much the server gets done in a second of processor time, which is what cores of its own would give it.
Exit status 1 if two cores of their own would give two workers less than 1.7 times what one gives one.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from bench.errors import BenchError
from bench.load import wrk
from bench.load.process import ServerProcess
from bench.load.scenarios import SCENARIOS, Outcome
from bunpy._speedups import IMPLEMENTATION

__all__ = ["Row", "compare"]

_WORKERS: Final = 2
_CONNECTIONS: Final = 64
_TARGET: Final = 1.7


@dataclass(frozen=True)
class Row:
    """One scenario: what each round measured with one worker, and with two."""

    scenario: str
    one: list[Outcome]
    two: list[Outcome]

    @property
    def measured(self) -> float:
        """How many times as fast two were, the client beside them; the middle of the rounds."""
        return statistics.median(
            two.value / one.value for one, two in zip(self.one, self.two, strict=True)
        )

    @property
    def with_own_cores(self) -> float:
        """How many times as fast two would be with a core each: by what each second of processor time got done."""
        return _WORKERS * statistics.median(
            (two.value / two.server) / (one.value / one.server)
            for one, two in zip(self.one, self.two, strict=True)
        )

    @property
    def is_lost(self) -> bool:
        """Whether that is under its target."""
        return self.with_own_cores < _TARGET

    def __str__(self) -> str:
        def words(outcomes: list[Outcome]) -> str:
            value = statistics.median(outcome.value for outcome in outcomes)
            server = statistics.median(outcome.server for outcome in outcomes)
            client = statistics.median(outcome.client for outcome in outcomes)
            return f"{value:>11,.0f} (server {server:4.2f}, client {client:4.2f} cores)"

        return (
            f"workers/{self.scenario:6} {words(self.one)} {words(self.two)} {self.measured:5.2f} x,"
            f" with own cores {self.with_own_cores:5.2f} x (target {_TARGET:g} x)"
        )


def compare(
    scenarios: Sequence[str], rounds: int, variant: str, size: float = 1.0
) -> Iterator[Row]:
    """Each scenario's row; ``size`` is how much of the whole load. ``BenchError`` if a server fails."""
    for scenario in scenarios:
        outcomes: dict[int, list[Outcome]] = {1: [], _WORKERS: []}
        for _ in range(rounds):
            for workers, found in outcomes.items():
                with ServerProcess(scenario, variant, workers=workers) as server:
                    found.append(_measure(scenario, server, workers, size))
        yield Row(scenario, outcomes[1], outcomes[_WORKERS])


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


def main() -> int:
    """Compare, and say how it went."""
    parser = argparse.ArgumentParser(prog="python -m bench.compare.workers", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured")
    parser.add_argument("--pure", action="store_true", help="without the extension")
    arguments = parser.parse_args()
    print(f"{len(os.sched_getaffinity(0))} cores for the workers and the client")
    has_lost = False
    variant = "python" if arguments.pure else IMPLEMENTATION
    try:
        for row in compare(("hello", "burst"), arguments.rounds, variant):
            print(row, flush=True)
            has_lost = has_lost or row.is_lost
    except BenchError as exc:
        print(exc, file=sys.stderr)
        return 2
    return int(has_lost)


if __name__ == "__main__":
    sys.exit(main())
