"""What several test files wait for and look at: conditions, the log, a server's connections."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import re
import socket
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from typing import ParamSpec

import pytest

from bunpy.http.protocol import HTTPProtocol
from bunpy.http.service import Service
from bunpy.serve import Server
from bunpy.server.server import LocalServer

P = ParamSpec("P")

SOON = 5.0  # seconds: what should come at once has surely come


def until(condition: Callable[[], bool], timeout: float = SOON) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"the condition was not met within {timeout} s"
        time.sleep(0.002)


class Late(AssertionError):
    """Something came, and later than it was promised for."""


def on_time(seconds: float, promise: float) -> None:
    """``Late`` if it took as long as was promised that it takes less than."""
    if seconds >= promise:
        raise Late(f"it took {seconds:.3f} s, and less than {promise} s were promised")


def in_one_of_five(test: Callable[P, None]) -> Callable[P, None]:
    """A test of a promised time, which is kept in one run of five at least: what a busy machine adds is nobody's."""

    @functools.wraps(test)
    def repeated(*args: P.args, **kwargs: P.kwargs) -> None:
        for _ in range(4):
            with contextlib.suppress(Late):
                return test(*args, **kwargs)
        return test(*args, **kwargs)

    return repeated


def name_of(value: object) -> str:
    """A value in a test's name, without its address: the name is the same in every run."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


class Gate:
    """What a handler or generator waits for on the loop, and a test opens from its thread."""

    def __init__(self) -> None:
        self._future: Future[None] = Future()
        self.waiting = 0

    async def passed(self) -> None:
        self.waiting += 1
        await asyncio.shield(asyncio.wrap_future(self._future))

    def open(self) -> None:
        self._future.set_result(None)


class Endless:
    """A generator of one event, that then waits for ever; ``closed`` counts how often it has been finalised."""

    def __init__(self) -> None:
        self.closed = 0

    async def __call__(self) -> AsyncIterator[str]:
        try:
            yield "first"
            await asyncio.sleep(3600)
        finally:
            self.closed += 1


class Log:
    """The records of all loggers; a test takes those that it expects, and none may be left."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self._caplog = caplog

    @property
    def records(self) -> list[logging.LogRecord]:
        return self._caplog.get_records("call")

    @property
    def messages(self) -> list[str]:
        return [record.getMessage() for record in self.records]

    def take(self) -> logging.LogRecord:
        """The one record that there is, or that there will be soon."""
        until(lambda: bool(self.records))
        (record,) = self.records
        self.records.clear()
        return record

    def take_error(self) -> BaseException:
        """What the one record has the traceback of."""
        record = self.take()
        assert (record.name, record.levelname) == ("bunpy", "ERROR")
        assert record.exc_info is not None
        error = record.exc_info[1]
        assert error is not None
        record.exc_info = None  # pytest keeps the record, which would keep the generator
        return error


def local(server: Server) -> LocalServer:
    """A server that runs in this process, for a look inside."""
    assert isinstance(server, LocalServer)
    return server


def service_of(server: Server) -> Service:
    service = local(server)._service
    assert service is not None
    return service


def connections(server: Server) -> list[HTTPProtocol]:
    return list(service_of(server).connections)


def is_refused(server: Server) -> bool:
    """Whether nobody listens where it was."""
    try:
        socket.create_connection(("127.0.0.1", server.port), SOON).close()
    except ConnectionError:
        return True
    return False
