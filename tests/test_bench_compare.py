"""The comparison with others: it runs, and judges right. How fast anything is, no test asserts."""

from __future__ import annotations

import pytest

from bench.compare.asgi import Row, compare
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
