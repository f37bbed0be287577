"""How streams learn that the ASGI server they run on stops.

ASGI tells an application when all its responses have ended, which an endless one does not by itself: uvicorn, granian
and hypercorn (from CPython 3.12 on; before that it cancels after 3 s) would wait for ever. So they are watched.
"""

from __future__ import annotations

import functools
import signal
import sys
import threading
from asyncio import AbstractEventLoop, get_running_loop
from collections.abc import Awaitable, Callable
from types import FrameType
from typing import Any, Final

from bunpy.asgi import streams

__all__ = ["prepare", "watch"]

_watched: Final[set[str]] = set()


def prepare() -> None:
    """Watch hypercorn if it has been loaded: what is wrapped counts when it begins to serve, which is after its app."""
    if "hypercorn.asyncio.run" in sys.modules and "hypercorn" not in _watched:
        _watched.add("hypercorn")
        _watch_hypercorn()


def watch(loop: AbstractEventLoop) -> None:
    """Watch the other servers that have been loaded, once each; called on a server's loop."""
    if "uvicorn.server" in sys.modules and "uvicorn" not in _watched:
        _watched.add("uvicorn")
        _watch_uvicorn()
    if "granian" in sys.modules and "granian" not in _watched:
        _watched.add("granian")
        if threading.current_thread() is threading.main_thread():
            _watch_signals(loop)


def _watch_uvicorn() -> None:
    """Wrap ``Server.shutdown``, which every way to stop uvicorn leads to, on the server's loop.

    A signal handler would miss ``should_exit``, and servers in threads.
    """
    server = sys.modules["uvicorn.server"].Server
    shutdown = server.shutdown

    @functools.wraps(shutdown)
    async def shutdown_with_streams(self: Any, *args: Any, **options: Any) -> None:
        loop = get_running_loop()
        streams.stop(loop)
        try:
            await shutdown(self, *args, **options)
        finally:
            streams.stop(loop, is_over=True)

    server.shutdown = shutdown_with_streams


def _watch_hypercorn() -> None:
    """Wrap ``raise_shutdown``, which ends its waiting for whatever is to stop it, on the server's loop."""
    module: Any = sys.modules["hypercorn.asyncio.run"]
    raise_shutdown = module.raise_shutdown

    @functools.wraps(raise_shutdown)
    async def raise_shutdown_with_streams(trigger: Callable[..., Awaitable[object]]) -> None:
        @functools.wraps(trigger)
        async def trigger_with_streams(*args: Any) -> None:
            await trigger(*args)
            streams.stop(get_running_loop())

        await raise_shutdown(trigger_with_streams)

    module.raise_shutdown = raise_shutdown_with_streams


def _watch_signals(loop: AbstractEventLoop) -> None:
    """See the signals on which a worker of granian stops.

    The loop learns of signals through its wakeup descriptor, whatever the handlers are: granian sees them as before.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        before = signal.getsignal(number)

        def handle(number: int, frame: FrameType | None, before: Any = before) -> None:
            streams.stop(loop)
            if callable(before):
                before(number, frame)

        signal.signal(number, handle)
