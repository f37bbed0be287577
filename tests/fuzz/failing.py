"""What a pump sends into: a transport that fails when it is told to, and sockets in every state."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable

from fakes import FakeTransport

from .choices import Choices

__all__ = ["Sockets", "Transport"]


class Transport(FakeTransport):
    """It fails at the call that it is told to."""

    def __init__(self, choices: Choices) -> None:
        super().__init__()
        self._name = choices.pick(("", "", "write", "is_closing", "get_write_buffer_size", "abort"))
        self._left = choices.below(6)
        self._error = choices.pick((None, OSError(errno.EPIPE, "made up"), RuntimeError("made up")))
        self.on_full: Callable[[], None] | None = None

    @property
    def has_failed(self) -> bool:
        return self._left < 0

    def _pass(self, name: str) -> None:
        if name != self._name:
            return
        self._left -= 1
        if self._left == -1:
            if self._error is not None:
                raise self._error
            self.is_closed = True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._pass("write")
        super().write(data)
        if self.on_full is not None:
            self.on_full()

    def is_closing(self) -> bool:
        self._pass("is_closing")
        return super().is_closing()

    def get_write_buffer_size(self) -> int:
        self._pass("get_write_buffer_size")
        return super().get_write_buffer_size()

    def abort(self) -> None:
        self._pass("abort")
        super().abort()


class Sockets:
    """Pairs of connected sockets, open as long as one scene is on."""

    def __init__(self) -> None:
        self._open: list[socket.socket] = []

    def pair(self, kind: str) -> tuple[int, socket.socket | None]:
        """A descriptor to send to, and what the peer is read from; "" is none, "bad" one that is closed."""
        if not kind:
            return -1, None
        if kind == "bad":
            return 1_000_000, None
        ours, theirs = socket.socketpair()
        self._open += ours, theirs
        ours.setblocking(False)
        theirs.setblocking(False)
        if kind == "gone":
            theirs.close()
            return ours.fileno(), None
        if kind == "full":
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        return ours.fileno(), theirs

    def close(self) -> None:
        for sock in self._open:
            sock.close()
        self._open.clear()
