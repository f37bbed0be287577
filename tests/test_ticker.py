"""The one timer, on a clock that the tests move."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from script import TIMEOUT

from bunpy.http.pressure import Pressure
from bunpy.http.service import Service
from bunpy.server import ticker
from bunpy.server.config import Config
from bunpy.server.ticker import Ticker
from bunpy.testing import request, serving


class Clock:
    """Stands in for ``time`` and for a loop: ``move`` lets time pass, and calls what is due."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.calls: list[tuple[float, Callable[[], None]]] = []

    def time(self) -> float:
        return self.now + 1_700_000_000

    def monotonic(self) -> float:
        return self.now

    def call_later(self, delay: float, call: Callable[[], None]) -> Any:
        entry = (self.now + delay, call)
        self.calls.append(entry)
        return SimpleNamespace(cancel=lambda: self.calls.remove(entry))

    def call_soon(self, call: Callable[..., None], *arguments: Any) -> None:
        self.calls.append((self.now, lambda: call(*arguments)))

    def move(self, seconds: float) -> None:
        end = self.now + seconds
        while due := [entry for entry in self.calls if entry[0] <= end + 1e-9]:
            entry = min(due, key=lambda entry: entry[0])
            self.calls.remove(entry)
            self.now = entry[0]
            entry[1]()
        self.now = end


class LookingAround:
    """What a service does for the ticker besides: it is told the loop's lag."""

    def __init__(self) -> None:
        self.lags: list[float] = []

    def __call__(self, lag: float) -> None:
        self.lags.append(lag)


class Recorder:
    """A connection as far as the ticker looks at one."""

    def __init__(self) -> None:
        self.ticks: list[float] = []

    def tick(self, now: float) -> None:
        self.ticks.append(now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(ticker, "time", clock)
    return clock


@pytest.fixture
def dates(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """When a Date field was made."""
    made: list[float] = []

    def date_line() -> bytes:
        made.append(clock.now)
        return b"Date: %d\r\n" % clock.time()

    monkeypatch.setattr(ticker, "date_line", date_line)
    return made


def service_of(clock: Clock, **options: Any) -> Service:
    config = Config(**options)
    namespace = SimpleNamespace(
        loop=clock,
        config=config,
        connections=set(),
        date=b"",
        pressure=Pressure(1),
        look_around=LookingAround(),
    )
    return cast(Service, namespace)


def test_connections_are_told_the_time(clock: Clock, dates: list[float]) -> None:
    service = service_of(clock)
    connections = [Recorder(), Recorder()]
    service.connections.update(cast(Any, connections))
    running = Ticker(service)
    assert connections[0].ticks == []
    running.start()
    clock.move(1.0)
    for connection in connections:
        assert connection.ticks == [1000.0, 1000.5, 1001.0]


def test_the_lag_is_how_late_a_tick_is(clock: Clock, dates: list[float]) -> None:
    service = service_of(clock)
    lags = cast(LookingAround, service.look_around).lags
    Ticker(service).start()
    clock.move(0.5)
    (due, call), *_ = clock.calls
    clock.calls[0] = (due + 0.2, call)  # something held the loop meanwhile
    clock.move(2.0)
    assert lags[:4] == pytest.approx([0.0, 0.0, 0.2, 0.0])


@pytest.mark.parametrize(
    ("options", "tick"),
    [
        ({}, 0.5),
        ({"heartbeat": 1.0}, 0.25),
        ({"send_timeout": 0.2}, 0.05),
        ({"heartbeat": 0.001}, 0.02),
    ],
)
def test_how_often(
    clock: Clock, dates: list[float], options: dict[str, float], tick: float
) -> None:
    """Often enough for the shortest timeout, but not all the time."""
    service = service_of(clock, **options)
    connection = Recorder()
    service.connections.add(cast(Any, connection))
    Ticker(service).start()
    clock.move(tick * 2)
    assert connection.ticks == pytest.approx([1000.0, 1000.0 + tick, 1000.0 + 2 * tick])


def test_the_date_is_made_once_a_second(clock: Clock, dates: list[float]) -> None:
    service = service_of(clock, heartbeat=0.4)  # a tick is 0.1 s
    Ticker(service).start()
    assert service.date == b"Date: 1700001000\r\n"
    clock.move(0.95)
    assert service.date == b"Date: 1700001000\r\n"
    clock.move(2.1)
    assert service.date == b"Date: 1700001003\r\n"
    assert len(dates) == 4


def test_it_stops(clock: Clock, dates: list[float]) -> None:
    service = service_of(clock)
    connection = Recorder()
    service.connections.add(cast(Any, connection))
    running = Ticker(service)
    running.stop()  # it has not started: nothing happens
    running.start()
    running.stop()
    assert clock.calls == []
    running.stop()
    clock.move(10)
    assert connection.ticks == [1000.0]


def test_a_connection_may_leave_while_it_is_told(clock: Clock, dates: list[float]) -> None:
    """A timeout closes it there and then."""
    service = service_of(clock)

    class Leaver(Recorder):
        def tick(self, now: float) -> None:
            super().tick(now)
            service.connections.discard(cast(Any, self))

    leavers = [Leaver() for _ in range(10)]
    service.connections.update(cast(Any, leavers))
    Ticker(service).start()
    clock.move(1.0)
    assert [leaver.ticks for leaver in leavers] == [[1000.0]] * 10


def test_one_that_fails_does_not_stop_the_clock(clock: Clock, dates: list[float]) -> None:
    """The next tick is set before anything else is done."""
    service = service_of(clock)

    class Failing(Recorder):
        def tick(self, now: float) -> None:
            super().tick(now)
            raise ValueError("no good")

    failing = Failing()
    service.connections.add(cast(Any, failing))
    with pytest.raises(ValueError, match="no good"):
        Ticker(service).start()
    assert len(clock.calls) == 1


def test_on_a_real_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers say the time of the last second that has begun."""
    seconds = [1]
    clock = SimpleNamespace(time=lambda: float(len(seconds)), monotonic=time.monotonic)
    monkeypatch.setattr(ticker, "time", clock)
    monkeypatch.setattr(ticker, "date_line", lambda: b"Date: %d\r\n" % len(seconds))
    with serving(lambda req: "hello", heartbeat=0.08) as server:
        assert request(server).headers["date"] == "1"
        seconds.append(2)
        deadline = time.monotonic() + TIMEOUT
        while (date := request(server).headers["date"]) == "1":
            assert time.monotonic() < deadline
        assert date == "2"


def test_very_many_connections_do_not_take_one_turn(clock: Clock, dates: list[float]) -> None:
    service = service_of(clock)
    connections = [Recorder() for _ in range(1200)]
    service.connections.update(cast(Any, connections))
    Ticker(service).start()
    seen = sum(bool(connection.ticks) for connection in connections)
    assert 0 < seen < 1200
    clock.move(0)
    assert all(len(connection.ticks) == 1 for connection in connections)
