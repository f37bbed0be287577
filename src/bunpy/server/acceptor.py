"""Accepting connections, and not accepting them while there is no room. What they say is the protocol's."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import ssl
import sys
import time
from asyncio import AbstractServer, Task
from collections.abc import Callable, Sequence
from socket import socket
from typing import Final

from bunpy.server.handshakes import Handshakes

__all__ = ["Acceptor", "descriptors"]

_log = logging.getLogger("bunpy")

#: Descriptors that are left to the program at the least, and to clients that are told that there is no room.
RESERVE: Final = 16
EXCESS: Final = 16
#: Seconds without a connection after which there may be several: a loop turns seldom while it is busy.
_TURN_TIME: Final = 0.001
#: Connections that are accepted in one turn then.
_AT_ONCE: Final = 64
#: What ``accept`` fails with where there is room in the queue and none in the process, or the system.
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
#: Seconds after which a pause is looked at first.
_AGAIN: Final = 0.02
#: Seconds in which it is said once that no connection is accepted.
_QUIET_TIME: Final = 60.0


def descriptors() -> tuple[int, int]:
    """How many descriptors the process may have, and how many of the lowest numbers are taken."""
    if sys.platform == "win32":
        return sys.maxsize, 0
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        limit = sys.maxsize
    return limit, _next_descriptor()


def _next_descriptor(count: int = 1) -> int:
    """The highest of the ``count`` lowest numbers that are free, which new descriptors would get."""
    numbers: list[int] = []
    try:
        while len(numbers) < count:
            numbers += [os.open(os.devnull, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))]
    except OSError as exc:
        if exc.errno not in _EXHAUSTED:
            raise
        return sys.maxsize
    finally:
        for number in numbers:
            os.close(number)
    return numbers[-1]


class Acceptor:
    """Accepts on ``listeners`` with a protocol from ``factory`` for each connection; made and called on the loop.

    uvloop accepts by itself, one connection a turn. asyncio would accept all who wait, and log an error a second when
    there are no descriptors; there it is done here.

    The listeners stay open, and whoever made them closes them: where accepting pauses, who connects waits in the
    kernel. ``room`` tells how many more connections there may be, and ``excess`` how many there are beyond that.
    """

    def __init__(
        self,
        listeners: Sequence[socket],
        factory: Callable[[], asyncio.Protocol],
        excess: Callable[[], int],
        *,
        room: Callable[[], int] = lambda: 0,
        backlog: int,
        tls: ssl.SSLContext | None = None,
        handshake_timeout: float = 10.0,
    ) -> None:
        self._listeners = listeners
        self._factory = factory
        self._excess = excess
        self._room = room
        self._backlog = backlog
        self._handshakes: Handshakes | None = None
        if tls is not None:
            self._handshakes = Handshakes(
                factory, tls, timeout=handshake_timeout, on_accepted=self.accepted
            )
            self._factory = self._handshakes.new
        self._servers: list[AbstractServer] = []
        self._is_open = False
        self._opening: Task[None] | None = None
        self._adopting: set[Task[None]] = set()
        self._accepted_at = 0.0
        self._is_closed = False
        self._said = -_QUIET_TIME
        limit, _ = descriptors()
        #: A new connection with this number is the last for now.
        self._mark = limit - RESERVE // 2

    async def open(self) -> None:
        """Begin to accept."""
        if self._is_closed:
            return
        loop = asyncio.get_running_loop()
        self._is_open = True
        for listener in self._listeners:
            if isinstance(loop, asyncio.SelectorEventLoop):
                loop.add_reader(listener, self._accept_from, listener)
                continue
            # A copy: the server closes what it is given, and with it would go those who wait to be accepted.
            server = await loop.create_server(
                self._factory, sock=listener.dup(), backlog=self._backlog
            )
            self._servers.append(server)
            if self._is_closed:
                self._pause()
                return

    def close(self) -> None:
        """Accept no more, for good."""
        self._is_closed = True
        if self._opening is not None:
            self._opening.cancel()
        self._pause()

    async def abort_handshakes(self) -> None:
        """Cut off those that have not come through; when this returns they are lost."""
        if self._handshakes is not None:
            await self._handshakes.abort()

    def accepted(self, number: int) -> None:
        """A connection has been accepted that has this descriptor: pause if there is no room for another."""
        if not self._is_open:
            return
        now = time.monotonic()
        passed, self._accepted_at = now - self._accepted_at, now
        if number < self._mark and self._is_room():
            if passed > _TURN_TIME and self._servers:
                # Others may wait behind: 500 clients waited 8 s, one a turn, behind streams at work.
                for listener in self._listeners:
                    if self._may_adopt():
                        self._accept_from(listener)
        else:
            self._give_way(is_exhausted=number >= self._mark)
            # Who is told that there is no room is soon gone, sooner than the next tick comes.
            asyncio.get_running_loop().call_later(_AGAIN, self.look)

    def _give_way(self, *, is_exhausted: bool) -> None:
        """There is no room: accept no more until there is."""
        self._pause()
        now = time.monotonic()
        if now - self._said >= _QUIET_TIME:
            self._said = now
            _log.warning(
                "no connections are accepted for now: %s",
                "the descriptors are used up; raise the limit (ulimit -n)"
                if is_exhausted
                else "there are more of them than max_connections",
            )

    def _is_room(self) -> bool:
        """Whether there is room for a connection, or it can be told that there is none."""
        return self._room() > 0 or self._excess() < EXCESS

    def _may_adopt(self) -> bool:
        """Whether there is room for one more in this turn, or it can be told that there is none."""
        told = max(0, EXCESS - self._excess())
        return len(self._adopting) < min(_AT_ONCE, self._room() + told)

    def _accept_from(self, listener: socket) -> None:
        """Take those who wait, one at the least."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, _ = listener.accept()
            except OSError as exc:
                if exc.errno in _EXHAUSTED:
                    self.accepted(self._mark)
                return
            sock.setblocking(False)
            task = loop.create_task(self._adopt(sock))
            self._adopting.add(task)
            task.add_done_callback(self._adopting.discard)
            if sock.fileno() >= self._mark or not self._may_adopt():
                return

    async def _adopt(self, sock: socket) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(self._factory, sock)
        except OSError:  # it has gone again
            sock.close()

    def look(self) -> None:
        """Accept again if there is room again, and no more if the program has used it up; called every tick."""
        if self._is_closed or self._opening is not None:
            return
        if self._is_open:
            if _next_descriptor() >= self._mark:
                self._give_way(is_exhausted=True)
            return
        # The listeners' copies were closed, and leave low numbers free that are no room.
        if self._is_room() and _next_descriptor(len(self._listeners) + 1) < self._mark:
            self._opening = asyncio.get_running_loop().create_task(self.open())
            self._opening.add_done_callback(self._on_opened)

    def _on_opened(self, task: Task[None]) -> None:
        self._opening = None
        if not task.cancelled() and task.exception() is not None:
            # Tried again at the next tick.
            _log.error("cannot accept connections", exc_info=task.exception())
            self._pause()

    def _pause(self) -> None:
        if not self._is_open:
            return
        self._is_open = False
        for server in self._servers:
            server.close()
        self._servers.clear()
        loop = asyncio.get_running_loop()
        if isinstance(loop, asyncio.SelectorEventLoop):
            for listener in self._listeners:
                if listener.fileno() >= 0:
                    loop.remove_reader(listener)
