"""From a request's bytes to its answer's: the protocol over a transport that is memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.micro.fakes import Sink
from bench.micro.timing import timed
from bunpy.http.host import HostList
from bunpy.http.protocol import HTTPProtocol
from bunpy.http.service import Handler, Service
from bunpy.server.config import Config
from bunpy.server.residence import new_loop
from bunpy.sse.response import SSEResponse

_REQUEST = (
    b"GET /events?symbols=AAPL,TSLA HTTP/1.1\r\nHost: localhost:3000\r\nUser-Agent: bench\r\n"
    b"Accept: text/event-stream\r\n\r\n"
)
_COUNT = 50


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """The loop that a server would run on."""
    loop = new_loop()
    yield loop
    loop.close()


def _connect(handler: Handler, loop: asyncio.AbstractEventLoop) -> tuple[HTTPProtocol, Sink]:
    sink = Sink()
    protocol = HTTPProtocol(Service(handler, Config(), loop, HostList(None, ["127.0.0.1"])))
    protocol.connection_made(sink)
    return protocol, sink


def test_dict(benchmark: BenchmarkFixture, loop: asyncio.AbstractEventLoop) -> None:
    """A plain answer. Nothing of it is in the twins."""
    protocol, sink = _connect(lambda request: {"body": "Hello, World!"}, loop)

    def run() -> None:
        for _ in range(_COUNT):
            protocol.data_received(_REQUEST)

    timed(benchmark, _COUNT, "request", run)
    assert sink.last.startswith(b"HTTP/1.1 200 OK\r\n")
    assert sink.last.endswith(b"\r\n\r\nHello, World!")


def test_stream(
    benchmark: BenchmarkFixture,
    loop: asyncio.AbstractEventLoop,
    speedups: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A stream of one event: what a stream costs beside its events."""
    monkeypatch.setattr("bunpy.http.protocol.Outlet", speedups.Outlet)
    monkeypatch.setattr("bunpy.http.service.EventBuffer", speedups.EventBuffer)
    monkeypatch.setattr("bunpy.http.service.BytesBuffer", speedups.BytesBuffer)
    monkeypatch.setattr("bunpy.sse.stream.Pump", speedups.Pump)

    async def events() -> AsyncGenerator[Any, None]:
        yield {"data": "x" * 64}

    protocol, sink = _connect(lambda request: SSEResponse(events()), loop)

    async def ask() -> None:
        for _ in range(_COUNT):
            ended = loop.create_future()
            sink.on_end = lambda ended=ended: ended.set_result(None)
            protocol.data_received(_REQUEST)
            await ended

    timed(benchmark, _COUNT, "request", lambda: loop.run_until_complete(ask()))
    sink.size = 0
    loop.run_until_complete(ask())
    assert sink.size > _COUNT * 200
