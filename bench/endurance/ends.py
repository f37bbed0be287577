"""The end of a server's process: everyone is answered, or the end is at once."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from typing import Final

from bench.endurance.check import Check, at_least, at_most
from bench.endurance.clients import Crowd, is_refused, state, until
from bench.load.process import ServerProcess

__all__ = ["drain", "quit_now"]

_STREAMS: Final = 2_000
_HANDLERS: Final = 100
_STUBBORN: Final = 20


def drain(server: ServerProcess) -> Iterator[Check]:
    """SIGTERM with handlers that run and 2,000 streams."""
    last: dict[int, bytes] = {}
    with Crowd(server.port) as streams, Crowd(server.port) as handlers:
        streams.join(_STREAMS, "/idle")
        streams.wait_for_all(b"here")
        handlers.join(_HANDLERS, "/slow?value=1.5")
        until(lambda: state(server.port)["tasks"] > _STREAMS + _HANDLERS)
        began = time.perf_counter()
        server.signal(signal.SIGTERM)
        answered = closed = 0
        while streams.sockets and time.perf_counter() - began < 11:
            for number, data in streams.read(0.1):
                last[number] = (last.get(number, b"") + data)[-64:]
                closed += not data
        for _, data in handlers.read(2.5):
            answered += data.startswith(b"HTTP/1.1 200 OK\r\n") and b"Connection: close" in data
        clean = sum(data.endswith(b"0\r\n\r\n") and b"retry: " in data for data in last.values())
        status = server.wait(11)
        yield at_most("seconds until SIGTERM has ended the server", time.perf_counter() - began, 10)
        yield at_least("  handlers answered, of 100", answered, _HANDLERS)
        yield at_least(
            "  streams that ended with a retry and the last chunk, of 2,000", clean, _STREAMS
        )
        yield at_most("  exit status", status, 0)
        yield at_most("  bytes in the error log", len(server.errors()), 0)


def quit_now(server: ServerProcess) -> Iterator[Check]:
    """SIGINT twice, with 2,000 streams and handlers that will not end."""
    with Crowd(server.port) as crowd:
        crowd.join(_STREAMS, "/idle")
        crowd.wait_for_all(b"here")
        crowd.join(_STUBBORN, "/slow?value=60")
        until(lambda: state(server.port)["tasks"] > _STREAMS + _STUBBORN)
        server.signal(signal.SIGINT)
        until(lambda: is_refused(server.port))
        began = time.perf_counter()
        server.signal(signal.SIGINT)
        status = server.wait(5)
        yield at_most(
            "seconds until the second SIGINT has ended it", time.perf_counter() - began, 0.5
        )
        yield at_least("  exit status", status, 130)
