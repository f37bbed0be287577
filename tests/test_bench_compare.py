"""The comparison with others: it runs, and judges right. How fast anything is, no test asserts."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from functools import partial

import pytest

from bench.compare import command, workers
from bench.compare.asgi import Row, compare
from bench.errors import BenchError
from bench.load.scenarios import Outcome
from bunpy._speedups import IMPLEMENTATION


def test_a_ratio_says_how_many_times_as_good_in_the_middle_of_the_rounds() -> None:
    row = Row("burst", [100.0, 900.0, 400.0], [20.0, 100.0, 100.0])
    assert row.ratio == 5
    assert not row.is_lost
    assert " ".join(str(row).split()) == "asgi/burst 400.0 100.0 events/s 5.0 x (target 5 x)"
    assert Row("burst", [49.0], [10.0]).is_lost


def test_less_is_better_where_it_is() -> None:
    row = Row("llm", [10.0], [30.0])
    assert row.ratio == 3
    assert not Row("llm", [30.0], [10.0]).is_lost  # which has no target


@pytest.mark.parametrize("scenario", ["burst", "llm"])
def test_both_are_measured(scenario: str) -> None:
    (row,) = compare([scenario], 1, IMPLEMENTATION, 0.05)
    assert len(row.ours) == len(row.theirs) == 1
    assert row.ratio > 0


def test_two_workers_are_judged_by_what_they_get_done_on_one_core() -> None:
    one = [Outcome(100.0, 1.0, 0.5)] * 3
    shared = [Outcome(90.0, 1.0, 0.5), Outcome(95.0, 1.0, 0.5), Outcome(80.0, 1.0, 0.5)]
    row = workers.Row("hello", one, shared, [Outcome(120.0, 1.3, 0.7)] * 3)
    assert row.measured == 1.2
    assert row.with_own_cores == 1.8
    assert not row.is_lost
    assert "two on its core 90 (server 1.00, client 0.50 cores)" in str(row)
    assert str(row).endswith("1.20 x, with own cores 1.80 x (target 1.7 x)")
    assert workers.Row("hello", one[:1], [Outcome(84.0)], one[:1]).is_lost


def test_one_worker_and_two_are_measured() -> None:
    (row,) = workers.compare(["burst"], 1, IMPLEMENTATION, 0.3)
    assert len(row.one) == len(row.two_on_one_core) == len(row.two) == 1
    assert row.measured > 0


@pytest.mark.parametrize(("ratios", "status"), [([5.0, 6.0], 0), ([6.0, 4.9, 6.0], 1), ([], 2)])
def test_the_exit_status_says_how_it_went(
    ratios: list[float],
    status: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked: list[object] = []

    def found(scenarios: Sequence[str], rounds: int, variant: str) -> Iterator[Row]:
        asked.extend((scenarios, rounds, variant))
        if not ratios:
            raise BenchError("no server")
        for ratio in ratios:
            yield Row("burst", [ratio], [1.0])

    monkeypatch.setattr(sys, "argv", ["compare", "--rounds", "7", "--pure"])
    begin = partial(sys.stdout.write, "begins\n")
    assert command.run("bench.compare.x", "What.", found, ("burst",), begin) == status
    assert asked == [("burst",), 7, "python"]
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == 1 + len(ratios)
    assert captured.err == ("" if ratios else "no server\n")
