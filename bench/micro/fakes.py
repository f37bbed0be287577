"""A transport without a socket, and a way to run a coroutine without a loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

__all__ = ["Sink", "run_through"]


class Sink(asyncio.Transport):
    """Takes whatever is written, and calls ``on_end`` when a chunked body ends. It passes for TLS, so that nothing is
    sent past it."""

    def __init__(self) -> None:
        super().__init__({"sslcontext": object(), "peername": ("127.0.0.1", 1)})
        self.size = 0
        self.last = b""
        self.on_end: Callable[[], None] | None = None

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.size += len(data)
        self.last = bytes(data)
        if self.on_end is not None and self.last.endswith(b"0\r\n\r\n"):
            self.on_end()

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False


def run_through(coroutine: Coroutine[Any, Any, Any]) -> None:
    """Step ``coroutine`` to its end; what it waits for is not waited for."""
    try:
        while True:
            coroutine.send(None)
    except StopIteration:
        return
