"""Why streams end, over real sockets: ``on_close`` hears each reason, once, when the source has been closed."""

from __future__ import annotations

import asyncio
import contextvars
import errno
import os
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from typing import Any, cast

import pytest
from fakes import FakeTransport
from heads import head
from watching import Log, connections, local, service_of, until

from bunpy._speedups import IMPLEMENTATION
from bunpy.http import protocol as protocol_module
from bunpy.http.host import HostList
from bunpy.http.protocol import HTTPProtocol
from bunpy.http.service import Service
from bunpy.serve import Request, Server, SSEResponse
from bunpy.server import residence, tuning
from bunpy.server.config import Config
from bunpy.sse.reason import END_REASONS, EndReason
from bunpy.testing import Connection, EventClient, IncompleteAnswer, exchange, request, serving

# What is logged, a test takes; nothing else may be.
pytestmark = pytest.mark.usefixtures("log")

SOON = 5.0  # seconds: what should come at once has surely come
NEVER = 60.0  # seconds: a delay that is not waited for
BRIEF = 0.1  # seconds: one that is


def is_idle(server: Server) -> bool:
    """Whether nothing runs for a client: no connection, and no task but the server's own."""
    assert local(server)._loop is not None
    return not connections(server) and len(asyncio.all_tasks(local(server)._loop)) == 1


class Gate:
    """What a generator waits for, on the loop or in its thread, and a test opens."""

    def __init__(self) -> None:
        self._future: Future[None] = Future()

    async def passed(self) -> None:
        await asyncio.shield(asyncio.wrap_future(self._future))

    def wait(self) -> None:
        self._future.result(SOON)

    def open(self) -> None:
        if not self._future.done():
            self._future.set_result(None)


class Life:
    """A stream of one kind of source and of ``on_close``: ``log`` is what happened, in its order.

    The source gives "first", then one event a call of ``go``, which may be to "end", to "raise" or to "flood".
    """

    def __init__(self, source: str, told: str) -> None:
        self._source = source
        self._told = told
        self.log: list[str] = []
        self.gate = Gate()
        self.then = "end"

    def response(self, **options: Any) -> SSEResponse:
        source = self._events() if self._source == "async" else self._plain_events()
        on_close = {"sync": self._tell, "async": self._tell_later}[self._told]
        return SSEResponse(source, on_close=on_close, **options)

    def go(self, then: str = "end") -> None:
        self.then = then
        self.gate.open()

    async def _events(self) -> AsyncIterator[str]:
        try:
            self.log.append("begun")
            yield "first"
            await self.gate.passed()
            while self.then == "flood":
                yield "x" * 1000
            if self.then == "raise":
                raise LookupError("of the generator")
        finally:
            self.log.append("finally")

    def _plain_events(self) -> Iterator[str]:
        try:
            self.log.append("begun")
            yield "first"
            while self.then == "end" and not self.gate._future.done():
                time.sleep(0.005)
                yield "more"
            while self.then == "flood":
                yield "x" * 1000
            if self.then == "raise":
                raise LookupError("of the generator")
        finally:
            self.log.append("finally")

    def _tell(self, reason: EndReason) -> None:
        self.log.append(reason)

    async def _tell_later(self, reason: EndReason) -> None:
        await asyncio.sleep(0)
        self.log.append(reason)


LIVES = [("async", "sync"), ("async", "async"), ("plain", "sync"), ("plain", "async")]


@pytest.fixture(params=LIVES, ids="-".join)
def life(request: pytest.FixtureRequest) -> Iterator[Life]:
    life = Life(*request.param)
    yield life
    life.go()


# Each reason


def forget_errors(log: Log) -> None:
    for record in log.records:
        record.exc_info = None  # pytest keeps the record, which would keep the generator
    log.records.clear()


def test_finished(life: Life) -> None:
    with serving(lambda req: life.response()) as server, EventClient(server) as client:
        client.read(1)
        life.go()
        client.read_all()
        until(lambda: len(life.log) == 3)
        client.drop()  # later, which is nothing to a stream that has finished
        until(lambda: is_idle(server))
    assert life.log == ["begun", "finally", "finished"]


@pytest.mark.parametrize("reset", [False, True])
def test_client(life: Life, reset: bool) -> None:
    with serving(lambda req: life.response()) as server, EventClient(server) as client:
        client.read(1)
        client.drop(reset)
        until(lambda: is_idle(server))
        assert life.log == ["begun", "finally", "client"]
    assert life.log == ["begun", "finally", "client"]


def test_slow(life: Life, small_buffers: None) -> None:
    with (
        serving(lambda req: life.response(), send_timeout=2 * BRIEF) as server,
        EventClient(server, receive_buffer=4096) as client,
    ):
        client.read(1)
        life.go("flood")
        until(lambda: is_idle(server))
    assert life.log == ["begun", "finally", "slow"]


def test_slow_under_pressure(life: Life, small_buffers: None, log: Log) -> None:
    with (
        serving(lambda req: life.response(), max_buffered=64 * 1024) as server,
        EventClient(server, receive_buffer=4096) as client,
    ):
        client.read(1)
        life.go("flood")
        until(lambda: is_idle(server))
    assert life.log == ["begun", "finally", "slow"]
    log.take()


@pytest.mark.parametrize("streams", ["spread", "close"])
def test_shutdown(life: Life, streams: Any) -> None:
    with serving(lambda req: life.response()) as server, EventClient(server) as client:
        client.read(1)
        server.stop(SOON, streams)
        assert life.log == ["begun", "finally", "shutdown"]
        client.read_all()
    assert life.log == ["begun", "finally", "shutdown"]


def test_shutdown_without_grace(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "bunpy.server.drain._LAST_TIME", SOON
    )  # a plain generator's thread may take it
    with serving(lambda req: life.response()) as server, EventClient(server) as client:
        client.read(1)
        server.stop(0)
        assert life.log == ["begun", "finally", "shutdown"]


def test_shutdown_at_the_end_of_the_grace(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bunpy.server.drain._LAST_TIME", SOON)
    with serving(lambda req: life.response()) as server, EventClient(server) as client:
        client.read(1)
        server.stop(BRIEF, "finish")
        assert life.log == ["begun", "finally", "shutdown"]


def test_lifetime(life: Life) -> None:
    with (
        serving(lambda req: life.response(), stream_lifetime=2 * BRIEF) as server,
        EventClient(server) as client,
    ):
        client.read_all()
        until(lambda: len(life.log) == 3)
        client.drop()
        until(lambda: is_idle(server))
    assert life.log == ["begun", "finally", "lifetime"]


def test_error(life: Life, log: Log) -> None:
    with serving(lambda req: life.response()) as server, EventClient(server) as client:
        client.read(1)
        life.go("raise")
        with pytest.raises(IncompleteAnswer):
            client.read_all()
        until(lambda: is_idle(server))
    assert life.log == ["begun", "finally", "error"]
    assert isinstance(log.take_error(), LookupError)


def test_an_error_before_the_first_event(life: Life, log: Log) -> None:
    async def source() -> AsyncIterator[str]:
        raise LookupError("at once")
        yield "never"

    def handler(req: Request) -> Any:
        response = life.response()
        response.body = source()
        return response

    with serving(handler) as server:
        assert request(server).status == 500
        until(lambda: is_idle(server))
    assert life.log == ["error"]
    log.take_error()


def test_limit(life: Life, log: Log) -> None:
    other = Life("async", "sync")
    with (
        serving(
            lambda req: (other if req.path == "/other" else life).response(), max_streams=1
        ) as server,
        EventClient(server, "/other") as client,
    ):
        client.read(1)
        assert request(server).status == 503
        until(lambda: life.log == ["limit"])  # it was not begun
        assert other.log == ["begun"]
    assert life.log == ["limit"]
    log.take()


def test_every_reason_is_tested_here() -> None:
    tested = {name[5:].partition("_in_")[0] for name in globals() if name.startswith("test_")}
    assert set(END_REASONS) <= tested


# A client that vanished without a word: the kernel says so, where it is read from or where it is sent to

SILENT = [
    errno.ETIMEDOUT,
    errno.EHOSTUNREACH,
    errno.ENETUNREACH,
    errno.ENETDOWN,
    errno.EHOSTDOWN,
]
HEARD = [errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED, errno.EBADF]


class Alone:
    """A connection on a transport that is none, on a running loop, and the stream that it asked for."""

    def __init__(
        self,
        life: Life,
        handler: Callable[[Request], Any] | None = None,
        sock: socket.socket | None = None,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.service = Service(
            handler or (lambda req: life.response()), Config(), loop, HostList(None, [])
        )
        self.protocol = HTTPProtocol(self.service)
        self.transport = FakeTransport(self.protocol, {"socket": sock})
        self.protocol.connection_made(self.transport)
        self.protocol.data_received(head())

    async def has(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + SOON
        while not condition():
            assert time.monotonic() < deadline
            await asyncio.sleep(0.001)


def run(test: Callable[[], Any]) -> None:
    asyncio.run(asyncio.wait_for(test(), 2 * SOON))


@pytest.mark.parametrize("number", SILENT + HEARD)
def test_half_open(life: Life, number: int) -> None:
    """Nothing was sent meanwhile: the transport tells."""

    async def test() -> None:
        alone = Alone(life)
        await alone.has(lambda: b"first" in alone.transport.sent)
        alone.protocol.connection_lost(OSError(number, "by the kernel"))
        await alone.has(lambda: len(life.log) == 3)
        assert not alone.service.connections

    run(test)
    assert life.log == ["begun", "finally", "half_open" if number in SILENT else "client"]


def test_half_open_is_no_close(life: Life) -> None:
    async def test() -> None:
        alone = Alone(life)
        await alone.has(lambda: b"first" in alone.transport.sent)
        alone.protocol.connection_lost(None)
        await alone.has(lambda: len(life.log) == 3)

    run(test)
    assert life.log == ["begun", "finally", "client"]


@pytest.mark.parametrize("number", SILENT + HEARD)
def test_half_open_in_a_send(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the send that hears of it: the transport is aborted then, and has nothing to say."""
    life = Life("async", "sync")
    is_silent = number in SILENT
    if IMPLEMENTATION == "cython":
        # What C's send fails with cannot be chosen: it is EPIPE here, which then counts as one or the other.
        silent = {errno.EPIPE} if is_silent else set()
        monkeypatch.setattr(protocol_module, "_SILENT", frozenset(silent))

    async def test() -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            alone = Alone(life, sock=ours)
            await alone.has(lambda: life.log == ["begun"])
            outlet = alone.protocol._outlet
            assert b"first" in theirs.recv(65536)
            if IMPLEMENTATION == "cython":
                theirs.close()
                outlet.write(b":\n\n")
                assert outlet.error_number == errno.EPIPE
            else:
                with monkeypatch.context() as patch:
                    patch.setattr(os, "write", failing(number))
                    outlet.write(b":\n\n")
                assert outlet.error_number == number
            assert alone.transport.is_aborted
            alone.protocol.connection_lost(None)
            await alone.has(lambda: len(life.log) == 3)

    run(test)
    assert life.log == ["begun", "finally", "half_open" if is_silent else "client"]


def failing(number: int) -> Callable[[int, bytes], int]:
    def write(fd: int, data: bytes) -> int:
        raise OSError(number, "by the kernel")

    return write


@pytest.mark.parametrize("number", [errno.ETIMEDOUT, errno.ECONNRESET])
def test_half_open_while_the_handler_awaits(number: int) -> None:
    """The stream that it gives in the end is never begun, and hears the same."""
    life = Life("async", "sync")

    async def handler(req: Request) -> Any:
        life.log.append("asked")
        try:
            await asyncio.sleep(NEVER)
        except asyncio.CancelledError:
            return life.response()

    async def test() -> None:
        alone = Alone(life, handler)
        await alone.has(lambda: life.log == ["asked"])
        alone.protocol.connection_lost(OSError(number, "by the kernel"))
        await alone.has(lambda: len(life.log) == 2)

    run(test)
    assert life.log == ["asked", "half_open" if number == errno.ETIMEDOUT else "client"]


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_a_client_that_is_there_and_takes_nothing_is_slow(
    loop: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It acknowledges what it is asked: TCP_USER_TIMEOUT (tcp(7)) ends such a connection too, since Linux 5.11."""
    if loop == "asyncio":
        monkeypatch.setattr(residence, "new_loop", asyncio.new_event_loop)
    life = Life("async", "sync")
    options = [
        (level, option, 2000 if option == "TCP_USER_TIMEOUT" else value)
        for level, option, value in tuning._PEER_TUNING
    ]
    monkeypatch.setattr(tuning, "_PEER_TUNING", (*options, ("SOL_SOCKET", "SO_SNDBUF", 16 * 1024)))
    with (
        serving(lambda req: life.response(), send_timeout=6.0, heartbeat=2 * BRIEF) as server,
        EventClient(server, receive_buffer=4096) as client,
    ):
        client.read(1)
        life.go("flood")
        until(lambda: is_idle(server), 10)
    assert life.log == ["begun", "finally", "slow"]


# Sources that were never begun


def never_begun(life: Life) -> Callable[[Request], Any]:
    """A handler of its stream that keeps the source, to see that it was closed."""

    def handler(req: Request) -> Any:
        response = life.response()
        body = cast(Any, response.body)
        frame = "ag_frame" if hasattr(body, "ag_frame") else "gi_frame"

        async def source_then_reason(reason: EndReason) -> None:
            life.log.append("open" if getattr(body, frame) is not None else "closed")
            life.log.append(reason)

        response.on_close = source_then_reason
        return response

    return handler


@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_a_head_request(life: Life, version: str) -> None:
    with serving(never_begun(life)) as server:
        exchange(server, head(method="HEAD", version=version), methods=["HEAD"], until=1)
        until(lambda: is_idle(server))
    assert life.log == ["closed", "finished"]


@pytest.mark.parametrize("status", [204, 205, 304])
def test_a_status_without_a_body(life: Life, status: int) -> None:
    inner = never_begun(life)

    def handler(req: Request) -> Any:
        response = inner(req)
        response.status = status
        return response

    with serving(handler) as server:
        assert request(server).status == status
        until(lambda: is_idle(server))
    assert life.log == ["closed", "finished"]


def test_no_room(life: Life, log: Log) -> None:
    other = Life("async", "sync")
    handler = never_begun(life)
    with (
        serving(
            lambda req: other.response() if req.path == "/other" else handler(req), max_streams=1
        ) as server,
        EventClient(server, "/other") as client,
    ):
        client.read(1)
        for number in range(1, 4):
            exchange(server, head("/", "Accept: text/event-stream"))
            until(lambda: len(life.log) == 2 * number)  # noqa: B023
    assert life.log == ["closed", "limit"] * 3
    log.take()


@pytest.mark.parametrize("reset", [False, True])
def test_a_client_that_goes_while_an_async_handler_awaits(life: Life, reset: bool) -> None:
    inner = never_begun(life)

    async def handler(req: Request) -> Any:
        life.log.append("asked")
        try:
            await asyncio.sleep(NEVER)
        except asyncio.CancelledError:
            return inner(req)

    with serving(handler) as server:
        with Connection(server) as client:
            client.send(head())
            until(lambda: life.log == ["asked"])
            client.drop(reset=True)
        until(lambda: is_idle(server))
    assert life.log == ["asked", "closed", "client"]


@pytest.mark.parametrize(
    "headers",
    [{"X": "a\r\nb"}, {"X\n": "a"}, {"": "a"}, [("X", "\0")], {"Content-Type": "\n"}],
)
def test_headers_that_must_not_be_sent(life: Life, headers: Any, log: Log) -> None:
    inner = never_begun(life)

    def handler(req: Request) -> Any:
        response = inner(req)
        response.headers = headers
        return response

    with serving(handler) as server:
        assert request(server).status == 500
        until(lambda: is_idle(server))
    assert life.log == ["closed", "error"]
    log.take_error()


@pytest.mark.parametrize("status", [99, 600, "200"])
def test_a_status_that_is_none(life: Life, status: Any, log: Log) -> None:
    inner = never_begun(life)

    def handler(req: Request) -> Any:
        response = inner(req)
        response.status = status
        return response

    with serving(handler) as server:
        assert request(server).status == 500
        until(lambda: is_idle(server))
    assert life.log == ["closed", "error"]
    log.take_error()


def test_a_stop_before_the_first_step(life: Life) -> None:
    """The handler was at work when the server was asked to stop."""
    inner = never_begun(life)
    entered = threading.Event()
    gate = Gate()

    async def handler(req: Request) -> Any:
        entered.set()
        await gate.passed()
        return inner(req)

    with serving(handler) as server, Connection(server) as client:
        client.send(head())
        assert entered.wait(SOON)
        stopping = threading.Thread(target=server.stop, args=(SOON,))
        stopping.start()
        until(lambda: service_of(server).is_stopping)
        gate.open()
        received = client.receive_to_end()
        stopping.join(SOON)
        assert received.startswith(b"HTTP/1.1 200")
        assert received.endswith(b"\r\n0\r\n\r\n")
    assert life.log == ["closed", "shutdown"]


def test_a_stop_in_the_same_turn(life: Life) -> None:
    """Its task was made and has not run."""
    inner = never_begun(life)

    def handler(req: Request) -> Any:
        # Called before the task's first step: that is asked for when the handler has returned.
        asyncio.get_running_loop().call_soon(lambda: connections(server)[0].stop())
        return inner(req)

    with serving(handler) as server, Connection(server) as client:
        client.send(head())
        client.receive_until(b"0\r\n\r\n")
        until(lambda: len(life.log) == 2)
    assert life.log == ["closed", "shutdown"]


# What is called


def test_it_runs_in_the_context_of_its_request() -> None:
    number: contextvars.ContextVar[str] = contextvars.ContextVar("number")
    seen: list[tuple[str, str]] = []

    async def source() -> AsyncIterator[str]:
        yield "first"

    def handler(req: Request) -> Any:
        number.set(req.path)
        return SSEResponse(source(), on_close=lambda reason: seen.append((number.get(), reason)))

    with serving(handler) as server:
        for path in ("/1", "/2"):
            request(server, "GET", path)
    assert seen == [("/1", "finished"), ("/2", "finished")]


def test_one_response_for_many_requests() -> None:
    """Each of its streams ends for itself; a subclass may count them."""

    class Counted(SSEResponse):
        def __init__(self) -> None:
            super().__init__(Countdown(), on_close=self.count)
            self.ends: list[str] = []

        def count(self, reason: EndReason) -> None:
            self.ends.append(reason)

    counted = Counted()
    with serving(lambda req: counted) as server, ExitStack() as stack:
        for _ in range(3):
            assert request(server).body == b"data: 1\n\ndata: 0\n\n"
        until(lambda: counted.ends == ["finished"] * 3)
        assert request(server, "HEAD").status == 200
        until(lambda: counted.ends == ["finished"] * 4)
        clients = [stack.enter_context(EventClient(server, "/")) for _ in range(3)]
        for client in clients:
            client.read_all()
        until(lambda: counted.ends == ["finished"] * 7)


class Countdown:
    """An async iterable that is no generator, and an iterator that is not itself."""

    def __aiter__(self) -> AsyncIterator[str]:
        async def events() -> AsyncIterator[str]:
            yield "1"
            yield "0"

        return events()


def test_a_response_given_twice_at_once() -> None:
    """Its generator has but one life: the second request finds it running, or over; both ends are told."""
    ends: list[str] = []

    async def source() -> AsyncIterator[str]:
        yield "first"

    response = SSEResponse(source(), on_close=ends.append)
    with serving(lambda req: response) as server:
        assert request(server).body == b"data: first\n\n"
        assert request(server).body == b""
        until(lambda: len(ends) == 2)
    assert ends == ["finished"] * 2


def ended(on_close: Any, *, by: str = "finished", close_timeout: float = SOON) -> float:
    """Run one stream with this ``on_close``; the seconds until nothing runs for it."""

    async def source() -> AsyncIterator[str]:
        yield "first"
        if by == "client":
            await asyncio.sleep(NEVER)

    with serving(
        lambda req: SSEResponse(source(), on_close=on_close),
        close_timeout=close_timeout,
        max_streams=1,
    ) as server:
        began = time.monotonic()
        with EventClient(server) as client:
            client.read(1)
            if by == "finished":
                client.read_all()
            client.drop(reset=True)
        until(lambda: is_idle(server))
        took = time.monotonic() - began
        assert service_of(server).streams.count == 0
        # And the server serves.
        assert request(server, "HEAD").status == 200
        until(lambda: is_idle(server))
        return took


BY = pytest.mark.parametrize("by", ["finished", "client"])


class Strange(BaseException):
    """What some library raises: no Exception."""


@BY
@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize(
    "error", [LookupError, StopIteration, StopAsyncIteration, Strange, asyncio.CancelledError]
)
def test_an_on_close_that_raises(
    error: type[BaseException], is_async: bool, by: str, log: Log
) -> None:
    """It is logged, and ends nothing but itself."""
    calls: list[str] = []

    def on_close(reason: EndReason) -> None:
        calls.append(reason)
        raise error("in on_close")

    async def on_close_later(reason: EndReason) -> None:
        await asyncio.sleep(0)
        on_close(reason)

    ended(on_close_later if is_async else on_close, by=by)
    assert calls == [by, "finished"]  # the second is that of the HEAD request
    assert [record.levelname for record in log.records] == ["ERROR"] * 2
    for record in log.records:
        assert record.getMessage().endswith("on_close raised")
        assert record.exc_info is not None
        assert record.exc_info[0] in (error, RuntimeError)  # of a coroutine, for StopIteration
    forget_errors(log)


@BY
def test_an_on_close_that_hangs(by: str, log: Log) -> None:
    """It is cancelled after ``close_timeout``, and the log says what it was."""
    calls: list[str] = []

    async def on_close(reason: EndReason) -> None:
        calls.append(reason)
        if len(calls) == 1:
            try:
                await asyncio.sleep(NEVER)
            finally:
                calls.append("cancelled")

    took = ended(on_close, by=by, close_timeout=2 * BRIEF)
    assert calls == [by, "cancelled", "finished"]
    assert 1.5 * BRIEF < took < SOON
    record = log.take()
    assert record.levelname == "ERROR"
    assert "on_close" in record.getMessage()


def test_a_generator_and_an_on_close_that_both_hang(log: Log) -> None:
    """Each is cut short, and the end comes in bounded time."""
    seen: list[str] = []

    async def source() -> AsyncIterator[str]:
        try:
            yield "first"
            await asyncio.sleep(NEVER)
        finally:
            try:
                await asyncio.sleep(NEVER)
            finally:
                seen.append("finally")

    async def on_close(reason: EndReason) -> None:
        try:
            await asyncio.sleep(NEVER)
        finally:
            seen.append(reason)

    with serving(
        lambda req: SSEResponse(source(), on_close=on_close), close_timeout=2 * BRIEF
    ) as server:
        with EventClient(server) as client:
            client.read(1)
        began = time.monotonic()
        until(lambda: is_idle(server))
        assert time.monotonic() - began < SOON
    assert seen == ["finally", "client"]
    assert len(log.messages) == 2
    log.records.clear()


def test_an_on_close_of_a_generator_that_fails_to_close(log: Log) -> None:
    """It is told all the same, after it."""
    seen: list[str] = []

    async def source() -> AsyncIterator[str]:
        try:
            yield "first"
            await asyncio.sleep(NEVER)
        finally:
            seen.append("finally")
            raise LookupError("in the cleaning up")

    with serving(lambda req: SSEResponse(source(), on_close=seen.append)) as server:
        with EventClient(server) as client:
            client.read(1)
        until(lambda: is_idle(server))
    assert seen == ["finally", "client"]
    log.take_error()


def test_a_stop_waits_for_an_on_close() -> None:
    told: list[str] = []

    async def source() -> AsyncIterator[str]:
        yield "first"
        await asyncio.sleep(NEVER)

    async def on_close(reason: EndReason) -> None:
        await asyncio.sleep(BRIEF)
        told.append(reason)

    with (
        serving(lambda req: SSEResponse(source(), on_close=on_close)) as server,
        EventClient(server) as client,
    ):
        client.read(1)
        server.stop(SOON)
        assert told == ["shutdown"]


def test_an_on_close_may_stop_the_server() -> None:
    async def source() -> AsyncIterator[str]:
        yield "first"

    with serving(
        lambda req: SSEResponse(source(), on_close=lambda reason: server.request_stop(SOON))
    ) as server:
        request(server)
        server.wait()
