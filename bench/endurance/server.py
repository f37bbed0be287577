"""The server that is tried: ``python -m bench.endurance.server OPTIONS bunpy CORE``, OPTIONS of ``serve`` as JSON.

It prints its port and its implementation, and ends when its standard input does, or by a signal.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import time
from collections.abc import AsyncGenerator
from typing import Any, Final

from bench.load.cores import pin
from bunpy._speedups import IMPLEMENTATION
from bunpy.serve import Request, Server, SSEResponse, serve

__all__ = ["BLOCK"]

Events = AsyncGenerator[Any, None]

#: What an endless stream consists of: 1 KiB.
BLOCK: Final = "x" * 1016

_running = 0
_ends: dict[str, int] = {}


class _Counted:
    """Counts the generators that are between their first line and the end of their ``finally``."""

    def __enter__(self) -> None:
        global _running
        _running += 1

    def __exit__(self, *_: object) -> None:
        global _running
        _running -= 1


async def _idle() -> Events:
    with _Counted():
        yield {"data": "here"}
        await asyncio.sleep(3600)


async def _silent() -> Events:
    with _Counted():
        await asyncio.sleep(3600)
        yield {"data": "never"}


async def _ticks(interval: float) -> Events:
    """When each event was made, in seconds of the clock that all processes share."""
    with _Counted():
        while True:
            yield {"data": f"{time.monotonic():.6f}"}
            await asyncio.sleep(interval)


async def _endless() -> Events:
    with _Counted():
        while True:
            yield {"data": BLOCK}


async def _burst(count: int) -> Events:
    with _Counted():
        for number in range(count):
            yield {"data": number}


async def _numbers(last: int) -> Events:
    with _Counted():
        while True:
            last += 1
            yield {"id": last, "data": last}
            await asyncio.sleep(0.1)


def _count_end(reason: str) -> None:
    _ends[reason] = _ends.get(reason, 0) + 1


def _stream(source: Events) -> SSEResponse:
    return SSEResponse(source, on_close=_count_end)


async def _slow(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "slowly\n"


def _state() -> dict[str, Any]:
    return {
        "generators": _running,
        "tasks": len(asyncio.all_tasks()),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "threads": threading.active_count(),
        "ends": _ends,
    }


def _handle(request: Request) -> Any:
    value = float(request.query.get("value", "0"))
    if request.path == "/idle":
        return _stream(_idle())
    if request.path == "/silent":
        return _stream(_silent())
    if request.path == "/ticks":
        return _stream(_ticks(value))
    if request.path == "/numbers":
        return _stream(_numbers(int(request.last_event_id or 0)))
    if request.path == "/endless":
        return _stream(_endless())
    if request.path == "/burst":
        return _stream(_burst(int(value)))
    if request.path == "/slow":
        return _slow(value)
    if request.path == "/state":
        return {"body": json.dumps(_state()), "headers": {"Content-Type": "application/json"}}
    return "hello\n"


def main() -> None:
    """Serve until standard input ends."""
    options, _, core = sys.argv[1:]
    chosen = {"quiet": True, **json.loads(options)}
    if "workers" not in chosen:
        pin(int(core))
    server = serve(_handle, port=0, **chosen)
    print(server.port, IMPLEMENTATION, flush=True)
    threading.Thread(target=_end_with_input, args=[server], daemon=True).start()


def _end_with_input(server: Server) -> None:
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
