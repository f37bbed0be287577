"""What is measured over sockets: six loads, each with its unit and how it is taken."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from bench.load import wrk
from bench.load.apps import HELLO, INTERVAL
from bench.load.client import LAST_CHUNK, Load, Window
from bench.load.process import ServerProcess
from bench.series import Better
from bunpy.server.sockets import raise_descriptor_limit

__all__ = ["SCENARIOS", "Outcome", "Scenario"]

#: Seconds of load before a measurement, and of one.
_WARM_UP: Final = 0.3
_WINDOW: Final = 1.0


@dataclass(frozen=True)
class Outcome:
    """One measurement, and how much of its core each side used for it; 0.0 where that says nothing."""

    value: float
    server: float = 0.0
    client: float = 0.0


@dataclass(frozen=True)
class Scenario:
    """``measure`` takes a fresh server, and the size of the load relative to the whole one: tests try them small."""

    unit: str
    better: Better
    measure: Callable[[ServerProcess, float], Outcome]
    #: Whether it reads the server's time or memory in /proc.
    needs_proc: bool = False


def _watch(server: ServerProcess, take: Callable[[], Window]) -> tuple[Window, float]:
    """A window, and the processor time that the server used in it."""
    before = server.cpu_time()
    window = take()
    return window, server.cpu_time() - before


def _rate(server: ServerProcess, take: Callable[[], Window]) -> Outcome:
    window, used = _watch(server, take)
    return Outcome(
        window.events / window.seconds, used / window.seconds, window.client_time / window.seconds
    )


def _burst(server: ServerProcess, size: float) -> Outcome:
    with Load(server.port, 100, LAST_CHUNK) as load:
        load.run(_WARM_UP * size)
        return _rate(server, lambda: load.run(_WINDOW * size))


def _one(server: ServerProcess, size: float) -> Outcome:
    with Load(server.port, 1) as load:
        load.run(_WARM_UP * size)
        return _rate(server, lambda: load.run(_WINDOW * size))


def _llm(server: ServerProcess, size: float) -> Outcome:
    outcome = _burst(server, size)
    return Outcome(1e6 / outcome.value, outcome.server, outcome.client)


def _hello(server: ServerProcess, size: float) -> Outcome:
    if size == 1 and wrk.is_installed():
        wrk.run(server.port, 64, 1)
        return _rate(server, lambda: wrk.run(server.port, 64, 2))
    with Load(server.port, 64, HELLO[-5:].encode()) as load:
        load.run(_WARM_UP * size)
        return _rate(server, lambda: load.run(_WINDOW * size))


def _ticks(server: ServerProcess, size: float) -> Outcome:
    streams = max(10, int(1000 * size))
    # Opened evenly over one interval: if all were due at once, they would share the loop's wakings.
    with Load(server.port, streams, pace=INTERVAL / streams) as load:
        load.run(5 * INTERVAL, streams)
        window, used = _watch(server, lambda: load.run(max(3.0 * size, 2 * INTERVAL)))
    return Outcome(
        used * 1e6 / window.events, used / window.seconds, window.client_time / window.seconds
    )


def _idle(server: ServerProcess, size: float) -> Outcome:
    streams = min(int(10_000 * size), _descriptor_limit() - 500)
    # The first ones make the server allocate what it allocates once.
    with Load(server.port, 100) as first:
        first.run(0, 100)
        time.sleep(0.1)
        before = server.resident_size()
        with Load(server.port, streams) as load:
            load.run(0, streams)
            time.sleep(0.2)
            grown = server.resident_size() - before
    return Outcome(grown / 1024 / streams)


def _descriptor_limit() -> int:
    """How many descriptors this process may have open, once it has asked for as many as it may."""
    raise_descriptor_limit()
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


SCENARIOS: Final = {
    "one": Scenario("events/s", "higher", _one),
    "burst": Scenario("events/s", "higher", _burst),
    "llm": Scenario("µs/event", "lower", _llm),
    "hello": Scenario("requests/s", "higher", _hello),
    "ticks": Scenario("µs CPU/event", "lower", _ticks, needs_proc=True),
    "idle": Scenario("KiB/stream", "lower", _idle, needs_proc=True),
}
