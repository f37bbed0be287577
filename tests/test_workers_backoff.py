"""How long until a worker that died is replaced, and when that is given up."""

from __future__ import annotations

import pytest

from bunpy.workers.backoff import Backoff, StartLimit


def test_the_first_is_replaced_at_once_and_the_next_ones_later_and_later() -> None:
    backoff = Backoff()
    assert [backoff.after(0.1) for _ in range(10)] == [
        0.0,
        0.1,
        0.2,
        0.4,
        0.8,
        1.6,
        3.2,
        6.4,
        10.0,
        10.0,
    ]


def test_one_that_has_lived_begins_anew() -> None:
    backoff = Backoff()
    waits = [backoff.after(lifetime) for lifetime in (1.0, 1.0, 9.9, 10.0, 0.0)]
    assert waits == [0.0, 0.1, 0.2, 0.0, 0.1]


@pytest.mark.parametrize(
    ("deaths", "too_many"),
    [
        ((0, 0, 0, 0), False),
        ((0, 0, 0, 0, 0), True),
        ((0, 2, 4, 6, 10), True),
        ((0, 2, 4, 6, 10.1), False),
        ((0, 2, 4, 6, 10.1, 11.9), True),
    ],
)
def test_five_in_ten_seconds_are_too_many(deaths: tuple[float, ...], too_many: bool) -> None:
    limit = StartLimit()
    assert [limit.add(now) for now in deaths][-1] is too_many
