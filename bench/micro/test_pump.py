"""The pump, from a generator to a transport that is memory. No loop: what it suspends on goes on at once."""

from __future__ import annotations

import types
from collections.abc import AsyncGenerator, Callable, Generator
from types import SimpleNamespace
from typing import Any

from pytest_benchmark.fixture import BenchmarkFixture

from bench.micro.fakes import Sink, run_through
from bench.micro.timing import timed

_COUNT = 2000
_TEXT = "x" * 64

Source = Callable[[], AsyncGenerator[Any, None]]


@types.coroutine
def _suspend() -> Generator[None, None, None]:
    yield


async def _dicts() -> AsyncGenerator[Any, None]:
    for _ in range(_COUNT):
        yield {"data": _TEXT}


async def _awaiting() -> AsyncGenerator[Any, None]:
    for _ in range(_COUNT):
        await _suspend()
        yield {"data": _TEXT}


async def _lists() -> AsyncGenerator[Any, None]:
    for _ in range(_COUNT // 100):
        yield [{"data": _TEXT}] * 100


def _pump(benchmark: BenchmarkFixture, speedups: SimpleNamespace, source: Source) -> None:
    sink = Sink()
    buffer = speedups.EventBuffer()

    async def stream() -> None:
        outlet = speedups.Outlet(sink, -1)
        pump = speedups.Pump(source(), buffer, outlet)
        while await pump:
            pass
        outlet.flush(buffer, last=True)

    timed(benchmark, _COUNT, "event", lambda: run_through(stream()))
    sink.size = 0
    run_through(stream())
    assert sink.size == _COUNT * 72


def test_dicts(benchmark: BenchmarkFixture, speedups: SimpleNamespace) -> None:
    """Dicts without an await between them: they leave together."""
    _pump(benchmark, speedups, _dicts)


def test_awaiting(benchmark: BenchmarkFixture, speedups: SimpleNamespace) -> None:
    """A suspension before each: each leaves alone."""
    _pump(benchmark, speedups, _awaiting)


def test_lists(benchmark: BenchmarkFixture, speedups: SimpleNamespace) -> None:
    """Lists of 100."""
    _pump(benchmark, speedups, _lists)
