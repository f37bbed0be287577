"""Rolls: every worker is replaced, one after the other, the new before the old. How one is, the nursery knows."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bunpy.workers.nursery import Nursery, Slot

if TYPE_CHECKING:
    from bunpy.http.service import Handler
    from bunpy.workers.process import WorkerProcess

__all__ = ["Rolls"]

_log = logging.getLogger("bunpy")

#: Seconds after which a roll goes on though the last worker that was replaced has not come to its end.
_STEP_TIME: Final = 5.0


@dataclass
class _Roll:
    """One of them: what is left to do of it, and who wants to hear how it ends."""

    slots: deque[Slot]
    handler: Handler | str
    tickets: list[int]
    #: The slot that it has come to, the worker that was replaced there, and when to go on at the latest.
    slot: Slot | None = None
    old: WorkerProcess | None = None
    goes_on: float = 0.0


class Rolls:
    """One roll at a time of ``slots``, and the next if it was asked for meanwhile.

    ``report`` hears "rolling", and "rolled" with ``tickets`` and ``error``, which is None if all are replaced.
    """

    def __init__(
        self, slots: Sequence[Slot], nursery: Nursery, report: Callable[..., object]
    ) -> None:
        self._slots = slots
        self._nursery = nursery
        self._report = report
        self._roll: _Roll | None = None
        self._next: _Roll | None = None

    def ask(self, handler: Handler | str, ticket: int) -> None:
        """Begin to replace all by workers with this handler, now or when that is over which goes on."""
        asked = _Roll(deque(self._slots), handler, [ticket])
        if self._roll is None:
            self._begin(asked)
            return
        # Those that come in the meantime are one: what it begins with is new enough for all of them.
        if self._next is not None:
            asked.tickets += self._next.tickets
        self._next = asked

    def is_at(self, slot: Slot) -> bool:
        """Whether it has come to this slot."""
        return self._roll is not None and self._roll.slot is slot

    def on_succeeded(self, old: WorkerProcess | None, now: float) -> Handler | str:
        """The slot that it has come to has its new worker: with this handler, which is everybody's from now on."""
        assert self._roll is not None
        self._roll.old = old
        self._roll.goes_on = now + _STEP_TIME
        return self._roll.handler

    def look(self, now: float) -> None:
        """Go on if it is time."""
        roll = self._roll
        if roll is None:
            return
        if roll.slot is not None:
            is_ending = roll.old in self._nursery.processes and now < roll.goes_on
            if roll.slot.successor is not None or is_ending:
                return
            roll.slot = roll.old = None
        if not roll.slots:
            self.end(None)
        elif self._nursery.has_room and roll.slots[0].successor is None:
            slot = roll.slot = roll.slots.popleft()
            slot.due = slot.renewal = None
            slot.successor = self._nursery.start(slot, roll.handler)
            if slot.successor is None:
                self.fail("the system has no process to give", now)

    def fail(self, error: str, now: float) -> None:
        """The slot that it has come to has no new worker: it goes no further."""
        assert self._roll is not None
        _log.error("the workers are not replaced, and the old ones go on: %s", error)
        slot = self._roll.slot
        if slot is not None and slot.current is None:
            slot.due = now
        self.end(error)

    def end(self, error: str | None, *, is_last: bool = False) -> None:
        """That was it, if there was one; and with ``is_last`` the next does not begin."""
        roll, self._roll = self._roll, None
        if roll is None:
            return
        if error is None:
            _log.info("all %d workers are replaced", len(self._slots))
        self._report("rolled", tickets=roll.tickets, error=error)
        following, self._next = self._next, None
        if following is not None and is_last:
            self._report("rolled", tickets=following.tickets, error=error)
        elif following is not None:
            self._begin(following)

    def _begin(self, roll: _Roll) -> None:
        self._roll = roll
        _log.info("the %d workers are replaced, one after the other", len(self._slots))
        self._report("rolling")
