"""The comparison with others: it runs, and judges right. How fast anything is, no test asserts."""

from __future__ import annotations

import pytest

from bench.compare import workers
from bench.compare.asgi import Row, compare
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


def test_two_workers_are_judged_by_what_a_second_of_processor_time_gets_done() -> None:
    one = [Outcome(100.0, server=1.0, client=0.5)] * 3
    two = [Outcome(120.0, server=1.3, client=0.7), Outcome(110.0, server=1.2, client=0.8)]
    row = workers.Row("hello", one, [*two, Outcome(130.0, server=1.4, client=0.6)])
    assert row.measured == 1.2
    assert row.with_own_cores == pytest.approx(2 * 120 / 1.3 / 100)
    assert not row.is_lost
    assert "1.20 x, with own cores  1.85 x (target 1.7 x)" in str(row)
    assert workers.Row("hello", one[:1], [Outcome(160.0, server=2.0)]).is_lost


def test_one_worker_and_two_are_measured() -> None:
    (row,) = workers.compare(["burst"], 1, IMPLEMENTATION, 0.3)
    assert len(row.one) == len(row.two) == 1
    assert row.measured > 0
