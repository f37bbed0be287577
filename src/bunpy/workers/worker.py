"""What a worker process does, from its first step to its last. How it is started, and when, is elsewhere."""

from __future__ import annotations

import logging
import os
import pickle
import random
import signal
import socket
import sys
import threading
import time
from concurrent.futures import Future as ThreadFuture
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

from bunpy.errors import ConfigError, ImportFailed
from bunpy.http.counters import Counters
from bunpy.server.config import Config
from bunpy.server.importer import load
from bunpy.server.leaving import finish
from bunpy.server.listeners import Listeners
from bunpy.server.log import ensure_handler
from bunpy.server.loops import close_loop, new_loop
from bunpy.server.server import LocalServer
from bunpy.server.sockets import raise_descriptor_limit
from bunpy.workers.board import Board
from bunpy.workers.link import Link, Message

if TYPE_CHECKING:
    from bunpy.http.service import Handler

__all__ = ["Task", "work"]

_log = logging.getLogger("bunpy")

#: Seconds that streams have, and the process, when the supervisor is gone.
_ORPHAN_GRACE: Final = 2.0
_LAST_TIME: Final = 1.0
#: The part of ``max_requests`` and ``max_lifetime`` by which each worker's own limit may be less.
_JITTER: Final = 0.1


@dataclass
class Task:
    """What a worker is to do: answer with ``handler``, or what has that name, who connects to ``sockets``.

    ``hostname`` is what was asked for, ``bound_name`` the same if the sockets are ports that were bound by it. What
    it counts goes into ``row`` of ``board``; ``link`` leads to its supervisor.
    """

    handler: Handler | str
    hostname: str
    bound_name: str | None
    config: Config
    sockets: list[socket.socket]
    board: Board
    row: int
    link: Link


def work(task: Task) -> int:
    """Serve until told to stop, in the main thread of a process made for it; the exit status."""
    worker = _Worker(task)
    try:
        return worker.run()
    finally:
        finish()


class _Worker:
    """A worker, as it sees itself."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._config = task.config
        self._link = task.link
        self._server: LocalServer | None = None
        self._counted = Counters(task.board.row(task.row))
        self._is_told = False  # whether the supervisor knows that this worker wants to be replaced
        share = 1.0 - random.uniform(0.0, _JITTER)
        self._most = _scaled(task.config.max_requests, share)
        self._end = time.monotonic() + _scaled(task.config.max_lifetime, share)

    def run(self) -> int:
        _take_signals(self._on_terminate)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._disown)
        for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"):
            os.environ.pop(name, None)
        threading.Thread(target=self._listen, name="bunpy-worker", daemon=True).start()
        task = self._task
        try:
            # Its listeners are its own: to close them ends nothing for others.
            listeners = Listeners(task.sockets, hostname=task.bound_name)
            self._server = server = LocalServer(
                self._import(task.handler) if isinstance(task.handler, str) else task.handler,
                task.hostname,
                0,
                task.config,
                listeners=listeners,
                board=task.board,
                row=task.row,
                on_tick=self._look,
            )
        except (ConfigError, OSError) as exc:
            kind = "import" if isinstance(exc, ImportFailed) else "config"
            self._link.send("failed", kind=kind, error=str(exc)[:4000])
            return 1
        opened: ThreadFuture[None] = ThreadFuture()
        opened.add_done_callback(self._on_opened)
        loop = new_loop()
        try:
            loop.run_until_complete(server.run(opened))
        except Exception:
            _log.exception("a worker's server has failed")
            return 1
        finally:
            close_loop(loop)
        return 0

    def _import(self, name: str) -> Handler:
        """The handler of that name. SIGTERM is heard meanwhile.

        The main thread runs signal handlers between two instructions: not in a long call of C, and not in a sleep that
        began in the moment in which the signal came. Its number is written to the wakeup descriptor at once, unless the
        import has one of its own.
        """
        reader, writer = socket.socketpair()
        writer.setblocking(False)
        threading.Thread(
            target=self._heed, args=(reader,), name="bunpy-signals", daemon=True
        ).start()
        with writer:
            signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
            try:
                return load(name)
            finally:
                descriptor = signal.set_wakeup_fd(-1)
                if descriptor != writer.fileno():
                    signal.set_wakeup_fd(descriptor)  # the program's own
                # A process that the import has forked may have a copy: the end of this one would not be seen.
                writer.send(b"\0")

    def _heed(self, reader: socket.socket) -> None:
        with reader:
            while 0 not in (numbers := reader.recv(16)):
                if signal.SIGTERM in numbers and self._server is None:
                    self._link.send("leaving")
                    os._exit(0)

    def _disown(self) -> None:
        """In a process that the program has forked: it is none of the supervisor's, and its signals are its own."""
        signal.set_wakeup_fd(-1)
        if signal.getsignal(signal.SIGTERM) == self._on_terminate:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def _on_opened(self, opened: ThreadFuture[None]) -> None:
        if opened.exception() is None:
            self._link.send("ready")

    def _look(self) -> None:
        """Called every tick: whether it has served for as long, or as often, as it may."""
        if self._is_told:
            return
        answered = 0
        if self._config.max_requests is not None:
            answered = sum(Counters.stats([self._counted.cells]).responses.values())
        if answered >= self._most or time.monotonic() >= self._end:
            self._is_told = self._link.send("tired")

    def _on_terminate(self, number: int, frame: FrameType | None) -> None:
        """Somebody other than the supervisor wants this worker to end: another may begin at once."""
        self._link.send("leaving")
        if self._server is None:
            os._exit(0)
        self._server.retire(self._config.grace, self._config.drain)

    # In a thread of its own, so that it is heard while the loop is blocked

    def _listen(self) -> None:
        while True:
            messages = self._link.receive()
            if messages is None:
                break
            for message in messages:
                self._obey(message)
        # The supervisor is gone, and with it whoever could replace or stop this worker.
        grace = min(self._config.grace, _ORPHAN_GRACE)
        self._stop(grace, self._config.drain)
        assert self._server is not None
        self._server.wait_briefly(grace + _LAST_TIME)
        if self._server.is_closed:
            time.sleep(_LAST_TIME)  # the main thread is about to end the process
        os._exit(1)

    def _obey(self, message: Message) -> None:
        about = message["about"]
        if about == "stop":
            self._stop(message["grace"], message["streams"])
        elif about == "retire":
            if self._server is not None:
                self._server.retire(message["grace"], message["streams"])
        elif about == "reload_tls" and self._server is not None:
            try:
                self._server.reload_tls()
            except ConfigError as exc:
                _log.error("%s", exc)

    def _stop(self, grace: float, streams: Any) -> None:
        if self._server is None:
            os._exit(0)  # it is still importing
        self._server.request_stop(grace, streams)


def _scaled(limit: float | None, share: float) -> float:
    return float("inf") if limit is None else limit * share


def _take_signals(on_terminate: Any) -> None:
    """SIGTERM ends it; SIGINT and SIGHUP, which a terminal sends to everybody, are the supervisor's to act on."""
    signal.signal(signal.SIGTERM, on_terminate)
    # Not SIG_IGN, which the programs that a handler starts would inherit.
    for name in ("SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), _ignore)


def _ignore(number: int, frame: FrameType | None) -> None:
    return


def main() -> None:
    """The program of a spawned worker: standard input says what it is to do."""
    paths, payload = pickle.load(sys.stdin.buffer)
    sys.path[:] = paths
    known: dict[str, Any] = pickle.loads(payload)
    *sockets, link = [_received(passed) for passed in known.pop("sockets")]
    rows, place = known.pop("board")
    config = Config.of(known.pop("options"))
    ensure_handler(is_json=config.log_json)
    raise_descriptor_limit()
    board = Board(rows, place)
    board.close()
    os._exit(work(Task(config=config, sockets=sockets, link=Link(link), board=board, **known)))


def _received(passed: int | bytes) -> socket.socket:
    if sys.platform == "win32":
        assert isinstance(passed, bytes)
        return socket.fromshare(passed)
    assert isinstance(passed, int)
    sock = socket.socket(fileno=passed)
    sock.set_inheritable(False)
    return sock


if __name__ == "__main__":
    main()
