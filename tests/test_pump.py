"""The pump twins: the flush rule, what may be a source, and how a stream ends. Stepped by hand, and on loops."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import importlib.util
import statistics
import subprocess
import sys
import time
import traceback
import tracemalloc
import types
import warnings
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Generator
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from conftest import PURE, twins
from fakes import FakeTransport
from hypothesis import given, settings
from hypothesis import strategies as st
from watching import name_of

from bunpy._speedups import IMPLEMENTATION
from bunpy.errors import InvalidEvent, InvalidResponse

PAIR = (
    [twins("python")] if PURE or IMPLEMENTATION == "python" else [twins("python"), twins("cython")]
)
DEADLINE = 20.0  # seconds
LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
if importlib.util.find_spec("uvloop") is not None:
    import uvloop

    LOOPS["uvloop"] = uvloop.new_event_loop
Source = AsyncGenerator[Any, None]


class Done(NamedTuple):
    """The await is over, with this result."""

    result: Any


class Rig:
    """A pump over a source, with an outlet whose every flush is one write of the fake transport."""

    def __init__(
        self,
        speedups: SimpleNamespace,
        source: Any,
        transport: FakeTransport | None = None,
        buffer: Any = None,
    ) -> None:
        self.transport = FakeTransport() if transport is None else transport
        self.outlet = speedups.Outlet(self.transport, -1)
        self.buffer = speedups.EventBuffer() if buffer is None else buffer
        self.pump = speedups.Pump(source, self.buffer, self.outlet)
        self._iterator: Any = None

    @property
    def flushes(self) -> list[list[str]]:
        """The data of the events that have left, flush by flush."""
        return [data_of(write) for write in self.transport.writes]

    @property
    def sent(self) -> list[str]:
        return data_of(self.transport.sent)

    @property
    def rest(self) -> list[str]:
        """What is left in the buffer; it is not afterwards."""
        return data_of(self.buffer.take())

    def send(self) -> Any:
        """Step by hand as a loop does: what the source suspends with, or ``Done``."""
        while (given := self.step()) is None:
            pass  # the loop's turn, which comes sooner on a busy machine; a source's own is never None here
        return given

    def throw(self, *exception: Any) -> Any:
        given = self.step("throw", *exception)
        return self.send() if given is None else given

    def step(self, name: str = "__next__", *arguments: Any) -> Any:
        """One step; None where the loop is to have its turn."""
        if self._iterator is None:
            self._iterator = self.pump.__await__()
        try:
            return getattr(self._iterator, name)(*arguments)
        except StopIteration as stop:
            self._iterator = None
            return Done(stop.value)
        except BaseException:
            self._iterator = None
            raise

    def close(self) -> None:
        self.pump.close()
        self._iterator = None

    async def run(self) -> list[str]:
        """Await the pump until it is over; gives everything that came."""
        while await self.pump:
            pass
        self.outlet.flush(self.buffer, True)
        return self.sent


def data_of(data: bytes) -> list[str]:
    assert data == b"" or data.endswith(b"\n\n")
    return [event.removeprefix("data: ") for event in data.decode().split("\n\n")[:-1]]


@types.coroutine
def suspend(value: Any = "suspended") -> Generator[Any, Any, Any]:
    """Suspend with a value, as a future does."""
    return (yield value)


def stepped(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """What a coroutine suspends with, but for the loop's turns."""
    while (given := coroutine.send(None)) is None:
        pass
    return given


def said(exc: BaseException) -> str:
    """What the exception says itself; pytest's ``match`` looks at its notes as well."""
    return str(exc)


def busy(seconds: float) -> None:
    """Hold the thread, as a blocking call does."""
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass


def steadily(scenario: Callable[[], Any], expected: Any) -> None:
    """The scenario gives what is expected, in one of its runs at least.

    Where this process is preempted, a step takes over 50 µs, and its event leaves alone. No clock is waited for.
    """
    for _ in range(100):
        seen = scenario()
        if seen == expected:
            return
    assert seen == expected


def run(main: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(main, DEADLINE))


async def until(condition: Callable[[], bool]) -> None:
    """Give the loop its turns until the condition holds; ``run`` has the deadline."""
    while not condition():  # noqa: ASYNC110 -- nobody could set an event: the pump tells no one
        await asyncio.sleep(0)


@contextlib.contextmanager
def nothing_unraisable() -> Any:
    """What a finaliser raises, or warns of, comes out of here."""
    caught: list[Any] = []
    hook, sys.unraisablehook = (
        sys.unraisablehook,
        lambda unraisable: caught.append((unraisable.exc_value, unraisable.err_msg)),
    )
    try:
        yield
        gc.collect()
    finally:
        sys.unraisablehook = hook
    assert not caught


async def numbers(count: int) -> Source:
    for number in range(count):
        yield str(number)


class TestFlushRule:
    def test_first_leaves_at_once_and_what_follows_together(
        self, speedups: SimpleNamespace
    ) -> None:
        def scenario() -> Any:
            async def source() -> Source:
                for name in "abcd":
                    yield name
                    seen.append(len(rig.transport.writes))
                await suspend("here")

            seen: list[int] = []
            rig = Rig(speedups, source())
            return rig.send(), seen, rig.flushes

        steadily(scenario, ("here", [1, 1, 1, 1], [["a"], ["b", "c", "d"]]))

    def test_first_after_each_suspension_leaves_at_once(self, speedups: SimpleNamespace) -> None:
        def scenario() -> Any:
            async def source() -> Source:
                for name in "abc":
                    await suspend(name)
                    yield name + "1"
                    yield name + "2"
                    yield name + "3"

            rig = Rig(speedups, source())
            suspended = [(rig.send(), rig.flushes) for _ in range(3)]
            return suspended, rig.send(), rig.flushes[4:], rig.rest

        steadily(
            scenario,
            (
                [
                    ("a", []),
                    ("b", [["a1"], ["a2", "a3"]]),
                    ("c", [["a1"], ["a2", "a3"], ["b1"], ["b2", "b3"]]),
                ],
                Done(False),
                [["c1"]],
                ["c2", "c3"],
            ),
        )

    def test_all_has_left_when_a_suspension_reaches_the_loop(
        self, speedups: SimpleNamespace
    ) -> None:
        """Whatever it is that suspends: in the first step, in a later one, in a nested generator, in a row."""

        async def nested() -> Source:
            yield "n1"
            await suspend()
            yield "n2"
            await suspend()

        async def source() -> Source:
            await suspend()
            yield "a"
            yield "b"
            await suspend()
            await suspend()
            yield "c"
            yield "d"
            async for event in nested():
                yield event
                yield "+"
            await suspend()

        rig = Rig(speedups, source())
        expected = [0, 2, 2, 6, 8, 8]
        for count in expected:
            assert rig.send() == "suspended"
            assert len(rig.sent) == count
            assert len(rig.buffer) == 0
        assert rig.send() == Done(False)
        assert rig.pump.events == 8

    def test_a_list_is_a_batch(self, speedups: SimpleNamespace) -> None:
        def scenario() -> Any:
            async def source() -> Source:
                yield ["a", {"data": "b"}]
                yield []
                yield ["c"]
                yield "d"
                await suspend()

            rig = Rig(speedups, source())
            rig.send()
            return rig.flushes, rig.pump.events

        steadily(scenario, ([["a", "b"], ["c", "d"]], 4))

    @pytest.mark.parametrize(("size", "count"), [(16384, 4), (16383, 5), (65536, 1), (65535, 2)])
    def test_buffer_of_64_kib_is_flushed(
        self, speedups: SimpleNamespace, size: int, count: int
    ) -> None:
        data = "x" * (size - len("data: \n\n"))

        def scenario() -> Any:
            async def source() -> Source:
                for _ in range(1 + 3 * count):
                    yield data

            rig = Rig(speedups, source())
            result = rig.send()
            return result, [len(write) for write in rig.transport.writes], len(rig.buffer)

        steadily(scenario, (Done(False), [size] + [size * count] * 3, 0))

    def test_event_after_a_slow_step_leaves_before_the_next(
        self, speedups: SimpleNamespace
    ) -> None:
        """A client that blocks: each token must be out before the next is waited for."""

        async def source() -> Source:
            for number in range(20):
                busy(100e-6)
                seen.append(rig.sent)
                yield str(number)

        seen: list[list[str]] = []
        rig = Rig(speedups, source())
        assert rig.send() == Done(False)
        everything = [str(number) for number in range(20)]
        assert seen == [everything[:number] for number in range(20)]
        assert rig.flushes == [[name] for name in everything]

    def test_slow_step_takes_along_what_was_buffered(self, speedups: SimpleNamespace) -> None:
        def scenario() -> Any:
            async def source() -> Source:
                yield "a"
                yield "b"
                yield "c"
                busy(80e-6)
                yield "d"
                yield "e"
                yield "f"
                await suspend()

            rig = Rig(speedups, source())
            rig.send()
            return rig.flushes

        steadily(scenario, [["a"], ["b", "c", "d"], ["e", "f"]])

    def test_what_has_blocked_may_block_again_so_events_after_it_leave_one_by_one(
        self, speedups: SimpleNamespace
    ) -> None:
        """Of two tokens that came in one packet, the second does not wait for the third."""

        async def source() -> Source:
            for number in range(0, 20, 2):
                busy(2e-3)
                seen.append(rigs[0].sent)
                yield str(number)
                yield str(number + 1)

        def scenario() -> Any:
            rigs[:] = [Rig(speedups, source())]
            seen.clear()
            rigs[0].send()
            return seen

        rigs: list[Rig] = []
        seen: list[list[str]] = []
        everything = [str(number) for number in range(20)]
        steadily(scenario, [everything[:number] for number in range(0, 20, 2)])

    @pytest.mark.parametrize(("seconds", "count"), [(60e-6, 1), (120e-6, 2), (4e-3, 8)])
    def test_that_is_one_event_for_each_50_us_that_it_blocked_and_no_more_than_eight(
        self, speedups: SimpleNamespace, seconds: float, count: int
    ) -> None:
        def scenario() -> Any:
            async def source() -> Source:
                yield "first"
                busy(seconds)
                for _ in range(100):
                    yield "x"

            rig = Rig(speedups, source())
            rig.send()
            return [len(flush) for flush in rig.flushes], rig.rest

        steadily(scenario, ([1] * (1 + count), ["x"] * (100 - count)))

    def test_one_slow_step_among_many_events_is_no_blocking_client(
        self, speedups: SimpleNamespace
    ) -> None:
        """The process had to wait for a processor, more likely: events go on to leave together."""

        def scenario() -> Any:
            async def source() -> Source:
                for _ in range(50):
                    yield "x"
                busy(1e-3)
                yield "late"
                yield "a"
                yield "b"

            rig = Rig(speedups, source())
            rig.send()
            return [len(flush) for flush in rig.flushes], rig.rest

        steadily(scenario, ([1, 50], ["a", "b"]))

    def test_time_spent_suspended_is_no_slow_step(self, speedups: SimpleNamespace) -> None:
        def scenario() -> Any:
            async def source() -> Source:
                yield "a"
                await suspend()
                yield "b"
                yield "c"
                yield "d"
                await suspend()

            rig = Rig(speedups, source())
            rig.send()
            busy(200e-6)
            rig.send()
            return rig.flushes

        steadily(scenario, [["a"], ["b"], ["c", "d"]])

    def test_first_event_takes_the_head_along(self, speedups: SimpleNamespace) -> None:
        async def source() -> Source:
            await suspend()
            yield "a"
            await suspend()

        rig = Rig(speedups, source())
        rig.outlet.head = b"HEAD"
        rig.outlet.is_chunked = True
        rig.send()
        assert rig.transport.writes == []
        rig.send()
        assert rig.transport.writes == [b"HEAD9\r\ndata: a\n\n\r\n"]

    def test_pieces_of_a_plain_body_follow_the_same_rule(self, speedups: SimpleNamespace) -> None:
        def scenario() -> Any:
            async def source() -> Source:
                yield b"a"
                yield "b"
                yield memoryview(b"c")
                await suspend()
                yield b"d"
                yield b"e"

            rig = Rig(speedups, source(), buffer=speedups.BytesBuffer())
            rig.send()
            return rig.send(), rig.transport.writes, rig.buffer.take(), rig.pump.events

        steadily(scenario, (Done(False), [b"a", b"bc", b"d"], b"e", 5))

    def test_dropped_when_the_connection_is_gone(self, speedups: SimpleNamespace) -> None:
        async def source() -> Source:
            yield "a"
            rig.transport.close()
            yield "b"
            await suspend()
            yield "c"
            yield "d"

        rig = Rig(speedups, source())
        assert rig.send() == "suspended"
        assert rig.send() == Done(False)
        assert rig.sent == ["a"]
        assert rig.pump.events == 4


class TestTurn:
    """A source that never suspends gives the loop its turn every 5 ms."""

    def test_comes_after_5_ms_with_everything_sent(self, speedups: SimpleNamespace) -> None:
        async def source() -> Source:
            until = time.perf_counter() + 2
            while time.perf_counter() < until:
                yield "a"
                count.append(1)

        count: list[int] = []
        rig = Rig(speedups, source())
        for _ in range(3):
            began = time.monotonic()
            assert rig.step() is None
            took = time.monotonic() - began
            assert took >= 0.0049
            assert len(rig.buffer) == 0
            assert len(rig.sent) == rig.pump.events == len(count) + 1

    def test_is_counted_anew_after_each_suspension(self, speedups: SimpleNamespace) -> None:
        def scenario() -> Any:
            async def source() -> Source:
                for _ in range(5):
                    busy(2e-3)
                    yield "a"
                    busy(1e-3)
                    await suspend("own")

            rig, given = Rig(speedups, source()), []
            while Done(False) not in given:
                began = time.monotonic()
                given.append(rig.step())
                if given[-1] is None and time.monotonic() - began > 4.9e-3:
                    given.pop()  # it was held up: the turn was due within this step
            return given

        steadily(scenario, ["own"] * 5 + [Done(False)])

    def test_first_event_after_it_leaves_at_once(self, speedups: SimpleNamespace) -> None:
        """The task was suspended: the loop has had its turn, and so rule 1 holds again."""

        def scenario() -> Any:
            async def source() -> Source:
                while not turns:
                    yield "a"
                yield "b"
                yield "c"
                yield "d"
                await suspend("own")

            turns: list[Any] = []
            rig = Rig(speedups, source())
            turns.append(rig.step())
            before = len(rig.flushes)
            return turns, rig.step(), rig.flushes[before:]

        steadily(scenario, ([None], "own", [["b"], ["c", "d"]]))

    def test_others_run_meanwhile(self, speedups: SimpleNamespace) -> None:
        async def main() -> None:
            async def source() -> Source:
                until = time.perf_counter() + DEADLINE / 2
                while (len(ticks) < 4 or rig.pump.events <= 100) and time.perf_counter() < until:
                    yield "a"

            async def other() -> None:
                while True:
                    ticks.append(time.perf_counter())
                    await asyncio.sleep(0)

            ticks: list[float] = []
            task = asyncio.ensure_future(other())
            rig = Rig(speedups, source())
            await rig.run()
            task.cancel()
            assert len(ticks) >= 4
            assert rig.pump.events > 100

        run(main())

    def test_comes_also_if_every_event_is_refused(self, speedups: SimpleNamespace) -> None:
        """A generator that goes on whatever it is told holds no loop either."""

        async def source() -> Source:
            until = time.perf_counter() + 1
            while time.perf_counter() < until:
                with contextlib.suppress(InvalidEvent):
                    yield None

        rig = Rig(speedups, source())
        began = time.perf_counter()
        assert rig.step() is None, f"not once in {time.perf_counter() - began:.3f} s"

    def test_many_share_it(self, speedups: SimpleNamespace) -> None:
        """A turn of each takes 1 ms at the least: 60 of them take turns, so that the loop's do not last for 60 ms."""

        async def main() -> bool:
            async def source() -> Source:
                while True:
                    busy(1e-3)
                    made.append(1)
                    yield "a"

            made: list[int] = []
            rigs = [Rig(speedups, source()) for _ in range(60)]
            tasks = [asyncio.ensure_future(rig.run()) for rig in rigs]
            turns: list[int] = []
            while len(turns) < 150 or (
                min(rig.pump.events for rig in rigs) < 3 and len(turns) < 1000
            ):
                await asyncio.sleep(0)
                turns.append(len(made))
                made.clear()
            counts: list[int] = [rig.pump.events for rig in rigs]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert statistics.mean(turns[30:]) < 20, turns
            return max(counts) <= 6 * min(counts)

        assert any(run(main()) for _ in range(5))  # where the process is stopped, some are unlucky

    def test_one_that_was_held_up_leaves_no_hundreds_of_turns_out(
        self, speedups: SimpleNamespace
    ) -> None:
        """40 others wait; what a turn takes counts as 20 ms at the most, and so an average of that at the most."""

        async def source(seconds: float) -> Source:
            while True:
                busy(seconds)
                yield "a"

        others = [Rig(speedups, source(6e-3)) for _ in range(40)]
        for rig in others:
            assert rig.step() is None
        held_up = Rig(speedups, source(0.4))
        for count in (1, 2, 3):
            left_out = 0
            while held_up.pump.events < count:
                assert held_up.step() is None
                left_out += 1
            assert left_out <= 2 * (41 * 20e-3 / 5e-3 - 1) + 2

    def test_one_alone_leaves_no_turn_out(self, speedups: SimpleNamespace) -> None:
        async def source() -> Source:
            while True:
                busy(20e-3)
                yield "a"

        rig = Rig(speedups, source())
        for count in range(1, 6):
            assert rig.step() is None
            assert rig.pump.events == count

    @pytest.mark.parametrize("end", ["throw", "close", "collect"])
    def test_ended_while_turns_are_left_out(self, speedups: SimpleNamespace, end: str) -> None:
        async def source() -> Source:
            while True:
                busy(5e-3)
                yield "a"

        rigs = [Rig(speedups, source()) for _ in range(40)]
        for _ in range(3):
            for rig in rigs:
                assert rig.step() is None
        for rig in rigs:
            before = rig.pump.events
            if end == "throw":
                with pytest.raises(asyncio.CancelledError):
                    rig.throw(asyncio.CancelledError())
                assert rig.pump.events == before
            elif end == "close":
                rig.close()
        rigs.clear()
        gc.collect()
        # Nobody waits any more: one that comes now is alone.
        rig = Rig(speedups, source())
        for count in range(1, 4):
            assert rig.step() is None
            assert rig.pump.events == count

    def test_first_sent(self, speedups: SimpleNamespace) -> None:
        """When the first event was handed over, and not when the head or a later one was."""

        async def source() -> Source:
            await suspend("own")
            yield "a"
            await suspend("own")
            yield "b"

        rig = Rig(speedups, source())
        assert rig.send() == "own"
        assert rig.pump.first_sent == 0.0
        rig.outlet.write(b":\n\n")
        before = rig.outlet.last_sent
        assert rig.send() == "own"
        first = rig.pump.first_sent
        assert before <= first == rig.outlet.last_sent
        assert rig.send() == Done(False)
        assert rig.pump.first_sent == first

    def test_cancelled_in_it(self, speedups: SimpleNamespace) -> None:
        """The source waits at its own yield: it learns of it when it is closed."""

        async def main() -> None:
            async def source() -> Source:
                try:
                    for _ in range(100_000):
                        yield "a"
                        if rig.pump.events == 500:
                            asyncio.get_running_loop().call_soon(task.cancel)
                            busy(6e-3)
                finally:
                    ended.append(sys.exc_info()[0])

            ended: list[Any] = []
            generator = source()
            rig = Rig(speedups, generator)
            task = asyncio.ensure_future(rig.run())
            with pytest.raises(asyncio.CancelledError):
                await task
            assert ended == []
            assert rig.pump.events == len(rig.sent) == 501
            await generator.aclose()
            assert ended == [GeneratorExit]

        run(main())

    @pytest.mark.parametrize("error", [StopAsyncIteration, InvalidEvent, KeyError])
    def test_thrown_into(self, speedups: SimpleNamespace, error: type[Exception]) -> None:
        """It is nothing that the source raised, and so no end and no refusal."""

        async def source() -> Source:
            while True:
                busy(6e-3)
                yield "a"

        rig = Rig(speedups, source())
        assert rig.step() is None
        exc = error("mine")
        with pytest.raises(error) as caught:
            pytest.fail(f"the pump gave {rig.throw(exc)}")
        assert caught.value is exc
        assert rig.send() == Done(False)

    @pytest.mark.parametrize("end", ["throw", "close", "collect"])
    @pytest.mark.parametrize("is_generator", [True, False])
    def test_ended_in_that_of_a_refusal(
        self, speedups: SimpleNamespace, is_generator: bool, end: str
    ) -> None:
        """The source waits at its yield and has not been told yet; as in any turn, its closing is all that it sees."""

        async def refused() -> Source:
            until = time.perf_counter() + 2
            try:
                while time.perf_counter() < until:
                    with contextlib.suppress(InvalidEvent):
                        yield None
            except BaseException as exc:
                log.append(type(exc))
                raise

        class Wrapped:
            def __aiter__(self) -> Any:
                return self

            async def __anext__(self) -> Any:
                return await generator.__anext__()

            async def athrow(self, exc: BaseException) -> Any:
                return await generator.athrow(exc)

        log: list[type[BaseException]] = []
        generator = refused()
        with nothing_unraisable():
            rig = Rig(speedups, generator if is_generator else Wrapped())
            assert rig.step() is None
            if end == "throw":
                exc = asyncio.CancelledError()
                with pytest.raises(asyncio.CancelledError) as caught:
                    rig.throw(exc)
                assert caught.value is exc
            elif end == "close":
                rig.close()
            if end != "collect":
                assert rig.send() == Done(False)
            del rig
            gc.collect()
            assert log == []
            with pytest.raises(StopIteration):
                generator.aclose().send(None)
            assert log == [GeneratorExit]

    def test_source_closed_by_another_in_that_of_a_refusal(self, speedups: SimpleNamespace) -> None:
        """``athrow`` on a generator that is over gives None: that is its end, and no event to be refused for ever."""

        async def refused() -> Source:
            until = time.perf_counter() + 2
            while time.perf_counter() < until:
                with contextlib.suppress(InvalidEvent):
                    yield None

        generator = refused()
        rig = Rig(speedups, generator)
        assert rig.step() is None
        with pytest.raises(StopIteration):
            generator.aclose().send(None)
        assert Done(False) in [rig.step() for _ in range(5)]


class Stuck(FakeTransport):
    """Pauses its outlet with each write, as a full transport does through its protocol."""

    rig: Rig | None = None

    def write(self, data: bytes | bytearray | memoryview) -> None:
        super().write(data)
        if self.rig is not None:
            self.rig.outlet.is_paused = True


class TestPause:
    def test_await_gives_true_and_goes_on(self, speedups: SimpleNamespace) -> None:
        def scenario() -> Any:
            transport = Stuck()
            made: list[str] = []

            async def source() -> Source:
                for name in "abcdef":
                    made.append(name)
                    yield name
                    if name == "d":
                        await suspend("here")

            transport.rig = rig = Rig(speedups, source(), transport)
            log = [(rig.send(), "".join(made), rig.flushes)]
            while log[-1][0] != Done(False):
                rig.outlet.is_paused = False
                log.append((rig.send(), "".join(made), rig.flushes))
            assert rig.send() == Done(False)
            return log, rig.rest

        steadily(
            scenario,
            (
                [
                    (Done(True), "a", [["a"]]),
                    ("here", "abcd", [["a"], ["b", "c", "d"]]),
                    (Done(True), "abcde", [["a"], ["b", "c", "d"], ["e"]]),
                    (Done(False), "abcdef", [["a"], ["b", "c", "d"], ["e"]]),
                ],
                ["f"],
            ),
        )

    def test_after_a_slow_step_and_after_64_kib(self, speedups: SimpleNamespace) -> None:
        async def source() -> Source:
            yield "a"
            busy(100e-6)
            yield "b"
            yield "c" * 70_000
            yield "d"

        transport = Stuck()
        transport.rig = rig = Rig(speedups, source(), transport)
        results = [rig.send() for _ in range(4)]
        assert results[:3] == [Done(True)] * 3
        assert [len(one) for one in rig.flushes[:3]] == [1, 1, 1]
        assert [*rig.sent, *rig.rest] == ["a", "b", "c" * 70_000, "d"]

    def test_nothing_is_made_while_it_lasts(self, speedups: SimpleNamespace) -> None:
        async def main() -> None:
            async def source() -> Source:
                for number in range(50):
                    made.append(number)
                    yield "x" * 70_000

            made: list[int] = []
            transport = Stuck()
            transport.rig = rig = Rig(speedups, source(), transport)
            pauses = 0
            while await rig.pump:
                pauses += 1
                assert len(made) == pauses
                await asyncio.sleep(0)
                assert len(made) == pauses
                rig.outlet.is_paused = False
            assert pauses == 50
            assert len(rig.sent) == 50

        run(main())

    def test_first_step_may_find_it_paused(self, speedups: SimpleNamespace) -> None:
        rig = Rig(speedups, numbers(2))
        rig.outlet.is_paused = True
        assert rig.send() == Done(True)
        assert rig.sent == ["0"]

    def test_cancelled_where_it_is_drained(self, speedups: SimpleNamespace) -> None:
        async def main() -> None:
            async def source() -> Source:
                try:
                    while True:
                        yield "x" * 70_000
                finally:
                    ended.append(True)

            ended: list[bool] = []
            generator = source()
            transport = Stuck()
            transport.rig = rig = Rig(speedups, generator, transport)
            assert await rig.pump is True
            await generator.aclose()
            assert ended == [True]
            assert await rig.pump is False

        run(main())


class TestEnd:
    @pytest.mark.parametrize("count", [0, 1, 2, 3, 1000])
    def test_gives_false_and_leaves_the_rest(self, speedups: SimpleNamespace, count: int) -> None:
        rig = Rig(speedups, numbers(count))
        assert rig.send() == Done(False)
        assert [*rig.sent, *rig.rest] == [str(number) for number in range(count)]
        assert rig.pump.events == count
        assert rig.send() == Done(False)
        assert rig.send() == Done(False)

    def test_gives_true_and_false_themselves(self, speedups: SimpleNamespace) -> None:
        rig = Rig(speedups, numbers(1))
        rig.outlet.is_paused = True
        assert rig.send().result is True
        assert rig.send().result is False

    def test_after_a_suspension(self, speedups: SimpleNamespace) -> None:
        async def source() -> Source:
            yield "a"
            await suspend()

        rig = Rig(speedups, source())
        assert rig.send() == "suspended"
        assert rig.send() == Done(False)
        assert rig.flushes == [["a"]]
        assert rig.rest == []

    @pytest.mark.parametrize(
        "error",
        [
            ValueError,
            KeyError,
            SystemExit,
            KeyboardInterrupt,
            asyncio.CancelledError,
            GeneratorExit,
        ],
    )
    @pytest.mark.parametrize("place", [0, 1, 2, 3])
    def test_exception_comes_out_after_what_was_buffered(
        self, speedups: SimpleNamespace, error: type[BaseException], place: int
    ) -> None:
        async def source() -> Source:
            if place == 0:
                raise exc
            yield "a"
            yield "b"
            if place == 1:
                raise exc
            await suspend()
            if place == 2:
                raise exc
            yield "c"
            yield "d"
            raise exc

        exc = error("mine")
        rig = Rig(speedups, source())
        expected = [[], ["a", "b"], ["a", "b"], ["a", "b", "c", "d"]][place]
        if place > 1:
            assert rig.send() == "suspended"
        with pytest.raises(error) as caught:
            rig.send()
        assert caught.value is exc
        assert rig.sent == expected
        assert rig.rest == []
        assert "source" in [frame.name for frame in traceback.extract_tb(exc.__traceback__)]
        assert rig.send() == Done(False)

    @pytest.mark.parametrize("error", [StopIteration, StopAsyncIteration])
    def test_stop_in_a_generator_is_an_error(
        self, speedups: SimpleNamespace, error: type[Exception]
    ) -> None:
        async def source() -> Source:
            yield "a"
            yield "b"
            raise error("mine")

        rig = Rig(speedups, source())
        with pytest.raises(RuntimeError, match=f"async generator raised {error.__name__}"):
            rig.send()
        assert rig.sent == ["a", "b"]

    @pytest.mark.parametrize("error", [StopIteration, StopAsyncIteration, LookupError])
    def test_error_of_the_data_is_no_end(
        self, speedups: SimpleNamespace, error: type[Exception]
    ) -> None:
        """A mapping of the user's fails in the encoder: a stream must not seem to have ended well."""

        class Failing(dict[str, Any]):
            def items(self) -> Any:
                raise error("mine")

        async def source() -> Source:
            yield "a"
            yield "b"
            yield {"data": Failing(a=1)}
            yield "never"

        rig = Rig(speedups, source())
        with pytest.raises(RuntimeError if error is StopIteration else error) as caught:
            pytest.fail(f"the pump gave {rig.send()}")
        assert said(caught.value) == (
            "coroutine raised StopIteration" if error is StopIteration else "mine"
        )
        assert rig.sent == ["a", "b"]
        assert rig.send() == Done(False)

    @pytest.mark.parametrize("before", [0, 1, 2])
    @pytest.mark.parametrize("place", ["__anext__", "__await__", "coroutine", "awaitable"])
    @pytest.mark.parametrize(
        "error", [StopIteration, GeneratorExit, KeyError, asyncio.CancelledError]
    )
    def test_what_an_iterator_raises_comes_out(
        self, speedups: SimpleNamespace, error: type[BaseException], place: str, before: int
    ) -> None:
        """Wherever it does; only a StopIteration becomes what it does in every coroutine, since it would be an end."""

        def user() -> Any:
            raise exc

        class Failing:
            def __await__(self) -> Any:
                return user()

        class Waiting:
            def __await__(self) -> Any:
                yield "here"
                user()

        class Numbers:
            count = 0

            def __anext__(self) -> Any:
                self.count += 1
                if self.count <= before:
                    return number(str(self.count))
                return {
                    "__anext__": user,
                    "__await__": Failing,
                    "coroutine": failing,
                    "awaitable": Waiting,
                }[place]()

        async def number(text: str) -> str:
            return text

        async def failing() -> None:
            user()

        exc = error("mine")
        rig = Rig(speedups, Numbers())
        if place == "awaitable":
            assert rig.send() == "here"
        with pytest.raises(BaseException) as caught:
            pytest.fail(f"the pump gave {rig.send()}")
        if place == "__await__" and speedups.name == "python":
            assert type(caught.value) is TypeError  # as ``async for`` tells it
            assert caught.value.__cause__ is exc
        elif error is StopIteration:
            assert type(caught.value) is RuntimeError
            kind = "generator" if place == "awaitable" else "coroutine"
            assert said(caught.value) == f"{kind} raised StopIteration"
            assert caught.value.__cause__ is exc
        else:
            assert caught.value is exc
        assert "user" in [frame.name for frame in traceback.extract_tb(exc.__traceback__)]
        assert rig.sent == [str(number + 1) for number in range(before)]
        assert rig.rest == []
        assert rig.send() == Done(False)

    @pytest.mark.parametrize("error", [StopIteration, GeneratorExit, KeyError])
    @pytest.mark.parametrize("place", ["lookup", "call", "await"])
    def test_what_an_athrow_raises_comes_out(
        self, speedups: SimpleNamespace, error: type[BaseException], place: str
    ) -> None:
        async def failing() -> None:
            raise exc

        class Numbers:
            async def __anext__(self) -> Any:
                return None if rig.pump.events else "a"

            @property
            def athrow(self) -> Any:
                if place == "lookup":
                    raise exc
                return self.throw

            def throw(self, _: BaseException) -> Any:
                if place == "call":
                    raise exc
                return failing()

        exc = error("mine")
        rig = Rig(speedups, Numbers())
        with pytest.raises(RuntimeError if error is StopIteration else error) as caught:
            pytest.fail(f"the pump gave {rig.send()}")
        if error is StopIteration:
            assert said(caught.value) == "coroutine raised StopIteration"
            assert caught.value.__cause__ is exc
        else:
            assert caught.value is exc
        assert rig.sent == ["a"]
        assert rig.send() == Done(False)

    def test_is_stopped_ends_it_at_the_next_event(self, speedups: SimpleNamespace) -> None:
        """Whatever the source makes of its cancellation."""

        async def source() -> Source:
            while True:
                try:
                    yield "a"
                    await suspend("here")
                except asyncio.CancelledError:
                    yield "caught"

        rig = Rig(speedups, source())
        assert rig.pump.is_stopped is False
        assert rig.send() == "here"
        rig.pump.is_stopped = True
        assert rig.pump.is_stopped is True
        assert rig.throw(asyncio.CancelledError()) == Done(False)
        assert rig.sent == ["a", "caught"]
        assert rig.send() == Done(False)
        assert rig.rest == []

    def test_is_stopped_before_the_start(self, speedups: SimpleNamespace) -> None:
        rig = Rig(speedups, numbers(5))
        rig.pump.is_stopped = True
        assert rig.send() == Done(False)
        assert rig.sent == ["0"]

    def test_is_stopped_lets_a_source_that_makes_no_event_end(
        self, speedups: SimpleNamespace
    ) -> None:
        async def source() -> Source:
            yield "a"
            with contextlib.suppress(asyncio.CancelledError):
                await suspend()
            await suspend("cleaning up")

        rig = Rig(speedups, source())
        rig.send()
        rig.pump.is_stopped = True
        assert rig.throw(asyncio.CancelledError()) == "cleaning up"
        assert rig.send() == Done(False)


class TestRefused:
    def test_is_raised_at_the_yield_itself(self, speedups: SimpleNamespace) -> None:
        async def source() -> Source:
            yield "a"
            yield {"data": "b", "Event": "x"}
            yield "never"

        rig = Rig(speedups, source())
        with pytest.raises(InvalidEvent, match="an event has no field 'Event'") as caught:
            rig.send()
        frames = traceback.extract_tb(caught.value.__traceback__)
        own = [frame.lineno for frame in frames if frame.name == "source"]
        assert own == [source.__code__.co_firstlineno + 2]
        # What comes after the user's line says who refused it.
        assert frames[-1].filename.endswith("fields.py")
        assert [frame.name for frame in frames].index("source") < len(frames) - 1
        assert rig.sent == ["a"]
        assert rig.rest == []
        assert rig.pump.events == 1

    @pytest.mark.parametrize("place", ["first", "direct", "after a suspension", "after a refusal"])
    def test_can_be_caught_at_the_yield(self, speedups: SimpleNamespace, place: str) -> None:
        async def source() -> Source:
            if place != "first":
                yield "a"
                yield "b"
            if place == "after a suspension":
                await suspend()
            if place == "after a refusal":
                with contextlib.suppress(InvalidEvent):
                    yield {}
                yield "c"
            try:
                yield {"data": 1, "retry": -1}
            except InvalidEvent as exc:
                caught.append(str(exc))
            yield "z"

        caught: list[str] = []
        rig = Rig(speedups, source())
        while rig.send() == "suspended":
            pass
        assert caught == ["retry is -1 (int): it is an int of milliseconds, 0 or more"]
        assert [*rig.sent, *rig.rest][-1] == "z"

    def test_several_times_in_a_row(self, speedups: SimpleNamespace) -> None:
        refused: list[Any] = [None, {}, {"data": "\ud800"}, ["a", None], {"id": "\0"}, 5]

        async def source() -> Source:
            for number in range(20):
                event = refused[number % 6]
                while True:
                    try:
                        yield event
                    except InvalidEvent as exc:
                        messages.append(str(exc))
                        if len(messages) % 3 == 0:
                            event = str(number)
                    else:
                        break

        messages: list[str] = []
        rig = Rig(speedups, source())
        assert rig.send() == Done(False)
        assert [*rig.sent, *rig.rest] == [str(number) for number in range(20)]
        assert rig.pump.events == 20
        assert len(messages) == 60

    def test_what_answers_it_is_the_next_event(self, speedups: SimpleNamespace) -> None:
        """The value that ``athrow`` gives is an event like any other, and may be refused in its turn."""

        async def source() -> Source:
            try:
                yield 1
            except InvalidEvent:
                try:
                    yield 2
                except InvalidEvent as exc:
                    yield f"caught {exc.__context__ is not None}"
            yield "end"

        rig = Rig(speedups, source())
        assert rig.send() == Done(False)
        assert [*rig.sent, *rig.rest] == ["caught True", "end"]

    def test_source_may_await_before_it_answers(self, speedups: SimpleNamespace) -> None:
        async def source() -> Source:
            yield "a"
            yield "b"
            try:
                yield None
            except InvalidEvent:
                await suspend("one")
                await suspend("two")
            yield "c"
            await suspend("three")
            yield "d"

        rig = Rig(speedups, source())
        assert [rig.send() for _ in range(4)] == ["one", "two", "three", Done(False)]
        assert rig.sent == ["a", "b", "c", "d"]

    def test_buffered_events_leave_before_the_answer_suspends(
        self, speedups: SimpleNamespace
    ) -> None:
        async def source() -> Source:
            yield "a"
            yield "b"
            try:
                yield None
            except InvalidEvent:
                await suspend()

        rig = Rig(speedups, source())
        rig.send()
        assert rig.sent == ["a", "b"]

    def test_source_may_end_instead(self, speedups: SimpleNamespace) -> None:
        async def source() -> Source:
            yield "a"
            with contextlib.suppress(InvalidEvent):
                yield None

        rig = Rig(speedups, source())
        assert rig.send() == Done(False)
        assert rig.sent == ["a"]
        assert rig.send() == Done(False)

    def test_source_may_raise_instead(self, speedups: SimpleNamespace) -> None:
        async def source() -> Source:
            yield "a"
            yield "b"
            try:
                yield None
            except InvalidEvent:
                raise KeyError("mine") from None

        rig = Rig(speedups, source())
        with pytest.raises(KeyError, match="mine"):
            rig.send()
        assert rig.sent == ["a", "b"]
        assert rig.send() == Done(False)

    def test_refusal_that_was_dealt_with_is_over(self, speedups: SimpleNamespace) -> None:
        """What the source raises later did not happen "during the handling" of it."""

        async def source() -> Source:
            yield "a"
            with contextlib.suppress(InvalidEvent):
                yield None
            current.append(sys.exc_info()[1])
            raise KeyError("later")

        current: list[Any] = []
        rig = Rig(speedups, source())
        with pytest.raises(KeyError) as caught:
            rig.send()
        assert current == [None]
        assert caught.value.__context__ is None

    def test_is_what_its_type_says(self, speedups: SimpleNamespace) -> None:
        """As for ``except``: what the data raise is no refusal, whatever its ``__class__`` says."""

        class Pretending(Exception):
            __class__: Any = property(lambda _: InvalidEvent)

        class Failing(dict[str, Any]):
            def items(self) -> Any:
                raise Pretending

        async def source() -> Source:
            yield "a"
            with contextlib.suppress(Pretending):
                yield {"data": Failing(a=1)}
            yield "never"

        rig = Rig(speedups, source())
        with pytest.raises(Exception) as caught:
            pytest.fail(f"the pump gave {rig.send()}")
        assert type(caught.value) is Pretending
        assert rig.sent == ["a"]
        assert rig.send() == Done(False)

    def test_batch_is_refused_whole(self, speedups: SimpleNamespace) -> None:
        async def source() -> Source:
            yield "a"
            try:
                yield ["b", None]
            except InvalidEvent:
                yield ["c", "d"]

        rig = Rig(speedups, source())
        assert rig.send() == Done(False)
        assert [*rig.sent, *rig.rest] == ["a", "c", "d"]
        assert rig.pump.events == 3

    def test_piece_of_a_plain_body(self, speedups: SimpleNamespace) -> None:
        async def source() -> Source:
            yield b"a"
            try:
                yield 5
            except InvalidResponse as exc:
                yield str(exc)

        rig = Rig(speedups, source(), buffer=speedups.BytesBuffer())
        assert rig.send() == Done(False)
        sent = rig.transport.sent + rig.buffer.take()
        assert sent == b"aa streamed body yields str or bytes, not 5 (int)"

    def test_iterator_without_athrow_has_it_raised_from_the_pump(
        self, speedups: SimpleNamespace
    ) -> None:
        class Numbers:
            def __init__(self) -> None:
                self.items = iter(["a", "b", None, "never"])

            def __aiter__(self) -> Numbers:
                return self

            async def __anext__(self) -> Any:
                return next(self.items)

        rig = Rig(speedups, Numbers())
        with pytest.raises(InvalidEvent, match="not None"):
            rig.send()
        assert rig.sent == ["a", "b"]
        assert rig.send() == Done(False)

    @pytest.mark.parametrize("kind", ["coroutine", "awaitable", "future", "iterable coroutine"])
    def test_athrow_of_any_awaitable(self, speedups: SimpleNamespace, kind: str) -> None:
        """What ``athrow`` returns is awaited, whatever it is."""

        class Numbers:
            def __init__(self) -> None:
                self.items = iter(["a", None, "b", None])

            def __aiter__(self) -> Numbers:
                return self

            async def __anext__(self) -> Any:
                for item in self.items:
                    return item
                raise StopAsyncIteration

            def athrow(self, exc: BaseException) -> Any:
                return awaitable_of(kind, f"caught {type(exc).__name__}")

        async def main() -> Any:
            return await Rig(speedups, Numbers()).run()

        assert run(main()) == ["a", "caught InvalidEvent", "b", "caught InvalidEvent"]


class CustomAwaitable:
    """An object whose ``__await__`` is a generator, as those of most libraries."""

    def __init__(self, result: Any, suspensions: int = 1) -> None:
        self.result = result
        self.suspensions = suspensions

    def __await__(self) -> Generator[Any, Any, Any]:
        for _ in range(self.suspensions):
            yield None
        if isinstance(self.result, BaseException):
            raise self.result
        return self.result


class BareIterator:
    """An awaitable that is its own iterator, with neither ``send`` nor ``throw`` nor ``close``."""

    def __init__(self, result: Any) -> None:
        self.result = result
        self.steps = 0

    def __await__(self) -> Any:
        return self

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> None:
        self.steps += 1
        if self.steps == 2:
            raise StopIteration(self.result)


def awaitable_of(kind: str, result: Any) -> Any:
    """An awaitable of some kind that gives the result, after a suspension except for "done"."""
    loop = asyncio.get_running_loop()

    async def coroutine() -> Any:
        await asyncio.sleep(0)
        return result

    @types.coroutine
    def iterable_coroutine() -> Generator[Any, Any, Any]:
        yield None
        return result

    if kind == "coroutine":
        return coroutine()
    if kind == "iterable coroutine":
        return iterable_coroutine()
    if kind == "awaitable":
        return CustomAwaitable(result)
    if kind == "bare iterator":
        return BareIterator(result)
    if kind == "task":
        return loop.create_task(coroutine())
    future = loop.create_future()
    if kind == "done":
        future.set_result(result)
    else:
        assert kind == "future"
        loop.call_soon(future.set_result, result)
    return future


KINDS = ["coroutine", "iterable coroutine", "awaitable", "bare iterator", "task", "done", "future"]


class Iterator_:  # noqa: N801 -- not collections.abc's
    """An async iterator whose ``__anext__`` gives an awaitable of some kind."""

    def __init__(self, kind: str, count: int) -> None:
        self.kind = kind
        self.numbers = iter(range(count))

    def __aiter__(self) -> Iterator_:
        return self

    def __anext__(self) -> Any:
        for number in self.numbers:
            return awaitable_of(self.kind, str(number))
        raise StopAsyncIteration


class TestSources:
    @pytest.mark.parametrize("kind", KINDS)
    def test_anext_of_any_awaitable(self, speedups: SimpleNamespace, kind: str) -> None:
        async def main() -> Any:
            return await Rig(speedups, Iterator_(kind, 5)).run()

        assert run(main()) == ["0", "1", "2", "3", "4"]

    @pytest.mark.parametrize("kind", KINDS[:-2])
    def test_anext_cancelled(self, speedups: SimpleNamespace, kind: str) -> None:
        """Cancelled as it waits, in the first step and in a later one."""

        async def main(number: int) -> None:
            source = Iterator_(kind, 5)
            rig = Rig(speedups, source)
            task = asyncio.ensure_future(rig.run())
            await asyncio.sleep(0)
            await until(lambda: rig.pump.events >= number)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert rig.pump.events >= number
            assert rig.sent == [str(n) for n in range(rig.pump.events)]

        run(main(0))
        run(main(2))

    @pytest.mark.parametrize("kind", KINDS[:4])
    def test_closed_as_it_waits(self, speedups: SimpleNamespace, kind: str) -> None:
        async def main() -> None:
            with nothing_unraisable():
                rig = Rig(speedups, Iterator_(kind, 5))
                iterator = rig.pump.__await__()
                next(iterator)
                next(iterator)
                iterator.close()
                assert rig.sent == ["0"]

        run(main())

    def test_anext_as_a_coroutine_that_never_suspends(self, speedups: SimpleNamespace) -> None:
        class Numbers:
            def __init__(self) -> None:
                self.count = 0

            def __aiter__(self) -> Numbers:
                return self

            async def __anext__(self) -> Any:
                self.count += 1
                if self.count > 3:
                    raise StopAsyncIteration
                return str(self.count)

        rig = Rig(speedups, Numbers())
        assert rig.send() == Done(False)
        assert [*rig.sent, *rig.rest] == ["1", "2", "3"]

    def test_iterator_needs_no_aiter(self, speedups: SimpleNamespace) -> None:
        """``async for`` asks an iterable for its iterator, and that for nothing but ``__anext__``."""

        class Numbers:
            count = 0

            async def __anext__(self) -> Any:
                self.count += 1
                if self.count > 3:
                    raise StopAsyncIteration
                return str(self.count)

        rig = Rig(speedups, Numbers())
        assert rig.send() == Done(False)
        assert [*rig.sent, *rig.rest] == ["1", "2", "3"]

    def test_aiter_is_not_asked_again(self, speedups: SimpleNamespace) -> None:
        """The pump is given the iterator; one that makes a new one each time would begin anew."""

        class Numbers:
            def __aiter__(self) -> Any:
                raise AssertionError("asked")

            async def __anext__(self) -> Any:
                raise StopAsyncIteration

        rig = Rig(speedups, Numbers())
        assert rig.send() == Done(False)

    @pytest.mark.parametrize("source", [5, None, "ab", [1], iter([1])], ids=name_of)
    def test_no_async_iterator(self, speedups: SimpleNamespace, source: Any) -> None:
        rig = Rig(speedups, source)
        with pytest.raises(TypeError, match=type(source).__name__):
            rig.send()
        assert rig.send() == Done(False)

    @pytest.mark.parametrize("given", [5, None, "ab", iter([1])], ids=name_of)
    def test_anext_of_no_awaitable(self, speedups: SimpleNamespace, given: Any) -> None:
        class Numbers:
            def __aiter__(self) -> Any:
                return self

            def __anext__(self) -> Any:
                return given

        rig = Rig(speedups, Numbers())
        with pytest.raises(TypeError, match="__anext__"):
            rig.send()
        assert rig.send() == Done(False)

    @pytest.mark.parametrize("given", [5, None, [1]], ids=name_of)
    def test_await_that_gives_no_iterator(self, speedups: SimpleNamespace, given: Any) -> None:
        class Broken:
            def __await__(self) -> Any:
                return given

        class Numbers:
            def __aiter__(self) -> Any:
                return self

            def __anext__(self) -> Any:
                return Broken()

        with pytest.raises(TypeError):
            Rig(speedups, Numbers()).send()

    def test_error_in_an_await_is_not_hidden(self, speedups: SimpleNamespace) -> None:
        """An AttributeError in the user's ``__await__`` is not the lack of one; it is told in one way or the other."""

        class Broken:
            def __await__(self) -> Any:
                raise AttributeError("mine")

        class Numbers:
            def __aiter__(self) -> Any:
                return self

            def __anext__(self) -> Any:
                return Broken()

        with pytest.raises((TypeError, AttributeError)) as caught:
            Rig(speedups, Numbers()).send()
        assert "mine" in "".join(traceback.format_exception(caught.value))

    def test_instance_attribute_is_no_anext(self, speedups: SimpleNamespace) -> None:
        """Special methods are looked up on the type."""

        class Numbers:
            def __aiter__(self) -> Any:
                return self

        source = Numbers()
        source.__anext__ = numbers(3).__anext__  # type: ignore[attr-defined]
        with pytest.raises(TypeError):
            Rig(speedups, source).send()

    @pytest.mark.parametrize("count", [1, 2, 3])
    def test_generator_partly_consumed(self, speedups: SimpleNamespace, count: int) -> None:
        async def main() -> Any:
            source = numbers(6)
            first = [await source.__anext__() for _ in range(count)]
            return first + await Rig(speedups, source).run()

        assert run(main()) == ["0", "1", "2", "3", "4", "5"]

    def test_generator_that_goes_on_after_the_pump(self, speedups: SimpleNamespace) -> None:
        """A pump that was paused and forgotten leaves a generator that anyone may step."""

        async def main() -> Any:
            source = numbers(5)
            rig = Rig(speedups, source)
            rig.outlet.is_paused = True
            assert await rig.pump
            assert rig.sent == ["0"]
            return [item async for item in source]

        assert run(main()) == ["1", "2", "3", "4"]

    def test_generator_that_is_over(self, speedups: SimpleNamespace) -> None:
        async def main() -> None:
            exhausted = numbers(2)
            assert [item async for item in exhausted] == ["0", "1"]
            assert await Rig(speedups, exhausted).run() == []
            closed = numbers(2)
            await closed.aclose()
            assert await Rig(speedups, closed).run() == []
            half = numbers(2)
            await half.__anext__()
            await half.aclose()
            assert await Rig(speedups, half).run() == []

        run(main())

    def test_two_pumps_one_after_the_other(self, speedups: SimpleNamespace) -> None:
        async def main() -> None:
            source = numbers(100)
            rig = Rig(speedups, source)
            rig.pump.is_stopped = True
            assert await rig.run() == ["0"]
            assert await Rig(speedups, source).run() == [str(number) for number in range(1, 100)]

        run(main())

    def test_pump_in_a_pump(self, speedups: SimpleNamespace) -> None:
        """A generator may await another stream's pump: each flushes its own."""

        async def main() -> None:
            async def outer() -> Source:
                yield "a"
                inner.append(await Rig(speedups, numbers(3)).run())
                yield "b"

            inner: list[Any] = []
            assert await Rig(speedups, outer()).run() == ["a", "b"]
            assert inner == [["0", "1", "2"]]

        run(main())

    def test_streams_share_one_buffer(self, speedups: SimpleNamespace) -> None:
        """One buffer a server: it is empty whenever a stream suspends, so nobody's events go astray."""

        async def main() -> None:
            async def source(name: str) -> Source:
                for number in range(60):
                    yield f"{name}{number}"
                    if number % 7 == len(name) % 7:
                        await asyncio.sleep(0)
                    if number % 11 == 0:
                        with contextlib.suppress(InvalidEvent):
                            yield [name, None]
                    if number == 50 and name.endswith("5"):
                        raise KeyError(name)

            buffer = speedups.EventBuffer()
            names = [f"{'x' * n}{n}" for n in range(10)]
            rigs = {name: Rig(speedups, source(name), buffer=buffer) for name in names}
            await asyncio.gather(*(rig.run() for rig in rigs.values()), return_exceptions=True)
            for name, rig in rigs.items():
                count = 51 if name.endswith("5") else 60
                assert rig.sent == [f"{name}{number}" for number in range(count)]

        run(main())


AWAITS: dict[str, Callable[[], Awaitable[Any]]] = {
    "sleep of nothing": lambda: asyncio.sleep(0),
    "sleep": lambda: asyncio.sleep(0.001),
    "wait_for": lambda: asyncio.wait_for(asyncio.sleep(0.001), 5),
    "gather": lambda: asyncio.gather(asyncio.sleep(0), asyncio.sleep(0)),
    "shield": lambda: asyncio.shield(asyncio.sleep(0)),
    "thread": lambda: asyncio.to_thread(int),
    **{kind: lambda kind=kind: awaitable_of(kind, None) for kind in KINDS},  # type: ignore[misc]
}


class TestAwaits:
    @pytest.mark.parametrize("name", AWAITS)
    def test_source_may_await_anything(self, speedups: SimpleNamespace, name: str) -> None:
        async def main() -> Any:
            async def source() -> Source:
                for number in range(3):
                    await AWAITS[name]()
                    yield f"{number}a"
                    yield f"{number}b"
                    await AWAITS[name]()

            return await Rig(speedups, source()).run()

        assert run(main()) == ["0a", "0b", "1a", "1b", "2a", "2b"]

    def test_future_that_is_done_is_no_suspension(self, speedups: SimpleNamespace) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()

            def scenario() -> Any:
                async def source() -> Source:
                    for name in "abc":
                        future = loop.create_future()
                        future.set_result(None)
                        await future
                        yield name
                    await suspend()

                rig = Rig(speedups, source())
                rig.send()
                return rig.flushes

            steadily(scenario, [["a"], ["b", "c"]])

        run(main())

    def test_result_of_an_await_arrives(self, speedups: SimpleNamespace) -> None:
        async def main() -> Any:
            async def source() -> Source:
                yield "a"
                yield await awaitable_of("future", "b")
                try:
                    future = asyncio.get_running_loop().create_future()
                    asyncio.get_running_loop().call_soon(future.set_exception, KeyError("c"))
                    await future
                except KeyError as exc:
                    yield exc.args[0]

            return await Rig(speedups, source()).run()

        assert run(main()) == ["a", "b", "c"]

    def test_nested_generators(self, speedups: SimpleNamespace) -> None:
        async def main() -> Any:
            async def nested(depth: int) -> Source:
                if depth == 0:
                    await asyncio.sleep(0)
                    yield "bottom"
                    return
                async with contextlib.aclosing(nested(depth - 1)) as inner:
                    async for item in inner:
                        await asyncio.sleep(0)
                        yield item
                yield str(depth)

            return await Rig(speedups, nested(50)).run()

        assert run(main()) == ["bottom", *[str(depth) for depth in range(1, 51)]]

    def test_async_comprehension(self, speedups: SimpleNamespace) -> None:
        async def main() -> Any:
            source = (f"<{item}>" async for item in numbers(4))
            return await Rig(speedups, source).run()

        assert run(main()) == ["<0>", "<1>", "<2>", "<3>"]

    def test_recursion_that_is_too_deep_comes_out(self, speedups: SimpleNamespace) -> None:
        def dive(depth: int) -> int:
            return dive(depth + 1) + 1

        async def source() -> Source:
            yield "a"
            yield "b"
            yield str(dive(0))

        rig = Rig(speedups, source())
        with pytest.raises(RecursionError):
            rig.send()
        assert rig.sent == ["a", "b"]

    def test_context_variables(self, speedups: SimpleNamespace) -> None:
        """Each step runs in the context of the task, and what it sets is there in the next."""
        variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")

        async def main() -> None:
            async def source() -> Source:
                seen.append(variable.get())
                token = variable.set("source")
                yield "a"
                yield "b"
                await asyncio.sleep(0)
                seen.append(variable.get())
                yield "c"
                variable.reset(token)
                yield "d"

            seen: list[str] = []
            variable.set("task")
            assert await Rig(speedups, source()).run() == ["a", "b", "c", "d"]
            assert seen == ["task", "source"]
            assert variable.get() == "task"

        run(main())

    def test_current_task_is_the_same_in_all_steps(self, speedups: SimpleNamespace) -> None:
        async def main() -> None:
            async def source() -> Source:
                for _ in range(3):
                    tasks.append(asyncio.current_task())
                    yield "a"
                    await asyncio.sleep(0)
                tasks.append(asyncio.current_task())

            tasks: list[Any] = []
            await Rig(speedups, source()).run()
            assert tasks == [asyncio.current_task()] * 4

        run(main())

    def test_traced_and_profiled(self, speedups: SimpleNamespace) -> None:
        """Debuggers and coverage see each step of the source."""

        async def source() -> Source:
            yield "a"
            yield "b"
            await suspend()
            with contextlib.suppress(InvalidEvent):
                yield None
            yield "c"

        lines: list[int] = []

        def trace(frame: Any, event: str, argument: Any) -> Any:
            if frame.f_code is source.__code__:
                if event == "line":
                    lines.append(frame.f_lineno - source.__code__.co_firstlineno)
                return trace
            return None

        rig = Rig(speedups, source())
        before = sys.gettrace()
        sys.settrace(trace)
        try:
            assert rig.send() == "suspended"
            assert rig.send() == Done(False)
        finally:
            sys.settrace(before)
        assert sorted(set(lines)) == [1, 2, 3, 4, 5, 6]
        assert [*rig.sent, *rig.rest] == ["a", "b", "c"]


class TestCancellation:
    """The source is cancelled where it waits; its finally runs once, in the task."""

    @pytest.mark.parametrize("before", [0, 1, 2, 5])
    @pytest.mark.parametrize("kind", ["sleep", "future", "nested", "with", "awaitable", "shield"])
    def test_in_an_await(self, speedups: SimpleNamespace, kind: str, before: int) -> None:
        async def main() -> None:
            log: list[Any] = []
            waiting = asyncio.Event()

            @contextlib.asynccontextmanager
            async def managed() -> AsyncIterator[None]:
                try:
                    yield
                finally:
                    await asyncio.sleep(0)
                    log.append("managed")

            async def wait() -> None:
                waiting.set()
                if kind == "sleep":
                    await asyncio.sleep(100)
                elif kind == "awaitable":
                    await CustomAwaitable(None, 10**9)
                elif kind == "shield":
                    await asyncio.shield(asyncio.get_running_loop().create_future())
                else:
                    await asyncio.get_running_loop().create_future()

            async def nested() -> Source:
                try:
                    yield "nested"
                    await wait()
                finally:
                    log.append("nested")

            async def source() -> Source:
                try:
                    for number in range(before):
                        yield str(number)
                    if kind == "with":
                        async with managed():
                            yield "in"
                            await wait()
                    elif kind == "nested":
                        async with contextlib.aclosing(nested()) as inner:
                            async for item in inner:
                                yield item
                    else:
                        await wait()
                except asyncio.CancelledError:
                    log.append("cancelled")
                    raise
                finally:
                    log.append(asyncio.current_task())

            generator = source()
            rig = Rig(speedups, generator)
            task = asyncio.ensure_future(rig.run())
            await waiting.wait()
            assert not task.done()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            extra = {"with": ["managed"], "nested": ["nested"]}.get(kind, [])
            assert log == [*extra, "cancelled", task]
            assert len(rig.sent) == before + len(extra)
            assert await rig.pump is False
            await generator.aclose()
            assert len(log) == 2 + len(extra)

        run(main())

    def test_before_the_first_step(self, speedups: SimpleNamespace) -> None:
        async def main() -> None:
            with nothing_unraisable():
                generator = numbers(3)
                rig = Rig(speedups, generator)
                task = asyncio.ensure_future(rig.run())
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                rig.pump.close()
                await generator.aclose()
                assert rig.sent == []
                del rig, task, generator

        run(main())

    @pytest.mark.parametrize("before", [0, 1, 2])
    def test_caught_and_gone_on_from(self, speedups: SimpleNamespace, before: int) -> None:
        async def main() -> None:
            async def source() -> Source:
                for number in range(before):
                    yield str(number)
                for number in range(5):
                    try:
                        waiting.set()
                        await asyncio.sleep(100)
                    except asyncio.CancelledError:
                        yield f"caught {number}"
                        yield "and on"

            waiting = asyncio.Event()
            rig = Rig(speedups, source())
            task = asyncio.ensure_future(rig.run())
            for _ in range(5):
                await waiting.wait()
                waiting.clear()
                task.cancel()
            caught = [text for n in range(5) for text in (f"caught {n}", "and on")]
            assert await task == [str(number) for number in range(before)] + caught

        run(main())

    def test_caught_and_awaited_on(self, speedups: SimpleNamespace) -> None:
        """Cancelled again and again in what it awaits because it was cancelled."""

        async def main() -> None:
            async def source() -> Source:
                yield "a"
                yield "b"
                for _ in range(4):
                    try:
                        waiting.set()
                        await asyncio.sleep(100)
                    except asyncio.CancelledError:
                        caught.append(True)
                yield "c"
                await asyncio.sleep(0)
                yield "d"

            waiting = asyncio.Event()
            caught: list[bool] = []
            rig = Rig(speedups, source())
            task = asyncio.ensure_future(rig.run())
            for number in range(4):
                await waiting.wait()
                waiting.clear()
                task.cancel()
                await asyncio.sleep(0)
                assert len(caught) == number + 1
            assert await task == ["a", "b", "c", "d"]

        run(main())

    def test_finally_may_await_and_yield_no_more(self, speedups: SimpleNamespace) -> None:
        async def main() -> None:
            async def source() -> Source:
                try:
                    yield "a"
                    yield "b"
                    await asyncio.sleep(100)
                finally:
                    for _ in range(3):
                        await asyncio.sleep(0)
                    log.append("cleaned up")

            log: list[str] = []
            generator = source()
            rig = Rig(speedups, generator)
            task = asyncio.ensure_future(rig.run())
            await until(lambda: len(rig.sent) == 2)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert log == ["cleaned up"]
            await generator.aclose()
            assert log == ["cleaned up"]

        run(main())

    def test_turned_into_another_exception(self, speedups: SimpleNamespace) -> None:
        async def main() -> None:
            async def source() -> Source:
                yield "a"
                yield "b"
                try:
                    await asyncio.sleep(100)
                except asyncio.CancelledError:
                    raise KeyError("mine") from None

            rig = Rig(speedups, source())
            task = asyncio.ensure_future(rig.run())
            await until(lambda: len(rig.sent) == 2)
            task.cancel()
            with pytest.raises(KeyError, match="mine"):
                await task

        run(main())

    def test_turned_into_an_end(self, speedups: SimpleNamespace) -> None:
        async def main() -> None:
            async def source() -> Source:
                yield "a"
                yield "b"
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(100)

            rig = Rig(speedups, source())
            task = asyncio.ensure_future(rig.run())
            await until(lambda: len(rig.sent) == 2)
            task.cancel()
            assert await task == ["a", "b"]

        run(main())

    def test_wait_for_in_the_source(self, speedups: SimpleNamespace) -> None:
        async def main() -> Any:
            async def source() -> Source:
                for number in range(5):
                    with contextlib.suppress(asyncio.TimeoutError):
                        await asyncio.wait_for(asyncio.sleep(100), 0.001)
                    yield f"{number}a"
                    yield f"{number}b"

            return await Rig(speedups, source()).run()

        assert run(main()) == [f"{number}{letter}" for number in range(5) for letter in "ab"]

    if sys.version_info >= (3, 11):

        def test_timeout_in_the_source(self, speedups: SimpleNamespace) -> None:
            """``asyncio.timeout`` cancels the task that it is in: that must be the one that steps the source."""

            async def main() -> Any:
                async def source() -> Source:
                    for number in range(5):
                        try:
                            async with asyncio.timeout(0.001):
                                await asyncio.sleep(100)
                        except TimeoutError:
                            yield f"{number}a"
                            yield f"{number}b"
                    task = asyncio.current_task()
                    assert task is not None
                    yield f"cancelling {task.cancelling()}"

                return await Rig(speedups, source()).run()

            expected = [f"{number}{letter}" for number in range(5) for letter in "ab"]
            assert run(main()) == [*expected, "cancelling 0"]

        def test_timeout_over_yields(self, speedups: SimpleNamespace) -> None:
            async def main() -> Any:
                async def source() -> Source:
                    try:
                        async with asyncio.timeout(0.02):
                            while True:
                                yield "tick"
                                await asyncio.sleep(0.001)
                    except TimeoutError:
                        yield "over"

                return await Rig(speedups, source()).run()

            result = run(main())
            assert set(result[:-1]) == {"tick"}
            assert result[-1] == "over"

        def test_task_group_in_the_source(self, speedups: SimpleNamespace) -> None:
            async def main() -> Any:
                async def fail() -> None:
                    await asyncio.sleep(0)
                    raise KeyError("mine")

                async def source() -> Source:
                    yield "a"
                    yield "b"
                    try:
                        async with asyncio.TaskGroup() as group:
                            group.create_task(fail())
                            await asyncio.sleep(100)
                    except Exception as exc:
                        yield type(exc).__name__
                    yield "c"

                return await Rig(speedups, source()).run()

            assert run(main()) == ["a", "b", "ExceptionGroup", "c"]

    @pytest.mark.parametrize("before", [0, 1, 2, 3])
    def test_of_a_source_that_another_has_closed(
        self, speedups: SimpleNamespace, before: int
    ) -> None:
        """An ``aclose`` from elsewhere as the source waits may fail or not; the stream can still be cancelled."""

        async def main() -> None:
            async def source() -> Source:
                for number in range(before):
                    yield str(number)
                await asyncio.get_running_loop().create_future()

            generator = source()
            rig = Rig(speedups, generator)
            task = asyncio.ensure_future(rig.run())
            await asyncio.sleep(0)
            await until(lambda: len(rig.sent) == before)
            with contextlib.suppress(RuntimeError):
                await generator.aclose()
            task.cancel()
            await asyncio.wait({task}, timeout=2)
            assert task.done()
            assert task.cancelled()
            assert len(rig.sent) == before

        run(main())

    def test_future_that_is_cancelled_itself(self, speedups: SimpleNamespace) -> None:
        async def main() -> None:
            async def source() -> Source:
                yield "a"
                yield "b"
                future = asyncio.get_running_loop().create_future()
                asyncio.get_running_loop().call_soon(future.cancel)
                await future

            rig = Rig(speedups, source())
            with pytest.raises(asyncio.CancelledError):
                await rig.run()
            assert rig.sent == ["a", "b"]

        run(main())


class TestProtocol:
    """``send``, ``throw`` and ``close``, as ``await`` uses them."""

    @pytest.mark.parametrize("before", [0, 1, 2])
    @pytest.mark.parametrize("form", ["instance", "type", "type and instance", "with traceback"])
    def test_throw(self, speedups: SimpleNamespace, form: str, before: int) -> None:
        async def source() -> Source:
            for number in range(before):
                yield str(number)
            try:
                await suspend("here")
            except KeyError as exc:
                yield f"caught {exc.args}"

        exc = KeyError("mine")
        arguments: tuple[Any, ...] = {
            "instance": (exc,),
            "type": (KeyError,),
            "type and instance": (KeyError, exc),
            "with traceback": (KeyError, exc, None),
        }[form]
        rig = Rig(speedups, source())
        assert rig.send() == "here"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # three arguments, from 3.12 on
            assert rig.throw(*arguments) == Done(False)
        caught = "caught ()" if form == "type" else "caught ('mine',)"
        assert [*rig.sent, *rig.rest] == [*map(str, range(before)), caught]

    @pytest.mark.parametrize("before", [0, 1, 2])
    def test_throw_what_nobody_catches(self, speedups: SimpleNamespace, before: int) -> None:
        async def source() -> Source:
            for number in range(before):
                yield str(number)
            await suspend("here")

        rig = Rig(speedups, source())
        assert rig.send() == "here"
        exc = KeyError("mine")
        with pytest.raises(KeyError) as caught:
            rig.throw(exc)
        assert caught.value is exc
        assert rig.send() == Done(False)
        assert rig.sent == [str(number) for number in range(before)]

    @pytest.mark.parametrize("before", [0, 1, 2])
    def test_close_as_the_source_waits(self, speedups: SimpleNamespace, before: int) -> None:
        """As when the task's coroutine is closed or collected: no error, and the pump is over."""

        async def source() -> Source:
            for number in range(before):
                yield str(number)
            await suspend("here")
            yield "never"

        async def task() -> None:
            while await rig.pump:
                pass

        with nothing_unraisable():
            rig = Rig(speedups, source())
            coroutine = task()
            assert stepped(coroutine) == "here"
            coroutine.close()
            coroutine.close()
            assert rig.send() == Done(False)
            assert rig.rest == []
            rig.pump.close()
            assert rig.send() == Done(False)

    @pytest.mark.parametrize("before", [0, 1, 2])
    def test_throw_of_a_generator_exit_closes(self, speedups: SimpleNamespace, before: int) -> None:
        """As a coroutine's own ``await`` does with one that is thrown into it."""

        class Numbers:
            count = 0

            async def __anext__(self) -> Any:
                self.count += 1
                with contextlib.suppress(GeneratorExit):
                    if self.count > before:
                        await suspend("here")
                return str(self.count)

        with nothing_unraisable():
            rig = Rig(speedups, Numbers())
            assert rig.send() == "here"
            exc = GeneratorExit("mine")
            with pytest.raises(GeneratorExit) as caught:
                pytest.fail(f"the pump gave {rig.throw(exc)}")
            assert caught.value is exc
            assert rig.send() == Done(False)
            assert rig.sent == [str(number + 1) for number in range(before)]

    def test_close_before_the_start(self, speedups: SimpleNamespace) -> None:
        with nothing_unraisable():
            generator = numbers(3)
            rig = Rig(speedups, generator)
            rig.pump.close()
            rig.pump.close()
            assert rig.send() == Done(False)
            assert rig.sent == []
            del rig, generator

    def test_never_started(self, speedups: SimpleNamespace) -> None:
        """A stream that is over before its task begins has a pump that nobody steps or closes."""
        with nothing_unraisable():
            rig = Rig(speedups, numbers(3))
            del rig

    def test_never_started_but_asked_to_await(self, speedups: SimpleNamespace) -> None:
        with nothing_unraisable():
            rig = Rig(speedups, numbers(3))
            rig.pump.__await__()
            del rig

    def test_is_an_awaitable(self, speedups: SimpleNamespace) -> None:
        rig = Rig(speedups, numbers(1))
        assert isinstance(rig.pump, Awaitable)
        assert rig.send() == Done(False)


class TestPending:
    """While a generator waits in the middle of a step, nobody else may begin one: so says the language."""

    @pytest.mark.parametrize("before", [0, 1, 2, 3])
    def test_another_pump_is_refused(self, speedups: SimpleNamespace, before: int) -> None:
        async def source() -> Source:
            for number in range(before):
                yield str(number)
            await suspend("one")
            await suspend("two")
            yield "end"

        generator: Any = source()
        first = Rig(speedups, generator)
        assert first.send() == "one"
        for _ in range(3):
            second = Rig(speedups, generator)
            with pytest.raises(RuntimeError) as caught:
                pytest.fail(f"the pump gave {second.send()}")
            assert said(caught.value) == "anext(): asynchronous generator is already running"
            assert second.send() == Done(False)
            second.pump.close()
            assert second.sent == second.rest == []
        assert first.send() == "two"
        assert first.send() == Done(False)
        assert first.sent == [*map(str, range(before)), "end"]

    def test_another_pump_that_has_stepped_it_before(self, speedups: SimpleNamespace) -> None:
        """Two that take turns, both past their first events."""

        async def source() -> Source:
            for number in range(6):
                busy(60e-6)  # it leaves at once, and finds the outlet paused
                yield str(number)
            await suspend("here")
            yield "end"

        generator: Any = source()
        rigs = [Rig(speedups, generator) for _ in range(2)]
        for _ in range(3):
            for rig in rigs:
                rig.outlet.is_paused = True
                assert rig.send() == Done(True)
                rig.outlet.is_paused = False
        first, second = rigs
        assert second.send() == "here"
        with pytest.raises(RuntimeError, match="already running"):
            pytest.fail(f"the pump gave {first.send()}")
        assert second.send() == Done(False)
        assert (first.sent, second.sent) == (["0", "2", "4"], ["1", "3", "5", "end"])

    @pytest.mark.parametrize("before", [0, 1, 2])
    @pytest.mark.parametrize("name", ["__anext__", "asend", "athrow", "aclose"])
    @pytest.mark.parametrize("has_caught", [False, True])
    def test_others_are_refused(
        self, speedups: SimpleNamespace, name: str, before: int, has_caught: bool
    ) -> None:
        """Also where the source waits because it was thrown into."""

        async def source() -> Source:
            for number in range(before):
                yield str(number)
            try:
                await suspend("one")
            except KeyError:
                await suspend("two")
            yield "end"

        arguments: tuple[Any, ...] = {"asend": (None,), "athrow": (ValueError(),)}.get(name, ())
        generator: Any = source()
        rig = Rig(speedups, generator)
        assert rig.send() == "one"
        if has_caught:
            assert rig.throw(KeyError()) == "two"
        for _ in range(2):
            with pytest.raises(RuntimeError, match="already running"):
                getattr(generator, name)(*arguments).send(None)
        assert generator.ag_running
        assert rig.send() == Done(False)
        assert not generator.ag_running
        assert rig.sent == [*map(str, range(before)), "end"]

    @pytest.mark.parametrize("before", [0, 1, 2])
    def test_source_may_not_step_itself(self, speedups: SimpleNamespace, before: int) -> None:
        async def source() -> Source:
            for number in range(before):
                yield str(number)
            running.append(generator.ag_running)
            try:
                await generator.__anext__()
            except RuntimeError as exc:
                yield str(exc)
            running.append(generator.ag_running)

        running: list[bool] = []
        generator: Any = source()
        rig = Rig(speedups, generator)
        assert rig.send() == Done(False)
        message = "anext(): asynchronous generator is already running"
        assert [*rig.sent, *rig.rest] == [*map(str, range(before)), message]
        assert running == [True, True]

    @pytest.mark.parametrize("before", [0, 1, 2])
    @pytest.mark.parametrize(
        "end",
        ["return", "raise", "yield", "refusal", "thrown", "caught", "caught and raised", "dropped"],
    )
    def test_is_over_with_the_step(self, speedups: SimpleNamespace, end: str, before: int) -> None:
        """However it ends, its owner may step and close the generator then."""

        async def source() -> Source:
            try:
                for number in range(before):
                    yield str(number)
                try:
                    await suspend("here")
                except KeyError:
                    if end == "caught and raised":
                        await suspend("again")
                        raise LookupError from None
                if end == "return":
                    return
                if end == "raise":
                    raise LookupError
                with contextlib.suppress(InvalidEvent):
                    yield None if end == "refusal" else "end"
                yield "further"
            finally:
                log.append("finally")

        log: list[str] = []
        generator: Any = source()
        rig = Rig(speedups, generator)
        assert rig.send() == "here"
        if end == "dropped":
            rig.transport.close()
            rig.outlet.close()
        rig.outlet.is_paused = True
        given: Any
        try:
            if end == "thrown":
                given = rig.throw(ValueError())
            elif end.startswith("caught"):
                given = rig.throw(KeyError())
                if given == "again":
                    given = rig.send()
            else:
                given = rig.send()
        except (LookupError, ValueError):
            given = None
        is_left = end in ("yield", "refusal", "caught", "dropped")
        assert given == (Done(True) if is_left else Done(False) if end == "return" else None)
        assert not generator.ag_running
        rig.pump.close()
        assert not generator.ag_running
        with pytest.raises(StopIteration):
            generator.aclose().send(None)
        assert log == ["finally"]

    @pytest.mark.parametrize("before", [0, 1, 2])
    @pytest.mark.parametrize("end", ["close", "collect"])
    def test_source_of_a_pump_that_is_gone(
        self, speedups: SimpleNamespace, end: str, before: int
    ) -> None:
        """Its owner can close it at least where it could have after an ``async for``, and nobody is told."""

        async def source(log: list[str]) -> Source:
            try:
                for number in range(before):
                    yield str(number)
                await suspend("here")
            finally:
                log.append("finally")

        async def plain(source: Source) -> None:
            async for _ in source:
                pass

        async def pumped(source: Source) -> None:
            await Rig(speedups, source).pump

        def closed(consumer: Callable[[Source], Coroutine[Any, Any, None]]) -> list[str]:
            log: list[str] = []
            generator = source(log)
            coroutine = consumer(generator)
            assert stepped(coroutine) == "here"
            if end == "close":
                coroutine.close()
            del coroutine
            gc.collect()
            try:
                generator.aclose().send(None)
            except StopIteration:
                log.append("closed")
            except RuntimeError as exc:
                log.append(str(exc))
            return log

        with nothing_unraisable():
            log = closed(pumped)
            assert log in (closed(plain), ["finally", "closed"])

    @pytest.mark.parametrize("before", [0, 1, 2])
    @pytest.mark.parametrize("is_in_a_cycle", [False, True])
    def test_pump_collected_in_the_middle_of_a_step(
        self, speedups: SimpleNamespace, is_in_a_cycle: bool, before: int
    ) -> None:
        """Its source is closed as that of a coroutine that is collected; the owner can close it from 3.13 on."""

        async def source() -> Source:
            try:
                for number in range(before):
                    yield str(number)
                await suspend("here")
            finally:
                log.append("finally")

        log: list[str] = []
        generator: Any = source()
        with nothing_unraisable():
            rig = Rig(speedups, generator)
            assert rig.send() == "here"
            if is_in_a_cycle:
                rig.transport.rig = rig  # type: ignore[attr-defined]
            del rig
            gc.collect()
            if sys.version_info >= (3, 13):
                assert log == ["finally"]
                assert not generator.ag_running
                with pytest.raises(StopIteration):
                    generator.aclose().send(None)
            del generator
            gc.collect()
        assert log == ["finally"]

    @pytest.mark.parametrize("before", [0, 1, 2])
    def test_flush_that_fails_as_the_source_waits(
        self, speedups: SimpleNamespace, before: int
    ) -> None:
        """The source knows nothing of it: closing the pump closes what waits, as far as the version can."""

        class Broken(FakeTransport):
            is_broken = False

            def write(self, data: bytes | bytearray | memoryview) -> None:
                if self.is_broken:
                    raise ConnectionError("mine")

        async def source() -> Source:
            try:
                for number in range(before):
                    yield str(number)
                transport.is_broken = True
                buffer.append("more")
                await suspend("here")
            finally:
                log.append("finally")

        log: list[str] = []
        transport = Broken()
        buffer = speedups.EventBuffer()
        generator: Any = source()
        with nothing_unraisable():
            rig = Rig(speedups, generator, transport, buffer)
            with pytest.raises(ConnectionError):
                pytest.fail(f"the pump gave {rig.send()}")
            buffer.take()
            rig.close()
            assert rig.send() == Done(False)
            if sys.version_info >= (3, 13):
                assert not generator.ag_running
                with pytest.raises(StopIteration):
                    generator.aclose().send(None)
            del generator, rig
            gc.collect()
        assert log == ["finally"]


#: A source that does to its own pump what only the pump's one task may do.
REENTRY = """
import sys
sys.path[:0] = {path!r}
from conftest import twins
from fakes import FakeTransport

speedups = twins({name!r})

async def source():
    try:
        {call}
    except ValueError as exc:
        print("refused", type(exc).__name__)
    yield "a"
    yield "b"

outlet = speedups.Outlet(FakeTransport(), -1)
pump = speedups.Pump(source(), speedups.EventBuffer(), outlet)
try:
    next(pump.__await__())
except Exception as exc:
    print("ended", type(exc).__name__)
print("alive")
"""


@pytest.mark.parametrize(
    "call",
    [
        "pump.close()",
        "next(pump.__await__())",
        "pump.__await__().send(None)",
        "next(pump.__await__()); pump.close()",
    ],
)
def test_reentry_does_not_end_the_process(speedups: SimpleNamespace, call: str) -> None:
    """Found by ``fuzz.events``: the step that was under way was freed. In a process of its own, which may die of it."""
    code = REENTRY.format(path=sys.path, name=speedups.name, call=call)
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.endswith("alive\n")


class TestFinalisation:
    def test_hooks(self, speedups: SimpleNamespace) -> None:
        """The interpreter's hooks see the generator before its first step, and when it is dropped unfinished."""

        async def source() -> Source:
            log.append("stepped")
            yield "a"
            yield "b"
            yield "c"

        log: list[str] = []
        before = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(lambda _: log.append("first"), lambda _: log.append("final"))
        try:
            generator = source()
            rig = Rig(speedups, generator)
            rig.outlet.is_paused = True
            assert rig.send() == Done(True)
            assert log == ["first", "stepped"]
            rig.pump.close()
            del generator, rig
            gc.collect()
            assert log == ["first", "stepped", "final"]
        finally:
            sys.set_asyncgen_hooks(*before)

    def test_loop_closes_what_was_left_open(self, speedups: SimpleNamespace) -> None:
        async def source() -> Source:
            try:
                yield "a"
                yield "b"
                await asyncio.sleep(100)
            finally:
                await asyncio.sleep(0)
                log.append("finally")

        async def main() -> None:
            generator = source()
            kept.append(generator)
            rig = Rig(speedups, generator)
            rig.outlet.is_paused = True
            assert await rig.pump
            rig.pump.close()

        log: list[str] = []
        kept: list[Any] = []
        with nothing_unraisable():
            run(main())
            assert log == ["finally"]

    def test_collected_where_it_waits(self, speedups: SimpleNamespace) -> None:
        """Pump, task and generator dropped as the source is suspended: nothing is said, and the finally has run."""

        async def source() -> Source:
            try:
                yield "a"
                yield "b"
                await suspend()
            finally:
                log.append("finally")

        log: list[str] = []
        with nothing_unraisable():
            rig = Rig(speedups, source())
            rig.send()
            del rig
            gc.collect()
        assert log == ["finally"]

    @pytest.mark.parametrize("before", [0, 1, 2, 3])
    def test_closed_and_collected_on_a_loop(self, speedups: SimpleNamespace, before: int) -> None:
        """As the coroutine of a task that nobody finished. The source fares no worse than under ``async for``.

        Before 3.13 a generator in the middle of an ``__anext__`` could not be closed for ever after.
        """

        async def source(log: list[str]) -> Source:
            try:
                for number in range(before):
                    yield str(number)
                await suspend()
            finally:
                log.append("finally")

        async def plain(source: Source) -> None:
            async for _ in source:
                pass

        async def pumped(source: Source) -> None:
            await Rig(speedups, source).run()

        async def closed(consumer: Callable[[Source], Coroutine[Any, Any, None]]) -> list[str]:
            log: list[str] = []
            coroutine = consumer(source(log))
            assert stepped(coroutine) == "suspended"
            coroutine.close()
            del coroutine
            gc.collect()
            for _ in range(5):  # the loop's hook closes the generator in a task of its own
                await asyncio.sleep(0)
            return log

        async def main() -> None:
            reports: list[Any] = []
            asyncio.get_running_loop().set_exception_handler(
                lambda _, report: reports.append(report)
            )
            expected = await closed(plain)
            reports_expected = len(reports)
            reports.clear()
            log = await closed(pumped)
            assert log in (expected, ["finally"])
            assert len(reports) <= reports_expected

        with nothing_unraisable():
            run(main())

    @pytest.mark.parametrize("place", ["start", "yield", "turn", "await", "end", "error"])
    def test_aclose_after_the_pump_runs_finally_once(
        self, speedups: SimpleNamespace, place: str
    ) -> None:
        async def main() -> None:
            async def source() -> Source:
                try:
                    yield "a"
                    yield "b"
                    if place == "error":
                        raise KeyError("mine")
                    if place == "await":
                        waiting.set()
                        await asyncio.sleep(100)
                    if place == "turn":
                        asyncio.get_running_loop().call_soon(task.cancel)
                        busy(6e-3)
                        yield "c"
                        yield "d"
                finally:
                    await asyncio.sleep(0)
                    log.append("finally")

            log: list[str] = []
            waiting = asyncio.Event()
            generator = source()
            rig = Rig(speedups, generator)
            if place == "yield":
                rig.outlet.is_paused = True
                assert await rig.pump
            elif place != "start":
                task = asyncio.ensure_future(rig.run())
                if place == "await":
                    await waiting.wait()
                    task.cancel()
                with contextlib.suppress(KeyError, asyncio.CancelledError):
                    await task
            await generator.aclose()
            await generator.aclose()
            assert log == ([] if place == "start" else ["finally"])
            rig.pump.close()

        with nothing_unraisable():
            run(main())

    @pytest.mark.parametrize("end", ["return", "error", "refusal"])
    def test_nothing_is_held_when_it_is_over(self, speedups: SimpleNamespace, end: str) -> None:
        """The source, its frame and the exception go with the pump, without the help of the collector."""

        class Thing:
            pass

        async def source() -> Source:
            thing = Thing()
            things.append(weakref.ref(thing))
            yield "a"
            yield "b"
            await suspend()
            if end == "refusal":
                with contextlib.suppress(InvalidEvent):
                    yield None
                yield "c"
            if end == "error":
                raise KeyError("mine")

        things: list[Any] = []
        gc.collect()
        gc.disable()
        try:
            rig = Rig(speedups, source())
            rig.send()
            assert things[0]() is not None
            with contextlib.suppress(KeyError):
                rig.send()
            del rig
            assert things[0]() is None
        finally:
            gc.enable()


class TestReferences:
    """No step leaks, whichever way it takes: CPython's own counts say so."""

    def test_of_events(self, speedups: SimpleNamespace) -> None:
        async def source() -> Source:
            for number in range(3000):
                yield event
                if number % 10 == 0:
                    await suspend()

        event = {"data": "x" * 10}
        before = sys.getrefcount(event)
        rig = Rig(speedups, source())
        while rig.send() == "suspended":
            pass
        assert rig.pump.events == 3000
        assert sys.getrefcount(event) == before

    def test_of_what_is_suspended_with(self, speedups: SimpleNamespace) -> None:
        async def source() -> Source:
            for _ in range(1000):
                yield "a"
                await suspend(marker)
                with contextlib.suppress(KeyError):
                    await suspend(marker)

        marker = object()
        before = sys.getrefcount(marker)
        rig = Rig(speedups, source())
        assert rig.send() is marker
        for _ in range(999):
            assert rig.send() is marker
            assert rig.throw(KeyError()) is marker
        del rig
        gc.collect()
        assert sys.getrefcount(marker) == before

    def test_of_refused_events(self, speedups: SimpleNamespace) -> None:
        async def source() -> Source:
            for _ in range(1000):
                try:
                    yield refused
                except InvalidEvent as exc:
                    errors.append(weakref.ref(exc))

        refused = {"no": "event"}
        errors: list[Any] = []
        before = sys.getrefcount(refused)
        rig = Rig(speedups, source())
        while rig.send() == "suspended":
            pass
        del rig
        gc.collect()  # a traceback holds the frames that hold it
        assert len(errors) == 1000
        assert sum(ref() is not None for ref in errors) == 0
        assert sys.getrefcount(refused) == before

    def test_of_none_and_booleans(self, speedups: SimpleNamespace) -> None:
        """They are immortal from 3.12 on; before that, one taken too often would be freed in the end."""
        counts = [sys.getrefcount(one) for one in (None, True, False)]
        for _ in range(2000):
            rig = Rig(speedups, numbers(3))
            rig.outlet.is_paused = True
            rig.send()
            rig.outlet.is_paused = False
            rig.send()
        after = [sys.getrefcount(one) for one in (None, True, False)]
        for one, other in zip(counts, after, strict=True):
            assert abs(one - other) < 200

    @pytest.mark.parametrize(
        "kind", ["steps", "suspensions", "refusals", "throws", "ends", "errors"]
    )
    def test_memory_is_flat(self, speedups: SimpleNamespace, kind: str) -> None:
        async def endless() -> Source:
            number = 0
            while True:
                number += 1
                if kind == "refusals":
                    with contextlib.suppress(InvalidEvent):
                        yield None
                if number % 50 == 0 or kind != "steps":
                    with contextlib.suppress(KeyError):
                        await suspend()
                yield {"data": "x"}

        async def failing() -> Source:
            yield "a"
            yield "b"
            raise KeyError("mine")

        def go(count: int) -> None:
            if kind == "ends":
                for _ in range(count // 10):
                    rig = Rig(speedups, numbers(3))
                    assert rig.send() == Done(False)
            elif kind == "errors":
                for _ in range(count // 10):
                    with contextlib.suppress(KeyError):
                        Rig(speedups, failing()).send()
            elif kind == "throws":
                for _ in range(count):
                    endless_rig.throw(KeyError())
                    endless_rig.transport.clear()
            else:
                until = endless_rig.pump.events + count
                while endless_rig.pump.events < until:
                    endless_rig.send()
                    endless_rig.transport.clear()

        endless_rig = Rig(speedups, endless())
        endless_rig.send()
        go(2000)
        gc.collect()
        objects = len(gc.get_objects())
        tracemalloc.start()
        try:
            go(100)
            gc.collect()
            before = tracemalloc.get_traced_memory()[0]
            go(5000)
            gc.collect()
            grown = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
        endless_rig.pump.close()
        # A leak of the smallest object each step would be 80,000 bytes; other threads take a few thousand.
        assert grown < 20_000
        assert abs(len(gc.get_objects()) - objects) < 100


class TestLong:
    def test_hundred_thousand_events(self, speedups: SimpleNamespace) -> None:
        async def main() -> None:
            rig = Rig(speedups, numbers(100_000))
            sent = await rig.run()
            assert rig.pump.events == 100_000
            assert sent == [str(number) for number in range(100_000)]
            assert max(len(write) for write in rig.transport.writes) < 64 * 1024 + 100

        run(main())

    @pytest.mark.parametrize("make_loop", LOOPS.values(), ids=LOOPS)
    def test_streams_that_are_cancelled_one_after_the_other(
        self, speedups: SimpleNamespace, make_loop: Callable[[], asyncio.AbstractEventLoop]
    ) -> None:
        async def main() -> None:
            async def source(number: int) -> Source:
                try:
                    for name in "abc"[: number % 4]:
                        yield name
                    await asyncio.get_running_loop().create_future()
                finally:
                    ended.append(number)

            async def one(number: int) -> None:
                generator = source(number)
                rig = Rig(speedups, generator, buffer=buffer)
                task = asyncio.ensure_future(rig.run())
                await asyncio.sleep(0)
                await until(lambda: len(rig.sent) == number % 4)
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
                await generator.aclose()
                assert "".join(rig.sent) == "abc"[: number % 4]

            ended: list[int] = []
            buffer = speedups.EventBuffer()
            for number in range(2000):
                await one(number)
            assert ended == list(range(2000))

        loop = make_loop()
        try:
            with nothing_unraisable():
                loop.run_until_complete(asyncio.wait_for(main(), DEADLINE))
        finally:
            loop.close()

    def test_hundred_thousand_suspensions(self, speedups: SimpleNamespace) -> None:
        async def main() -> None:
            async def source() -> Source:
                for number in range(100_000):
                    yield {"data": number}
                    await asyncio.sleep(0)

            rig = Rig(speedups, source())
            while await rig.pump:
                pass
            assert rig.pump.events == len(rig.transport.writes) == 100_000

        run(main())


# Both twins do the same


class Step(NamedTuple):
    """One thing that a scripted source does."""

    name: str
    value: Any = None


SCRIPTS = st.lists(
    st.one_of(
        st.just(Step("yield", "x")),
        st.just(Step("yield", "x")),
        st.just(Step("suspend")),
        st.builds(
            Step,
            st.just("yield"),
            st.sampled_from([{"data": 1}, ["b", {"id": 1}], [], {"comment": "c"}]),
        ),
        st.builds(
            Step, st.just("yield"), st.sampled_from([None, {}, {"x": 1}, ["a", None], {"id": "\n"}])
        ),
        st.builds(
            Step, st.sampled_from(["catch", "raise"]), st.sampled_from([KeyError, ValueError])
        ),
        st.just(Step("nested")),
        st.just(Step("return")),
    ),
    max_size=12,
)
DRIVES = st.lists(
    st.sampled_from(["send", "send", "send", "key", "value", "pause", "resume", "stop", "close"]),
    max_size=15,
)


class Over(BaseException):
    """Ends any script."""


THROWN: dict[str, type[BaseException]] = {"key": KeyError, "value": ValueError, "over": Over}


async def scripted(script: list[Step], log: list[Any], depth: int = 0) -> Source:
    """A generator that does what the script says, and notes what happens to it."""
    try:
        for step in script:
            caught: type[BaseException] = step.value if step.name == "catch" else InvalidEvent
            try:
                if step.name == "yield":
                    busy(60e-6)  # each event leaves alone then, whoever else uses the machine
                    log.append(("got", (yield step.value)))
                elif step.name == "suspend":
                    log.append(("sent", await suspend(len(log))))
                elif step.name == "catch":
                    await suspend(len(log))
                elif step.name == "raise":
                    raise step.value("script")
                elif step.name == "return":
                    return
                elif depth == 0:
                    async with contextlib.aclosing(scripted(script, log, depth + 1)) as inner:
                        async for item in inner:
                            yield item
            except caught as exc:
                log.append(("caught", type(exc), str(exc)))
    except BaseException as exc:
        log.append(("raised", type(exc), str(exc)))
        raise
    finally:
        log.append("finally")


def played(
    speedups: SimpleNamespace, script: list[Step], drive: list[str], is_class: bool
) -> list[Any]:
    """What can be seen from outside, and by the source, as a pump over a scripted source is driven."""
    log: list[Any] = []
    generator = scripted(script, log)
    source: Any = generator
    if is_class:
        source = SimpleNamespace()

        class Wrapped:
            def __aiter__(self) -> Any:
                return self

            async def __anext__(self) -> Any:
                return await generator.__anext__()

        source = Wrapped()
    rig = Rig(speedups, source)
    given: Any = None
    for action in [*drive, "resume", "send", "send", "over"]:
        try:
            if action == "pause":
                rig.outlet.is_paused = True
            elif action == "resume":
                rig.outlet.is_paused = False
            elif action == "stop":
                rig.pump.is_stopped = True
            elif action == "close":
                rig.outlet.close()
            elif action in THROWN and isinstance(given, int):  # only where the source waits
                given = rig.throw(THROWN[action]("thrown"))
            else:
                given = rig.send()
        except (Exception, Over) as exc:
            given = exc
            log.append(("error", type(exc), str(exc)))
        log.append(given)
        if given != Done(False):
            # Whenever a stream suspends, is paused or fails, the buffer is everyone's again.
            assert len(rig.buffer) == 0
        rig.outlet.flush(rig.buffer)
        log.append((action, rig.transport.sent, rig.pump.events))
    rig.pump.close()
    with pytest.raises(StopIteration):
        generator.aclose().send(None)
    return [entry for entry in log if not isinstance(entry, BaseException)]


@settings(max_examples=400, deadline=None)
@given(SCRIPTS, DRIVES, st.booleans())
def test_twins_do_the_same(script: list[Step], drive: list[str], is_class: bool) -> None:
    played_by = [played(twin, script, drive, is_class) for twin in PAIR]
    for other in played_by[1:]:
        assert other == played_by[0]
