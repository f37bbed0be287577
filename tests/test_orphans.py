"""Children that nobody waits for. Under the number 1 for real: tests/test_signals.py."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from bunpy.server import orphans
from bunpy.server.orphans import Orphans


class Clock(SimpleNamespace):
    """Stands in for ``time``."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(orphans, "time", clock)
    return clock


@pytest.fixture
def child() -> Iterator[int]:
    """A child that has ended, and of which nobody has asked for its status."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    yield process.pid
    process.wait()


def is_there(child: int) -> bool:
    try:
        return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return False


def test_who_started_a_child_has_time_to_ask_for_it(
    clock: Clock, child: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 1)
    watched = Orphans()
    watched.look()
    clock.now += 1.9
    watched.look()
    assert is_there(child)
    clock.now += 0.2
    watched.look()
    assert not is_there(child)
    watched.look()  # without any


def test_a_process_that_is_not_the_first_leaves_them_alone(clock: Clock, child: int) -> None:
    watched = Orphans()
    for _ in range(3):
        watched.look()
        clock.now += 10
    assert is_there(child)


def test_a_child_that_runs_is_left_alone(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 1)
    watched = Orphans()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        for _ in range(3):
            watched.look()
            clock.now += 10
        assert process.poll() is None
    assert process.returncode == 1  # EOFError: its own, and not lost
