"""A server's life: it opens, it serves, it drains. The thread it does that in, and the signals, are elsewhere."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
from asyncio import AbstractEventLoop, Future
from collections.abc import Callable
from concurrent.futures import Future as ThreadFuture
from socket import socket
from types import TracebackType
from typing import Any, Final

from bunpy.http.host import HostList
from bunpy.http.protocol import HTTPProtocol
from bunpy.http.service import Handler, Service
from bunpy.server.config import Config
from bunpy.server.sockets import bind
from bunpy.server.ticker import Ticker

__all__ = ["Server"]

_log = logging.getLogger("bunpy")

#: Seconds over which the ends of many streams are spread when a server stops, and how many may end at a time.
SPREAD_TIME: Final = 2.0
_SPREAD_RATE: Final = 2000
#: Seconds for generators to see that they are cancelled, once a server's grace is over.
_LAST_TIME: Final = 0.2


class Server:
    """A running server, as ``serve`` gives it. All of its methods may be called from any thread."""

    def __init__(self, handler: Handler, hostname: str, port: int, config: Config) -> None:
        self._handler = handler
        self._config = config
        self._sockets: list[socket] = bind(hostname, port, config.backlog)
        addresses = [listener.getsockname() for listener in self._sockets]
        self._hosts = HostList(config.allowed_hosts, [address[0] for address in addresses])
        #: The name or address that was asked for.
        self.hostname = hostname
        #: The port that it listens on, also where 0 was asked for.
        self.port: int = addresses[0][1]
        self._loop: AbstractEventLoop | None = None
        self._service: Service | None = None
        self._stop_asked: Future[float] | None = None
        self._hurry: Future[None] | None = None
        self._thread: int | None = None
        self._closed: ThreadFuture[None] = ThreadFuture()
        #: How many threads are blocked in ``wait`` or ``stop``, or live in it; ``Signals`` asks.
        self.waiters = 0

    def __repr__(self) -> str:
        state = "stopped" if self.is_closed else "running"
        return f"<Server {self.url} {state}>"

    @property
    def url(self) -> str:
        """Where to find it: ``http://127.0.0.1:3000``."""
        host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(
            self.hostname, self.hostname
        )
        if ":" in host and not host.startswith("["):
            host = f"[{host}]"
        return f"http://{host}:{self.port}"

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

    def stop(self, grace: float | None = None) -> None:
        """Drain and stop: stop accepting, answer what is being answered, end the streams, cut off what is left.

        ``grace`` is how many seconds that may take in all, ``Config.grace`` by default; 0 cuts off at once. Returns
        when the server has stopped; called on its own loop, at once (``await server.wait_closed()`` there).
        Repeated calls are harmless; a shorter grace takes effect.
        """
        self.request_stop(grace)
        if threading.get_ident() != self._thread:
            self._block()

    def request_stop(self, grace: float | None = None) -> None:
        """Begin to stop, as ``stop`` does, and return at once; safe in a signal handler."""
        loop = self._loop
        if loop is not None and not self.is_closed:
            try:
                loop.call_soon_threadsafe(
                    self._ask_stop, self._config.grace if grace is None else grace
                )
            except RuntimeError:  # the loop closed between the two lines
                return

    def wait(self) -> None:
        """Block until the server has stopped. ``RuntimeError`` on the server's own loop, which that would stop."""
        if threading.get_ident() == self._thread and not self.is_closed:
            raise RuntimeError(
                "wait() would block the loop that serves: await server.wait_closed() there"
            )
        self._block()

    def _block(self) -> None:
        self.waiters += 1
        try:
            self._closed.result()
        finally:
            self.waiters -= 1

    def wait_briefly(self, timeout: float) -> None:
        """Block until the server has stopped, or ``timeout`` seconds; not at all on the server's own loop."""
        if threading.get_ident() != self._thread:
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
        loop = self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._stop_asked = loop.create_future()
        self._hurry = loop.create_future()
        service = self._service = Service(self._handler, self._config, loop, self._hosts)
        ticker = Ticker(service)
        listeners: list[asyncio.AbstractServer] = []
        try:
            for listener in self._sockets:
                accepting = await loop.create_server(
                    lambda: HTTPProtocol(service), sock=listener, backlog=self._config.backlog
                )
                listeners.append(accepting)
            ticker.start()
            opened.set_result(None)
            grace = await self._stop_asked
            await self._drain(service, listeners, grace)
        except BaseException as exc:
            if not opened.done():
                opened.set_exception(exc)
            raise
        finally:
            for server in listeners:
                server.close()
            ticker.stop()
            for listener in self._sockets:
                listener.close()
            self._closed.set_result(None)

    def _ask_stop(self, grace: float) -> None:
        assert self._stop_asked is not None
        assert self._hurry is not None
        if not self._stop_asked.done():
            self._stop_asked.set_result(grace)
        elif grace <= 0 and not self._hurry.done():
            self._hurry.set_result(None)

    async def _drain(
        self, service: Service, listeners: list[asyncio.AbstractServer], grace: float
    ) -> None:
        loop = service.loop
        # 1. Nobody new.
        for server in listeners:
            server.close()
        # 2. Whoever waits for nothing goes; whoever waits for an answer gets it, and is the last to.
        service.is_stopping = True
        idle: Future[Any] = loop.create_future()
        service.on_idle = lambda: None if idle.done() else idle.set_result(None)
        connections = list(service.connections)
        if not connections:
            service.on_idle()
        # 3. Streams end, in an order that spreads their clients' return over some time if they are many.
        turn = max(
            1,
            int(len(connections) / min(SPREAD_TIME, max(grace / 2, 0.001)) * 0.01),
            _SPREAD_RATE // 100,
        )
        for start in range(0, len(connections), turn):
            for connection in connections[start : start + turn]:
                connection.stop()
            if grace > 0 and start + turn < len(connections):
                await asyncio.wait([self._hurry_up()], timeout=0.01)
        # 4. They have until the grace is over.
        if grace > 0:
            await asyncio.wait(
                [idle, self._hurry_up()], timeout=grace, return_when=asyncio.FIRST_COMPLETED
            )
        # 5. What is left is cut off, and its generators have one more moment.
        if not idle.done():
            for connection in list(service.connections):
                connection.abort()
            await asyncio.wait([idle], timeout=_LAST_TIME)
        if not idle.done() and grace > 0:
            _log.error(
                "stopped with %d connections whose handlers or generators did not end",
                len(service.connections),
            )

    def _hurry_up(self) -> Future[None]:
        assert self._hurry is not None
        return self._hurry
