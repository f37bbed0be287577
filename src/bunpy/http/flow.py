"""Waiting for a peer that takes its time. The marks are the transport's, the bytes the outlet's."""

from __future__ import annotations

from asyncio import AbstractEventLoop, Future
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bunpy._speedups import Outlet

__all__ = ["Flow"]


class Flow:
    """Whether one connection takes more, as its transport tells its protocol; a task may await that it does."""

    __slots__ = ("_loop", "_outlet", "_waiter")

    def __init__(self, loop: AbstractEventLoop, outlet: Outlet) -> None:
        self._loop = loop
        self._outlet = outlet
        self._waiter: Future[None] | None = None

    @property
    def is_paused(self) -> bool:
        """Whether more than the high-water mark waits to be taken."""
        return self._outlet.is_paused

    def pause(self) -> None:
        """The transport is above its high-water mark."""
        self._outlet.is_paused = True

    def resume(self) -> None:
        """The transport has drained, or the connection has gone."""
        self._outlet.is_paused = False
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def drained(self) -> None:
        """Wait until the peer has taken what waits; one task at a time."""
        if self._outlet.is_paused:
            self._waiter = self._loop.create_future()
            await self._waiter
