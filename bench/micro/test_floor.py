"""What the interpreter needs for a fixed piece of work of no one's: the floor that the micro benchmarks are held to."""

from __future__ import annotations

from pytest_benchmark.fixture import BenchmarkFixture

from bench.micro.timing import timed

_EVENT = {"data": "x" * 64}


def test_interpreter(benchmark: BenchmarkFixture) -> None:
    """100 events framed in the plainest Python there is: nothing checked, no line split."""

    def run() -> bytes:
        lines = []
        for _ in range(100):
            lines.append(f"data: {_EVENT['data']}\n\n".encode())  # noqa: PERF401 -- a loop is what is measured
        return b"".join(lines)

    timed(benchmark, 100, "event", run)
    assert len(run()) == 7200
