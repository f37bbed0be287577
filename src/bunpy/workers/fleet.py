"""A server of several processes, as the process sees it that called ``serve``. Who keeps them up is the supervisor.

The supervisor is a child forked when the server starts: what it forks later comes from a process with one thread,
and none of the program's state. It is this process where ``serve`` blocks, and a thread of it where there is no fork.
"""

from __future__ import annotations

import concurrent.futures
import itertools
import logging
import os
import select
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future as ThreadFuture
from typing import TYPE_CHECKING, Any, Final

from bunpy.errors import ConfigError, ImportFailed
from bunpy.server.handle import Server
from bunpy.server.orphans import Orphans
from bunpy.server.server import tls_of
from bunpy.server.sockets import bind
from bunpy.workers.board import Board
from bunpy.workers.link import Link
from bunpy.workers.nursery import Plan, rows_for
from bunpy.workers.process import how_it_ended
from bunpy.workers.sockets import share_out
from bunpy.workers.start import CAN_FORK, check_spawn, fork, name_of
from bunpy.workers.supervisor import Supervisor, take_signals

if TYPE_CHECKING:
    from bunpy.http.service import Handler
    from bunpy.http.stats import Stats
    from bunpy.server.config import Config, StreamsEnd
    from bunpy.server.notify import Notify

__all__ = ["Fleet", "StartFailed", "cores"]

_log = logging.getLogger("bunpy")

#: Seconds between two looks at what has become orphaned, in a first process.
_ORPHANS_TIME: Final = 0.5
#: Seconds for processes to end that are stopped at once; it takes half of one where they do not listen.
_LAST_TIME: Final = 2.0


class StartFailed(RuntimeError):
    """Workers die again and again, so that the server does not come to serve."""


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Fleet(Server):
    """A server whose ``workers`` processes answer; ``run_here`` or ``start`` begins it.

    ``config`` is made of ``options``, which processes are told that cannot be forked (``spawns``).
    """

    def __init__(
        self,
        handler: Handler | str,
        hostname: str,
        port: int,
        config: Config,
        workers: int,
        notify: Notify,
        options: Mapping[str, Any],
        *,
        spawns: bool = not CAN_FORK,
    ) -> None:
        tls_of(config)  # what is wrong with it is best said now
        if spawns:
            check_spawn(handler, options)
        listeners = bind(hostname, port, config.backlog, config.unix_mode)
        super().__init__(hostname, listeners, config)
        try:
            shares = share_out(listeners, workers, config.backlog)
            self._control, self._far_control = Link.pair()
        except OSError as exc:
            listeners.close()
            says = f"{workers} workers cannot be had ({exc.strerror or exc}): ask for fewer"
            raise OSError(exc.errno, says) from exc
        self.workers = workers
        self._board = Board(rows_for(workers), is_named=spawns)
        self._plan = Plan(
            handler, hostname, config, listeners, shares, self._board, options if spawns else None
        )
        self._notify = notify
        self._supervisor: Supervisor | None = None  # where it is in this process
        self._supervisor_pid = 0
        self._opened: ThreadFuture[None] = ThreadFuture()
        self._on_ready: Callable[[], None] = lambda: None
        self._numbers = itertools.count(1)
        self._tickets: dict[int, ThreadFuture[None]] = {}
        self._is_asked_to_stop = False
        self._is_rolling = False

    def stats(self) -> Stats:
        return self._board.stats()

    # What may be asked of it

    def reload(self, handler: Handler | str) -> None:
        if not callable(handler) and not isinstance(handler, str):
            raise TypeError(f"a handler is a function of a request, not {handler!r}")
        self._ask_roll(handler=name_of(handler))

    def roll(self) -> None:
        """Replace the workers, one after the other, the new before the old; return when all are.

        ``RuntimeError`` if one could not be, which ends it: what is not replaced goes on. A handler that was given by
        its name is imported anew. SIGHUP does this too.
        """
        self._ask_roll()

    def _ask_roll(self, **more: Any) -> None:
        ticket = next(self._numbers)
        done = self._tickets[ticket] = ThreadFuture()
        if self.is_closed or not self._control.send("roll", ticket=ticket, **more):
            raise RuntimeError("the server has stopped")
        done.result()

    def reload_tls(self) -> None:
        tls = tls_of(self._config)
        if tls is None:
            raise ConfigError(
                "reload_tls reads certificates again, and this server has none (tls=)"
            )
        tls.reload()  # which says what is wrong, if something is
        self._control.send("reload_tls")

    @property
    def heeds_hangup(self) -> bool:
        return True

    def hang_up(self) -> None:
        """Begin to roll."""
        self._control.send("roll", ticket=0)

    def _request_stop(self, grace: float, streams: StreamsEnd) -> None:
        self._is_asked_to_stop = True
        self._control.send("stop", grace=grace, streams=streams)

    def kill(self) -> None:
        if self._supervisor is not None:
            self._supervisor.kill()

    # Its life

    def run_here(self, on_ready: Callable[[], None]) -> None:
        """Supervise in this thread until all have ended; ``on_ready`` is called when all accept connections.

        Raises what keeps it from beginning: ``ConfigError``, or ``RuntimeError`` if workers die again and again.
        """
        self._on_ready = on_ready
        self._supervise()
        self._opened.result()

    def start(self) -> None:
        """Begin, and return when all accept connections; raises as ``run_here`` does."""
        if self._plan.options is not None:
            thread = threading.Thread(
                target=self._supervise, name=f"bunpy-{self.port}", daemon=True
            )
        else:
            try:
                self._supervisor_pid = fork(self._be_supervisor)
            except OSError:
                self._end("there is no process to be had")
                raise
            self._far_control.close()
            for listener in self._listeners.sockets:
                listener.close()
            thread = threading.Thread(target=self._listen, name=f"bunpy-{self.port}", daemon=True)
        try:
            thread.start()
            self._opened.result()
        except BaseException:
            # A thread that could not be had, an interrupt, or what the supervisor says.
            self.request_stop(0)
            if thread.ident is None:
                self._end("it could not begin")
            # So that the port is free for whoever tries again. Not ``wait_briefly``: no loop is to be spared here.
            concurrent.futures.wait([self._closed], _LAST_TIME)
            raise

    def _supervise(self) -> None:
        self._supervisor = Supervisor(self._plan, self._far_control, self._on_report)
        try:
            self._supervisor.run()
        finally:
            self._end("the supervisor has failed")

    def _be_supervisor(self) -> int:
        """In the child that supervises: do that."""
        Link.keep_only(self._far_control)
        self._listeners.close_all_others()
        supervisor = Supervisor(
            self._plan, self._far_control, self._far_report, parent=os.getppid()
        )
        take_signals(supervisor)
        supervisor.run()
        return 0

    def _far_report(self, about: str, **more: Any) -> None:
        if about != "alive" or self._notify.watchdog_interval is not None:
            self._far_control.send(about, **more)

    def _listen(self) -> None:
        """Hear what the supervisor tells, until it has ended."""
        orphans = Orphans()
        is_first = os.getpid() == 1
        while True:
            if is_first:
                orphans.look()
                if not select.select([self._control], [], [], _ORPHANS_TIME)[0]:
                    continue
            messages = self._control.receive()
            if messages is None:
                break
            for message in messages:
                self._on_report(**message)
        status = _wait_for(self._supervisor_pid)
        if status:
            _log.error("the supervisor (pid %d) %s", self._supervisor_pid, how_it_ended(status))
        self._end("the supervisor has ended")

    def _end(self, reason: str) -> None:
        if not self._opened.done() and self._is_asked_to_stop:  # a signal, while it started
            self._opened.set_result(None)
        elif not self._opened.done():
            self._opened.set_exception(RuntimeError(reason))
        for done in self._tickets.values():
            if not done.done():
                done.set_exception(RuntimeError("the server has stopped"))
        self._control.close()
        self._far_control.close()
        self._board.close()
        self.abandon()

    def _on_report(self, about: str, **more: Any) -> None:
        if about == "alive":
            self._notify.watchdog()
        elif about == "ready":
            self._notify.ready(f"{self.workers} workers serve {self.url}")
            self._on_ready()
            self._opened.set_result(None)
        elif about == "failed":
            self._opened.set_exception(_failure(**more))
        elif about == "stopping":
            self._is_rolling = False
            self._notify.stopping()
            self._listeners.close()  # the file of a Unix socket is this process's to remove
        elif about == "rolling":
            self._is_rolling = True
            self._notify.reloading()
        elif about == "rolled":
            self._on_rolled(**more)

    def _on_rolled(self, tickets: Iterable[int], error: str | None) -> None:
        if self._is_rolling:  # or it was refused
            self._is_rolling = False
            self._notify.ready()
        for ticket in tickets:
            done = self._tickets.pop(ticket, None)
            if done is not None and error is None:
                done.set_result(None)
            elif done is not None:
                done.set_exception(RuntimeError(f"the workers are not replaced: {error}"))


def _failure(kind: str, error: str) -> Exception:
    """What ``serve`` raises when it does not come to serve."""
    kinds: dict[str, type[Exception]] = {"import": ImportFailed, "config": ConfigError}
    return kinds.get(kind, StartFailed)(error)


def _wait_for(pid: int) -> int:
    """Wait for a child; its exit status, or less the number of the signal that ended it."""
    try:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except ChildProcessError:
        return 0
