"""What the connections of one server share. The server makes it; connections read it, and enter and leave."""

from __future__ import annotations

import contextvars
from asyncio import AbstractEventLoop
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from bunpy._speedups import BytesBuffer, EventBuffer
from bunpy.http.known_heads import KnownHeads
from bunpy.http.wire import date_line

if TYPE_CHECKING:
    from bunpy.http.host import HostList
    from bunpy.http.protocol import HTTPProtocol
    from bunpy.http.request import Request
    from bunpy.server.config import Config

__all__ = ["Handler", "Service"]

Handler = Callable[["Request"], Any]


class Service:
    """One server's handler, options, connections and buffers, and the loop that they all live on."""

    __slots__ = (
        "config",
        "connections",
        "context",
        "date",
        "events",
        "handler",
        "hosts",
        "is_stopping",
        "known_heads",
        "loop",
        "on_idle",
        "pieces",
    )

    def __init__(
        self,
        handler: Handler,
        config: Config,
        loop: AbstractEventLoop,
        hosts: HostList,
    ) -> None:
        self.handler = handler
        self.config = config
        self.loop = loop
        self.hosts = hosts
        #: What each request's context is a copy of, so that none sees another's variables.
        self.context = contextvars.copy_context()
        self.known_heads = KnownHeads()
        self.connections: set[HTTPProtocol] = set()
        #: Called when the last connection has gone, once the server is stopping.
        self.on_idle: Callable[[], None] = lambda: None
        self.is_stopping = False
        # One of each for all streams: whatever is in them is sent before anything else gets a turn.
        self.events = EventBuffer()
        self.pieces = BytesBuffer()
        #: The Date field, made once a second.
        self.date = date_line()
