"""A server's life: it opens, it serves, it ends. The thread it does that in, and the signals, are elsewhere."""

from __future__ import annotations

import asyncio
import logging
from asyncio import AbstractEventLoop, Future
from collections.abc import Callable
from concurrent.futures import Future as ThreadFuture

from bunpy.errors import ConfigError
from bunpy.http.counters import Counters
from bunpy.http.host import HostList
from bunpy.http.protocol import HTTPProtocol
from bunpy.http.service import Handler, Service
from bunpy.http.stats import Stats
from bunpy.server.acceptor import EXCESS, RESERVE, Acceptor, descriptors
from bunpy.server.collector import Collector
from bunpy.server.config import Config, StreamsEnd
from bunpy.server.drain import Drain
from bunpy.server.handle import Server
from bunpy.server.importer import load
from bunpy.server.listeners import Listeners
from bunpy.server.notify import Notify
from bunpy.server.orphans import Orphans
from bunpy.server.sockets import bind
from bunpy.server.ticker import Ticker
from bunpy.server.tls import TLS
from bunpy.server.watchdog import Watchdog
from bunpy.workers.board import Board

__all__ = ["LocalServer", "tls_of"]

_log = logging.getLogger("bunpy")


class LocalServer(Server):
    """A server on a loop of this process.

    It binds, or takes ``listeners`` that are bound; what it counts goes into ``row`` of ``board``, if there is one.
    ``on_tick`` is called at each tick of its timer, and ``notify`` hears of its life.
    """

    def __init__(
        self,
        handler: Handler | str,
        hostname: str,
        port: int,
        config: Config,
        *,
        listeners: Listeners | None = None,
        board: Board | None = None,
        row: int = 0,
        on_tick: Callable[[], None] = lambda: None,
        notify: Notify | None = None,
    ) -> None:
        self._handler = _function(handler)
        self._tls = tls_of(config)
        if listeners is None:
            listeners = bind(hostname, port, config.backlog, config.unix_mode)
        super().__init__(hostname, listeners, config)
        self._hosts = HostList(config.allowed_hosts, listeners.addresses)
        self._board = board
        self._counters = Counters(None if board is None else board.row(row))
        self._on_tick = on_tick
        self._notify = notify or Notify(None)
        self._loop: AbstractEventLoop | None = None
        self._service: Service | None = None
        self._stop_asked: Future[StreamsEnd] | None = None
        self._drain: Drain | None = None
        self._is_retiring = False
        # The grace, and what becomes of streams, if asked to stop before there was a loop.
        self._early_stop: tuple[float, StreamsEnd] | None = None

    def stats(self) -> Stats:
        self._counters.publish()
        return (
            Counters.stats([self._counters.cells]) if self._board is None else self._board.stats()
        )

    def reload(self, handler: Handler | str) -> None:
        self._handler = _function(handler)
        if self._service is not None:
            self._service.handler = self._handler

    def reload_tls(self) -> None:
        if self._tls is None:
            raise ConfigError(
                "reload_tls reads certificates again, and this server has none (tls=)"
            )
        self._tls.reload()

    @property
    def heeds_hangup(self) -> bool:
        return self._tls is not None

    def hang_up(self) -> None:
        """Read the certificates again; what cannot be used leaves the old ones in effect."""
        self._notify.reloading()
        try:
            self.reload_tls()
        except ConfigError as exc:
            _log.error("SIGHUP: %s", exc)
        else:
            _log.info("SIGHUP: the certificate of %s is read again", self.url)
        self._notify.ready()

    def retire(self, grace: float, streams: StreamsEnd) -> None:
        """Begin to stop while another accepts from the same sockets: let no request fail for that."""
        self._is_retiring = True
        self.request_stop(grace, streams)

    def _request_stop(self, grace: float, streams: StreamsEnd) -> None:
        loop = self._loop
        if loop is None:
            earlier = self._early_stop or (grace, streams)
            self._early_stop = min(grace, earlier[0]), earlier[1]
        elif not self.is_closed:
            try:
                loop.call_soon_threadsafe(self._ask_stop, grace, streams)
            except RuntimeError:  # the loop closed between the two lines
                return

    def kill(self) -> None:
        """Nothing: it ends with the process."""

    # On the loop

    async def run(self, opened: ThreadFuture[None]) -> None:
        """Serve until asked to stop; ``opened`` is settled once clients can connect. For ``residence`` only."""
        config = self._config
        loop = self._loop = asyncio.get_running_loop()
        self.claim_thread()
        self._stop_asked = loop.create_future()
        service = self._service = Service(
            self._handler, config, loop, self._hosts, self._most_connections(), self._counters
        )
        service.task = asyncio.current_task()
        if self._board is not None:
            service.stats = self._board.stats
        acceptor = Acceptor(
            self._listeners.sockets,
            lambda: HTTPProtocol(service),
            lambda: service.excess,
            room=lambda: service.places.room,
            backlog=config.backlog,
            tls=None if self._tls is None else self._tls.context,
            handshake_timeout=config.handshake_timeout,
        )
        service.on_accepted = acceptor.accepted
        drain = self._drain = Drain(service, acceptor, self._listeners)
        orphans = Orphans()
        collector = Collector()

        def look() -> None:
            acceptor.look()
            orphans.look()
            collector.look(len(service.connections))
            self._notify.watchdog()
            self._on_tick()

        ticker = Ticker(service, look)
        watchdog = None
        if config.block_warning is not None:
            watchdog = Watchdog(loop, config.block_warning)
        try:
            await acceptor.open()
            ticker.start()
            if watchdog is not None:
                watchdog.start()
            opened.set_result(None)
            self._notify.ready(f"serving on {self.url}")
            if self._early_stop is not None:
                self._ask_stop(*self._early_stop)
            streams = await self._stop_asked
            self._notify.stopping()
            await drain.run(streams, is_retiring=self._is_retiring)
        except BaseException as exc:
            if not opened.done():
                opened.set_exception(exc)
            raise
        finally:
            acceptor.close()
            ticker.stop()
            service.look_around(0.0)  # the last numbers are whole
            collector.release()
            if watchdog is not None:
                watchdog.stop()
            self.abandon()

    def _most_connections(self) -> int | None:
        """As many as asked for, or as there are descriptors, less those that the program and a few more need."""
        if self._config.max_connections is not None:
            return self._config.max_connections
        limit, taken = descriptors()
        return max(1, limit - taken - RESERVE - EXCESS)

    def _ask_stop(self, grace: float, streams: StreamsEnd) -> None:
        """Begin to stop, or let an earlier end of the grace than before take effect."""
        stop_asked, drain = self._stop_asked, self._drain
        assert stop_asked is not None
        assert drain is not None
        if not stop_asked.done():
            stop_asked.set_result(streams)
        stop_asked.get_loop().call_later(max(0.0, grace), drain.hasten)


def tls_of(config: Config) -> TLS | None:
    """What a server with these options needs for TLS; ``ConfigError`` if that cannot be had."""
    tls = TLS.of(config.tls)
    if tls is not None and config.proxy_protocol:
        raise ConfigError(
            "proxy_protocol comes before TLS, which bunpy does not read: let the proxy end TLS, or leave one out"
        )
    return tls


def _function(handler: Handler | str) -> Handler:
    """The handler, or the one of that name; ``ImportFailed`` if there is none."""
    if isinstance(handler, str):
        return load(handler)
    if not callable(handler):
        raise TypeError(f"a handler is a function of a request, not {handler!r}")
    return handler
