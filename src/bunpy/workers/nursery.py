"""The worker processes that there are, and the making of new ones. When there are to be any, the supervisor decides."""

from __future__ import annotations

import logging
import os
import selectors
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from bunpy.workers.backoff import Backoff
from bunpy.workers.link import Link
from bunpy.workers.process import WorkerProcess
from bunpy.workers.start import start_by_fork, start_by_spawn
from bunpy.workers.worker import Task

if TYPE_CHECKING:
    from bunpy.http.service import Handler
    from bunpy.server.config import Config
    from bunpy.server.listeners import Listeners
    from bunpy.workers.board import Board

__all__ = ["Nursery", "Plan", "Slot", "rows_for"]

_log = logging.getLogger("bunpy")

#: Rows of the board for each worker: itself, its successor, and those that are still ending.
_ROWS: Final = 8
#: Seconds for what is killed to be gone, and between two looks.
_LAST_TIME: Final = 1.0
_STEP: Final = 0.005


def rows_for(workers: int) -> int:
    """How many rows a board must have."""
    return 1 + _ROWS * workers


@dataclass
class Plan:
    """What is to be served, on which sockets (``shares``, a list for each worker).

    ``options`` are those of ``serve``, for processes that cannot be forked; None: all are.
    """

    handler: Handler | str
    hostname: str
    config: Config
    listeners: Listeners
    shares: list[list[socket.socket]]
    board: Board
    options: Mapping[str, Any] | None


@dataclass(eq=False)
class Slot:
    """One of the workers that there are to be, whichever process that is."""

    number: int
    sockets: list[socket.socket]
    current: WorkerProcess | None = None
    #: The one that will take its place when it is ready.
    successor: WorkerProcess | None = None
    #: When to start one where there is none, and when to replace the one that there is.
    due: float | None = None
    renewal: float | None = None
    backoff: Backoff = field(default_factory=Backoff)


class Nursery:
    """Makes worker processes, and knows them until they are buried.

    What happens to one is seen by ``selector``, and what it says by ``on_word``. ``is_at_home`` is whether this is the
    program's own process, where there may be other servers.
    """

    def __init__(
        self,
        plan: Plan,
        selector: selectors.BaseSelector,
        on_word: Callable[[WorkerProcess], None],
        *,
        is_at_home: bool,
    ) -> None:
        self._plan = plan
        self._selector = selector
        self._on_word = on_word
        self._is_at_home = is_at_home
        self._rows = list(range(plan.board.rows - 1, 0, -1))
        self.processes: list[WorkerProcess] = []

    @property
    def has_room(self) -> bool:
        """Whether there may be one process more than needed: each that dies must find a row for the next."""
        return len(self._rows) > len(self._plan.shares)

    def start(self, slot: Slot, handler: Handler | str) -> WorkerProcess | None:
        """A new process for a slot; None, and a line in the log, if there is none to be had just now."""
        plan = self._plan
        if not self._rows:
            _log.error(
                "worker %d could not be started: %d that were told to end have not ended yet",
                slot.number,
                sum(process.is_leaving for process in self.processes),
            )
            return None
        row = self._rows.pop()
        ends: tuple[Link, ...] = ()
        try:
            here, there = ends = Link.pair()
            task = Task(
                handler=handler,
                hostname=plan.hostname,
                bound_name=plan.hostname if plan.listeners.is_own else None,
                config=plan.config,
                sockets=slot.sockets,
                board=plan.board,
                row=row,
                link=there,
            )
            if plan.options is None:
                process = start_by_fork(task, here, slot.number, self._let_go)
            else:
                process = start_by_spawn(task, here, slot.number, plan.options)
        except OSError as exc:
            self._rows.append(row)
            for end in ends:
                end.close()
            _log.error("worker %d could not be started: %s", slot.number, exc.strerror or exc)
            return None
        self.processes.append(process)
        self._selector.register(here, selectors.EVENT_READ, lambda: self._on_word(process))
        if process.end is not None:
            self._selector.register(process.end, selectors.EVENT_READ, _nothing)
        return process

    def _let_go(self, task: Task) -> None:
        """In a new worker: close what is the supervisor's, and other workers'."""
        self._selector.close()
        for process in self.processes:
            if process.end is not None:
                os.close(process.end)
        for listener in self._plan.listeners.sockets:
            if listener not in task.sockets:
                listener.close()
        if self._is_at_home:
            self._plan.listeners.close_all_others()

    def hush(self, process: WorkerProcess) -> None:
        """It says nothing more."""
        process.is_silent = True
        self._selector.unregister(process.link)

    def bury(self, process: WorkerProcess) -> None:
        """It has ended: hear its last words, which may say why, and keep what it has counted."""
        process.link.socket.setblocking(False)
        while not process.is_silent:
            self._on_word(process)
        self.processes.remove(process)
        if process.end is not None:
            self._selector.unregister(process.end)
        process.close()
        self._plan.board.retire(process.row)
        self._rows.append(process.row)

    def kill(self) -> None:
        """End all at once; also for a signal handler."""
        for process in list(self.processes):
            process.kill()

    def end(self) -> None:
        """End all at once, and leave none behind that has ended and is not asked for."""
        self.kill()
        deadline = time.monotonic() + _LAST_TIME
        while self.processes and time.monotonic() < deadline:
            for process in list(self.processes):
                if process.poll() is not None:
                    if not process.is_silent:
                        self.hush(process)
                    self.bury(process)
            time.sleep(_STEP)

    def count(self) -> None:
        """Tell the board how many serve."""
        self._plan.board.set_workers(
            sum(process.is_ready and not process.is_leaving for process in self.processes)
        )


def _nothing() -> None:
    """What is to be seen is seen at the next look."""
