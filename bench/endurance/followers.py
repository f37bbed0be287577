"""Clients that come back: each follows numbered events, and sees whether one is missing or comes twice."""

from __future__ import annotations

import heapq
import random
import re
import select
import socket
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final

__all__ = ["Followers"]

_ID: Final = re.compile(rb"^id: (\d+)$", re.MULTILINE)
_PATIENCE: Final = 5.0


@dataclass
class _Follower:
    """One client: what it has seen last, and what of a line has come."""

    last: int = 0
    rest: bytes = b""
    sock: socket.socket | None = field(default=None, repr=False)


class Followers:
    """``count`` clients of ``path``, whose events have the ids 1, 2, 3 …; each comes back half a second after its end.

    ``refused`` counts connections that could not be made, ``cuts`` those that ended, ``clean`` those of them that ended
    with the last chunk, ``faults`` ids that did not follow the one before.
    """

    def __init__(self, port: int, path: str, count: int) -> None:
        self._place = ("127.0.0.1", port)
        self._path = path
        self._poller = select.epoll()
        self._by_number: dict[int, _Follower] = {}
        self._due: list[tuple[float, int, _Follower]] = []
        self._chance = random.Random(1)
        self.refused = self.cuts = self.clean = self.faults = self.events = 0
        for number in range(count):
            self._connect(number, _Follower())

    def __enter__(self) -> Followers:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for follower in self._by_number.values():
            if follower.sock is not None:
                follower.sock.close()
        self._poller.close()

    @property
    def connected(self) -> int:
        """How many there are at the moment."""
        return len(self._by_number)

    def run(self, seconds: float) -> None:
        """Follow for that long."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            for number, _ in self._poller.poll(min(left, 0.05)):
                self._read(number)
            while self._due and self._due[0][0] <= time.monotonic():
                _, order, follower = heapq.heappop(self._due)
                self._connect(order, follower)

    def _connect(self, order: int, follower: _Follower) -> None:
        try:
            sock = socket.create_connection(self._place, _PATIENCE)
            sock.sendall(
                f"GET {self._path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n"
                f"Last-Event-ID: {follower.last}\r\n\r\n".encode()
            )
        except OSError:
            self.refused += 1
            self._come_back(order, follower)
            return
        sock.setblocking(False)
        follower.sock = sock
        self._by_number[sock.fileno()] = follower
        self._poller.register(sock.fileno(), select.EPOLLIN)

    def _come_back(self, order: int, follower: _Follower) -> None:
        heapq.heappush(
            self._due, (time.monotonic() + self._chance.uniform(0.05, 0.5), order, follower)
        )

    def _read(self, number: int) -> None:
        follower = self._by_number[number]
        assert follower.sock is not None
        try:
            data = follower.sock.recv(65536)
        except ConnectionError:
            data = b""
        if not data:
            self.cuts += 1
            self.clean += follower.rest.endswith(b"0\r\n\r\n")
            follower.sock.close()
            follower.sock, follower.rest = None, b""
            del self._by_number[number]
            self._come_back(number, follower)
            return
        data = follower.rest + data
        whole, newline, _ = data.rpartition(b"\ndata: ")
        for found in _ID.finditer(whole):
            self.events += 1
            self.faults += int(found[1]) != follower.last + 1
            follower.last = int(found[1])
        follower.rest = data[len(whole) :] if newline else data
