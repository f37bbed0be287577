"""Everything at once, for long: what stays must be flat, and events on time."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from typing import Final

from bench.endurance.check import Check, at_least, at_most
from bench.endurance.clients import Crowd, fetch, state, until
from bench.load.process import ServerProcess

__all__ = ["soak"]

_WATCHED: Final = 200
_INTERVAL: Final = 0.1
_SLOW: Final = 20


def soak(server: ServerProcess, seconds: float) -> Iterator[Check]:
    """Watched streams, with churn, resets, slow readers and plain requests beside them."""
    chance = random.Random(7)
    delays: list[float] = []
    sizes: list[tuple[float, int]] = []
    began = time.monotonic()
    requests = connections = 0
    with Crowd(server.port) as watched, Crowd(server.port) as others:
        watched.join(_WATCHED, f"/ticks?value={_INTERVAL}")
        slow: list[int] = []
        sampled = began
        while (passed := time.monotonic() - began) < seconds:
            if len(slow) < _SLOW:
                slow += others.join(1, "/endless", buffer=4096, reads=False)
            path = chance.choice(
                ["/idle", "/burst?value=100", "/ticks?value=0.05", "/slow?value=0.05"]
            )
            others.join(chance.randrange(6), path)
            connections += 3
            for _, data in watched.read(0.05):
                now = time.monotonic()
                delays += [
                    now - float(line[6:])
                    for line in data.split(b"\n")
                    if line.startswith(b"data: ")
                ]
            for number, data in others.read(0.01):
                if not data and number in slow:
                    slow.remove(number)
            slow = [number for number in slow if number in others.sockets]
            leaving = [
                n for n in others.sockets if chance.random() < (0.002 if n in slow else 0.05)
            ]
            others.leave(leaving, by_reset=chance.random() < 0.5)
            slow = [number for number in slow if number in others.sockets]
            fetch(server.port)
            requests += 1
            if time.monotonic() - sampled > seconds / 200:
                sampled = time.monotonic()
                sizes.append((passed / seconds, server.resident_size()))
    delays.sort()
    early = max(size for part, size in sizes if part <= 0.1)
    late = [size for part, size in sizes if part > 0.1]
    yield at_least("events that were watched", len(delays), seconds * _WATCHED / _INTERVAL * 0.8)
    yield at_least("  connections that came and went", connections, 1)
    yield at_most("  ms from event to reader, p50", delays[len(delays) // 2] * 1000, 50)
    yield at_most("  ms from event to reader, p99", delays[len(delays) * 99 // 100] * 1000, 50)
    yield at_most(
        "  memory at the most after the first tenth to that in it", max(late) / early, 1.05
    )
    until(lambda: not state(server.port)["generators"], 10)
    found = state(server.port)
    yield at_most("  generators left", found["generators"], 0)
    yield at_most("  tasks left beside the server's own", found["tasks"], 1)
    yield at_most("  bytes in the error log", len(server.errors()), 0)
