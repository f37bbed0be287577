"""The encoder: events of each sort appended to the buffer, which is then taken."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from pytest_benchmark.fixture import BenchmarkFixture

from bench.micro.timing import timed

_TEXT = "x" * 64


def _append(
    benchmark: BenchmarkFixture, speedups: SimpleNamespace, item: Any, count: int = 100
) -> None:
    buffer = speedups.EventBuffer()
    append, take = buffer.append, buffer.take

    def run() -> int:
        for _ in range(count):
            append(item)
        return len(take())

    timed(benchmark, count, "event", run)
    assert run() == count * len(speedups.encode(item))


def test_short(benchmark: BenchmarkFixture, speedups: SimpleNamespace) -> None:
    """64 bytes of ASCII data, as in the load benchmarks."""
    _append(benchmark, speedups, {"data": _TEXT})


def test_text(benchmark: BenchmarkFixture, speedups: SimpleNamespace) -> None:
    """The same as a bare str."""
    _append(benchmark, speedups, _TEXT)


def test_named(benchmark: BenchmarkFixture, speedups: SimpleNamespace) -> None:
    """With an event type and an ID."""
    _append(benchmark, speedups, {"event": "price", "id": "1024", "data": _TEXT})


def test_long(benchmark: BenchmarkFixture, speedups: SimpleNamespace) -> None:
    """16 KiB in one line."""
    _append(benchmark, speedups, {"data": "x" * 16384}, count=10)


def test_lines(benchmark: BenchmarkFixture, speedups: SimpleNamespace) -> None:
    """20 lines of 64 bytes."""
    _append(benchmark, speedups, {"data": "\n".join([_TEXT] * 20)})


def test_unicode(benchmark: BenchmarkFixture, speedups: SimpleNamespace) -> None:
    """64 characters of one to four bytes of UTF-8."""
    _append(benchmark, speedups, {"data": "a\u00e9\u6f22\U0001f389" * 16})


def test_json(benchmark: BenchmarkFixture, speedups: SimpleNamespace) -> None:
    """Data that is not a str: a small object."""
    data = {"symbol": "AAPL", "price": 187.25, "change": -0.42, "open": True, "sizes": [100, 200]}
    _append(benchmark, speedups, {"data": data})


def test_batch(benchmark: BenchmarkFixture, speedups: SimpleNamespace) -> None:
    """100 short events in one list."""
    buffer = speedups.EventBuffer()
    batch = [{"data": _TEXT}] * 100

    def run() -> int:
        buffer.append(batch)
        return len(buffer.take())

    timed(benchmark, 100, "event", run)
    assert run() == 7200


def test_frame(benchmark: BenchmarkFixture, speedups: SimpleNamespace) -> None:
    """A short event as bytes of its own, by ``encode``."""
    encode = speedups.encode
    event = {"data": _TEXT}

    def run() -> None:
        for _ in range(100):
            encode(event)

    timed(benchmark, 100, "event", run)
    assert len(encode(event)) == 72
