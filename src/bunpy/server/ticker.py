"""The one timer of a server: the date once a second, and every connection's look at the time."""

from __future__ import annotations

import time
from asyncio import TimerHandle
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from bunpy.http.wire import date_line

if TYPE_CHECKING:
    from bunpy.http.protocol import HTTPProtocol
    from bunpy.http.service import Service

__all__ = ["Ticker"]

#: Connections that look at the time in one turn of the loop.
_AT_ONCE: Final = 500
_NEVER: Final = float("inf")


class Ticker:
    """Ticks every ``config.tick`` seconds from ``start`` to ``stop``; ``then`` is called at each tick."""

    __slots__ = ("_due", "_handle", "_second", "_service", "_then")

    def __init__(self, service: Service, then: Callable[[], None] = lambda: None) -> None:
        self._service = service
        self._then = then
        self._handle: TimerHandle | None = None
        self._second = 0
        self._due = _NEVER  # in seconds of time.monotonic: what is later is the loop's lag

    def start(self) -> None:
        """Begin to tick, on the service's loop."""
        self._tick()

    def stop(self) -> None:
        """Tick no more."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _tick(self) -> None:
        service = self._service
        now = time.monotonic()
        lag = max(0.0, now - self._due)
        self._due = now + service.config.tick
        self._handle = service.loop.call_later(service.config.tick, self._tick)
        second = int(time.time())
        if second != self._second:
            self._second = second
            service.date = date_line()
        service.pressure.relieve()
        service.look_around(lag)
        self._then()
        self._look(list(service.connections), 0)

    def _look(self, connections: list[HTTPProtocol], start: int) -> None:
        """Let each look at the time, a few in a turn: 19,000 at once, each with a heartbeat, would take 100 ms."""
        now = time.monotonic()
        end = start + _AT_ONCE
        for connection in connections[start:end]:
            connection.tick(now)
        if end < len(connections):
            self._service.loop.call_soon(self._look, connections, end)
