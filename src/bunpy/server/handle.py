"""What ``serve`` returns: a server's names, and the wait for its end. Where it runs is its subclasses' matter."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import Future as ThreadFuture
from types import TracebackType
from typing import TYPE_CHECKING, Final, get_args

from bunpy.server.config import Config, StreamsEnd
from bunpy.sse.threaded import GeneratorThread

if TYPE_CHECKING:
    from bunpy.http.service import Handler
    from bunpy.http.stats import Stats
    from bunpy.server.listeners import Listeners

__all__ = ["Server"]

#: Seconds after which a main thread that waits for a server looks whether there has been a signal.
_LOOK_TIME: Final = 0.25


class Server(ABC):
    """A running server, as ``serve`` gives it. All of its methods may be called from any thread."""

    def __init__(self, hostname: str, listeners: Listeners, config: Config) -> None:
        self._config = config
        self._listeners = listeners
        #: The name or address that was asked for, or ``unix:``, ``fd:`` or ``systemd`` and what came after it.
        self.hostname = hostname
        #: The port that it listens on, also where 0 was asked for; 0 for a Unix socket.
        self.port: int = listeners.port
        #: How many processes serve.
        self.workers = 1
        self._thread: int | None = None
        # It has stopped; and whoever waits for that goes on, when all have been told who are to be told of it: Signals
        # must see that the main thread has waited.
        self._stopped: ThreadFuture[None] = ThreadFuture()
        self._closed: ThreadFuture[None] = ThreadFuture()
        #: How many calls of the main thread's wait for the end; ``Signals`` asks.
        self.main_waits = 0

    def __repr__(self) -> str:
        state = "stopped" if self.is_closed else "running"
        return f"<Server {self.url} {state}>"

    @property
    def url(self) -> str:
        """Where to find it: ``http://127.0.0.1:3000``, or ``unix:/run/x.sock``."""
        return self._listeners.url("https" if self.has_tls else "http")

    @property
    def has_tls(self) -> bool:
        """Whether clients connect by TLS."""
        return self._config.tls is not None

    @property
    def is_closed(self) -> bool:
        """Whether it has stopped."""
        return self._stopped.done()

    @abstractmethod
    def stats(self) -> Stats:
        """Its numbers: what is so now, and what has been counted since its start; summed over its workers."""

    @abstractmethod
    def reload(self, handler: Handler | str) -> None:
        """Answer new requests with ``handler``; what is being answered, streams included, goes on as it is.

        ``handler`` is a function or its name, as "app:handler". Where there are workers, they are replaced one by
        one, the new before the old, whose streams end; returns when all are. They can be told a name only, or a
        function that is found by its name in a module: ``ConfigError`` for any other, and for what cannot be
        imported, but ``RuntimeError`` if that is seen by a worker; what was in effect stays so then.
        """

    @abstractmethod
    def reload_tls(self) -> None:
        """Read the certificate and its key again, for connections from now on; the others stay as they are.

        Raises ``ConfigError`` if they cannot be used, or if there are none; what was in effect stays so then. SIGHUP
        does this too.
        """

    @property
    def grace(self) -> float:
        """Seconds that a stop may take. For ``Signals``."""
        return self._config.grace

    @property
    @abstractmethod
    def heeds_hangup(self) -> bool:
        """Whether SIGHUP means anything to it."""

    @abstractmethod
    def hang_up(self) -> None:
        """Do what SIGHUP asks for, or begin to; what goes wrong is logged. For ``Signals``."""

    def stop(self, grace: float | None = None, streams: StreamsEnd | None = None) -> None:
        """Drain and stop: stop accepting, answer what is being answered, end the streams, cut off what is left.

        ``grace`` is how many seconds that may take in all, ``Config.grace`` by default; 0 cuts off now.
        ``streams`` is how streams end, ``Config.drain`` by default: "spread", a few at a time, over up to 2 s if they
        are many, each with a random ``retry`` so that their clients do not all come back at once; "close", all at
        once, with the same; "finish", by themselves, and with what is left of them at the end of the grace. Returns
        when the server has stopped; called on its own loop, at once (``await server.wait_closed()`` there). Repeated
        calls are harmless; a shorter grace takes effect. ``ValueError`` for any other ``streams``.
        """
        self.request_stop(grace, streams)
        if not self._is_own_thread():
            self._block()

    def request_stop(self, grace: float | None = None, streams: StreamsEnd | None = None) -> None:
        """Begin to stop, as ``stop`` does, and return at once; safe in a signal handler."""
        if streams is None:
            streams = self._config.drain
        elif streams not in get_args(StreamsEnd):
            raise ValueError(f'streams is {streams!r}: it is "spread", "finish" or "close"')
        self._request_stop(self._config.grace if grace is None else grace, streams)

    @abstractmethod
    def _request_stop(self, grace: float, streams: StreamsEnd) -> None:
        """Begin to stop."""

    @abstractmethod
    def kill(self) -> None:
        """End what would outlive this process; in a signal handler, when the process is about to end."""

    def wait(self) -> None:
        """Block until the server has stopped. ``RuntimeError`` on the server's own loop, which that would stop."""
        if self._is_own_thread() and not self.is_closed:
            raise RuntimeError(
                "wait() would block the loop that serves: await server.wait_closed() there"
            )
        self._block()

    def claim_thread(self) -> None:
        """The calling thread is the one of the loop that serves, or that the server was started on."""
        self._thread = threading.get_ident()

    def release_thread(self) -> None:
        """No loop runs in that thread any more: what waits there for the end waits."""
        self._thread = None

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
            timeout = min(max(0.0, timeout), threading.TIMEOUT_MAX)  # math.inf is more
            concurrent.futures.wait([self._closed], timeout)

    def when_closed(self, call: Callable[[], None]) -> None:
        """Call ``call`` once the server has stopped, before whoever waits for that goes on."""
        self._stopped.add_done_callback(lambda _: call())

    async def wait_closed(self) -> None:
        """Wait until the server has stopped, on any loop."""
        await asyncio.shield(asyncio.wrap_future(self._closed))

    def abandon(self) -> None:
        """Give the port back, and be closed: at the end, or where it could not begin."""
        self._listeners.close()
        if not self._stopped.done():
            self._stopped.set_result(None)
            self._closed.set_result(None)

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
