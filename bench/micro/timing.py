"""How a micro benchmark says what it counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pytest_benchmark.fixture import BenchmarkFixture

__all__ = ["timed"]


def timed(benchmark: BenchmarkFixture, count: int, of: str, function: Callable[[], Any]) -> None:
    """Benchmark ``function``; a call of it is ``count`` of ``of`` ("event", "request"), and the time is for one."""
    benchmark.extra_info.update(count=count, of=of)
    benchmark(function)
