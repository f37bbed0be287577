"""The programs that are measured: each a handler as a user would write it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any, Final

from bunpy.serve import Request, SSEResponse

__all__ = ["EVENTS", "GENERATORS", "HANDLERS", "HELLO", "INTERVAL", "PAYLOAD"]

Events = AsyncGenerator[dict[str, Any], None]

#: 64 bytes. Its one "!", which occurs nowhere else in a response, is what the client counts.
PAYLOAD: Final = "!" + "x" * 63
HELLO: Final = "Hello, World!"
#: Events in a response that ends.
EVENTS: Final = 200
#: Seconds between the events of ``ticks``.
INTERVAL: Final = 0.1


async def _burst() -> Events:
    for _ in range(EVENTS):
        yield {"data": PAYLOAD}


async def _one() -> Events:
    while True:
        yield {"data": PAYLOAD}


async def _llm() -> Events:
    for _ in range(EVENTS):
        await asyncio.sleep(0)
        yield {"data": PAYLOAD}


async def _ticks() -> Events:
    while True:
        yield {"data": PAYLOAD}
        await asyncio.sleep(INTERVAL)


async def _idle() -> Events:
    yield {"data": PAYLOAD}
    await asyncio.sleep(3600)


def _hello(request: Request) -> dict[str, Any]:
    return {"body": HELLO}


def _streaming(generator: Callable[[], Events]) -> Callable[[Request], SSEResponse]:
    return lambda request: SSEResponse(generator())


GENERATORS: Final = {"burst": _burst, "one": _one, "llm": _llm, "ticks": _ticks, "idle": _idle}
HANDLERS: Final[dict[str, Callable[[Request], Any]]] = {
    "hello": _hello,
    **{name: _streaming(generator) for name, generator in GENERATORS.items()},
}
