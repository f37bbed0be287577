"""A server's life: it opens, it serves, it drains. The thread it does that in, and the signals, are elsewhere."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
from asyncio import AbstractEventLoop, Future
from collections.abc import Callable
from concurrent.futures import Future as ThreadFuture
from types import TracebackType
from typing import Final, Literal, get_args

from bunpy.errors import ConfigError
from bunpy.http.host import HostList
from bunpy.http.protocol import HTTPProtocol
from bunpy.http.service import Handler, Service
from bunpy.server.acceptor import EXCESS, RESERVE, Acceptor, descriptors
from bunpy.server.collector import Collector
from bunpy.server.config import Config
from bunpy.server.orphans import Orphans
from bunpy.server.sockets import bind
from bunpy.server.ticker import Ticker
from bunpy.server.tls import TLS
from bunpy.server.watchdog import Watchdog
from bunpy.sse.threaded import GeneratorThread

__all__ = ["Server", "StreamsEnd"]

_log = logging.getLogger("bunpy")

#: What becomes of the streams of a server that stops: they are ended a few at a time, may come to their own end
#: within the grace, or are ended at once.
StreamsEnd = Literal["spread", "finish", "close"]

#: Seconds over which the ends of very many streams are spread when a server stops, and the steps in which they are.
SPREAD_TIME: Final = 2.0
_SPREAD_STEP: Final = 0.01
#: Streams that end in one step at the least: up to 2,000 a second nothing is gained by waiting.
_SPREAD_MIN: Final = 20
#: Seconds for generators to see that they are cancelled, once a server's grace is over.
_LAST_TIME: Final = 0.2
#: Seconds after which a main thread that waits for a server looks whether there has been a signal.
_LOOK_TIME: Final = 0.25


class Server:
    """A running server, as ``serve`` gives it. All of its methods may be called from any thread."""

    def __init__(self, handler: Handler, hostname: str, port: int, config: Config) -> None:
        self._handler = handler
        self._config = config
        self._tls = TLS.of(config.tls)
        if self._tls is not None and config.proxy_protocol:
            raise ConfigError(
                "proxy_protocol comes before TLS, which bunpy does not read: let the proxy end TLS, or leave one out"
            )
        self._listeners = bind(hostname, port, config.backlog, config.unix_mode)
        self._hosts = HostList(config.allowed_hosts, self._listeners.addresses)
        #: The name or address that was asked for, or ``unix:``, ``fd:`` or ``systemd`` and what came after it.
        self.hostname = hostname
        #: The port that it listens on, also where 0 was asked for; 0 for a Unix socket.
        self.port: int = self._listeners.port
        self._loop: AbstractEventLoop | None = None
        self._service: Service | None = None
        self._stop_asked: Future[StreamsEnd] | None = None
        self._hurry: Future[None] | None = None
        # The grace, and what becomes of streams, if asked to stop before there was a loop.
        self._early_stop: tuple[float, StreamsEnd] | None = None
        self._thread: int | None = None
        self._closed: ThreadFuture[None] = ThreadFuture()
        #: How many calls of the main thread's wait for the end; ``Signals`` asks.
        self.main_waits = 0

    def __repr__(self) -> str:
        state = "stopped" if self.is_closed else "running"
        return f"<Server {self.url} {state}>"

    @property
    def url(self) -> str:
        """Where to find it: ``http://127.0.0.1:3000``, or ``unix:/run/x.sock``."""
        return self._listeners.url("http" if self._tls is None else "https")

    @property
    def has_tls(self) -> bool:
        """Whether clients connect by TLS."""
        return self._tls is not None

    @property
    def is_closed(self) -> bool:
        """Whether it has stopped."""
        return self._closed.done()

    def reload(self, handler: Handler) -> None:
        """Answer new requests with ``handler``; what is being answered, streams included, goes on as it is."""
        if not callable(handler):
            raise TypeError(f"a handler is a function of a request, not {handler!r}")
        self._handler = handler
        if self._service is not None:
            self._service.handler = handler

    def reload_tls(self) -> None:
        """Read the certificate and its key again, for connections from now on; the others stay as they are.

        Raises ``ConfigError`` if they cannot be used, or if there are none; what was in effect stays so then. SIGHUP
        does this too.
        """
        if self._tls is None:
            raise ConfigError(
                "reload_tls reads certificates again, and this server has none (tls=)"
            )
        self._tls.reload()

    def stop(self, grace: float | None = None, streams: StreamsEnd = "spread") -> None:
        """Drain and stop: stop accepting, answer what is being answered, end the streams, cut off what is left.

        ``grace`` is how many seconds that may take in all, ``Config.grace`` by default; 0 cuts off now.
        ``streams`` is how streams end: "spread", a few at a time, over up to 2 s if they are many, each with a random
        ``retry`` so that their clients do not all come back at once; "close", all at once, with the same; "finish", by
        themselves, and with what is left of them at the end of the grace. Returns when the server has stopped; called
        on its own loop, at once (``await server.wait_closed()`` there). Repeated calls are harmless; a shorter grace
        takes effect. ``ValueError`` for any other ``streams``.
        """
        self.request_stop(grace, streams)
        if not self._is_own_thread():
            self._block()

    def request_stop(self, grace: float | None = None, streams: StreamsEnd = "spread") -> None:
        """Begin to stop, as ``stop`` does, and return at once; safe in a signal handler."""
        if streams not in get_args(StreamsEnd):
            raise ValueError(f'streams is {streams!r}: it is "spread", "finish" or "close"')
        if grace is None:
            grace = self._config.grace
        loop = self._loop
        if loop is None:
            earlier = self._early_stop or (grace, streams)
            self._early_stop = min(grace, earlier[0]), earlier[1]
        elif not self.is_closed:
            try:
                loop.call_soon_threadsafe(self._ask_stop, grace, streams)
            except RuntimeError:  # the loop closed between the two lines
                return

    def wait(self) -> None:
        """Block until the server has stopped. ``RuntimeError`` on the server's own loop, which that would stop."""
        if self._is_own_thread() and not self.is_closed:
            raise RuntimeError(
                "wait() would block the loop that serves: await server.wait_closed() there"
            )
        self._block()

    def claim_thread(self) -> None:
        """The calling thread is the one of the loop that will serve."""
        self._thread = threading.get_ident()

    def _is_own_thread(self) -> bool:
        """Whether to wait in this thread for the server's end would keep it from ending."""
        thread = threading.current_thread()
        return thread.ident == self._thread or isinstance(thread, GeneratorThread)

    def _block(self) -> None:
        is_main = threading.current_thread() is threading.main_thread()
        self.main_waits += is_main
        try:
            # A signal that the kernel gave another thread, or that came just before the wait, wakes no main thread.
            while is_main and not self._closed.done():
                concurrent.futures.wait([self._closed], _LOOK_TIME)
            self._closed.result()
        finally:
            self.main_waits -= is_main

    def wait_briefly(self, timeout: float) -> None:
        """Block until the server has stopped, or ``timeout`` seconds; not at all on the server's own loop."""
        if not self._is_own_thread():
            concurrent.futures.wait([self._closed], max(0.0, timeout))

    def when_closed(self, call: Callable[[], None]) -> None:
        """Call ``call`` once the server has stopped, on whatever thread that is seen."""
        self._closed.add_done_callback(lambda _: call())

    async def wait_closed(self) -> None:
        """Wait until the server has stopped, on any loop."""
        await asyncio.shield(asyncio.wrap_future(self._closed))

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    # On the loop

    async def run(self, opened: ThreadFuture[None]) -> None:
        """Serve until asked to stop; ``opened`` is settled once clients can connect. For ``residence`` only."""
        config = self._config
        loop = self._loop = asyncio.get_running_loop()
        self.claim_thread()
        self._stop_asked = loop.create_future()
        self._hurry = loop.create_future()
        service = self._service = Service(
            self._handler, config, loop, self._hosts, self._most_connections()
        )
        service.task = asyncio.current_task()
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
            if self._early_stop is not None:
                self._ask_stop(*self._early_stop)
            streams = await self._stop_asked
            await self._drain(service, acceptor, streams, self._hurry)
        except BaseException as exc:
            if not opened.done():
                opened.set_exception(exc)
            raise
        finally:
            acceptor.close()
            ticker.stop()
            collector.release()
            if watchdog is not None:
                watchdog.stop()
            self.abandon()

    def abandon(self) -> None:
        """Give the port back where there is no loop to serve on; a server that ran does that itself."""
        self._listeners.close()
        if not self._closed.done():
            self._closed.set_result(None)

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


def _settle(future: Future[None]) -> None:
    if not future.done():
        future.set_result(None)
