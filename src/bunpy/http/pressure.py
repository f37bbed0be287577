"""What waits in memory for slow clients, over all connections, and which of them go when it is too much."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from bunpy.sse.reason import EndReason

__all__ = ["Pressure", "Waiter"]

_log = logging.getLogger("bunpy")

#: Bytes: what a connection holds at the least when its transport says that it is full.
_HIGH_WATER: Final = 64 * 1024
#: Seconds between two looks at all of them.
_LOOK_TIME: Final = 0.05
#: The part of the limit that is left when it was passed: room until the next time.
_RELIEF: Final = 0.9


class Waiter(Protocol):
    """A connection whose client takes less than it is sent."""

    @property
    def buffered(self) -> int:
        """Bytes that wait for its client in memory."""

    def cut_off(self, reason: EndReason) -> None:
        """End it, for that reason."""


class Pressure:
    """The connections that wait for their clients, and a limit of ``most`` bytes on what they all hold."""

    __slots__ = ("_looked", "_most", "_waiters")

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiters: dict[Waiter, None] = {}  # in the order in which they began to wait
        self._looked = 0.0

    def add(self, waiter: Waiter) -> None:
        """A connection waits for its client from now on."""
        self._waiters[waiter] = None
        if len(self._waiters) * _HIGH_WATER > self._most:
            now = time.monotonic()
            if now - self._looked >= _LOOK_TIME:
                self._looked = now
                self.relieve()

    def discard(self, waiter: Waiter) -> None:
        """It waits no more."""
        self._waiters.pop(waiter, None)

    @property
    def held(self) -> int:
        """Bytes that all of them hold."""
        return sum(waiter.buffered for waiter in self._waiters)

    def relieve(self) -> None:
        """If too much is held, cut off those that have waited longest until it is not."""
        held = self.held
        if held <= self._most:
            return
        slowest = []
        left = held
        for waiter in self._waiters:
            if left <= self._most * _RELIEF:
                break
            left -= waiter.buffered
            slowest.append(waiter)
        for waiter in slowest:
            self.discard(waiter)
            waiter.cut_off("slow")
        _log.warning(
            "%d bytes waited for slow clients, over max_buffered (%d): the %d slowest are cut off, which frees %d",
            held,
            self._most,
            len(slowest),
            held - left,
        )
