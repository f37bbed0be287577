"""Many clients in one thread, of sockets alone: they ask, they read or do not, they vanish.

``python -m bench.endurance.clients PORT COUNT PATH`` is so many that read until standard input ends; it says "there"
when all have had an event.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Final

from bench.errors import BenchError
from bench.load.client import RESET
from bunpy.server.sockets import raise_descriptor_limit

__all__ = ["Crowd", "fetch", "is_refused", "request_bytes", "state", "until"]

_PATIENCE: Final = 20.0
_BIND_ADDRESS_NO_PORT: Final = 24  # linux/in.h; CPython has no name for it


def request_bytes(path: str) -> bytes:
    """A GET as an EventSource sends one."""
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n".encode()


def fetch(port: int, path: str = "/", host: str = "127.0.0.1") -> tuple[float, bytes]:
    """Seconds that a GET took on a connection of its own, and the answer."""
    began = time.perf_counter()
    with socket.create_connection((host, port), timeout=_PATIENCE) as sock:
        sock.sendall(
            f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
        )
        answer = b""
        while piece := sock.recv(65536):
            answer += piece
    return time.perf_counter() - began, answer


def state(port: int, host: str = "127.0.0.1") -> dict[str, Any]:
    """What the server says of itself."""
    _, answer = fetch(port, "/state", host)
    found: dict[str, Any] = json.loads(answer.partition(b"\r\n\r\n")[2])
    return found


def is_refused(port: int) -> bool:
    """Whether nobody listens there."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE).close()
    except ConnectionRefusedError:
        return True
    return False


def until(condition: Callable[[], bool], timeout: float = _PATIENCE) -> bool:
    """Wait until ``condition`` holds, for ``timeout`` seconds at most; whether it does."""
    end = time.perf_counter() + timeout
    while not (holds := condition()) and time.perf_counter() < end:
        time.sleep(0.05)
    return holds


class Crowd:
    """Connections to one server, each with a request sent; closed at the end of the ``with``."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self._place = (host, port)
        self._poller = select.epoll()
        self._joined = 0
        self.sockets: dict[int, socket.socket] = {}

    def __enter__(self) -> Crowd:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.leave()
        self._poller.close()

    def join(self, count: int, path: str, *, buffer: int = 0, reads: bool = True) -> list[int]:
        """``count`` more, as their descriptors; ``buffer`` is how many bytes the kernel takes in for each."""
        joined = []
        for _ in range(count):
            sock = socket.socket()
            if buffer:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
            sock.settimeout(_PATIENCE)
            if self._place[0] == "127.0.0.1":
                # One address has 28,000 ports to go out from, and finding one of the last costs the kernel ms.
                self._joined += 1
                sock.setsockopt(socket.IPPROTO_IP, _BIND_ADDRESS_NO_PORT, 1)
                sock.bind((f"127.0.{1 + self._joined // 5000 % 200}.1", 0))
            sock.connect(self._place)
            sock.sendall(request_bytes(path))
            sock.setblocking(False)
            self.sockets[sock.fileno()] = sock
            if reads:
                self._poller.register(sock.fileno(), select.EPOLLIN)
            joined.append(sock.fileno())
        return joined

    def leave(self, numbers: list[int] | None = None, *, by_reset: bool = True) -> None:
        """Close those, or all."""
        for number in list(self.sockets) if numbers is None else numbers:
            sock = self.sockets.pop(number)
            if by_reset:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            sock.close()

    def read(self, seconds: float) -> Iterator[tuple[int, bytes]]:
        """What comes in that time, by connection; b"" where the server has closed one, which is then left."""
        end = time.perf_counter() + seconds
        while (left := end - time.perf_counter()) > 0:
            for number, _ in self._poller.poll(left):
                try:
                    data = self.sockets[number].recv(262144)
                except ConnectionError:
                    data = b""
                if not data:
                    self.leave([number])
                yield number, data

    def wait_for_all(self, mark: bytes) -> None:
        """Read until each has had ``mark``; ``BenchError`` if that takes too long."""
        missing = set(self.sockets)
        end = time.perf_counter() + 3 * _PATIENCE
        while missing:
            for number, data in self.read(0.2):
                if mark in data:
                    missing.discard(number)
                elif not data:
                    raise BenchError("the server closed a connection")
            if time.perf_counter() > end:
                raise BenchError(f"{len(missing)} clients have had no {mark!r}")


def _main() -> None:
    port, count, path = sys.argv[1:]
    raise_descriptor_limit()
    with Crowd(int(port)) as crowd:
        crowd.join(int(count), path)
        crowd.wait_for_all(b"here")
        print("there", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    _main()
