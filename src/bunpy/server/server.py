"""A server's life: it opens, it serves, it drains. The thread it does that in, and the signals, are elsewhere."""

from __future__ import annotations

import asyncio
import logging
from asyncio import AbstractEventLoop, Future
from collections.abc import Callable
from concurrent.futures import Future as ThreadFuture
from typing import Final

from bunpy.errors import ConfigError
from bunpy.http.counters import Counters
from bunpy.http.host import HostList
from bunpy.http.protocol import HTTPProtocol
from bunpy.http.service import Handler, Service
from bunpy.http.stats import Stats
from bunpy.server.acceptor import EXCESS, RESERVE, Acceptor, descriptors
from bunpy.server.collector import Collector
from bunpy.server.config import Config, StreamsEnd
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

#: Seconds over which the ends of very many streams are spread when a server stops, and the steps in which they are.
SPREAD_TIME: Final = 2.0
_SPREAD_STEP: Final = 0.01
#: Streams that end in one step at the least: up to 2,000 a second nothing is gained by waiting.
_SPREAD_MIN: Final = 20
#: Seconds for generators to see that they are cancelled, once a server's grace is over.
_LAST_TIME: Final = 0.2
#: Seconds in which whoever has a connection to a retiring server may use it once more, and learn that it was the last
#: time; and for a connection that was just accepted to become one.
PATIENCE: Final = 1.0
_MOMENT: Final = 0.1


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
        self._hurry: Future[None] | None = None
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
        self._hurry = loop.create_future()
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
            await self._drain(service, acceptor, streams, self._hurry)
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
        stop_asked, hurry = self._stop_asked, self._hurry
        assert stop_asked is not None
        assert hurry is not None
        if not stop_asked.done():
            stop_asked.set_result(streams)
        stop_asked.get_loop().call_later(max(0.0, grace), _settle, hurry)

    async def _drain(
        self, service: Service, acceptor: Acceptor, streams: StreamsEnd, hurry: Future[None]
    ) -> None:
        """Stop in order, until ``hurry`` is done at the latest."""
        # 1. Nobody new; and from now on, each answer says that it is its connection's last.
        service.is_stopping = True
        service.lets_finish = streams == "finish"
        acceptor.close()
        self._listeners.close()
        await asyncio.sleep(0)  # those that were accepted just now get to be connections
        if self._is_retiring:
            await self._be_patient(service, hurry)
        await acceptor.abort_handshakes()
        # 2. Whoever waits for nothing goes; whoever waits for an answer gets it, and is the last to.
        idle: Future[None] = service.loop.create_future()
        service.on_idle = lambda: _settle(idle)
        if not service.connections:
            service.on_idle()
        # 3. Streams end, a few at a time if they are many, so that their clients do not all come back at once.
        await self._end_streams(service, hurry, is_spread=streams == "spread")
        # 4. They have until the grace is over.
        await asyncio.wait([idle, hurry], return_when=asyncio.FIRST_COMPLETED)
        # 5. Streams that were to come to their own end have not: they end now.
        if service.lets_finish and not idle.done():
            service.lets_finish = False
            await self._end_streams(service, hurry, is_spread=False)
            await asyncio.wait([idle], timeout=_LAST_TIME)
        # 6. What is left is cut off, and its generators have one more moment.
        if not idle.done():
            for connection in list(service.connections):
                connection.cut_off("shutdown")
            await asyncio.wait([idle], timeout=_LAST_TIME)
        if not idle.done():
            _log.error(
                "stopped with %d connections whose handlers or generators did not end",
                len(service.connections),
            )

    async def _be_patient(self, service: Service, hurry: Future[None]) -> None:
        """Let whoever has a connection use it once more: who closes it may cross a request on its way (RFC 9112 9.6).

        Where handshakes may be going on, all the time is given.
        """
        moment = _MOMENT if self._tls is None else PATIENCE
        await asyncio.wait([hurry], timeout=moment)
        if not service.connections or hurry.done():
            return
        gone: Future[None] = service.loop.create_future()
        service.on_idle = lambda: _settle(gone)
        await asyncio.wait(
            [gone, hurry], timeout=PATIENCE - moment, return_when=asyncio.FIRST_COMPLETED
        )

    async def _end_streams(self, service: Service, hurry: Future[None], is_spread: bool) -> None:
        """Tell every connection that the server stops."""
        connections = list(service.connections)
        turn = len(connections)
        if is_spread:
            turn = max(_SPREAD_MIN, int(turn / SPREAD_TIME * _SPREAD_STEP))
        for start in range(0, len(connections), turn or 1):
            for connection in connections[start : start + turn]:
                connection.stop()
            if start + turn < len(connections):
                await asyncio.wait([hurry], timeout=0 if hurry.done() else _SPREAD_STEP)


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


def _settle(future: Future[None]) -> None:
    if not future.done():
        future.set_result(None)
