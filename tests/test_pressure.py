"""What waits for slow clients, and which of them go: with stand-ins on a clock, then over real sockets."""

from __future__ import annotations

import asyncio
import logging
import re
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

import pytest
from watching import Log, connections, until

from bunpy.http import pressure
from bunpy.http.pressure import Pressure
from bunpy.serve import Request, SSEResponse
from bunpy.sse.reason import EndReason
from bunpy.testing import EventClient, StreamEnded, serving

# What is logged, a test takes; nothing else may be.
pytestmark = pytest.mark.usefixtures("log")

KIB = 1024
MIB = 1024 * KIB


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Time that does not pass by itself."""
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(pressure, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


class Held:
    """A connection that holds so many bytes, until it is cut off."""

    def __init__(self, size: int, on_cut_off: Callable[[], None] = lambda: None) -> None:
        self.size = size
        self.looks = 0
        self.cuts = 0
        self._on_cut_off = on_cut_off

    @property
    def buffered(self) -> int:
        self.looks += 1
        return self.size

    def cut_off(self, reason: EndReason) -> None:
        self.cuts += 1
        self._on_cut_off()


def cuts(waiters: list[Held]) -> list[int]:
    return [waiter.cuts for waiter in waiters]


# Which of them go

#: As many connections as there are below may hold so much before one more that waits has them looked at.
MOST = 100 * 64 * KIB


def percent(sizes: list[int]) -> list[Held]:
    return [Held(size * MOST // 100) for size in sizes]


@pytest.mark.parametrize("sizes", [[], [0], [100], [60, 40], [1] * 100])
def test_as_much_as_allowed_may_wait(sizes: list[int]) -> None:
    held = Pressure(MOST)
    waiters = percent(sizes)
    for waiter in waiters:
        held.add(waiter)
    held.relieve()
    assert cuts(waiters) == [0] * len(sizes)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([101], [1]),
        ([1, 100], [1, 1]),  # down to nine tenths of the limit: the first alone is not enough
        ([50, 51], [1, 0]),
        ([11, 50, 40], [1, 0, 0]),
        ([10, 50, 41], [1, 1, 0]),
        ([0, 0, 101], [1, 1, 1]),
        ([101, 0, 0], [1, 0, 0]),
        ([60, 60, 60], [1, 1, 0]),
    ],
)
def test_those_that_have_waited_longest_go(sizes: list[int], expected: list[int], log: Log) -> None:
    held = Pressure(MOST)
    waiters = percent(sizes)
    for waiter in waiters:
        held.add(waiter)
    held.relieve()
    assert cuts(waiters) == expected
    assert log.take().levelname == "WARNING"


def test_what_is_logged(log: Log) -> None:
    held = Pressure(1_000_000)
    for _ in range(3):
        held.add(Held(400_000))
    held.relieve()
    assert log.take().getMessage() == (
        "1200000 bytes waited for slow clients, over max_buffered (1000000): the 1 slowest are cut off,"
        " which frees 400000"
    )


def test_whoever_waits_again_is_the_last_to_go(log: Log) -> None:
    """How long counts from the last time that the client had taken everything."""
    held = Pressure(MOST)
    first, second = percent([60, 60])
    held.add(first)
    held.add(second)
    held.discard(first)
    held.add(first)
    held.relieve()
    assert cuts([first, second]) == [0, 1]
    log.take()


def test_whoever_is_added_twice_keeps_its_place(log: Log) -> None:
    held = Pressure(MOST)
    first, second = percent([60, 60])
    for waiter in (first, second, first):
        held.add(waiter)
    held.relieve()
    assert cuts([first, second]) == [1, 0]
    log.take()


def test_whoever_waits_no_more_does_not_count() -> None:
    held = Pressure(MOST)
    (waiter,) = percent([101])
    held.add(waiter)
    held.discard(waiter)
    held.discard(waiter)  # nor twice
    held.relieve()
    assert cuts([waiter]) == [0]
    held.discard(Held(1))  # one that never waited


def test_whoever_was_cut_off_is_forgotten(log: Log) -> None:
    held = Pressure(MOST)
    (waiter,) = percent([101])
    held.add(waiter)
    held.relieve()
    held.relieve()
    assert cuts([waiter]) == [1]
    log.take()


def test_a_connection_that_leaves_because_another_is_cut_off(log: Log) -> None:
    """Cutting one off may end others at once: what is iterated over is no longer what waits."""
    held = Pressure(MOST)
    other = Held(0)
    waiter = Held(2 * MOST, lambda: held.discard(other))
    held.add(waiter)
    held.add(other)
    held.relieve()
    assert cuts([waiter, other]) == [1, 0]
    log.take()


# When it is looked at


def test_few_connections_are_not_looked_at_when_one_more_waits(clock: SimpleNamespace) -> None:
    held = Pressure(4 * 64 * KIB)
    waiters = [Held(MIB) for _ in range(4)]
    for waiter in waiters:
        held.add(waiter)
    assert [waiter.looks for waiter in waiters] == [0] * 4
    assert cuts(waiters) == [0] * 4


def test_many_are_looked_at_at_once_and_then_every_so_often(
    clock: SimpleNamespace, log: Log
) -> None:
    """A burst of connections that begin to wait costs no look at all of them each."""
    held = Pressure(2 * 64 * KIB)
    waiters = [Held(0) for _ in range(100)]
    for waiter in waiters:
        held.add(waiter)
    assert waiters[0].looks == 1
    clock.now += 0.049
    held.add(Held(0))
    assert waiters[0].looks == 1
    clock.now += 0.002
    held.add(Held(0))
    assert waiters[0].looks == 2
    clock.now += 1
    held.add(Held(MIB))
    assert cuts(waiters) == [1] * 100  # all before it, which hold nothing
    log.take()


# Over sockets


class Flood:
    """A handler of streams that never end, and of ``/calm``, which gives an event when it is told to."""

    def __init__(self) -> None:
        self.ends: list[tuple[str, str]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._calm: asyncio.Queue[str] = asyncio.Queue()

    def __call__(self, req: Request) -> Any:
        if req.path == "/plain":
            return "x" * 8 * MIB
        self._loop = asyncio.get_running_loop()
        source = self._read_calm() if req.path == "/calm" else self._flood()
        return SSEResponse(source, on_close=lambda reason: self.ends.append((req.path, reason)))

    async def _flood(self) -> AsyncIterator[str]:
        while True:
            yield "x" * 1000

    async def _read_calm(self) -> AsyncIterator[str]:
        yield "begins"
        while True:
            yield await self._calm.get()

    def say(self, event: str) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._calm.put_nowait, event)


def reports(log: Log, most: int) -> list[tuple[int, int, int]]:
    """What the log says of each relief: bytes held, bytes freed, and connections cut off."""
    found = []
    for record in log.records:
        assert (record.name, record.levelno) == ("bunpy", logging.WARNING)
        match = re.fullmatch(
            rf"(\d+) bytes waited for slow clients, over max_buffered \({most}\):"
            r" the (\d+) slowest are cut off, which frees (\d+)",
            record.getMessage(),
        )
        assert match is not None, record.getMessage()
        held, cut, freed = map(int, match.groups())
        found.append((held, freed, cut))
    return found


def test_forty_that_do_not_read_and_one_that_does(small_buffers: None, log: Log) -> None:
    """Those that have waited longest go, with their reason; what is held stays under the limit; the reader reads on."""
    flood = Flood()
    most = MIB
    with serving(flood, max_buffered=most) as server, ExitStack() as stack:
        reader = stack.enter_context(EventClient(server, "/calm"))
        assert reader.read(1)[0].data == "begins"
        slow = []
        for number in range(40):
            slow.append(stack.enter_context(EventClient(server, f"/{number}", receive_buffer=4096)))
            flood.say(f"{number}")
            assert reader.read(1)[0].data == f"{number}"
            # Each has come to its wait, or to its end, before the next begins.
            until(
                lambda n=number: (  # type: ignore[misc]
                    sum(conn._outlet.is_paused for conn in connections(server)) + len(flood.ends)
                    >= n + 1
                )
            )
        until(lambda: sum(conn.buffered for conn in connections(server)) <= most)
        assert len(flood.ends) >= 20
        assert flood.ends == [(f"/{number}", "slow") for number in range(len(flood.ends))]
        for client in slow[: len(flood.ends)]:
            with pytest.raises(StreamEnded):
                client.read(10**9)
            assert client.connection.end == "reset"
        flood.say("last")
        assert reader.read(1)[0].data == "last"
        until(lambda: len(flood.ends) == sum(cut for _, _, cut in reports(log, most)))
        for held, freed, _ in reports(log, most):
            assert held > most
            assert held - freed <= most * 0.9
        log.records.clear()


def test_a_burst_of_them_is_held_within_bounds(small_buffers: None, log: Log) -> None:
    """All at once, each with its 64 KiB and more: too much is held for no longer than until the next look."""
    flood = Flood()
    most = 512 * KIB
    with serving(flood, max_buffered=most) as server, ExitStack() as stack:
        entered = threading.Barrier(40)

        def connect() -> EventClient:
            entered.wait(10)
            return EventClient(server, "/burst", receive_buffer=4096)

        clients: list[EventClient] = []
        threads = [threading.Thread(target=lambda: clients.append(connect())) for _ in range(40)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        for client in clients:
            stack.enter_context(client)
        assert len(clients) == 40
        until(
            lambda: (
                len(flood.ends) + sum(conn._outlet.is_paused for conn in connections(server)) == 40
                and sum(conn.buffered for conn in connections(server)) <= most
            )
        )
        assert set(flood.ends) == {("/burst", "slow")}
        assert len(flood.ends) >= 40 - most // (64 * KIB)
        log.records.clear()


def test_a_plain_answer_that_waits_counts_too(small_buffers: None, log: Log) -> None:
    flood = Flood()
    with (
        serving(flood, max_buffered=MIB) as server,
        EventClient(server, "/plain", receive_buffer=4096) as client,
    ):
        assert "the 1 slowest are cut off" in log.take().getMessage()
        until(lambda: not connections(server))
        with pytest.raises(ConnectionError):
            client.body()
        assert client.connection.end == "reset"


def test_a_client_that_reads_in_time_is_not_cut_off(small_buffers: None) -> None:
    """Slow by turns, and never the one that holds too much."""
    flood = Flood()
    with (
        serving(flood, max_buffered=MIB) as server,
        EventClient(server, "/flood", receive_buffer=4096) as client,
    ):
        for _ in range(20):
            until(lambda: any(conn._outlet.is_paused for conn in connections(server)))
            client.read(200)
        assert flood.ends == []
