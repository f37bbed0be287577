"""SIGINT and SIGTERM while servers run: the first drains them, the second ends the process."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from bunpy.server.server import Server

__all__ = ["Signals"]

#: Seconds that a process still has after a second signal.
_LAST_TIME: Final = 0.3
_HANDLED: Final = (signal.SIGINT, signal.SIGTERM)


class Signals:
    """Handles both signals for all servers of a process, unless the program has handlers of its own.

    Python runs signal handlers in the main thread. Once the servers have drained, a main thread that is waiting for
    one of them goes on; one that is anywhere else gets ``SystemExit(0)``. A console keeps its SIGINT.
    """

    def __init__(self) -> None:
        self._servers: list[Server] = []
        self._is_draining = False

    def watch(self, server: Server) -> None:
        """Let signals stop ``server`` too; does nothing outside the main thread, which alone may set handlers."""
        if threading.current_thread() is not threading.main_thread() or hasattr(sys, "ps1"):
            return
        self._servers = [other for other in self._servers if not other.is_closed]
        self._servers.append(server)
        self._is_draining = False
        for number in _HANDLED:
            # A shell without job control starts what it puts in the background with SIGINT ignored; a server that is
            # sent one by name should still drain.
            if signal.getsignal(number) in (
                signal.SIG_DFL,
                signal.SIG_IGN,
                signal.default_int_handler,
            ):
                signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        running = [server for server in self._servers if not server.is_closed]
        if running and not self._is_draining:
            self._is_draining = True
            for server in running:
                server.when_closed(lambda: self._when_closed(number))
                server.request_stop()
        elif running:
            self._end(running, number)
        elif self._is_draining:
            self._is_draining = False
            raise SystemExit(0)
        else:  # no server is left: the signal is what it was before
            signal.signal(
                number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            )
            signal.raise_signal(number)

    def _when_closed(self, number: int) -> None:
        """Wake a main thread that does not wait for a server, by the signal once more."""
        if all(server.is_closed and not server.waiters for server in self._servers):
            main = threading.main_thread().ident
            if sys.platform == "win32" or main is None:
                import _thread

                _thread.interrupt_main(signal.Signals(number))
            else:
                signal.pthread_kill(main, number)

    def _end(self, running: list[Server], number: int) -> None:
        deadline = time.monotonic() + _LAST_TIME
        for server in running:
            server.request_stop(0)
        for server in running:
            server.wait_briefly(deadline - time.monotonic())
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        os._exit(128 + number)
