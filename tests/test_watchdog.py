"""What holds the loop is named, and what only looks like it is not. Who blocks does so until it is."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import sys
import threading
import time
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from signal import SIGCONT, SIGSTOP, SIGTERM
from types import SimpleNamespace
from typing import Any

import pytest
from script import TIMEOUT, Scripts, Stopwatch
from watching import until

from bunpy.serve import Request, Server, SSEResponse, serve
from bunpy.server import residence, watchdog
from bunpy.server.blame import Blame, Place
from bunpy.server.server import LocalServer
from bunpy.server.watchdog import Watchdog
from bunpy.testing import EventClient, request, serving

HERE = str(Path(__file__))


class Warnings:
    """The warnings of bunpy. ``hold`` blocks whoever calls it until there is a new one."""

    def __init__(self) -> None:
        self.count = 0
        self.lines: list[str] = []
        self.levels: set[str] = set()
        self.threads: set[str | None] = set()
        self.silence = (
            threading.Lock()
        )  # held until there is a line: to acquire it is to block, in one call of C
        self.silence.acquire()

    def add(self, record: logging.LogRecord) -> None:
        self.levels.add(record.levelname)
        self.threads.add(record.threadName)
        self.lines.append(record.getMessage())
        self.count += 1
        if self.silence.locked():
            self.silence.release()

    def hold(self) -> None:
        """Keep the calling thread until something has been named. All that it calls is C: it is what is at work."""
        count, end = self.count, time.monotonic() + TIMEOUT
        while self.count == count and time.monotonic() < end:
            time.sleep(0.001)

    def take(self) -> tuple[str, str | None]:
        """Whom the one line that there is names, and what that is in, each as ``name (file:line)``."""
        until(lambda: bool(self.lines), TIMEOUT)
        (line,) = self.lines
        self.lines.clear()
        found = re.fullmatch(
            r"the loop has stood still for (\d+\.\d\d) s, held by (\S+ \(.+?:\d+\))"
            r"(?:, which is in (\S+ \(.+?:\d+\)))?: nothing else is served meanwhile; .*asyncio\.to_thread.*",
            line,
        )
        assert found, line
        assert float(found[1]) >= 0.1
        assert self.levels == {"WARNING"}
        assert self.threads == {"bunpy-watchdog"}
        return found[2], found[3]


@pytest.fixture
def warnings() -> Iterator[Warnings]:
    warnings = Warnings()

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            warnings.add(record)

    collector = Collector(logging.WARNING)
    logging.getLogger("bunpy").addHandler(collector)
    yield warnings
    logging.getLogger("bunpy").removeHandler(collector)


@pytest.fixture(autouse=True)
def none_yet() -> None:
    """The watchdogs of other tests' servers have ended: nobody else waits for them."""
    until(lambda: not watchdogs())


@pytest.fixture(params=["uvloop", "asyncio"])
def loops(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Servers' loops are of each kind in turn."""
    if request.param == "asyncio":
        monkeypatch.setattr(residence, "new_loop", asyncio.new_event_loop)
    name: str = request.param
    return name


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """An item for each look that a watchdog takes: whether it found the loop at work."""
    taken: list[bool] = []
    look = Watchdog._look

    def counted(self: Watchdog, *times: float) -> float:
        timeout = look(self, *times)
        taken.append(self._is_waiting)
        return timeout

    monkeypatch.setattr(Watchdog, "_look", counted)
    return taken


def place(function: Callable[..., Any], offset: int, name: str | None = None) -> str:
    """How a function of this file is named when it is ``offset`` lines below its ``def``."""
    code = function.__code__
    qualified = function.__qualname__ if sys.version_info >= (3, 11) else function.__name__
    return f"{name or qualified} ({HERE}:{code.co_firstlineno + offset})"


# --- who is named --------------------------------------------------------------------------------


def test_a_handler_that_blocks(warnings: Warnings, loops: str) -> None:
    def handler(req: Request) -> str:
        warnings.silence.acquire(timeout=TIMEOUT)  # the block itself
        return "done"

    with serving(handler) as server:
        assert request(server, timeout=TIMEOUT).text() == "done"
    assert warnings.take() == (place(handler, 1), None)


def test_an_async_handler_that_blocks(warnings: Warnings, loops: str) -> None:
    async def handler(req: Request) -> str:
        await asyncio.sleep(0.01)
        warnings.silence.acquire(timeout=TIMEOUT)
        return "done"

    with serving(handler) as server:
        assert request(server, timeout=TIMEOUT).text() == "done"
    assert warnings.take() == (place(handler, 2), None)


def test_a_generator_that_blocks_between_its_yields(warnings: Warnings, loops: str) -> None:
    async def events() -> AsyncIterator[str]:
        yield "first"
        await asyncio.sleep(0.01)
        yield "second"
        warnings.silence.acquire(timeout=TIMEOUT)
        yield "third"

    with (
        serving(lambda req: SSEResponse(events())) as server,
        EventClient(server, timeout=TIMEOUT) as client,
    ):
        assert [event.data for event in client.read_all()] == ["first", "second", "third"]
    assert warnings.take() == (place(events, 4), None)


def test_a_function_deep_down(warnings: Warnings, loops: str) -> None:
    """The handler is named, and where it has come to."""

    def descend(depth: int) -> None:
        if depth:
            descend(depth - 1)
        else:
            warnings.hold()

    async def handler(req: Request) -> str:
        descend(20)
        return "done"

    with serving(handler) as server:
        assert request(server, timeout=TIMEOUT).text() == "done"
    named, inner = warnings.take()
    assert named == place(handler, 1)
    assert inner is not None
    assert inner.startswith(place(Warnings.hold, 0).partition(" ")[0] + f" ({HERE}:")


@pytest.mark.parametrize("call", ["callback", "task"])
def test_what_is_no_handler(warnings: Warnings, loops: str, call: str) -> None:
    """Whatever holds the loop holds the server."""

    def blocks() -> None:
        warnings.hold()

    async def blocks_too() -> None:
        warnings.hold()

    tasks = []

    async def handler(req: Request) -> str:
        loop = asyncio.get_running_loop()
        if call == "callback":
            loop.call_soon(blocks)
        else:
            tasks.append(loop.create_task(blocks_too()))
        return "done"

    with serving(handler) as server:
        request(server)
        named, _ = warnings.take()
    assert named == place(blocks if call == "callback" else blocks_too, 1)


def test_a_call_that_keeps_the_interpreter_to_itself(warnings: Warnings, loops: str) -> None:
    """The watchdog's thread cannot run meanwhile; it finds out by the processor time that the loop's has used."""

    def handler(req: Request) -> str:
        return str(sum(range(30_000_000)))

    with serving(handler) as server:
        watch = Stopwatch()
        # Where the machine has much else to do, one may pass for a process that was stopped.
        while not warnings.lines and watch.seconds < 2 * TIMEOUT:
            request(server, timeout=TIMEOUT)
    assert warnings.take() == (place(handler, 1), None)


def test_only_bunpys_own(warnings: Warnings, loops: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then it is said where it is; nothing is held against the handler, which had returned."""

    class Slow(dict[str, object]):
        """What the encoder will call."""

    def default(*_: object) -> str:
        warnings.hold()
        return "slow"

    monkeypatch.setitem(default.__globals__, "__name__", "bunpy.http.exchange")
    monkeypatch.setitem(Warnings.hold.__globals__, "__name__", "bunpy.http.exchange")

    def handler(req: Request) -> str:
        return default()

    with serving(handler) as server:
        assert request(server, timeout=TIMEOUT).text() == "slow"
    named, inner = warnings.take()
    assert named.startswith(place(Warnings.hold, 0).partition(" ")[0])
    assert inner is None


@contextlib.contextmanager
def in_a_block(main: Callable[..., None], handler: Callable[[Request], str]) -> Iterator[Server]:
    """A server that lives in the thread in which ``main`` calls ``serve`` with that handler."""
    servers: list[Server] = []

    def announced(server: LocalServer, announce: Callable[[], None]) -> None:
        servers.append(server)
        live_here(server, announce)

    live_here = residence.live_here
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(1) as executor:
        patch.setattr("bunpy.serve.live_here", announced)
        running = executor.submit(main, serve, handler)
        until(lambda: bool(servers))
        try:
            yield servers[0]
        finally:
            servers[0].stop(0)
        running.result(TIMEOUT)


MAIN = "def main(serve, handler): serve(handler, port=0, quiet=True, block=True)"


def test_only_bunpys_own_with_the_program_below(
    warnings: Warnings, loops: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What called ``serve`` is not at work: it is waited for as long as elsewhere."""
    program: dict[str, Any] = {"__name__": "program"}
    exec(MAIN, program)
    monkeypatch.setitem(Warnings.hold.__globals__, "__name__", "bunpy.http.exchange")

    def handler(req: Request) -> str:
        warnings.hold()
        return "done"

    with in_a_block(program["main"], handler) as server:
        assert request(server, timeout=TIMEOUT).text() == "done"
    found = re.search(r"stood still for (\d+\.\d\d) s", warnings.lines[0])
    assert found
    assert float(found[1]) >= 1.0


def test_in_a_block(warnings: Warnings, loops: str) -> None:
    """A server that lives in the calling thread: what called ``serve`` is on the stack, and not to be named."""

    def handler(req: Request) -> str:
        warnings.hold()
        return "done"

    def main(serve: Callable[..., Any], handler: Callable[[Request], str]) -> None:
        serve(handler, port=0, quiet=True, block=True)

    with in_a_block(main, handler) as server:
        assert request(server, timeout=TIMEOUT).text() == "done"
    assert warnings.take()[0] == place(handler, 1)


@pytest.mark.parametrize("depth", [0, 30])
def test_on_a_running_loop(warnings: Warnings, depth: int) -> None:
    """However deep in the program that runs."""

    def handler(req: Request) -> str:
        warnings.hold()
        return "done"

    async def main() -> None:
        with serving(handler) as server:
            answer = await asyncio.to_thread(request, server, timeout=TIMEOUT)
            assert answer.text() == "done"
        await server.wait_closed()

    def descend(depth: int) -> None:
        if depth:
            descend(depth - 1)
        else:
            asyncio.run(main())

    descend(depth)
    assert warnings.take()[0] == place(handler, 1)


def test_on_a_loop_that_goes_on_elsewhere(warnings: Warnings) -> None:
    """Run until the server was up, by a function; run for ever, by another: what is below a callback has changed."""

    def handler(req: Request) -> str:
        warnings.hold()
        return "done"

    loop = asyncio.new_event_loop()

    async def begin() -> Server:
        return serve(handler, port=0, quiet=True)

    def begin_deep_down(depth: int) -> Server:
        return begin_deep_down(depth - 1) if depth else loop.run_until_complete(begin())

    async def ask(server: Server) -> None:
        answer = await asyncio.to_thread(request, server, timeout=TIMEOUT)
        assert answer.text() == "done"
        server.stop(0)
        await server.wait_closed()

    with contextlib.closing(loop):
        server = begin_deep_down(10)
        loop.run_until_complete(ask(server))
        assert warnings.take()[0] == place(handler, 1)


class Looks:
    """The lock that a watchdog waits for, and its clocks: each wait takes longer by this, of which this was worked."""

    def __init__(self, delays: list[tuple[float, float]]) -> None:
        self._delays = iter([(0.0, 0.0), *delays, *[(0.0, 0.0)] * 20])
        self.now = self.worked = 100.0

    def acquire(self, timeout: float) -> bool:
        delay = next(self._delays, None)
        if delay is not None:
            self.now += timeout + delay[0]
            self.worked += timeout + delay[1]
        return delay is None


@pytest.mark.parametrize(
    ("delays", "seconds"),
    [
        ([], 0.1),
        ([(0.6, 0.6)], 0.6),  # a call that kept the interpreter's lock
        ([(0.8, 0.0)], 0.1),
        ([(0.85, 0.05)], 0.1),
        ([(0.85, 0.05)] * 2, 0.1),
    ],
    ids=["at work", "in C", "stopped", "both", "both twice"],
)
def test_time_in_which_the_process_was_stopped_is_left_out(
    warnings: Warnings,
    monkeypatch: pytest.MonkeyPatch,
    delays: list[tuple[float, float]],
    seconds: float,
) -> None:
    """By clocks of its own: the thread that is looked at blocks all the time."""
    clock: Any = Looks(delays)
    loop = asyncio.new_event_loop()
    dog = Watchdog(loop, 0.1)
    monkeypatch.setattr(watchdog, "time", SimpleNamespace(monotonic=lambda: clock.now))
    dog._stopped = clock
    dog._cpu = lambda: clock.worked
    is_there, go_on = threading.Event(), threading.Event()

    def callback() -> None:
        dog._ident = threading.get_ident()
        dog._base = len(watchdog._stack(sys._getframe(1)))
        is_there.set()
        go_on.wait(TIMEOUT)

    with contextlib.closing(loop), ThreadPoolExecutor(1) as executor:
        executor.submit(callback)
        assert is_there.wait(TIMEOUT)
        with monkeypatch.context() as patch:
            patch.setattr(loop, "is_running", lambda: True)
            try:
                dog._watch()
            finally:
                go_on.set()
    (line,) = warnings.lines
    found = re.search(r"stood still for (\d+\.\d\d) s", line)
    assert found
    assert float(found[1]) == pytest.approx(seconds, abs=0.06)


# --- who is not ----------------------------------------------------------------------------------


def until_looked_at(looks: list[bool], count: int = 8) -> None:
    """Until a watchdog has looked so many times, some of them at a loop at work."""
    start = len(looks)
    until(lambda: len(looks) - start >= count, TIMEOUT)


def test_who_awaits(warnings: Warnings, loops: str) -> None:
    async def handler(req: Request) -> str:
        await asyncio.sleep(0.5)
        return "done"

    with serving(handler) as server:
        assert request(server).text() == "done"
    assert warnings.lines == []


@pytest.mark.parametrize("count", [1, 30])
@pytest.mark.parametrize("loop", ["residence.new_loop", "asyncio.new_event_loop"])
def test_generators_that_never_await(scripts: Scripts, loop: str, count: int) -> None:
    """Each gives the loop its turn every 5 ms; thirty make a turn of 150 ms, for which none is to blame.

    The clients are in another process: threads that wait for each other are another matter.
    """
    script = scripts.run(f"""
        from bunpy.server import residence
        residence.new_loop = {loop}
        async def endless():
            while True:
                yield "event"
        serve(lambda req: SSEResponse(endless()) if req.path == "/endless" else handler(req), port=0)
    """)
    go_on = threading.Event()

    def take() -> None:
        with EventClient(script.url, "/endless", timeout=TIMEOUT) as client:
            while not go_on.is_set():
                client.read(100)

    assert script.url
    with ThreadPoolExecutor(count) as executor:
        takers = [executor.submit(take) for _ in range(count)]
        go_on.wait(1.5)
        go_on.set()
        for taker in takers:
            taker.result(TIMEOUT)
    script.send(SIGTERM)
    assert script.end() == 0
    assert script.err == ""


def test_a_plain_generator(warnings: Warnings, loops: str, looks: list[bool]) -> None:
    """It blocks its own thread, which is nobody's loss."""
    go_on = threading.Event()

    def events() -> Iterator[str]:
        yield "first"
        go_on.wait(TIMEOUT)
        yield "last"

    with serving(lambda req: SSEResponse(events())) as server, EventClient(server) as client:
        client.read(1)
        until_looked_at(looks)
        go_on.set()
        assert [event.data for event in client.read_all()] == ["last"]
    assert warnings.lines == []


def test_a_crowd_of_quick_handlers(warnings: Warnings, loops: str, looks: list[bool]) -> None:
    def handler(req: Request) -> str:
        return "hello"

    with serving(handler) as server, ThreadPoolExecutor(4) as executor:
        go_on = threading.Event()

        def ask() -> None:
            while not go_on.is_set():
                request(server, timeout=TIMEOUT)

        asking = [executor.submit(ask) for _ in range(4)]
        until_looked_at(looks)
        go_on.set()
        for asker in asking:
            asker.result(TIMEOUT)
    assert warnings.lines == []


def test_threads_that_keep_the_interpreter_busy(
    warnings: Warnings, loops: str, looks: list[bool]
) -> None:
    """Whatever the loop runs takes long then, at each system call that it makes, and is not to blame."""
    go_on = threading.Event()

    def burn() -> None:
        while not go_on.is_set():
            pass

    async def handler(req: Request) -> str:
        while not go_on.is_set():
            await asyncio.sleep(0)
            for _ in range(3):
                os.stat(HERE)
        return "done"

    with serving(handler) as server, ThreadPoolExecutor(7) as executor:
        asking = executor.submit(request, server, timeout=2 * TIMEOUT)
        try:
            for _ in range(6):
                executor.submit(burn)
            until(lambda: sum(looks) >= 5, TIMEOUT)
        finally:
            go_on.set()
        assert asking.result(TIMEOUT).text() == "done"
    assert warnings.lines == []


def test_nobody_if_it_is_not_asked_for(warnings: Warnings) -> None:
    def handler(req: Request) -> str:
        time.sleep(0.4)
        return "done"

    with serving(handler, block_warning=None) as server:
        assert "bunpy-watchdog" not in {thread.name for thread in threading.enumerate()}
        assert request(server).text() == "done"
    assert warnings.lines == []


def test_a_block_that_is_allowed(warnings: Warnings) -> None:
    def handler(req: Request) -> str:
        time.sleep(0.3)
        return "done"

    with serving(handler, block_warning=5.0) as server:
        assert request(server).text() == "done"
    assert warnings.lines == []


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGSTOP")
def test_a_process_that_was_stopped(scripts: Scripts) -> None:
    """Time in which it could not run is held against nobody, though its loop was at work before and is after."""
    script = scripts.run("""
        async def endless():
            while True:
                yield "event"
        serve(lambda req: SSEResponse(endless()) if req.path == "/endless" else handler(req), port=0)
    """)
    with EventClient(script.url, "/endless", timeout=TIMEOUT) as client:
        for _ in range(4):
            client.read(100)
            script.process.send_signal(SIGSTOP)
            threading.Event().wait(0.4)
            script.process.send_signal(SIGCONT)
            client.read(100)
    script.send(SIGTERM)
    assert script.end() == 0
    assert script.err == ""


# --- how often -----------------------------------------------------------------------------------


def test_once_for_the_same_place(
    warnings: Warnings, looks: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Lock()  # a call of C, at one line

    def handler(req: Request) -> str:
        if req.path == "/first":
            gate.acquire()
        else:
            gate.acquire()
        return "done"

    def ask(path: str, until_it_is: Callable[[], object]) -> None:
        """A request that blocks until it is named, or has been looked at often enough for that."""
        gate.acquire()
        with ThreadPoolExecutor(1) as executor:
            asking = executor.submit(request, server, path=path, timeout=TIMEOUT)
            try:
                until_it_is()
            finally:
                gate.release()
            asking.result(TIMEOUT)
        gate.release()

    def named() -> None:
        until(lambda: bool(warnings.lines), TIMEOUT)

    def looked_at() -> None:
        until_looked_at(looks, 12)

    with serving(handler) as server:
        for path, line in (("/first", 2), ("/second", 4)):
            ask(path, named)
            assert warnings.take()[0] == place(handler, line)
            ask(path, looked_at)
            assert warnings.lines == []
        monkeypatch.setattr(watchdog, "_SILENCE", 0.0)
        ask("/first", named)
        assert warnings.take()[0] == place(handler, 2)


def test_a_function_that_computes_is_not_named_for_each_of_its_lines(warnings: Warnings) -> None:
    loop = asyncio.new_event_loop()
    function, others = ("file", 1), [("file", 100), ("other", 1)]

    def told(place: Place, now: float) -> bool:
        count = warnings.count
        dog._warn(Blame("f", place), now)
        return warnings.count > count

    with contextlib.closing(loop):
        dog = Watchdog(loop, 0.1)
        lines = [told(Place(function, line, function, line), 1000.0 + line) for line in range(20)]
        assert lines == [True] * 5 + [False] * 15
        # What it calls and has not been named is named all the same, but not for its lines.
        for other in others:
            inner = [told(Place(function, 1, other, line), 1030.0) for line in range(5)]
            assert inner == [True, False, False, False, False]
        # Other functions are other places.
        for other in others:
            assert told(Place(other, 1, other, 1), 1030.0)
            assert not told(Place(other, 1, other, 1), 1030.0)
        # It comes again when it has been silent about the first ones.
        assert told(Place(function, 50, function, 50), 1091.0)


def test_the_lines_of_what_is_called_are_places_too(warnings: Warnings) -> None:
    """One line of a handler may lead to everything, as where it calls the routes."""
    loop = asyncio.new_event_loop()
    with contextlib.closing(loop):
        dog = Watchdog(loop, 0.1)
        for line in (7, 9, 7):
            dog._warn(Blame("f", Place(("file", 1), 2, ("file", 5), line)), 1000.0)
    assert warnings.count == 2


def test_once_for_a_long_block(warnings: Warnings, looks: list[bool]) -> None:
    def handler(req: Request) -> str:
        warnings.hold()
        until_looked_at(looks, 12)
        return "done"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(watchdog, "_SILENCE", 0.0)
        with serving(handler) as server:
            request(server, timeout=TIMEOUT)
    assert warnings.take()[0] == place(handler, 1)


def test_two_that_hold_the_loop_in_one_turn(warnings: Warnings, loops: str) -> None:
    """One after the other: each is named, and for its own time."""
    began = threading.Event()

    def first() -> None:
        began.set()
        warnings.hold()

    def second() -> None:
        warnings.hold()

    async def handler(req: Request) -> str:
        loop = asyncio.get_running_loop()
        loop.call_soon(first)
        loop.call_soon(second)
        return "done"

    with serving(handler) as server:
        request(server)
        until(lambda: len(warnings.lines) == 2, TIMEOUT)
    lines, warnings.lines[:] = list(warnings.lines), []
    for line, function in zip(lines, (first, second), strict=True):
        warnings.lines.append(line)
        named, _ = warnings.take()
        assert named.partition(" ")[0] == place(function, 0).partition(" ")[0]
    assert began.is_set()


def test_what_it_remembers_is_bounded(warnings: Warnings) -> None:
    loop = asyncio.new_event_loop()
    places = [Place(("file", line), line, ("file", line), line) for line in range(1000)]
    with contextlib.closing(loop):
        dog = Watchdog(loop, 0.1)
        for number in range(1000):
            dog._warn(Blame("f", places[number]), 1000.0 + number / 1000)
        assert len(warnings.lines) == 1000
        assert len(dog._told) <= 100
        for number in (999, 950):
            dog._warn(Blame("f", places[number]), 1001.0)
        assert len(warnings.lines) == 1000


# --- what it costs, and leaves behind ------------------------------------------------------------


def test_an_idle_loop_is_not_woken(loops: str, looks: list[bool]) -> None:
    """It is looked at, and left alone, however many clients wait on it."""

    async def events() -> AsyncIterator[str]:
        yield "first"
        await asyncio.sleep(3600)

    with serving(lambda req: SSEResponse(events())) as server, contextlib.ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(EventClient(server)).read(1)
        until_looked_at(looks, 2)
        start = len(looks)
        until_looked_at(looks, 10)
        assert sum(looks[start:]) <= 3  # a look may meet the ticker


def test_only_the_look_for_a_beat_is_left_at_that() -> None:
    """A loop at work is looked at again a period later; one that held it until a moment ago may hold it again."""
    loop = asyncio.new_event_loop()
    with contextlib.closing(loop):
        dog = Watchdog(loop, 0.1)
        dog._ident = threading.get_ident()

        def looks_at_work(now: float, last: float) -> bool:
            dog._base = 1
            dog._look(now, now, last)
            return dog._is_waiting

        assert looks_at_work(1.0, 0.85)
        dog._beat()
        assert not looks_at_work(1.025, 1.0)
        assert looks_at_work(1.175, 1.025)
        dog._beat()
        assert looks_at_work(1.325, 1.175)


class Precious:
    """Says in which thread it was destroyed."""

    def __init__(self, ends: list[int]) -> None:
        self._ends = ends

    def __del__(self) -> None:
        self._ends.append(threading.get_ident())


def test_nothing_is_kept_nor_destroyed_elsewhere(warnings: Warnings, loops: str) -> None:
    """What a function had that was looked at goes when it ends, on the loop's thread."""
    ends: list[int] = []
    threads: list[int] = []
    references: list[weakref.ref[Precious]] = []

    def blocks() -> None:
        precious = Precious(ends)
        references.append(weakref.ref(precious))
        threads.append(threading.get_ident())
        warnings.hold()

    def handler(req: Request) -> str:
        asyncio.get_running_loop().call_soon(blocks)
        blocks()
        return "done"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(watchdog, "_SILENCE", 0.0)
        with serving(handler) as server:
            request(server, timeout=TIMEOUT)
            until(lambda: len(ends) == 2, TIMEOUT)
    assert ends == threads
    assert [reference() for reference in references] == [None, None]


def watchdogs() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "bunpy-watchdog"]


def test_its_thread_ends_with_the_server() -> None:
    with serving(lambda req: "hello") as server:
        assert request(server).text() == "hello"
        (thread,) = watchdogs()
        assert thread.daemon
    until(lambda: not thread.is_alive())


def test_stop_does_not_wait(warnings: Warnings) -> None:
    """Not for a log handler that does not return either, which only the watchdog's thread is in."""
    release = threading.Event()
    entered = threading.Event()

    class Stuck(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            entered.set()
            release.wait(TIMEOUT)

    def handler(req: Request) -> str:
        entered.wait(TIMEOUT)
        return "done"

    stuck = Stuck(logging.WARNING)
    logging.getLogger("bunpy").addHandler(stuck)
    try:
        with serving(handler) as server:
            request(server, timeout=TIMEOUT)
            (thread,) = watchdogs()
            watch = Stopwatch()
            server.stop(0)
            assert watch.seconds < TIMEOUT / 2
            assert thread.is_alive()
    finally:
        release.set()
        logging.getLogger("bunpy").removeHandler(stuck)
    until(lambda: not thread.is_alive())


def run(loop: asyncio.AbstractEventLoop, work: Awaitable[None]) -> None:
    loop.run_until_complete(work)


def test_stop_twice_and_before_the_start() -> None:
    async def main() -> None:
        dog = Watchdog(asyncio.get_running_loop(), 0.1)
        dog.stop()
        dog.stop()
        dog.start()
        await asyncio.to_thread(until, lambda: not watchdogs())

    asyncio.run(main())


@pytest.mark.parametrize("is_asked", [False, True])
def test_a_loop_that_closes_under_it(warnings: Warnings, is_asked: bool) -> None:
    """Nobody has said stop; the thread ends by itself when it finds nothing to beat on."""
    loop = asyncio.new_event_loop()
    dog = Watchdog(loop, 0.01)
    dog.start()
    (thread,) = watchdogs()

    async def turn() -> None:
        await asyncio.sleep(0)

    run(loop, turn())
    if is_asked:  # what it has posted is lost with the loop
        until(lambda: dog._is_waiting)
    loop.close()

    def elsewhere() -> None:
        until(lambda: not thread.is_alive(), TIMEOUT)

    elsewhere()
    assert warnings.lines == []


def test_a_loop_that_does_not_run(warnings: Warnings, looks: list[bool]) -> None:
    """Between two runs the program may do what it likes."""
    loop = asyncio.new_event_loop()
    dog = Watchdog(loop, 0.05)
    dog.start()

    async def turn() -> None:
        await asyncio.sleep(0)

    with contextlib.closing(loop):
        run(loop, turn())
        until_looked_at(looks)
        assert any(looks)
        dog.stop()
    assert warnings.lines == []
