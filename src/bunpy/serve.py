"""The public face: ``serve`` and the names that a handler needs. What they do is done elsewhere."""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import Any

from bunpy._speedups import IMPLEMENTATION
from bunpy.errors import BunpyError, HTTPError, InvalidBody, InvalidEvent, InvalidResponse
from bunpy.http.request import Request
from bunpy.http.response import Response
from bunpy.http.service import Handler
from bunpy.server.config import Config
from bunpy.server.log import ensure_handler
from bunpy.server.residence import (
    fill_standard_streams,
    live_here,
    live_in_loop,
    live_in_thread,
    must_block,
)
from bunpy.server.server import Server
from bunpy.server.sockets import raise_descriptor_limit
from bunpy.sse.event import Event
from bunpy.sse.response import SSEResponse

__all__ = [
    "BunpyError",
    "Event",
    "HTTPError",
    "InvalidBody",
    "InvalidEvent",
    "InvalidResponse",
    "Request",
    "Response",
    "SSEResponse",
    "Server",
    "serve",
]

_log = logging.getLogger("bunpy")


def serve(
    handler: Handler,
    port: int = 3000,
    hostname: str = "127.0.0.1",
    *,
    block: bool = False,
    **options: Any,
) -> Server:
    """Serve ``handler`` on a port, and return at once; the process stays up until the server stops.

    ``handler`` is a plain or async function of a ``Request``. It returns an ``SSEResponse``, a ``Response``, a str
    (text/plain), bytes (application/octet-stream), a dict with any of ``status``, ``headers`` and ``body``, or None
    (204, on which an EventSource does not reconnect). An ``HTTPError`` that it raises is answered as it says, any
    other exception with 500.

    ``port`` 0 takes a free one. ``hostname`` is an address of this machine, 127.0.0.1 for clients on it, 0.0.0.0 for
    all; or, with no use for ``port``, ``unix:/run/x.sock``, ``unix:@name``, ``fd:3`` or ``systemd``. With ``block``
    the server lives in the calling thread, and ``serve`` returns when it has stopped. Called on a running event loop,
    it serves on that. ``options`` are the fields of ``bunpy.server.config.Config``.

    Raises ``OSError`` if the port cannot be had, ``ConfigError`` for an option that makes no sense, ``TypeError``
    for a handler that is no function.
    """
    if not callable(handler):
        raise TypeError(f"a handler is a function of a request, not {handler!r}")
    if not isinstance(port, int) or isinstance(port, bool):
        raise TypeError(f"a port is an int from 0 to 65535, not {port!r}")
    config = Config.of(options)
    ensure_handler()
    fill_standard_streams()
    raise_descriptor_limit()
    server = Server(handler, hostname, port, config)
    try:
        asyncio.get_running_loop()
        is_in_loop = True
    except RuntimeError:
        is_in_loop = False
    caller = sys._getframe(1)

    def announce() -> None:
        if not config.quiet:
            _log.info("serving on %s (%s)", server.url, IMPLEMENTATION)

    if is_in_loop:
        live_in_loop(server)
        announce()
    elif block or must_block(caller):
        live_here(server, announce)
    else:
        live_in_thread(server, caller)
        announce()
    return server
