"""The command line of a comparison: how often to measure, and what the exit status says. Nothing is measured here."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from bench.errors import BenchError
from bunpy._speedups import IMPLEMENTATION

__all__ = ["Row", "run"]


class Row(Protocol):
    """What was found of one scenario, as a line."""

    @property
    def is_lost(self) -> bool:
        """Whether a ratio is under its target."""


def run(
    module: str,
    description: str | None,
    compare: Callable[[Sequence[str], int, str], Iterator[Row]],
    scenarios: Sequence[str],
    begin: Callable[[], object],
) -> int:
    """Print a row for each of ``scenarios``, after ``begin``: 1 if one is lost, 2 if there is none to be had."""
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=description)
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured")
    parser.add_argument("--pure", action="store_true", help="bunpy without the extension")
    arguments = parser.parse_args()
    begin()
    has_lost = False
    variant = "python" if arguments.pure else IMPLEMENTATION
    try:
        for row in compare(scenarios, arguments.rounds, variant):
            print(row, flush=True)
            has_lost = has_lost or row.is_lost
    except BenchError as exc:
        print(exc, file=sys.stderr)
        return 2
    return int(has_lost)
