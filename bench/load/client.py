"""The load: many connections in one thread, as cheap as Python gets, so that the server is what is measured.

A received piece costs one ``recv_into`` into the same memory and one count of a byte in it: 38 ns an event where pieces
are large. Nothing is parsed; the answers' form is the tests' business.
"""

from __future__ import annotations

import select
import socket
import struct
import sys
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Final

from bench.errors import BenchError

__all__ = ["LAST_CHUNK", "RESET", "Load", "Window"]

LAST_CHUNK: Final = b"0\r\n\r\n"

_REQUEST: Final = b"GET / HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n"
_STATUS: Final = b"HTTP/1.1 200 OK\r\n"
_MARK: Final = ord("!")
#: Seconds without a byte, after which a measurement has failed.
_PATIENCE: Final = 10
#: Close with RST: no port of the client's is left in TIME_WAIT, of which 10,000 a round would soon be too many.
RESET: Final = struct.pack("ii", 1, 0)

if sys.platform == "linux":
    _Poller = select.epoll
    _TIMEOUT = _PATIENCE
else:
    _Poller = select.poll
    _TIMEOUT = _PATIENCE * 1000


@dataclass(frozen=True)
class Window:
    """What one stretch of time brought: events, and how many seconds of its core the client used."""

    events: int
    seconds: float
    client_time: float


class Load:
    """``connections`` connections to a local port, each with a request sent; closed at the end of the ``with``.

    With ``tail``, the last bytes of a whole answer, the request is sent again after each answer; without, answers do
    not end. ``pace`` is the time between two connections, in seconds. Raises ``BenchError`` when a server closes,
    refuses or falls silent.
    """

    def __init__(self, port: int, connections: int, tail: bytes = b"", pace: float = 0.0) -> None:
        self._tail = tail
        self._poller = _Poller()
        self._buffer = bytearray(256 * 1024)
        self._sockets: dict[int, socket.socket] = {}
        self._lasts: dict[int, bytes] = {}
        self._unseen: set[int] = set()
        try:
            due = time.perf_counter()
            for _ in range(connections):
                self._open(port)
                due += pace
                while pace and time.perf_counter() < due:
                    pass
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Load:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Cut all connections."""
        for sock in self._sockets.values():
            sock.close()
        self._sockets.clear()
        if sys.platform == "linux":
            self._poller.close()

    def run(self, seconds: float, events: int = 1) -> Window:
        """Take what comes for ``seconds``, and for as long as it takes to have had ``events`` events.

        So a window that is too short for a busy machine becomes longer, not empty.
        """
        receive = {fd: sock.recv_into for fd, sock in self._sockets.items()}
        buffer, poll, unseen, tail = self._buffer, self._poller.poll, self._unseen, self._tail
        count = 0
        client_time = time.process_time()
        started = time.perf_counter()
        while True:
            ready = poll(_TIMEOUT)
            if not ready:
                raise BenchError(f"nothing has come for {_PATIENCE} s, after {count} events")
            for fd, _ in ready:
                size = receive[fd](buffer)
                if unseen and fd in unseen:
                    self._look_at_first(fd, size)
                if not size:
                    raise BenchError("the server closed a connection")
                count += buffer.count(_MARK, 0, size)
                if tail:
                    self._ask_again(fd, size)
            now = time.perf_counter()
            if now - started >= seconds and count >= events:
                return Window(count, now - started, time.process_time() - client_time)

    def _open(self, port: int) -> None:
        sock = socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE)
        self._sockets[sock.fileno()] = sock
        self._unseen.add(sock.fileno())
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.sendall(_REQUEST)
        sock.setblocking(False)
        self._poller.register(sock.fileno(), select.POLLIN)

    def _look_at_first(self, fd: int, size: int) -> None:
        self._unseen.discard(fd)
        if not self._buffer.startswith(_STATUS, 0, size):
            raise BenchError(f"the server answered {bytes(self._buffer[: min(size, 100)])!r}")

    def _ask_again(self, fd: int, size: int) -> None:
        """Send the next request if this was the end of an answer, of which the last pieces may be small."""
        tail = self._tail
        last = bytes(self._buffer[max(0, size - len(tail)) : size])
        if len(last) < len(tail):
            last = (self._lasts.get(fd, b"") + last)[-len(tail) :]
        if last == tail:
            self._lasts[fd] = b""
            self._sockets[fd].send(_REQUEST)
        else:
            self._lasts[fd] = last
