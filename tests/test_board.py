"""Numbers in memory that processes share."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from bunpy.http.counters import Counters
from bunpy.workers.board import Board


def counted(
    board: Board, row: int, *, events: int = 0, connections: int = 0, lag: float = 0.0
) -> None:
    """Let a worker with that row have counted this."""
    counters = Counters(board.row(row))
    counters.events = events
    counters.connections = connections
    counters.loop_lag = lag
    counters.publish()


def test_it_begins_with_nothing() -> None:
    stats = Board(3).stats()
    assert (stats.events, stats.connections, stats.workers, stats.restarts) == (0, 0, 0, 0)


def test_rows_are_summed() -> None:
    board = Board(4)
    counted(board, 1, events=5, connections=2, lag=0.25)
    counted(board, 2, events=7, connections=3, lag=0.5)
    stats = board.stats()
    assert (stats.events, stats.connections, stats.loop_lag) == (12, 5, 0.5)


def test_a_row_has_the_cells_that_counters_need_and_no_others() -> None:
    board = Board(3)
    assert len(board.row(1)) == Counters.SIZE
    for place in range(Counters.SIZE):
        board.row(1)[place] = 1.0
    assert set(board.row(0)) == set(board.row(2)) == {0.0}


def test_what_was_counted_outlives_who_counted_it() -> None:
    """What was so, does not; and the row is another's."""
    board = Board(3)
    counted(board, 1, events=5, connections=2, lag=0.25)
    board.retire(1)
    stats = board.stats()
    assert (stats.events, stats.connections, stats.loop_lag) == (5, 0, 0.0)
    assert set(board.row(1)) == {0.0}
    counted(board, 1, events=1)
    board.retire(1)
    assert board.stats().events == 6


def test_workers_and_restarts() -> None:
    board = Board(3)
    board.set_workers(2)
    board.add_restart()
    board.add_restart()
    stats = board.stats()
    assert (stats.workers, stats.restarts) == (2, 2)


def test_a_sum_taken_while_a_row_is_moved_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is neither in both rows nor in none."""
    monkeypatch.setattr("bunpy.workers.board._TRIES", 10_000)  # the one that moves may be stopped
    board = Board(2)
    counted(board, 0, events=1000)
    sums: set[int] = set()
    is_over = threading.Event()

    nothing = memoryview(bytes(8 * Counters.SIZE)).cast("d")

    def move() -> None:
        """There and back; ``retire`` is the way back."""
        while not is_over.is_set():
            board._cells[0] += 1
            board.row(1)[:] = board.row(0)
            board.row(0)[:] = nothing
            board._cells[0] += 1
            board.retire(1)

    mover = threading.Thread(target=move)
    mover.start()
    try:
        for _ in range(200):
            sums.add(board.stats().events)
    finally:
        is_over.set()
        mover.join()
    assert sums == {1000}


def test_a_supervisor_that_died_in_the_middle_holds_nobody_up() -> None:
    board = Board(2)
    counted(board, 1, events=3)
    board._cells[0] += 1
    assert board.stats().events == 3


def test_a_fork_writes_into_it() -> None:
    board = Board(2)
    pid = os.fork()
    if pid == 0:
        counted(board, 1, events=9)
        os._exit(0)
    os.waitpid(pid, 0)
    assert board.stats().events == 9


def test_another_process_finds_it_by_its_descriptor() -> None:
    board = Board(2, is_named=True)
    assert isinstance(board.place, int)
    program = f"""
from bunpy.http.counters import Counters
from bunpy.workers.board import Board
board = Board(2, {board.place})
counters = Counters(board.row(1))
counters.events = 9
counters.publish()
"""
    subprocess.run([sys.executable, "-c", program], pass_fds=[board.place], check=True, timeout=30)
    assert board.stats().events == 9
    before = len(os.listdir("/dev/fd"))
    board.close()
    board.close()
    assert len(os.listdir("/dev/fd")) == before - 1
    assert board.place is None
    assert board.stats().events == 9


def test_without_a_name_nobody_finds_it() -> None:
    assert Board(2).place is None
