"""Signals while servers run: the first SIGINT or SIGTERM drains them, the second ends the process; SIGHUP renews."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import TYPE_CHECKING, Any, Final
from weakref import ReferenceType, ref

from bunpy.server.leaving import flush
from bunpy.server.overtime import forbid_overtime

if TYPE_CHECKING:
    from bunpy.server.handle import Server

__all__ = ["Signals"]

#: Seconds that a process still has after a second signal.
_LAST_TIME: Final = 0.15
#: Seconds after which the main thread is told again.
_REPEAT_TIME: Final = 0.05
_HANDLED: Final = (signal.SIGINT, signal.SIGTERM)
_DEFAULTS: Final = (signal.SIG_DFL, signal.SIG_IGN, signal.default_int_handler)


class Signals:
    """Handles both signals for all servers of a process, unless the program has handlers of its own.

    Python runs signal handlers in the main thread. Once the servers have drained, a main thread that is waiting for
    one of them goes on; one that is anywhere else gets ``SystemExit(0)``. A console keeps its SIGINT.
    """

    def __init__(self) -> None:
        # Weakly: one that has stopped, and its handler, are nobody's but the program's.
        self._references: list[ReferenceType[Server]] = []
        self._is_draining = False
        self._is_ending = False
        self._is_telling = False
        self._has_heard = threading.Event()
        # Calls off what ends a process that does not end.
        self._overtime: threading.Event | None = None
        self._before: dict[int, Any] = {}  # what each signal did before

    def watch(self, server: Server) -> None:
        """Let signals stop ``server`` too; a thread that is not the main one cannot set the handlers for that."""
        self._references = [ref(other) for other in (*self._running, server)]
        self._is_draining = False
        self._has_heard.clear()
        self._allow_overtime()
        if threading.current_thread() is not threading.main_thread():
            return
        for number in _HANDLED:
            before = signal.getsignal(number)
            # A shell without job control starts what it puts in the background with SIGINT ignored; a server that is
            # sent one by name should still drain.
            if before in _DEFAULTS or _is_runners(before):
                self._before[number] = before
                signal.signal(number, self._handle)
        if (
            server.heeds_hangup
            and sys.platform != "win32"
            and signal.getsignal(signal.SIGHUP) in (signal.SIG_DFL, signal.SIG_IGN)
        ):
            signal.signal(signal.SIGHUP, self._hang_up)

    def forget(self) -> None:
        """Handle signals for nobody any more."""
        self._references = []
        self._is_draining = False
        self._has_heard.set()
        self._allow_overtime()

    def _allow_overtime(self) -> None:
        """The program goes on, with another server: its end is not that of the last drain any more."""
        if self._overtime is not None:
            self._overtime.set()
            self._overtime = None

    @property
    def _servers(self) -> list[Server]:
        return [server for reference in self._references if (server := reference()) is not None]

    @property
    def _running(self) -> list[Server]:
        return [server for server in self._servers if not server.is_closed]

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._is_ending:
            return  # a third signal interrupts the second's handler, which ends the process
        running = self._running
        if running and not self._is_draining:
            self._is_draining = True
            for server in running:
                server.when_closed(lambda: self._when_closed(number))
                server.request_stop()
            self._overtime = forbid_overtime(max(server.grace for server in running))
        elif running:
            self._end(running, number)
        elif self._is_draining:
            self._is_draining = False
            self._has_heard.set()
            raise SystemExit(0)
        else:  # no server is left: the signal is what it was before
            signal.signal(number, self._before.get(number, signal.SIG_DFL))
            signal.raise_signal(number)

    def _hang_up(self, number: int, frame: FrameType | None) -> None:
        """Read certificates again, or roll workers."""
        for server in self._running:
            if server.heeds_hangup:
                server.hang_up()

    def _when_closed(self, number: int) -> None:
        """Wake a main thread that does not wait for a server, by the signal once more."""
        waits = (
            self._is_ending
            or self._is_telling
            or not all(server.is_closed and not server.main_waits for server in self._servers)
        )
        if not waits:
            self._is_telling = True
            loop = asyncio._get_running_loop()
            if loop is not None and threading.current_thread() is threading.main_thread():
                # On a loop of the program's: what the handler raises must be no task's, this one's least of all.
                loop.call_soon(_send_to_main, number)
            else:
                _send_to_main(number)
            threading.Thread(target=self._repeat, args=(number,), daemon=True).start()

    def _repeat(self, number: int) -> None:
        """A signal between a handler's end and the system call that then goes on is not noticed: send it again."""
        while not self._has_heard.wait(_REPEAT_TIME) and threading.main_thread().is_alive():
            _send_to_main(number)
        self._is_telling = False

    def _end(self, running: list[Server], number: int) -> None:
        self._is_ending = True
        deadline = time.monotonic() + _LAST_TIME
        for server in running:
            server.request_stop(0)
        for server in running:
            server.wait_briefly(deadline - time.monotonic())
            server.kill()
        # What is printed and not written yet, unless whoever reads it holds that up.
        with contextlib.suppress(RuntimeError):
            flusher = threading.Thread(target=flush, daemon=True)
            flusher.start()
            flusher.join(max(0.05, deadline - time.monotonic()))
        os._exit(128 + number)


def _is_runners(handler: object) -> bool:
    """Whether it is what ``asyncio.run`` does with SIGINT (from CPython 3.11 on), and so not the program's own."""
    runner = getattr(asyncio, "Runner", None)
    function = getattr(getattr(handler, "func", None), "__func__", None)
    return function is not None and function is getattr(runner, "_on_sigint", None)


def _send_to_main(number: int) -> None:
    main = threading.main_thread().ident
    if sys.platform == "win32" or main is None:
        import _thread

        _thread.interrupt_main(signal.Signals(number))
    else:
        signal.pthread_kill(main, number)
