"""Who keeps workers up, and replaces those that die: one thread that answers no requests itself.

It knows when a process is due. What processes do is theirs, and how they are made is the nursery's.
"""

from __future__ import annotations

import logging
import os
import selectors
import signal
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from bunpy.server.orphans import Orphans
from bunpy.workers.backoff import StartLimit
from bunpy.workers.link import Link, Message
from bunpy.workers.nursery import Nursery, Plan, Slot
from bunpy.workers.process import WorkerProcess, how_it_ended
from bunpy.workers.rolls import Rolls

if TYPE_CHECKING:
    from bunpy.server.config import StreamsEnd

__all__ = ["Supervisor", "take_signals"]

_log = logging.getLogger("bunpy")

#: Seconds between two looks, where nothing happens; and while one has gone silent and has not quite ended.
_TICK: Final = 0.25
_QUICK_TICK: Final = 0.01
#: Seconds beyond its grace after which a worker is killed; and if it had none.
_KILL_TIME: Final = 2.0
_KILL_TIME_AT_ONCE: Final = 0.5
#: Seconds after which a start takes so long that it is worth a line in the log: others wait for it.
_LATE: Final = 10.0
#: Seconds for all of them when whoever started the server is gone.
_ORPHAN_GRACE: Final = 2.0


class Supervisor:
    """Keeps the workers of ``plan`` up, from ``run`` to its end, and does what is asked by ``control``.

    ``report`` is called with what happens: "ready" when all accept; "failed" (``kind``, ``error``) if they will not;
    "rolling", and "rolled" (``tickets``, ``error``) at the end of a roll; "stopping"; and "alive" at every tick.
    ``parent`` is the process whose end is everybody's, if that is another.
    """

    def __init__(
        self,
        plan: Plan,
        control: Link,
        report: Callable[..., object],
        parent: int | None = None,
    ) -> None:
        self._plan = plan
        self._config = plan.config
        self._control = control
        self._report = report
        self._parent = parent
        self._handler = plan.handler
        self._slots = [Slot(number, sockets) for number, sockets in enumerate(plan.shares, start=1)]
        self._selector = selectors.DefaultSelector()
        self._nursery = Nursery(plan, self._selector, self._on_word, is_at_home=parent is None)
        self._rolls = Rolls(self._slots, self._nursery, report)
        self._limit = StartLimit()
        self._orphans = Orphans()
        self._is_up = False
        self._is_stopping = False
        self._is_terminated = False  # what the handler of a signal leaves for the next look

    def run(self) -> None:
        """Supervise until everything has ended."""
        self._selector.register(self._control, selectors.EVENT_READ, self._on_control)
        try:
            for slot in self._slots:
                self._fill(slot)
            while self._nursery.processes or not self._is_stopping:
                for key, _ in self._selector.select(self._timeout()):
                    key.data()
                self._look()
        finally:
            self._nursery.end()
            self._selector.close()
            self._plan.listeners.close()

    def terminate(self, number: int = 0, frame: object = None) -> None:
        """Begin to stop at the next look: a signal handler."""
        self._is_terminated = True

    def kill(self) -> None:
        """End all workers at once; also for a signal handler."""
        self._nursery.kill()

    # What the time brings

    def _timeout(self) -> float:
        processes = self._nursery.processes
        if any(process.is_silent for process in processes):
            return _QUICK_TICK
        times = [process.kill_at for process in processes]
        times += [slot.due for slot in self._slots if slot.due is not None]
        if self._nursery.has_room:  # or they wait until another has ended
            times += [slot.renewal for slot in self._slots if slot.renewal is not None]
        return max(0.0, min(_TICK, min(times, default=_TICK) - time.monotonic()))

    def _look(self) -> None:
        if self._parent is not None and os.getppid() != self._parent:
            self._on_parent_gone()
        if self._is_terminated and not self._is_stopping:
            self._stop(self._config.grace, self._config.drain)
        now = time.monotonic()
        for process in list(self._nursery.processes):
            status = process.poll()
            if status is not None:
                self._on_end(process, status)
            elif now >= process.kill_at:
                process.kill_at = float("inf")
                if process.has_grace:
                    _log.error("%r has not ended within its grace, and is killed", process)
                process.kill()
            elif not (process.is_ready or process.is_leaving or process.is_late):
                process.is_late = now - process.started >= _LATE
                if process.is_late:
                    _log.warning(
                        "%r does not accept yet, after %g s: it still starts, or imports the handler",
                        process,
                        _LATE,
                    )
        if not self._is_stopping:
            for slot in self._slots:
                self._look_at(slot, now)
            self._rolls.look(now)
        self._orphans.look()
        self._report("alive")

    def _look_at(self, slot: Slot, now: float) -> None:
        if slot.due is not None and now >= slot.due:
            slot.due = None
            self._fill(slot)
        if slot.renewal is not None and now >= slot.renewal and self._nursery.has_room:
            slot.renewal = None
            if slot.current is not None and slot.successor is None:
                slot.successor = self._nursery.start(slot, self._handler)

    def _fill(self, slot: Slot) -> None:
        slot.current = self._nursery.start(slot, self._handler)
        if slot.current is None:
            slot.due = time.monotonic() + slot.backoff.after(0.0)

    # What workers say

    def _on_word(self, process: WorkerProcess) -> None:
        messages = process.link.receive()
        if messages is None:
            self._nursery.hush(process)
            return
        slot = self._slots[process.number - 1]
        for message in messages:
            about = message["about"]
            if about == "ready":
                self._on_ready(slot, process)
            elif about == "failed":
                process.failure = message["kind"], message["error"]
            elif about == "tired" and process is slot.current:
                slot.renewal = time.monotonic()
            elif about == "leaving":
                self._on_leaving(slot, process)

    def _on_ready(self, slot: Slot, process: WorkerProcess) -> None:
        process.is_ready = True
        if process is slot.successor:
            self._succeed(slot)
        self._nursery.count()
        if not self._is_up and all(slot.current and slot.current.is_ready for slot in self._slots):
            self._is_up = True
            self._report("ready")

    def _succeed(self, slot: Slot) -> None:
        """A successor is ready: the old one may go."""
        old, slot.current, slot.successor = slot.current, slot.successor, None
        slot.due = slot.renewal = None
        if old is not None:
            old.leave("retire", self._config.grace, self._config.drain, _KILL_TIME)
        if self._rolls.is_at(slot):
            self._handler = self._rolls.on_succeeded(old, time.monotonic())

    def _on_leaving(self, slot: Slot, process: WorkerProcess) -> None:
        """Somebody has told a worker to end: the next need not wait until it has."""
        if process is not slot.current or self._is_stopping:
            return
        _log.info("%r was told to end, another takes its place", process)
        process.is_leaving = process.has_grace = True
        process.kill_at = time.monotonic() + self._config.grace + _KILL_TIME
        slot.current = None
        if slot.successor is None:
            slot.due = time.monotonic()
        self._nursery.count()

    # Ends

    def _on_end(self, process: WorkerProcess, status: int) -> None:
        self._nursery.bury(process)
        self._nursery.count()
        slot = self._slots[process.number - 1]
        how = how_it_ended(status)
        if process.failure is not None:
            how = f"could not begin: {process.failure[1]}"
        if process is slot.successor:
            slot.successor = None
            self._on_successor_lost(slot, process, how)
        elif process is slot.current and not self._is_stopping:
            slot.current = None
            self._on_death(slot, process, how)
        elif process.failure is not None and not self._is_up:
            pass  # of what the start failed, which is told once
        elif status != 0 and process.kill_at != float("inf"):
            _log.error("%r, which was to end, %s", process, how)

    def _on_death(self, slot: Slot, process: WorkerProcess, how: str) -> None:
        now = time.monotonic()
        if not self._is_up:
            if process.failure is not None:
                self._give_up(*process.failure)
                return
            if self._limit.add(now):
                self._give_up("start", f"workers keep dying at the start, the last one {how}")
                return
        self._plan.board.add_restart()
        if slot.successor is not None:
            _log.error("%r %s, its successor is on the way", process, how)
            return
        wait = slot.backoff.after(now - process.started)
        slot.due = now + wait
        _log.error("%r %s, replaced%s", process, how, f" in {wait:g} s" if wait else "")

    def _on_successor_lost(self, slot: Slot, process: WorkerProcess, how: str) -> None:
        if self._is_stopping:
            return
        now = time.monotonic()
        if self._rolls.is_at(slot):
            self._rolls.fail(f"{process!r} {how}", now)
            return
        wait = slot.backoff.after(now - process.started)
        if slot.current is None:
            slot.due = now + wait
            _log.error("%r %s, replaced%s", process, how, f" in {wait:g} s" if wait else "")
        else:
            slot.renewal = now + wait
            _log.error("%r, a successor, %s; the old one goes on", process, how)

    def _give_up(self, kind: str, error: str) -> None:
        self._report("failed", kind=kind, error=error)
        self._stop(0.0, "close")

    # What is asked

    def _on_control(self) -> None:
        messages = self._control.receive()
        if messages is None:
            self._selector.unregister(self._control)
            self._on_parent_gone()
            return
        for message in messages:
            self._obey(message)

    def _obey(self, message: Message) -> None:
        about = message["about"]
        if about == "stop":
            self._stop(message["grace"], message["streams"])
        elif about == "roll" and self._is_up and not self._is_stopping:
            self._rolls.ask(message.get("handler", self._handler), message["ticket"])
        elif about == "roll":
            error = "the server is starting or stopping"
            if message["ticket"] == 0:  # nobody else will say so
                _log.warning("the workers are not replaced: %s", error)
            self._report("rolled", tickets=[message["ticket"]], error=error)
        elif about == "reload_tls":
            for process in self._nursery.processes:
                process.link.send("reload_tls")

    def _on_parent_gone(self) -> None:
        if not self._is_stopping:
            self._stop(min(self._config.grace, _ORPHAN_GRACE), self._config.drain)

    def _stop(self, grace: float, streams: StreamsEnd) -> None:
        if not self._is_stopping:
            self._is_stopping = True
            # Who waits to be accepted by none of them is refused now, and not when the last has ended.
            self._plan.listeners.close()
            self._report("stopping")
            self._rolls.end("the server stops", is_last=True)
        for process in self._nursery.processes:
            process.leave("stop", grace, streams, _KILL_TIME if grace else _KILL_TIME_AT_ONCE)


def take_signals(supervisor: Supervisor) -> None:
    """In a process that has nothing to do but supervise: SIGTERM stops it; what a terminal sends is its parent's."""
    signal.signal(signal.SIGTERM, supervisor.terminate)
    signal.signal(signal.SIGINT, _ignore)
    if sys.platform != "win32":
        signal.signal(signal.SIGHUP, _ignore)


def _ignore(number: int, frame: object) -> None:
    return
