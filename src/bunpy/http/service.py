"""What the connections of one server share. The server makes it; connections read it, and enter and leave."""

from __future__ import annotations

import contextvars
from asyncio import AbstractEventLoop, Task
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from bunpy._speedups import BytesBuffer, EventBuffer
from bunpy.http.access_log import AccessLog
from bunpy.http.agenda import Agenda
from bunpy.http.counters import Counters
from bunpy.http.known_heads import KnownHeads
from bunpy.http.limits import Limits
from bunpy.http.observer import Observer
from bunpy.http.pages import Page, pages
from bunpy.http.pressure import Pressure
from bunpy.http.quota import Quota
from bunpy.http.wire import date_line

if TYPE_CHECKING:
    from bunpy.http.host import HostList
    from bunpy.http.protocol import HTTPProtocol
    from bunpy.http.request import Request
    from bunpy.http.stats import Stats
    from bunpy.server.config import Config

__all__ = ["Handler", "Service"]

Handler = Callable[["Request"], Any]


class Service:
    """One server's handler, options, connections and buffers, and the loop that they all live on."""

    __slots__ = (
        "agenda",
        "config",
        "connections",
        "context",
        "counters",
        "date",
        "events",
        "excess",
        "handler",
        "hosts",
        "is_retiring",
        "is_stopping",
        "known_heads",
        "lets_finish",
        "limits",
        "loop",
        "observer",
        "on_accepted",
        "on_idle",
        "pages",
        "pieces",
        "places",
        "pressure",
        "stats",
        "streams",
        "task",
    )

    def __init__(
        self,
        handler: Handler,
        config: Config,
        loop: AbstractEventLoop,
        hosts: HostList,
        max_connections: int | None = None,
        counters: Counters | None = None,
    ) -> None:
        self.handler = handler
        self.config = config
        self.loop = loop
        #: For what very many connections may want at the same time.
        self.agenda = Agenda(loop)
        self.hosts = hosts
        #: What each request's context is a copy of, so that none sees another's variables.
        self.context = contextvars.copy_context()
        self.known_heads = KnownHeads()
        self.limits = Limits(
            request_line=config.request_line_limit,
            head=config.head_limit,
            fields=config.field_limit,
            body=config.body_limit,
            extension=config.extension_limit,
            extensions=config.extensions_limit,
            trailers=config.trailer_limit,
        )
        self.connections: set[HTTPProtocol] = set()
        #: The connections that there is room for, and how many there are beyond, to be told so.
        self.places = Quota("connections", max_connections, config.max_connections_per_client)
        self.excess = 0
        self.streams = Quota("streams", config.max_streams, config.max_streams_per_client)
        self.pressure = Pressure(config.max_buffered)
        #: What this process counts, and what that comes to, over all processes that serve with it.
        self.counters = Counters() if counters is None else counters
        self.stats: Callable[[], Stats] = self._own_stats
        sinks = [AccessLog()] if config.access_log else []
        is_observed = sinks or config.on_request or config.on_stream_start or config.on_stream_end
        #: Who is told of requests; None if nobody is, which saves the time that telling takes.
        self.observer = Observer(config, sinks) if is_observed or config.metrics else None
        #: What is answered without the handler, by path.
        self.pages: dict[str, Page] = pages(config)
        #: Called with the descriptor of each new connection.
        self.on_accepted: Callable[[int], None] = lambda number: None
        #: Called when the last connection has gone, once the server is stopping.
        self.on_idle: Callable[[], None] = lambda: None
        #: The server's own task; None where there is none.
        self.task: Task[Any] | None = None
        self.is_stopping = False
        #: Whether it does so because another process serves in its place.
        self.is_retiring = False
        #: Whether streams go on while the server stops.
        self.lets_finish = False
        # One of each for all streams: whatever is in them is sent before anything else gets a turn.
        self.events = EventBuffer()
        self.pieces = BytesBuffer()
        #: The Date field, made once a second.
        self.date = date_line()

    def _own_stats(self) -> Stats:
        self.look_around(self.counters.loop_lag)
        return Counters.stats([self.counters.cells])

    @property
    def is_cancelled(self) -> bool:
        """Whether somebody has cancelled the server's task (known from CPython 3.11 on)."""
        cancelling = getattr(self.task, "cancelling", None)
        return cancelling is not None and cancelling() > 0

    def look_around(self, lag: float) -> None:
        """Let the counters know how it is now, and publish them; the loop is ``lag`` seconds late."""
        counters = self.counters
        counters.connections = len(self.connections)
        counters.streams = self.streams.count
        counters.buffered = self.pressure.held
        counters.observe_lag(lag)
        counters.publish()

    def enter(self, host: str | None) -> bool:
        """Count a connection of the client with that address; whether there is room for it."""
        has_place = self.places.take(host)
        if not has_place:
            self.excess += 1
        return has_place

    def leave(self, host: str | None, has_place: bool) -> None:
        """That connection is gone."""
        if has_place:
            self.places.give_back(host)
        else:
            self.excess -= 1
