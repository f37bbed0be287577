"""The tasks and timers beside one stream: they are begun while it runs, and all gone when it has ended."""

from __future__ import annotations

import asyncio
import math
from asyncio import AbstractEventLoop, Task, TimerHandle
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

__all__ = ["Crew", "settled"]


def _ignore(exc: BaseException) -> None:
    pass


class Crew:
    """``on_failed`` is called with what one of the tasks raised."""

    __slots__ = ("_loop", "_on_failed", "_tasks", "_timers")

    def __init__(self, loop: AbstractEventLoop, on_failed: Callable[[BaseException], None]) -> None:
        self._loop = loop
        self._on_failed = on_failed
        self._tasks: list[Task[Any]] = []
        self._timers: dict[str, TimerHandle] = {}

    def add(self, work: Coroutine[Any, Any, Any]) -> None:
        """Begin a task."""
        task = self._loop.create_task(work)
        task.add_done_callback(self._look_at)
        self._tasks = [other for other in self._tasks if not other.done()]
        self._tasks.append(task)

    def start_timer(self, name: str, delay: float, call: Callable[[], None]) -> None:
        """Call in ``delay`` seconds, instead of what the timer of that name was set for."""
        if name in self._timers:
            self._timers[name].cancel()
        self._timers[name] = self._loop.call_later(delay, call)

    async def dismiss(self, patience: float) -> asyncio.CancelledError | None:
        """Cancel all, and wait for them as ``settled`` does."""
        for timer in self._timers.values():
            timer.cancel()
        for task in self._tasks:
            task.cancel()
        cancelled = await settled(self._tasks, patience) if self._tasks else None
        # Let go of them, and of the stream: each holds the other, and that would be a cycle for the collector.
        self._tasks.clear()
        self._timers.clear()
        self._on_failed = _ignore
        return cancelled

    def _look_at(self, task: Task[Any]) -> None:
        exc = None if task.cancelled() else task.exception()
        if exc is not None:
            self._on_failed(exc)


async def settled(tasks: Sequence[Task[Any]], patience: float) -> asyncio.CancelledError | None:
    """Wait for cancelled tasks, for ``patience`` seconds at most; gives what cancelled the waiting itself.

    That does not end it: an anyio scope does so again and again.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + patience
    cancelled = None
    while (left := end - loop.time()) > 0 and not all(task.done() for task in tasks):
        try:
            await asyncio.wait(tasks, timeout=None if left == math.inf else left)
        except asyncio.CancelledError as exc:
            cancelled = exc
    return cancelled
