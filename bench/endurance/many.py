"""Very many clients at once, and clients that come and go."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from typing import Final

from bench.endurance.check import Check, at_most
from bench.endurance.clients import Crowd, fetch, state, until
from bench.load.process import ServerProcess

__all__ = ["churn", "many", "resets"]

_STREAMS: Final = 19_000
_GROUP: Final = 38
#: Seconds for all of them to be opened.
_TIME: Final = 6.0
_CHURN: Final = 5_000
_RESETS: Final = 20_000


def many(server: ServerProcess) -> Iterator[Check]:
    """19,000 idle streams in one process."""
    before = server.resident_size()
    slowest = 0.0
    with Crowd(server.port) as crowd:
        # As fast as is asked for, and evenly: who comes in a burst waits for those before it.
        began = time.perf_counter()
        for number in range(_STREAMS // _GROUP):
            crowd.join(_GROUP, "/idle")
            slowest = max(slowest, fetch(server.port)[0])
            pause = began + _TIME * 0.9 * (number + 1) * _GROUP / _STREAMS - time.perf_counter()
            time.sleep(max(0.0, pause))
        crowd.wait_for_all(b"here")
        opened = time.perf_counter() - began
        yield at_most("seconds until 19,000 streams are open and have had an event", opened, _TIME)
        for _ in range(50):
            slowest = max(slowest, fetch(server.port)[0])
        yield at_most("  ms of the slowest plain GET meanwhile", slowest * 1000, 50.0)
        size = (server.resident_size() - before) / len(crowd.sockets) / 1024
        yield at_most("  KiB of memory a stream", size, 10.0)
        crowd.leave()
    yield from _all_gone(server)


def churn(server: ServerProcess) -> Iterator[Check]:
    """Three rounds of 5,000 streams, opened and closed.

    Their memory is compared while they are open: what the allocators keep afterwards is there for the next ones.
    """
    sizes = []
    for number in range(3):
        with Crowd(server.port) as crowd:
            crowd.join(_CHURN, "/idle")
            crowd.wait_for_all(b"here")
            sizes.append(server.resident_size())
            crowd.leave(by_reset=number % 2 == 0)
        _until_gone(server)
    yield at_most("memory of the third round of 5,000 to the second", sizes[2] / sizes[1], 1.05)
    yield at_most("  and what is kept of it afterwards", server.resident_size() / sizes[1], 1.05)
    yield from _all_gone(server)


def resets(server: ServerProcess) -> Iterator[Check]:
    """20,000 connections that end by RST at random moments."""
    chance = random.Random(1)
    paths = [
        "/idle",
        "/silent",
        "/ticks?value=0.001",
        "/endless",
        "/slow?value=0.01",
        "/burst?value=50",
    ]

    def round_of(count: int) -> None:
        with Crowd(server.port) as crowd:
            left = count
            while left or crowd.sockets:
                crowd.join(min(left, 50), chance.choice(paths))
                left -= min(left, 50)
                for _ in crowd.read(chance.choice([0.0001, 0.001, 0.005])):
                    pass
                going = [number for number in crowd.sockets if chance.random() < 0.3 or not left]
                crowd.leave(going)

    # What allocators and caches come to hold is there after one round, and is no more after the tenth.
    round_of(_RESETS)
    _until_gone(server)
    before = server.resident_size()
    round_of(_RESETS)
    yield from _all_gone(server)
    yield at_most("memory after 20,000 resets to before", server.resident_size() / before, 1.05)


def _until_gone(server: ServerProcess) -> dict[str, float]:
    until(lambda: not state(server.port)["generators"], 10)
    return state(server.port)


def _all_gone(server: ServerProcess) -> Iterator[Check]:
    found = _until_gone(server)
    yield at_most("  generators left", found["generators"], 0)
    yield at_most("  tasks left beside the server's own", found["tasks"], 1)
    yield at_most("  descriptors left", found["descriptors"], 40)
