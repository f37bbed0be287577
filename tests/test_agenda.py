"""The agenda: what is called, when, in which order, and how few timers that takes. On a real loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from watching import SOON

from bunpy.http.agenda import Agenda
from bunpy.server.loops import close_loop, new_loop


def run(play: Callable[[asyncio.AbstractEventLoop, Agenda], Any]) -> Any:
    """What a coroutine function gives on the loop that bunpy serves on."""
    loop = new_loop()
    try:
        return loop.run_until_complete(asyncio.wait_for(play(loop, Agenda(loop)), SOON))
    finally:
        close_loop(loop)


def test_each_is_called_once_when_its_time_has_come() -> None:
    async def play(loop: asyncio.AbstractEventLoop, agenda: Agenda) -> list[tuple[str, float]]:
        done = loop.create_future()
        called: list[tuple[str, float]] = []
        began = time.monotonic()

        def call(name: str) -> None:
            called.append((name, time.monotonic() - began))

        for name, delay in (("b", 0.04), ("a", 0.02), ("c", 0.06)):
            agenda.call_later(delay, partial(call, name))
        agenda.call_later(0.08, lambda: done.set_result(None))
        await done
        return called

    called = run(play)
    assert [name for name, _ in called] == ["a", "b", "c"]
    # A loop's clock counts whole milliseconds, and may be one behind.
    assert all(
        passed > due - 0.002 for (_, passed), due in zip(called, (0.02, 0.04, 0.06), strict=True)
    )


def test_what_is_due_at_the_same_time_is_called_in_the_order_in_which_it_came() -> None:
    async def play(loop: asyncio.AbstractEventLoop, agenda: Agenda) -> list[int]:
        done = loop.create_future()
        called: list[int] = []
        for number in range(100):
            agenda.call_later(0.0, partial(called.append, number))
        agenda.call_later(0.01, lambda: done.set_result(None))
        await done
        return called

    assert run(play) == list(range(100))


def test_a_call_may_ask_for_another() -> None:
    async def play(loop: asyncio.AbstractEventLoop, agenda: Agenda) -> int:
        done = loop.create_future()
        count = 0

        def call() -> None:
            nonlocal count
            count += 1
            if count < 5:
                agenda.call_later(0.001, call)
            else:
                done.set_result(None)

        agenda.call_later(0.001, call)
        await done
        return count

    assert run(play) == 5


class CountingLoop:
    """A loop that counts the timers that there are at a time."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.timers: list[asyncio.TimerHandle] = []
        self.most = 0

    def time(self) -> float:
        return self._loop.time()

    def call_at(self, when: float, call: Callable[[], object]) -> asyncio.TimerHandle:
        def fire() -> None:
            self.timers.remove(handle)
            call()

        handle = self._loop.call_at(when, fire)
        self.timers = [timer for timer in self.timers if not timer.cancelled()] + [handle]
        self.most = max(self.most, len(self.timers))
        return handle


def test_thousands_take_one_timer_and_several_turns() -> None:
    """So that other callbacks of the loop have their turns in between."""

    async def play(loop: asyncio.AbstractEventLoop, agenda: Agenda) -> tuple[int, int, int]:
        counting = CountingLoop(loop)
        agenda = Agenda(counting)  # type: ignore[arg-type]
        done = loop.create_future()
        turn = 0
        turns: list[int] = []

        def count_turn() -> None:
            nonlocal turn
            turn += 1
            if not done.done():
                loop.call_soon(count_turn)

        def call() -> None:
            turns.append(turn)
            if len(turns) == 2000:
                done.set_result(None)

        for number in range(2000):
            agenda.call_later((2000 - number) / 1e6, call)  # each before all others
        time.sleep(0.01)  # noqa: ASYNC251 -- so that all are due in one turn
        count_turn()
        await done
        return counting.most, len(counting.timers), max(turns.count(one) for one in set(turns))

    assert run(play) == (1, 0, 500)


def test_one_that_raises_keeps_none_of_the_others() -> None:
    async def play(loop: asyncio.AbstractEventLoop, agenda: Agenda) -> tuple[list[str], list[Any]]:
        done = loop.create_future()
        called: list[str] = []
        raised: list[Any] = []
        loop.set_exception_handler(lambda _, context: raised.append(context["exception"]))
        agenda.call_later(0.0, lambda: called.append("a"))
        agenda.call_later(0.0, lambda: 1 / 0)
        agenda.call_later(0.0, lambda: called.append("b"))
        agenda.call_later(0.001, lambda: done.set_result(None))
        await done
        return called, raised

    called, raised = run(play)
    assert called == ["a", "b"]
    assert [type(error) for error in raised] == [ZeroDivisionError]
