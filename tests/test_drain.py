"""How a server stops: who is answered, what becomes of streams, what is cut off. The process's end: test_residence."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from typing import Any

import pytest
from script import TIMEOUT, Stopwatch
from watching import Endless, is_refused, local, until

from bunpy.serve import Request, Server, SSEResponse
from bunpy.testing import (
    Connection,
    EventClient,
    StreamEnded,
    exchange,
    parse_answers,
    request,
    serving,
)

GET = b"GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n"

#: Seconds in which what does not wait for anything is done.
SOON = 5.0


#: Seconds by which uvloop's clock may be early: it counts whole milliseconds.
CLOCK = 0.002


def hello(req: Request) -> str:
    return "hello"


class Gate:
    """A handler that waits, in a coroutine, until it is opened; ``entered`` tells that a request has come there."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._opened = asyncio.Event()

    async def __call__(self, req: Request) -> str:
        await self.wait()
        return "through"

    async def wait(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.entered.set()
        await self._opened.wait()

    def open(self) -> None:
        assert self._loop is not None
        with suppress(RuntimeError):  # its server has stopped already
            self._loop.call_soon_threadsafe(self._opened.set)


# --- who waits for an answer ---------------------------------------------------------------------


def test_a_handler_is_waited_for(executor: ThreadPoolExecutor) -> None:
    """Its answer is given, and says that the connection closes; nobody new is let in meanwhile."""
    gate = Gate()
    with serving(gate) as server, Connection(server) as connection:
        connection.send(GET % b"/")
        assert gate.entered.wait(TIMEOUT)
        stopping = executor.submit(server.stop, TIMEOUT)
        until(lambda: is_refused(server))
        assert not stopping.done()
        gate.open()
        (answer,) = parse_answers(connection.receive_to_end(), ["GET"])
        assert (answer.status, answer.text(), answer.headers["connection"]) == (
            200,
            "through",
            "close",
        )
        assert connection.end == "closed"
        stopping.result(TIMEOUT)


def test_requests_behind_it_are_not_answered(executor: ThreadPoolExecutor) -> None:
    """After an answer with ``Connection: close`` nothing follows (RFC 9112 section 9.6)."""
    gate = Gate()
    with serving(gate) as server, Connection(server) as connection:
        connection.send(GET % b"/" + GET % b"/")
        assert gate.entered.wait(TIMEOUT)
        stopping = executor.submit(server.stop, TIMEOUT)
        until(lambda: is_refused(server))
        gate.open()
        answers = parse_answers(connection.receive_to_end(), ["GET"])
        assert [answer.closes for answer in answers] == [True]
        stopping.result(TIMEOUT)


def test_a_request_that_is_still_being_read(executor: ThreadPoolExecutor) -> None:
    """Only the head has come: who waits for nothing yet is let go."""
    with serving(hello) as server, Connection(server) as connection:
        connection.send(
            b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
        )
        connection.receive_until(b"100 Continue\r\n\r\n")
        watch = Stopwatch()
        server.stop(TIMEOUT)
        assert watch.seconds < SOON
        connection.receive_to_end()


def test_connections_at_rest_are_closed() -> None:
    with serving(hello) as server, Connection(server) as used, Connection(server) as fresh:
        used.send(GET % b"/")
        used.receive_until(b"hello")
        request(server)  # those that came before it have been taken in
        server.stop(TIMEOUT)
        for connection in (used, fresh):
            assert connection.receive_to_end() == b""
            assert connection.end == "closed"


def test_who_has_had_its_last_answer_and_stays_holds_nothing_up() -> None:
    with serving(hello, drain_timeout=3600.0) as server, Connection(server) as connection:
        connection.send(GET[:-2] % b"/" + b"Connection: close\r\n\r\n")
        assert connection.receive_to_end().endswith(b"hello")
        watch = Stopwatch()
        server.stop(TIMEOUT)
        assert watch.seconds < SOON


def test_streams_are_ended() -> None:
    """With the last chunk, and with a time to come back after that is not the same for all."""
    endless = Endless()
    with serving(lambda req: SSEResponse(endless())) as server, ExitStack() as stack:
        clients = [stack.enter_context(EventClient(server)) for _ in range(50)]
        for client in clients:
            client.read(1)
        watch = Stopwatch()
        server.stop(TIMEOUT)
        assert watch.seconds < SOON
        for client in clients:
            assert client.read_all() == []
            assert client.ended_cleanly
        times = {client.retry for client in clients}
        assert all(time is not None and 0 <= time < 2000 for time in times)
        assert len(times) > 10
    assert endless.closed == 50


def test_how_a_stream_is_ended() -> None:
    endless = Endless()
    with serving(lambda req: SSEResponse(endless())) as server, Connection(server) as connection:
        connection.send(GET % b"/")
        connection.receive_until(b"data: first\n\n\r\n")
        server.stop()
        end = connection.receive_to_end()
    size, _, rest = end.partition(b"\r\n")
    chunk, last = rest[: int(size, 16)], rest[int(size, 16) :]
    assert chunk.startswith(b"retry: ")
    assert chunk.endswith(b"\n\n")
    assert last == b"\r\n0\r\n\r\n"
    assert connection.end == "closed"


def test_streams_of_bytes_are_cut_off() -> None:
    """Without the last chunk: what was not sent would be missed by nobody."""

    async def body() -> AsyncIterator[bytes]:
        yield b"first"
        await asyncio.sleep(3600)

    with serving(lambda req: {"body": body()}) as server, Connection(server) as connection:
        connection.send(GET % b"/")
        connection.receive_until(b"first\r\n")
        server.stop()
        assert connection.receive_to_end() == b""


def test_a_stream_that_has_sent_nothing_yet(executor: ThreadPoolExecutor) -> None:
    """It is an empty one, with its head."""
    entered = threading.Event()

    async def events() -> AsyncIterator[str]:
        entered.set()
        await asyncio.sleep(3600)
        yield ""

    with serving(lambda req: SSEResponse(events()), head_delay=60) as server:
        connecting = executor.submit(EventClient, server)
        assert entered.wait(TIMEOUT)
        server.stop()
        with connecting.result(TIMEOUT) as client:
            assert client.status == 200
            assert client.read_all() == []
            assert client.retry is not None


def test_a_stream_that_begins_during_the_drain(executor: ThreadPoolExecutor) -> None:
    """A handler was at work when the server was asked to stop; what it gives is ended before it has begun."""
    gate = Gate()
    endless = Endless()

    async def handler(req: Request) -> SSEResponse:
        await gate.wait()
        return SSEResponse(endless())

    with serving(handler) as server:
        connecting = executor.submit(EventClient, server)
        assert gate.entered.wait(TIMEOUT)
        stopping = executor.submit(server.stop, TIMEOUT)
        until(lambda: is_refused(server))
        gate.open()
        with connecting.result(TIMEOUT) as client:
            assert (client.status, client.headers["connection"]) == (200, "close")
            assert client.read_all() == []
        stopping.result(TIMEOUT)
    assert endless.closed == 0


def test_a_plain_generator_is_closed() -> None:
    closed = threading.Event()
    goes_on = threading.Event()

    def events() -> Iterator[str]:
        try:
            yield "first"
            goes_on.wait(0.2)
            yield "second"
        finally:
            closed.set()

    with serving(lambda req: SSEResponse(events())) as server, EventClient(server) as client:
        client.read(1)
        server.stop(TIMEOUT)
        client.read_all()
    assert closed.is_set()


def test_a_slow_client_gets_what_was_sent(executor: ThreadPoolExecutor) -> None:
    """The answer is on its way, in a buffer of the server's: it is not lost."""
    size = 8 * 1024 * 1024
    with serving(lambda req: b"x" * size) as server:
        with Connection(server, receive_buffer=4096) as connection:
            connection.send(GET % b"/")
            connection.receive_until(b"\r\n\r\n")
            stopping = executor.submit(server.stop, TIMEOUT)
            until(lambda: is_refused(server))
            assert len(connection.receive_to_end(TIMEOUT)) == size
            assert connection.end == "closed"
        stopping.result(TIMEOUT)


# --- what does not end by itself -----------------------------------------------------------------


def test_grace_0_cuts_off() -> None:
    endless = Endless()
    gate = Gate()

    def handler(req: Request) -> Any:
        return gate(req) if req.path == "/gate" else SSEResponse(endless())

    with (
        serving(handler) as server,
        Connection(server) as connection,
        EventClient(server) as client,
    ):
        client.read(1)
        connection.send(GET % b"/gate")
        assert gate.entered.wait(TIMEOUT)
        watch = Stopwatch()
        server.stop(grace=0)
        assert watch.seconds < SOON
        assert connection.receive_to_end() == b""
        with pytest.raises((StreamEnded, ConnectionError)):
            client.read(1)
    assert endless.closed == 1


def test_a_handler_that_waits_for_ever_is_cancelled() -> None:
    """When the grace is over, and not before."""
    gate = Gate()
    with serving(gate) as server, Connection(server) as connection:
        connection.send(GET % b"/")
        assert gate.entered.wait(TIMEOUT)
        watch = Stopwatch()
        server.stop(grace=0.3)
        assert 0.3 - CLOCK <= watch.seconds < 0.3 + SOON
        assert connection.receive_to_end() == b""
        assert connection.end == "reset"


async def stubborn_wait(entered: threading.Event, freed: threading.Event) -> None:
    """Does not let itself be cancelled, until it is freed."""
    while not freed.is_set():
        entered.set()
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            continue


@pytest.mark.parametrize("kind", ["handler", "generator", "finally"])
def test_what_refuses_to_end_is_left_behind(kind: str, errors: list[str]) -> None:
    """The connection is cut off, the log says so, and the server has stopped."""
    entered, freed = threading.Event(), threading.Event()

    async def handler(req: Request) -> str:
        await stubborn_wait(entered, freed)
        return "never"

    async def generator() -> AsyncIterator[str]:
        yield "first"
        await stubborn_wait(entered, freed)

    async def finalizer() -> AsyncIterator[str]:
        try:
            entered.set()
            yield "first"
            await asyncio.sleep(3600)
        finally:
            await stubborn_wait(entered, freed)

    answers: dict[str, Callable[[Request], Any]] = {
        "handler": handler,
        "generator": lambda req: SSEResponse(generator()),
        "finally": lambda req: SSEResponse(finalizer()),
    }
    with serving(answers[kind]) as server, Connection(server) as connection:
        connection.send(GET % b"/")
        assert entered.wait(TIMEOUT)
        if kind != "handler":
            connection.receive_until(b"first")
        watch = Stopwatch()
        server.stop(grace=0.2)
        assert 0.2 - CLOCK <= watch.seconds < 0.2 + SOON
        connection.receive_to_end()
    assert errors == ["stopped with 1 connections whose handlers or generators did not end"]
    freed.set()


def test_a_plain_generator_that_blocks_is_left_behind(errors: list[str]) -> None:
    freed, entered = threading.Event(), threading.Event()

    def events() -> Iterator[str]:
        yield "first"
        entered.set()
        freed.wait(TIMEOUT)
        yield "second"

    with serving(lambda req: SSEResponse(events())) as server, EventClient(server) as client:
        client.read(1)
        assert entered.wait(TIMEOUT)
        watch = Stopwatch()
        server.stop(grace=0.2)
        assert watch.seconds < 0.2 + SOON
    assert errors == ["stopped with 1 connections whose handlers or generators did not end"]
    freed.set()


@pytest.mark.parametrize("shorter", [0, 0.2])
def test_a_shorter_grace_takes_effect(executor: ThreadPoolExecutor, shorter: float) -> None:
    gate = Gate()
    with serving(gate) as server, Connection(server) as connection:
        connection.send(GET % b"/")
        assert gate.entered.wait(TIMEOUT)
        first = executor.submit(server.stop, 3600)
        until(lambda: is_refused(server))
        watch = Stopwatch()
        second = executor.submit(server.stop, shorter)
        try:
            second.result(shorter + SOON)
            first.result(SOON)
        finally:
            gate.open()
        assert watch.seconds >= shorter - CLOCK


def test_a_longer_grace_does_not(executor: ThreadPoolExecutor) -> None:
    gate = Gate()
    with serving(gate) as server, Connection(server) as connection:
        connection.send(GET % b"/")
        assert gate.entered.wait(TIMEOUT)
        first = executor.submit(server.stop, 0.3)
        until(lambda: is_refused(server))
        executor.submit(server.stop, 3600)
        first.result(0.3 + SOON)


# --- what becomes of streams ----------------------------------------------------------------------


class Events:
    """A handler of streams that each give "first", and "last" once they are let finish; ``/late`` begins late."""

    def __init__(self) -> None:
        self.ends: list[str] = []
        self.gate = Gate()
        self.late = Gate()

    def __call__(self, req: Request) -> Any:
        if req.path == "/late":
            return self.begin_late()
        return self.respond()

    def respond(self) -> SSEResponse:
        return SSEResponse(self.events(), on_close=self.ends.append)

    async def begin_late(self) -> SSEResponse:
        await self.late.wait()
        return self.respond()

    async def events(self) -> AsyncIterator[str]:
        yield "first"
        await self.gate.wait()
        yield "last"


def is_stopping(server: Server) -> bool:
    service = local(server)._service
    return service is not None and service.is_stopping


def test_finish_lets_streams_come_to_their_end(executor: ThreadPoolExecutor) -> None:
    """Nobody new is let in, who waits for nothing is let go, and the server stops when the last has ended."""
    events = Events()
    with (
        serving(events) as server,
        EventClient(server) as client,
        Connection(server) as idle,
    ):
        client.read(1)
        idle.send(GET % b"/")
        idle.receive_until(b"data: first\n\n")
        with Connection(server) as waiting:
            waiting.send(b"GET /")
            stopping = executor.submit(server.stop, TIMEOUT, "finish")
            assert waiting.receive_to_end() == b""
        until(lambda: is_refused(server))
        assert not stopping.done()
        assert events.ends == []
        watch = Stopwatch()
        events.gate.open()
        assert [event.data for event in client.read_all()] == ["last"]
        assert client.retry is None
        assert idle.receive_to_end().endswith(b"data: last\n\n\r\n0\r\n\r\n")
        stopping.result(SOON)
        assert watch.seconds < SOON
    assert events.ends == ["finished"] * 2


def test_finish_lets_handlers_begin_streams(executor: ThreadPoolExecutor) -> None:
    """Those that were at work already: what they give is streamed to its end as well."""
    events = Events()
    with serving(events) as server:
        connecting = executor.submit(EventClient, server, "/late")
        assert events.late.entered.wait(TIMEOUT)
        stopping = executor.submit(server.stop, TIMEOUT, "finish")
        until(lambda: is_stopping(server))
        events.late.open()
        with connecting.result(TIMEOUT) as client:
            assert client.headers["connection"] == "close"
            assert client.read(1)[0].data == "first"
            assert not stopping.done()
            assert events.gate.entered.wait(TIMEOUT)
            events.gate.open()
            assert [event.data for event in client.read_all()] == ["last"]
        stopping.result(SOON)
    assert events.ends == ["finished"]


def test_finish_answers_handlers(executor: ThreadPoolExecutor) -> None:
    gate = Gate()
    with serving(gate) as server, Connection(server) as connection:
        connection.send(GET % b"/" + GET % b"/")
        assert gate.entered.wait(TIMEOUT)
        stopping = executor.submit(server.stop, TIMEOUT, "finish")
        until(lambda: is_stopping(server))
        gate.open()
        (answer,) = parse_answers(connection.receive_to_end(), ["GET"])
        assert (answer.text(), answer.closes) == ("through", True)
        stopping.result(SOON)


def test_finish_ends_what_is_left_at_the_end_of_the_grace() -> None:
    """Cleanly: with the last chunk, and a time to come back after that is not the same for all."""
    events = Events()
    with serving(events) as server, ExitStack() as stack:
        clients = [stack.enter_context(EventClient(server)) for _ in range(30)]
        for client in clients:
            client.read(1)
        watch = Stopwatch()
        server.stop(0.3, "finish")
        assert 0.3 - CLOCK <= watch.seconds < 0.3 + SOON
        for client in clients:
            assert client.read_all() == []
            assert client.connection.end in (None, "closed")
        times = {client.retry for client in clients}
        assert all(time is not None and 0 <= time < 2000 for time in times)
        assert len(times) > 10
    assert events.ends == ["shutdown"] * 30


def test_finish_cuts_off_handlers_at_the_end_of_the_grace() -> None:
    gate = Gate()
    events = Events()
    with (
        serving(lambda req: events(req) if req.path == "/events" else gate(req)) as server,
        Connection(server) as connection,
        EventClient(server, "/events") as client,
    ):
        client.read(1)
        connection.send(GET % b"/")
        assert gate.entered.wait(TIMEOUT)
        watch = Stopwatch()
        server.stop(0.3, "finish")
        assert 0.3 - CLOCK <= watch.seconds < 0.3 + SOON
        assert connection.receive_to_end() == b""
        assert connection.end == "reset"
        assert client.read_all() == []


def test_finish_is_not_for_a_stubborn_generator(errors: list[str]) -> None:
    entered, freed = threading.Event(), threading.Event()

    async def generator() -> AsyncIterator[str]:
        yield "first"
        await stubborn_wait(entered, freed)

    with serving(lambda req: SSEResponse(generator())) as server, EventClient(server) as client:
        client.read(1)
        assert entered.wait(TIMEOUT)
        watch = Stopwatch()
        server.stop(0.2, "finish")
        assert 0.2 - CLOCK <= watch.seconds < 0.2 + SOON
    assert errors == ["stopped with 1 connections whose handlers or generators did not end"]
    freed.set()


def test_finish_without_grace_ends_them_now() -> None:
    events = Events()
    with serving(events) as server, EventClient(server) as client:
        client.read(1)
        watch = Stopwatch()
        server.stop(0, "finish")
        assert watch.seconds < SOON
        assert client.read_all() == []
        assert client.retry is not None
    assert events.ends == ["shutdown"]


def test_finish_waits_for_a_slow_client(executor: ThreadPoolExecutor) -> None:
    """What its stream has given is on its way to it, the end too."""
    pieces = 4000

    async def flood() -> AsyncIterator[str]:
        for number in range(pieces):
            yield f"{number}".ljust(1000)

    with serving(lambda req: SSEResponse(flood())) as server:
        with EventClient(server, receive_buffer=4096) as client:
            client.read(1)
            stopping = executor.submit(server.stop, TIMEOUT, "finish")
            until(lambda: is_stopping(server))
            events = client.read_all(TIMEOUT)
            assert [int(event.data) for event in events] == list(range(1, pieces))
        stopping.result(SOON)


class Turns:
    """Counts the turns of a server's loop, by a callback in each."""

    def __init__(self, server: Server) -> None:
        loop = local(server)._loop
        assert loop is not None
        self._loop = loop
        self.count = 0
        self._loop.call_soon_threadsafe(self._turn)

    def _turn(self) -> None:
        self.count += 1
        self._loop.call_soon(self._turn)


@pytest.mark.parametrize("streams", ["spread", "close"])
def test_close_ends_all_streams_in_one_turn(streams: Any) -> None:
    """And "spread" no more than so many in one."""
    turns: list[int] = []

    async def events() -> AsyncIterator[str]:
        try:
            yield "first"
            await asyncio.sleep(3600)
        finally:
            turns.append(counted.count)

    with serving(lambda req: SSEResponse(events())) as server, ExitStack() as stack:
        clients = [stack.enter_context(EventClient(server)) for _ in range(100)]
        for client in clients:
            client.read(1)
        counted = Turns(server)
        server.stop(TIMEOUT, streams)
        for client in clients:
            assert client.read_all() == []
            assert client.ended_cleanly
        assert len({client.retry for client in clients}) > 20
    assert len(turns) == 100
    most = max(turns.count(turn) for turn in turns)
    if streams == "close":
        assert len(set(turns)) == 1
    else:
        assert most <= 20


@pytest.mark.parametrize("streams", ["", "Finish", "now", 1, True])
def test_streams_that_are_nothing(streams: Any) -> None:
    with serving(hello) as server:
        for stop in (server.stop, server.request_stop):
            with pytest.raises(ValueError) as error:
                stop(0, streams)
            assert str(error.value) == (
                f'streams is {streams!r}: it is "spread", "finish" or "close"'
            )
        assert request(server).text() == "hello"
    with pytest.raises(ValueError):
        server.stop(0, streams)  # also of a server that has stopped


@pytest.mark.parametrize("streams", ["spread", "finish", "close"])
def test_stop_of_a_server_without_streams(streams: Any) -> None:
    with serving(hello) as server, Connection(server) as connection:
        connection.send(GET % b"/")
        connection.receive_until(b"hello")
        watch = Stopwatch()
        server.stop(TIMEOUT, streams)
        assert watch.seconds < SOON
        assert connection.receive_to_end() == b""


@pytest.mark.parametrize("again", ["spread", "close", "finish"])
def test_finish_and_then_a_shorter_grace(executor: ThreadPoolExecutor, again: Any) -> None:
    """The first call tells how streams end; a later one may only bring the end of the grace forward."""
    events = Events()
    with serving(events) as server, EventClient(server) as client:
        client.read(1)
        first = executor.submit(server.stop, 3600, "finish")
        until(lambda: is_stopping(server))
        watch = Stopwatch()
        second = executor.submit(server.stop, 0.3, again)
        assert client.read_all() == []
        assert watch.seconds >= 0.3
        assert client.retry is not None
        first.result(SOON)
        second.result(SOON)
    assert events.ends == ["shutdown"]


def test_a_finish_that_comes_too_late(executor: ThreadPoolExecutor) -> None:
    """Streams that are ended already are not let finish."""
    events = Events()
    with serving(events) as server, EventClient(server) as client:
        client.read(1)
        first = executor.submit(server.stop, TIMEOUT, "close")
        second = executor.submit(server.stop, TIMEOUT, "finish")
        first.result(SOON)
        second.result(SOON)
        client.read_all()


def test_a_burst_of_connections_while_it_stops(executor: ThreadPoolExecutor) -> None:
    """Each is answered, or refused, or closed; none hangs, and no error is logged."""
    with serving(hello) as server:
        asked = [
            executor.submit(exchange, server, GET % b"/", half_close=True, timeout=TIMEOUT)
            for _ in range(100)
        ]
        asked[10].result(TIMEOUT)
        server.stop()
        for future in asked:
            with suppress(ConnectionError):
                assert future.result(TIMEOUT).statuses in ([200], [])


# --- while another takes its place ----------------------------------------------------------------


def test_who_has_a_connection_may_use_it_once_more() -> None:
    """Also to ask whether the server is ready: it is, for another accepts from the same sockets."""
    with serving(hello, health=True) as server, ExitStack() as stack:
        asking, using = (stack.enter_context(Connection(server)) for _ in range(2))
        for connection in (asking, using):
            connection.send(GET % b"/")
            connection.receive_until(b"hello")
        local(server).retire(TIMEOUT, "spread")
        until(lambda: is_stopping(server))
        asking.send(GET % b"/readyz")
        using.send(GET % b"/")
        for connection, text in ((asking, b"ready\n"), (using, b"hello")):
            (answer,) = parse_answers(connection.receive_to_end())
            assert (answer.status, answer.body) == (200, text)
            assert answer.headers["connection"] == "close"
