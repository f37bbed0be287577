"""The scenes that keep nothing between two clients: the counter and the feed."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import AsyncGenerator
from typing import Any

__all__ = ["COUNT", "counter", "feed"]

Event = dict[str, Any]

#: How far the counter counts.
COUNT = 10

_COUNTER_PAUSE = 0.5  # seconds
_FEED_PAUSE = 0.2  # seconds
_HEARTBEAT = 10  # ticks from one to the next
_MESSAGE = 25


async def counter(after: int = 0) -> AsyncGenerator[Event, None]:
    """The numbers after ``after`` up to ``COUNT``, and an ``end``: on that a client closes, or it would begin anew."""
    for number in range(after + 1, COUNT + 1):
        yield {"id": number, "data": number}
        await asyncio.sleep(_COUNTER_PAUSE)
    yield {"event": "end", "data": COUNT}


async def feed() -> AsyncGenerator[Event, None]:
    """Three types of event: ``message`` (the type of an event without a name), ``heartbeat`` and ``update``."""
    yield {"data": "connected"}
    phase, drift, tick = random.uniform(0, math.tau), 0.0, 0
    while True:
        await asyncio.sleep(_FEED_PAUSE)
        tick += 1
        if tick % _HEARTBEAT == 0:
            yield {"event": "heartbeat", "data": {"tick": tick}}
        if tick % _MESSAGE == 0:
            yield {"data": f"{tick * _FEED_PAUSE:.0f} seconds on the air"}
        drift = 0.9 * drift + random.gauss(0, 0.07)
        value = 0.62 * math.sin(phase + tick / 9) + 0.2 * math.sin(tick / 3.1) + drift
        yield {"event": "update", "data": {"tick": tick, "value": round(value, 3)}}
