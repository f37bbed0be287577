"""The public face: ``serve`` and the names that a handler needs. What they do is done elsewhere."""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import Any

from bunpy._speedups import IMPLEMENTATION
from bunpy.errors import BunpyError, HTTPError, InvalidBody, InvalidEvent, InvalidResponse
from bunpy.http.ending import Ending
from bunpy.http.request import Request
from bunpy.http.response import Response
from bunpy.http.service import Handler
from bunpy.http.stats import Stats
from bunpy.server.config import Config
from bunpy.server.handle import Server
from bunpy.server.importer import refuse_in_import
from bunpy.server.log import ensure_handler
from bunpy.server.notify import Notify
from bunpy.server.residence import (
    fill_standard_streams,
    live_here,
    live_in_loop,
    live_in_thread,
    must_block,
)
from bunpy.server.server import LocalServer
from bunpy.server.sockets import raise_descriptor_limit
from bunpy.shown import shown
from bunpy.sse.event import Event
from bunpy.sse.response import SSEResponse
from bunpy.workers.fleet import Fleet, StartFailed, cores

__all__ = [
    "BunpyError",
    "Ending",
    "Event",
    "HTTPError",
    "InvalidBody",
    "InvalidEvent",
    "InvalidResponse",
    "Request",
    "Response",
    "SSEResponse",
    "Server",
    "Stats",
    "serve",
]

_log = logging.getLogger("bunpy")


def serve(
    handler: Handler | str,
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
    other exception with 500. It may also be given by its name, as "app:handler": a module, and a function in it.

    ``port`` 0 takes a free one. ``hostname`` is an address of this machine, 127.0.0.1 for clients on it, 0.0.0.0 for
    all; or, with no use for ``port``, ``unix:/run/x.sock``, ``unix:@name``, ``fd:3`` or ``systemd``. With ``block``
    the server lives in the calling thread, and ``serve`` returns when it has stopped. Called on a running event loop,
    it serves on that. ``options`` are the fields of ``bunpy.server.config.Config``; with ``workers`` other processes
    serve, each with a copy of what this one has at the call, or with the handler that it imports by its name.

    Raises ``OSError`` if the port cannot be had, ``ConfigError`` for an option or a port that makes no sense or a name
    that leads to no handler, ``TypeError`` for a handler that is no function, a port that is no int and a hostname
    that is no str, ``RuntimeError`` for workers that die again and again at the start; with ``block`` that is said in
    the log, and the process exits with status 1.
    """
    if not callable(handler) and not isinstance(handler, str):
        raise TypeError(f"a handler is a function of a request, not {shown(handler)}")
    if not isinstance(port, int) or isinstance(port, bool):
        raise TypeError(f"a port is an int from 0 to 65535, not {shown(port)}")
    if not isinstance(hostname, str):
        raise TypeError(f"a hostname is a str, as '127.0.0.1', not {shown(hostname)}")
    refuse_in_import()
    config = Config.of(options)
    ensure_handler(is_json=config.log_json)
    fill_standard_streams()
    raise_descriptor_limit()
    server = _server(handler, hostname, port, config, options)
    try:
        asyncio.get_running_loop()
        is_in_loop = True
    except RuntimeError:
        is_in_loop = False
    caller = sys._getframe(1)

    def announce() -> None:
        if not config.quiet:
            _log.info("serving on %s (%s%s)", server.url, IMPLEMENTATION, _count(server))

    if is_in_loop:
        live_in_loop(server)
        announce()
    elif block or must_block(caller):
        try:
            live_here(server, announce)
        except StartFailed as exc:
            _log.error("%s", exc)
            raise SystemExit(1) from None
    else:
        live_in_thread(server, caller)
        announce()
    return server


def _server(
    handler: Handler | str, hostname: str, port: int, config: Config, options: dict[str, Any]
) -> LocalServer | Fleet:
    """One that serves in this process, unless several are to, or the one is to be replaced now and then."""
    workers = config.workers or cores()
    notify = Notify.from_environment()
    if config.workers != 1 or config.max_requests is not None or config.max_lifetime is not None:
        return Fleet(handler, hostname, port, config, workers, notify, options)
    return LocalServer(handler, hostname, port, config, notify=notify)


def _count(server: Server) -> str:
    return f", {server.workers} workers" if server.workers > 1 else ""
