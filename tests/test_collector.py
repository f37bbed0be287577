"""When the garbage collector sets aside what is alive, and when it looks at it again."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from bunpy.server import collector
from bunpy.server.collector import Collector

MANY = 5000


class Clock(SimpleNamespace):
    """Stands in for ``time``."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    clock = Clock()
    monkeypatch.setattr(collector, "time", clock)
    assert gc.get_freeze_count() == 0
    yield clock
    gc.unfreeze()


class Cycle:
    def __init__(self) -> None:
        self.itself = self


def test_few_connections_change_nothing(clock: Clock) -> None:
    watched = Collector()
    for connections in (0, 10, 999):
        gc.collect()
        watched.look(connections)
    assert gc.get_freeze_count() == 0


def test_what_a_full_collection_found_is_set_aside(clock: Clock) -> None:
    watched = Collector()
    gc.collect()
    watched.look(MANY)
    frozen = gc.get_freeze_count()
    assert frozen > 1000
    kept = [Cycle() for _ in range(100)]
    watched.look(MANY)  # there has been no collection
    gc.collect()
    watched.look(MANY)
    assert gc.get_freeze_count() >= frozen + len(kept)


@pytest.mark.parametrize("reason", ["time", "connections", "end"])
def test_it_is_looked_at_again(clock: Clock, reason: str) -> None:
    watched = Collector()
    garbage = Cycle()
    is_alive = weakref.ref(garbage)
    gc.collect()
    watched.look(MANY)
    del garbage
    gc.collect()
    assert is_alive() is not None  # set aside
    if reason == "time":
        clock.now += 601
        watched.look(MANY)
    elif reason == "connections":
        watched.look(MANY // 2 - 1)
    else:
        watched.release()
    assert gc.get_freeze_count() == 0
    gc.collect()
    assert is_alive() is None


def test_a_program_that_freezes_is_left_alone(clock: Clock) -> None:
    gc.freeze()
    before = gc.get_freeze_count()
    watched = Collector()
    gc.collect()
    watched.look(MANY)
    clock.now += 601
    watched.look(0)
    watched.release()
    assert gc.get_freeze_count() <= before
    assert gc.get_freeze_count() > before / 2
