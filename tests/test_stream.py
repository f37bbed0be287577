"""Streams over real sockets: when the head and each event leave, how streams end, and generators that misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import logging
import queue
import socket
import threading
import time
import traceback
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from typing import Any
from weakref import ref

import pytest
from heads import head
from watching import Gate, Log, connections, local, until

from bunpy.serve import Event, HTTPError, InvalidEvent, Request, Response, Server, SSEResponse
from bunpy.server import residence
from bunpy.testing import (
    Connection,
    EventClient,
    IncompleteAnswer,
    StreamEnded,
    exchange,
    parse_answers,
    request,
    serving,
)

# What is logged, a test takes; nothing else may be.
pytestmark = pytest.mark.usefixtures("few_objects", "log")

SOON = 5.0  # seconds: what should come at once has surely come
NEVER = 60.0  # seconds: a delay that is not waited for
BRIEF = 0.1  # seconds: one that is

Source = Callable[[], AsyncIterator[Any]]

#: Little time for generators to clean up, in seconds.
SHORT_CLOSE = 2 * BRIEF


def is_idle(server: Server) -> bool:
    """Whether nothing runs for a client: no connection, and no task but the server's own."""
    assert local(server)._loop is not None
    return not connections(server) and len(asyncio.all_tasks(local(server)._loop)) == 1


# What is left behind


@pytest.mark.parametrize("kind", ["async", "plain"])
def test_a_generator_that_raised_is_left_to_no_collector(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Kept:
        """Lives as long as the frame of the generator that raised."""

    kept: list[ref[Kept]] = []

    async def generator() -> AsyncIterator[str]:
        kept.append(ref(there := Kept()))
        yield "first"
        raise ValueError(there)

    def plain_generator() -> Iterator[str]:
        kept.append(ref(there := Kept()))
        yield "first"
        raise ValueError(there)

    caplog.set_level(logging.CRITICAL, "bunpy")  # a record has the traceback, and pytest keeps it
    source = generator if kind == "async" else plain_generator
    gc.disable()
    try:
        with serving(lambda req: SSEResponse(source())) as server:
            for _ in range(5):
                with EventClient(server) as client, pytest.raises(IncompleteAnswer):
                    client.read_all()
            until(lambda: not connections(server))
            until(lambda: [one() for one in kept] == [None] * 5)
    finally:
        gc.enable()


# The head: with the first event, or after head_delay; until then an error is a status


async def later() -> None:
    await asyncio.sleep(BRIEF / 2)


async def at_once() -> None:
    pass


async def after_a_turn() -> None:
    await asyncio.sleep(0)


@pytest.mark.parametrize("wait", [at_once, after_a_turn, later])
@pytest.mark.parametrize(
    ("error", "status", "body"),
    [
        (HTTPError(404, "No such stream", {"X-Why": "gone"}), 404, b"No such stream\n"),
        (RuntimeError("the secret"), 500, b"Internal Server Error\n"),
        (SystemExit(3), 500, b"Internal Server Error\n"),
    ],
)
def test_an_error_before_the_first_event_is_a_status(
    wait: Callable[[], Any], error: BaseException, status: int, body: bytes, log: Log
) -> None:
    async def source() -> AsyncIterator[str]:
        await wait()
        raise error
        yield "never"

    with serving(lambda req: SSEResponse(source()), head_delay=SOON) as server:
        taken = exchange(server, head() + head("/", "Connection: close"))
        first, second = taken.answers
        for answer in (first, second):
            assert (answer.status, answer.body) == (status, body)
            assert answer.headers["content-type"] == "text/plain; charset=utf-8"
            assert answer.headers.get("x-why") == ("gone" if status == 404 else None)
            assert "cache-control" not in answer.headers
        assert not first.closes  # the connection goes on
        until(lambda: is_idle(server))
    if status == 500:
        assert [record.exc_info[1] for record in log.records if record.exc_info] == [
            error,
            error,
        ]
        log.records.clear()


def test_the_head_leaves_after_head_delay_when_there_is_no_event_yet() -> None:
    gate = Gate()

    async def source() -> AsyncIterator[str]:
        await gate.passed()
        yield "first"

    with serving(lambda req: SSEResponse(source()), head_delay=2 * BRIEF) as server:
        began = time.monotonic()
        with EventClient(server) as client:  # which has read the head
            assert 2 * BRIEF * 0.9 < time.monotonic() - began < SOON
            assert client.status == 200
            gate.open()
            assert [event.data for event in client.read_all()] == ["first"]


def test_the_head_leaves_soon_by_default() -> None:
    gate = Gate()

    async def source() -> AsyncIterator[str]:
        await gate.passed()
        yield "never"

    with serving(lambda req: SSEResponse(source())) as server:
        began = time.monotonic()
        with EventClient(server):
            assert time.monotonic() - began < SOON


def test_an_error_after_the_head_has_left_cuts_the_stream_also_without_an_event(log: Log) -> None:
    gate = Gate()

    async def source() -> AsyncIterator[str]:
        await gate.passed()
        raise HTTPError(404)
        yield "never"

    with (
        serving(lambda req: SSEResponse(source()), head_delay=0) as server,
        EventClient(server) as client,
    ):
        gate.open()
        with pytest.raises(IncompleteAnswer):
            client.read_all()
    assert isinstance(log.take_error(), HTTPError)


def test_the_first_event_does_not_wait_for_head_delay() -> None:
    async def source() -> AsyncIterator[str]:
        yield "first"
        await asyncio.sleep(NEVER)

    with (
        serving(lambda req: SSEResponse(source()), head_delay=NEVER) as server,
        EventClient(server) as client,
    ):
        assert client.read(1)[0].data == "first"


@pytest.mark.parametrize("name", ["generator", "handler"])
def test_head_and_first_event_are_one_write(name: str) -> None:
    async def source() -> AsyncIterator[str]:
        if name == "generator":
            await asyncio.sleep(0)
        yield "first"
        await asyncio.sleep(NEVER)

    with serving(lambda req: SSEResponse(source())) as server:
        for _ in range(20):
            with Connection(server) as client:
                client.send(head())
                received = client.receive()
                assert received.startswith(b"HTTP/1.1 200 OK\r\n")
                assert received.endswith(b"\r\n\r\nd\r\ndata: first\n\n\r\n")


def test_a_stream_of_nothing_is_a_clean_answer() -> None:
    async def source() -> AsyncIterator[str]:
        return
        yield "never"

    with serving(lambda req: SSEResponse(source())) as server:
        taken = exchange(server, head() + head("/", "Connection: close"))
    assert [(answer.status, answer.body) for answer in taken.answers] == [(200, b"")] * 2


def test_the_default_head_of_an_event_stream() -> None:
    async def source() -> AsyncIterator[str]:
        yield "x"

    with serving(lambda req: SSEResponse(source(), {"X-Own": "1"})) as server:
        headers = request(server).headers
    assert headers.pop("date")
    assert headers == {
        "content-type": "text/event-stream; charset=utf-8",
        "cache-control": "no-store",
        "x-accel-buffering": "no",
        "transfer-encoding": "chunked",
        "x-own": "1",
    }


# Events leave as they are made


def test_each_event_of_a_blocking_generator_arrives_before_the_next_is_made() -> None:
    """It blocks the loop until the client has the event: if that had not been sent, both would wait for ever."""
    taken: queue.Queue[str] = queue.Queue()

    async def source() -> AsyncIterator[str]:
        for number in range(10):
            yield f"{number}"
            time.sleep(0.001)  # noqa: ASYNC251 -- a step that blocks takes longer than STEP_TIME
            assert taken.get(timeout=SOON) == f"{number}"

    with serving(lambda req: SSEResponse(source())) as server, EventClient(server) as client:
        for _ in range(10):
            taken.put(client.read(1)[0].data)
        assert client.read_all() == []


def test_each_event_of_a_waiting_generator_arrives_before_the_next_is_made() -> None:
    taken = [Gate() for _ in range(10)]

    async def source() -> AsyncIterator[str]:
        for gate in taken:
            yield "x"
            await gate.passed()

    with serving(lambda req: SSEResponse(source())) as server, EventClient(server) as client:
        for gate in taken:
            client.read(1)
            gate.open()
        assert client.read_all() == []


def test_what_is_made_before_a_wait_leaves_before_it() -> None:
    gate = Gate()

    async def source() -> AsyncIterator[str]:
        for number in range(1000):
            yield f"{number}"
        await gate.passed()
        yield "end"

    with serving(lambda req: SSEResponse(source())) as server, EventClient(server) as client:
        assert [event.data for event in client.read(1000)] == [str(n) for n in range(1000)]
        gate.open()
        assert client.read_all()[0].data == "end"


def test_a_generator_that_never_awaits_lets_others_have_their_turn() -> None:
    async def endless() -> AsyncIterator[str]:
        while True:
            yield "x" * 100

    def handler(req: Request) -> Any:
        return SSEResponse(endless()) if req.path == "/endless" else "other"

    def read_on() -> None:
        with contextlib.suppress(StreamEnded, OSError):
            client.read(10**9)

    with serving(handler) as server, EventClient(server, "/endless") as client:
        reader = threading.Thread(target=read_on)
        reader.start()
        try:
            for _ in range(5):
                began = time.monotonic()
                assert request(server, "GET", "/").text() == "other"
                assert time.monotonic() - began < SOON
        finally:
            client.socket.shutdown(socket.SHUT_RDWR)
            reader.join()
        until(lambda: is_idle(server))


def test_batches_are_sent_together_and_in_order() -> None:
    async def source() -> AsyncIterator[Any]:
        yield []
        yield ["a", {"data": "b", "id": 1}, Event("c")]
        yield []
        yield ["d"]

    with serving(lambda req: SSEResponse(source())) as server, EventClient(server) as client:
        events = client.read_all()
    assert [(event.data, event.id) for event in events] == [
        ("a", ""),
        ("b", "1"),
        ("c", "1"),
        ("d", "1"),
    ]


def test_a_batch_that_is_all_a_stream_gives_for_now_arrives() -> None:
    async def source() -> AsyncIterator[Any]:
        yield []
        await asyncio.sleep(0.001)
        yield ["a", "b"]
        await asyncio.sleep(NEVER)

    with serving(lambda req: SSEResponse(source())) as server, EventClient(server) as client:
        assert [event.data for event in client.read(2)] == ["a", "b"]


class Countdown:
    """An async iterable that is no generator, and an iterator that is not itself."""

    def __init__(self, start: int) -> None:
        self.start = start

    def __aiter__(self) -> CountdownIterator:
        return CountdownIterator(self.start)


class CountdownIterator:
    def __init__(self, left: int) -> None:
        self.left = left

    def __aiter__(self) -> CountdownIterator:
        return self

    async def __anext__(self) -> str:
        if self.left == 0:
            raise StopAsyncIteration
        if self.left % 2:
            await asyncio.sleep(0)
        self.left -= 1
        return f"{self.left}"


def test_any_async_iterable_streams() -> None:
    with serving(lambda req: SSEResponse(Countdown(100))) as server, EventClient(server) as client:
        assert [event.data for event in client.read_all()] == [str(n) for n in reversed(range(100))]


def test_an_invalid_event_of_what_cannot_be_thrown_into_ends_the_stream(log: Log) -> None:
    class Invalid(CountdownIterator):
        async def __anext__(self) -> Any:
            return {"id": "\n", "data": ""}

    with serving(lambda req: SSEResponse(Invalid(1))) as server:
        assert request(server).status == 500
    assert isinstance(log.take_error(), InvalidEvent)


# The heartbeat


def test_a_silent_stream_sends_comments() -> None:
    gate = Gate()

    async def source() -> AsyncIterator[str]:
        yield "first"
        await gate.passed()
        yield "last"

    with (
        serving(lambda req: SSEResponse(source()), heartbeat=BRIEF) as server,
        EventClient(server) as client,
    ):
        client.wait_until(lambda: client.comments >= 3)
        gate.open()
        assert [event.data for event in client.read_all()] == ["first", "last"]


def test_a_heartbeat_is_not_the_head() -> None:
    """Before the head has left, an error is still a status."""

    async def source() -> AsyncIterator[str]:
        await asyncio.sleep(4 * BRIEF)
        raise HTTPError(404)
        yield "never"

    with serving(lambda req: SSEResponse(source()), heartbeat=BRIEF, head_delay=NEVER) as server:
        assert request(server).status == 404


def test_a_body_of_bytes_gets_no_comments() -> None:
    async def source() -> AsyncIterator[bytes]:
        yield b"first"
        await asyncio.sleep(4 * BRIEF)
        yield b"last"

    with serving(lambda req: Response(source()), heartbeat=BRIEF) as server:
        assert request(server).body == b"firstlast"


# The end


def test_a_stream_that_ends_leaves_the_connection_for_the_next() -> None:
    async def source() -> AsyncIterator[str]:
        yield "x"

    with serving(lambda req: SSEResponse(source())) as server:
        taken = exchange(server, head() * 50 + head("/", "Connection: close"))
    assert [answer.body for answer in taken.answers] == [b"data: x\n\n"] * 51


@pytest.mark.parametrize("kind", ["at once", "after a wait"])
def test_a_stream_that_raises_ends_without_the_last_chunk(kind: str, log: Log) -> None:
    gate = Gate()

    async def breaking() -> AsyncIterator[str]:
        yield "first"
        if kind == "after a wait":
            await gate.passed()
        raise LookupError("the secret")

    with serving(lambda req: SSEResponse(breaking())) as server, EventClient(server) as client:
        assert client.read(1)[0].data == "first"  # which was sent, whatever comes
        gate.open()
        with pytest.raises(StreamEnded):
            client.read(1)
        assert (client.ended_cleanly, client.connection.end) == (False, "closed")
        until(lambda: is_idle(server))
    error = log.take_error()
    assert isinstance(error, LookupError)
    assert traceback.extract_tb(error.__traceback__)[-1].name == "breaking"


def test_in_http_1_0_a_stream_that_raises_ends_in_a_reset(log: Log) -> None:
    gate = Gate()

    async def source() -> AsyncIterator[str]:
        yield "first"
        await gate.passed()
        raise RuntimeError("after the first")

    with serving(lambda req: SSEResponse(source())) as server, Connection(server) as client:
        client.send(head(version="1.0"))
        client.receive_until(b"data: first\n\n")
        gate.open()
        assert client.receive_to_end() == b""
        assert client.end == "reset"
    log.take_error()


def test_a_body_that_raises_ends_without_the_last_chunk(log: Log) -> None:
    gate = Gate()

    async def source() -> AsyncIterator[bytes]:
        yield b"first"
        await gate.passed()
        raise RuntimeError("after the first")

    with serving(lambda req: Response(source())) as server, EventClient(server) as client:
        assert client.raw(10) == b"5\r\nfirst\r\n"
        gate.open()
        with pytest.raises(IncompleteAnswer):
            client.body()
    log.take_error()


@pytest.mark.parametrize("before", [True, False])
def test_a_piece_of_the_wrong_type_is_refused_at_its_yield(before: bool, log: Log) -> None:
    async def source() -> AsyncIterator[Any]:
        if not before:
            yield b"first"
            await asyncio.sleep(0)
        yield 42

    with serving(lambda req: Response(source())) as server:
        if before:
            assert request(server).status == 500
        else:
            with pytest.raises(IncompleteAnswer):
                request(server)
    assert "int" in str(log.take_error())


# An invalid event: the exception is the generator's own, at its yield

INVALID: dict[str, Any] = {
    "int": 42,
    "None": None,
    "bytes": b"x",
    "unknown key": {"data": 1, "evnt": "x"},
    "no data": {"event": "x"},
    "empty": {},
    "id": {"data": 1, "id": "1\n"},
    "retry": {"data": 1, "retry": -1},
    "surrogate": "\ud800",
    "unserialisable": {"data": object()},
    "batch": ["good", {"data": 1, "id": "\0"}],
}


@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize("name", INVALID)
def test_an_invalid_event_raises_at_its_own_yield(name: str, is_first: bool, log: Log) -> None:
    async def source() -> AsyncIterator[Any]:
        if not is_first:
            yield "fine"
        yield INVALID[name]  # the line that is to blame
        yield "never sent"

    with serving(lambda req: SSEResponse(source())) as server:
        if is_first:
            assert request(server).status == 500
        else:
            with EventClient(server) as client:
                assert client.read(1)[0].data == "fine"
                with pytest.raises(StreamEnded):
                    client.read(1)
    error = log.take_error()
    assert isinstance(error, InvalidEvent)
    blamed = [
        frame.line
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename == __file__
    ]
    assert blamed == ["yield INVALID[name]  # the line that is to blame"]


@pytest.mark.parametrize("name", INVALID)
def test_an_invalid_event_can_be_caught_there(name: str) -> None:
    async def source() -> AsyncIterator[Any]:
        for number in itertools.count():
            try:
                yield INVALID[name]
            except InvalidEvent:
                yield f"caught {number}"
            if number == 2:
                return

    with serving(lambda req: SSEResponse(source())) as server, EventClient(server) as client:
        assert [event.data for event in client.read_all()] == ["caught 0", "caught 1", "caught 2"]


def test_a_generator_may_end_on_its_invalid_event() -> None:
    async def source() -> AsyncIterator[Any]:
        yield "first"
        try:
            yield 42
        except InvalidEvent:
            return

    with serving(lambda req: SSEResponse(source())) as server, EventClient(server) as client:
        assert [event.data for event in client.read_all()] == ["first"]


# One task: timeouts and cancel scopes in a generator


class Deadline:
    """A cancel scope as libraries have it: it cancels the task that entered it, and tells that as TimeoutError."""

    def __init__(self, delay: float) -> None:
        self.delay = delay
        self.is_over = False

    async def __aenter__(self) -> Deadline:
        task = asyncio.current_task()
        assert task is not None
        self.task = task
        self.handle = asyncio.get_running_loop().call_later(self.delay, self.cancel)
        return self

    def reschedule(self, when: float) -> None:
        self.handle.cancel()
        self.handle = self.task.get_loop().call_at(when, self.cancel)

    def cancel(self) -> None:
        self.is_over = True
        self.task.cancel()

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        assert self.task is asyncio.current_task()
        self.handle.cancel()
        if kind is asyncio.CancelledError and self.is_over:
            if hasattr(self.task, "uncancel"):
                self.task.uncancel()
            raise TimeoutError


@pytest.mark.parametrize("scope", [Deadline, getattr(asyncio, "timeout", Deadline)])
def test_a_timeout_in_a_generator_is_felt_in_it(scope: Callable[[float], Any]) -> None:
    async def source() -> AsyncIterator[str]:
        for number in range(3):
            try:
                async with scope(NEVER) as deadline:
                    yield f"begins {number}"
                    deadline.reschedule(0.0)  # so that it comes at the await, and not before
                    await asyncio.sleep(NEVER)
            except TimeoutError:
                yield f"ends {number}"
        async with scope(NEVER):
            yield "in time"

    with serving(lambda req: SSEResponse(source())) as server, EventClient(server) as client:
        events = [event.data for event in client.read_all()]
    assert events == [*(f"{what} {n}" for n in range(3) for what in ("begins", "ends")), "in time"]


@pytest.mark.parametrize("before", [True, False])
def test_a_generator_that_cancels_itself_fails(before: bool, log: Log) -> None:
    async def source() -> AsyncIterator[str]:
        if not before:
            yield "first"
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(NEVER)
        yield "never"

    with serving(lambda req: SSEResponse(source())) as server:
        if before:
            assert request(server).status == 500
        else:
            with EventClient(server) as client:
                client.read(1)
                with pytest.raises(StreamEnded):
                    client.read(1)
        until(lambda: is_idle(server))
    assert isinstance(log.take_error(), asyncio.CancelledError)


def test_a_generator_that_streams_already_streams_for_nobody_else(log: Log) -> None:
    """One object given as the answer to two requests: the second fails, and the first notices nothing of it."""
    gate = Gate()
    seen: list[Any] = []

    async def source() -> AsyncGenerator[str, None]:
        try:
            yield "first"
            yield "second"
            await gate.passed()
            yield "third"
            await asyncio.sleep(NEVER)
        except BaseException as exc:
            seen.append(type(exc))
            raise

    shared = source()
    answer = SSEResponse(shared, on_close=seen.append)
    with serving(
        lambda req: answer if req.path == "/" else SSEResponse(shared), head_delay=SOON
    ) as server:
        with EventClient(server) as client:
            assert [event.data for event in client.read(2)] == ["first", "second"]
            refused = request(server, path="/other")
            assert (refused.status, refused.body) == (500, b"Internal Server Error\n")
            assert seen == []
            gate.open()
            assert [event.data for event in client.read()] == ["third"]
        until(lambda: is_idle(server))
    assert seen == [asyncio.CancelledError, "client"]
    messages = [str(record.exc_info[1]) for record in log.records if record.exc_info]
    assert "anext(): asynchronous generator is already running" in messages
    assert all("already running" in message for message in messages)
    log.records.clear()


class Abandoned(BaseException):
    """What some library cancels with: no Exception."""


@pytest.mark.parametrize("error", [Abandoned, asyncio.CancelledError])
@pytest.mark.parametrize("before", [True, False])
def test_a_generator_that_raises_what_is_no_exception_fails_as_any(
    error: type[BaseException], before: bool, log: Log
) -> None:
    gate = Gate()

    async def source() -> AsyncIterator[str]:
        if not before:
            yield "first"
        await gate.passed()
        raise error
        yield "never"

    with serving(lambda req: SSEResponse(source()), head_delay=NEVER) as server:
        if before:
            gate.open()
            assert request(server).status == 500
        else:
            with EventClient(server) as client:
                client.read(1)
                gate.open()
                with pytest.raises(StreamEnded):
                    client.read(1)
        until(lambda: is_idle(server))
    assert isinstance(log.take_error(), error)


# Generators that misbehave when their client has gone


class Case:
    """A generator whose client leaves while it is at an ``await``, or at a ``yield`` by backpressure."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.is_there = False
        self.ended: list[str] = []

    async def events(self) -> AsyncIterator[str]:
        """Until it is left."""
        if self.where == "await":
            yield "first"
            self.is_there = True
            await asyncio.sleep(NEVER)
        while True:
            self.is_there = True
            yield "x" * 1000

    def leave(self, server: Server) -> None:
        with EventClient(server, receive_buffer=4096) as client:
            until(lambda: self.is_there)
            if self.where == "yield":
                until(lambda: any(conn._outlet.is_paused for conn in connections(server)))
            client.drop(reset=True)


WHERE = pytest.mark.parametrize("where", ["await", "yield"])


@WHERE
def test_a_generator_that_swallows_its_cancellation_is_closed_at_its_next_yield(
    where: str, small_buffers: None
) -> None:
    case = Case(where)

    async def source() -> AsyncIterator[str]:
        try:
            while True:
                try:
                    async for event in case.events():
                        yield event
                except asyncio.CancelledError:
                    case.ended.append("swallowed")
                    case.where = "yield"
        finally:
            case.ended.append("finally")

    with serving(lambda req: SSEResponse(source())) as server:
        case.leave(server)
        until(lambda: is_idle(server))
    assert case.ended == (["swallowed", "finally"] if where == "await" else ["finally"])


def test_a_generator_that_swallows_every_cancellation_is_logged_once_and_stops_nothing(
    log: Log,
) -> None:
    case = Case("await")
    is_over = threading.Event()

    async def source() -> AsyncIterator[str]:
        async for event in case.events():
            yield event
            break
        case.is_there = True
        while not is_over.is_set():
            try:
                await asyncio.sleep(0.05)
            except asyncio.CancelledError:
                case.ended.append("swallowed")

    with serving(lambda req: SSEResponse(source()), close_timeout=SHORT_CLOSE) as server:
        case.leave(server)
        record = log.take()
        assert "still runs 0.2 s after its stream has ended" in record.getMessage()
        until(lambda: case.ended == ["swallowed"] * 2)
        request(server, "HEAD")  # everyone else is served
        is_over.set()
        until(lambda: is_idle(server))


def test_a_server_stops_although_a_generator_swallows_every_cancellation(log: Log) -> None:
    case = Case("await")

    async def source() -> AsyncIterator[str]:
        yield "first"
        case.is_there = True
        while True:
            try:
                await asyncio.sleep(NEVER)
            except asyncio.CancelledError:
                case.ended.append("swallowed")

    with serving(lambda req: SSEResponse(source())) as server, EventClient(server) as client:
        client.read(1)
        until(lambda: case.is_there)
        began = time.monotonic()
        server.stop(grace=2 * BRIEF)
        assert time.monotonic() - began < SOON
        with pytest.raises(IncompleteAnswer):
            client.read_all()
    assert "1 connections whose handlers or generators did not end" in log.take().getMessage()


def test_a_generator_that_swallows_generator_exit_is_logged_once(
    small_buffers: None, log: Log
) -> None:
    case = Case("yield")

    async def source() -> AsyncIterator[str]:
        while True:
            try:
                async for event in case.events():
                    yield event
            except GeneratorExit:
                case.ended.append("swallowed")
                if len(case.ended) == 2:
                    raise

    with serving(lambda req: SSEResponse(source())) as server:
        case.leave(server)
        assert "ignored GeneratorExit" in str(log.take_error())
        until(lambda: len(case.ended) == 2)  # it was forgotten, and so closed once more
        until(lambda: is_idle(server))


@WHERE
def test_a_generator_that_yields_in_its_finally_is_not_heard(
    where: str, small_buffers: None, log: Log
) -> None:
    case = Case(where)

    async def source() -> AsyncIterator[str]:
        try:
            async for event in case.events():
                yield event
        finally:
            case.ended.append("finally")
            yield "goodbye"

    with serving(lambda req: SSEResponse(source())) as server:
        case.leave(server)
        if where == "yield":
            assert "ignored GeneratorExit" in str(log.take_error())
        until(lambda: is_idle(server))
    assert case.ended == ["finally"]


@WHERE
@pytest.mark.parametrize("kind", ["client", "shutdown"])
def test_a_generator_may_await_in_its_finally(where: str, kind: str, small_buffers: None) -> None:
    case = Case(where)

    async def source() -> AsyncIterator[str]:
        try:
            async for event in case.events():
                yield event
        finally:
            await asyncio.sleep(BRIEF)
            case.ended.append("finally")

    with serving(lambda req: SSEResponse(source())) as server:
        if kind == "client":
            case.leave(server)
            until(lambda: is_idle(server))
        else:
            with EventClient(server) as client:
                until(lambda: case.is_there)
                stopping = threading.Thread(target=server.stop, args=(SOON,))
                stopping.start()
                client.read_all()
                stopping.join()
                assert client.retry is not None
    assert case.ended == ["finally"]


@WHERE
def test_a_finally_that_takes_too_long_is_cancelled_and_logged_once(
    where: str, small_buffers: None, log: Log
) -> None:
    case = Case(where)

    async def source() -> AsyncIterator[str]:
        try:
            async for event in case.events():
                yield event
        finally:
            try:
                await asyncio.sleep(NEVER)
            finally:
                case.ended.append("cut short")

    with serving(lambda req: SSEResponse(source()), close_timeout=SHORT_CLOSE) as server:
        began = time.monotonic()
        case.leave(server)
        until(lambda: is_idle(server))
        assert SHORT_CLOSE < time.monotonic() - began < SOON
        assert "its finally takes too long" in log.take().getMessage()
    assert case.ended == ["cut short"]


@WHERE
def test_a_finally_that_raises_is_logged_once(where: str, small_buffers: None, log: Log) -> None:
    case = Case(where)

    async def source() -> AsyncIterator[str]:
        try:
            async for event in case.events():
                yield event
        finally:
            case.ended.append("finally")
            raise LookupError("in the cleaning up")

    with serving(lambda req: SSEResponse(source())) as server:
        case.leave(server)
        until(lambda: is_idle(server))
        assert isinstance(log.take_error(), LookupError)
    assert case.ended == ["finally"]


@pytest.mark.parametrize("raises", [True, False])
def test_the_aclose_of_what_is_no_generator_is_bounded_too(raises: bool, log: Log) -> None:
    closed: list[str] = []

    class Source(CountdownIterator):
        async def __anext__(self) -> str:
            if raises:
                raise LookupError("at once")
            return await super().__anext__()

        async def aclose(self) -> None:
            try:
                await asyncio.sleep(NEVER)
            finally:
                closed.append("cut short")

    with serving(lambda req: SSEResponse(Source(3)), close_timeout=SHORT_CLOSE) as server:
        assert request(server).status == (500 if raises else 200)
        until(lambda: closed == ["cut short"] and is_idle(server))
        until(lambda: len(log.messages) == (2 if raises else 1))
    assert "takes too long" in log.messages[0]
    log.records.clear()


def test_the_aclose_of_what_was_never_streamed_is_bounded_too(log: Log) -> None:
    seen: list[str] = []

    class Source(CountdownIterator):
        async def aclose(self) -> None:
            try:
                await asyncio.sleep(NEVER)
            finally:
                seen.append("cut short")

    async def handler(req: Request) -> Any:
        seen.append("began")
        try:
            await asyncio.sleep(NEVER)
        except asyncio.CancelledError:
            return SSEResponse(Source(3))

    with serving(handler, close_timeout=SHORT_CLOSE) as server:
        with Connection(server) as client:
            client.send(head())
            until(lambda: seen == ["began"])
            client.drop(reset=True)
        until(lambda: is_idle(server))
        assert seen == ["began", "cut short"]
        assert "takes too long" in log.take().getMessage()


def test_a_finally_runs_before_the_answer_is_complete() -> None:
    """What a generator releases is free when the client has seen the end."""
    seen: list[str] = []

    async def source() -> AsyncIterator[str]:
        try:
            yield "x"
        finally:
            seen.append("released")

    with serving(lambda req: SSEResponse(source())) as server:
        for number in range(20):
            request(server)
            assert seen == ["released"] * (number + 1)


# A reader that is slow


def counting(steps: list[int], size: int = 1000) -> AsyncGenerator[str, None]:
    async def source() -> AsyncGenerator[str, None]:
        for number in itertools.count():
            steps[0] = number
            yield f"{number}".ljust(size)

    return source()


def test_a_generator_is_held_back_by_a_client_that_takes_nothing_and_goes_on_when_it_does() -> None:
    steps = [0]

    def handler(req: Request) -> Any:
        if req.path == "/slow":
            return SSEResponse(counting(steps))
        return SSEResponse(fast())

    async def fast() -> AsyncIterator[str]:
        for number in range(1000):
            yield f"{number}"
            if number % 100 == 0:
                await asyncio.sleep(0)

    with serving(handler) as server, EventClient(server, "/slow", receive_buffer=4096) as client:
        (connection,) = connections(server)
        until(lambda: connection._outlet.is_paused)
        held_at = steps[0]
        for _ in range(5):
            with EventClient(server, "/fast") as other:
                assert len(other.read_all()) == 1000
        assert steps[0] == held_at
        assert connection._transport.get_write_buffer_size() <= 160 * 1024
        assert len(connection._service.events) == 0
        events = client.read(held_at + 1000, timeout=20)
        assert [int(event.data) for event in events] == list(range(held_at + 1000))
        assert steps[0] > held_at


def pace(server: Server) -> float:
    """Events a second of a burst, the best of some."""
    best = 0.0
    for _ in range(3):
        began = time.perf_counter()
        taken = exchange(server, head("/burst", "Connection: close"), timeout=20)
        assert taken.data.endswith(b"0\r\n\r\n")
        best = max(best, 30_000 / (time.perf_counter() - began))
    return best


def test_slow_readers_slow_nobody_else_down() -> None:
    async def burst() -> AsyncIterator[str]:
        for _ in range(30_000):
            yield "x" * 64

    def handler(req: Request) -> Any:
        return SSEResponse(counting([0]) if req.path == "/slow" else burst())

    with serving(handler) as server:
        alone = pace(server)
        slow = [EventClient(server, "/slow", receive_buffer=4096) for _ in range(10)]
        try:
            until(lambda: all(conn._outlet.is_paused for conn in connections(server)))
            until(
                lambda: pace(server) > alone / 3, NEVER
            )  # at some time when nobody else has the processor
        finally:
            for client in slow:
                client.drop(reset=True)


def test_a_reader_that_takes_nothing_for_send_timeout_is_reset() -> None:
    steps = [0]
    with (
        serving(lambda req: SSEResponse(counting(steps)), send_timeout=2 * BRIEF) as server,
        EventClient(server, receive_buffer=4096) as client,
    ):
        until(lambda: is_idle(server))
        with pytest.raises(StreamEnded):
            client.read(10**9)
        assert client.connection.end == "reset"


def test_a_reader_that_takes_a_little_all_the_time_is_not_reset() -> None:
    """It takes more than half a megabyte a second, which is less than the kernel has in its buffers for it."""
    steps = [0]
    with (
        serving(lambda req: SSEResponse(counting(steps)), send_timeout=2.0) as server,
        EventClient(server, receive_buffer=8192) as client,
    ):
        client.socket.settimeout(SOON)
        began = time.monotonic()
        while time.monotonic() - began < 3.0:
            assert client.socket.recv(16 * 1024)
            time.sleep(0.02)


def test_a_cancellation_while_the_client_is_slow_still_ends_the_stream_cleanly(
    small_buffers: None,
) -> None:
    steps = [0]
    with (
        serving(lambda req: SSEResponse(counting(steps))) as server,
        EventClient(server, receive_buffer=4096) as client,
    ):
        (connection,) = connections(server)
        until(lambda: connection._outlet.is_paused)
        stopping = threading.Thread(target=server.stop, args=(SOON,))
        stopping.start()
        events = client.read_all()
        stopping.join()
        assert [int(event.data) for event in events] == list(range(len(events)))
        assert client.retry is not None


# A stream's lifetime


async def endless() -> AsyncIterator[str]:
    yield "first"
    await asyncio.sleep(NEVER)


def test_a_stream_ends_cleanly_when_its_time_has_come() -> None:
    """With the last chunk, and a time to come back after; the connection is there for the next request."""
    with (
        serving(lambda req: SSEResponse(endless()), stream_lifetime=3 * BRIEF) as server,
        Connection(server) as client,
    ):
        for _ in range(3):
            began = time.monotonic()
            client.send(head())
            (answer,) = parse_answers(client.receive_until(b"\r\n0\r\n\r\n"))
            assert 3 * BRIEF * 0.9 <= time.monotonic() - began < SOON
            assert (answer.status, answer.closes) == (200, False)
            name, _, rest = answer.text().removeprefix("data: first\n\n").partition(": ")
            assert name == "retry"
            assert 0 <= int(rest.removesuffix("\n\n")) < 2000
        client.send(head("/", method="HEAD"))
        client.receive_until(b"\r\n\r\n")
        assert client.end is None


def test_a_pipelined_request_is_answered_when_the_time_of_the_first_has_come() -> None:
    def handler(req: Request) -> Any:
        return SSEResponse(endless()) if req.path == "/events" else "hello"

    with serving(handler, stream_lifetime=2 * BRIEF) as server:
        taken = exchange(server, head("/events") + head("/", "Connection: close"))
        assert [answer.status for answer in taken.answers] == [200, 200]
        # On a busy machine its time has come before its first step.
        assert taken.answers[0].text().removeprefix("data: first\n\n").startswith("retry: ")
        assert taken.answers[1].text() == "hello"


def test_a_stream_s_time_in_http_1_0() -> None:
    with serving(lambda req: SSEResponse(endless()), stream_lifetime=2 * BRIEF) as server:
        taken = exchange(server, head(version="1.0"))
        assert taken.end == "closed"
        assert b"\n\nretry: " in taken.data.replace(b"\r\n", b"\n")


def test_a_stream_that_has_sent_nothing_when_its_time_has_come() -> None:
    async def source() -> AsyncIterator[str]:
        await asyncio.sleep(NEVER)
        yield "never"

    with serving(
        lambda req: SSEResponse(source()), stream_lifetime=2 * BRIEF, head_delay=NEVER
    ) as server:
        answer = request(server)
        assert answer.status == 200
        assert answer.text().startswith("retry: ")


def test_streams_that_began_together_do_not_end_together() -> None:
    with serving(lambda req: SSEResponse(endless()), stream_lifetime=NEVER) as server:
        began = time.monotonic()
        clients = [EventClient(server) for _ in range(40)]
        opened = time.monotonic()
        streams = [connection._exchange.stream for connection in connections(server)]
        ends = [stream._end_time for stream in streams if stream is not None]
        for client in clients:
            client.drop()
    assert len(ends) == 40
    assert began + 0.9 * NEVER <= min(ends)
    assert max(ends) <= opened + NEVER
    assert max(ends) - min(ends) >= 0.01 * NEVER


def test_each_event_of_a_busy_stream_arrives_before_its_end() -> None:
    """Its generator is cancelled at an await, and closed; nothing that it gave is lost."""
    steps: list[int] = []

    async def source() -> AsyncIterator[str]:
        for number in itertools.count():
            steps.append(number)
            yield f"{number}"
            await asyncio.sleep(0)

    with (
        serving(lambda req: SSEResponse(source()), stream_lifetime=2 * BRIEF) as server,
        EventClient(server) as client,
    ):
        events = client.read_all()
        assert [int(event.data) for event in events] == steps
        assert client.retry is not None


def test_a_stream_whose_client_is_slow_ends_when_its_time_has_come(small_buffers: None) -> None:
    """It waits for the client then, not for its generator; the client gets what waits for it, and the end."""
    steps = [0]
    ends: list[str] = []

    def handler(req: Request) -> Any:
        if req.path == "/":
            return "hello"
        return SSEResponse(counting(steps), on_close=ends.append)

    with (
        serving(handler, stream_lifetime=NEVER) as server,
        Connection(server, receive_buffer=4096) as client,
    ):
        client.send(head("/events"))
        until(lambda: any(conn._outlet.is_paused for conn in connections(server)))
        loop, stream = local(server)._loop, connections(server)[0]._exchange.stream
        assert loop is not None
        assert stream is not None
        loop.call_soon_threadsafe(stream.tick, time.monotonic() + NEVER)
        until(lambda: ends == ["lifetime"])
        assert connections(server)[0]._outlet.is_paused  # still: it has read nothing
        data = client.receive_until(b"\r\n0\r\n\r\n")
        (answer,) = parse_answers(data)
        events = answer.text().split("\n\n")
        assert events.pop() == ""
        assert events.pop().startswith("retry: ")
        assert [int(event.removeprefix("data: ")) for event in events] == list(range(len(events)))
        client.send(head())
        assert client.receive_until(b"hello").startswith(b"HTTP/1.1 200")
    assert ends == ["lifetime"]


def test_a_generator_that_never_awaits_ends_when_its_time_has_come() -> None:
    """Its client takes all: it is asked between its steps."""

    async def source() -> AsyncIterator[str]:
        while True:
            yield "x" * 100

    with (
        serving(lambda req: SSEResponse(source()), stream_lifetime=2 * BRIEF) as server,
        EventClient(server) as client,
    ):
        client.wait_until(lambda: client.ended_cleanly is True, 10)
        assert client.retry is not None


def test_without_a_lifetime_a_stream_lasts() -> None:
    gate = Gate()

    async def source() -> AsyncIterator[str]:
        yield "first"
        await gate.passed()
        yield "last"

    with serving(lambda req: SSEResponse(source())) as server, EventClient(server) as client:
        client.read(1)
        (connection,) = connections(server)
        loop = local(server)._loop
        assert loop is not None
        ticked: Future[None] = Future()

        def tick() -> None:
            connection.tick(time.monotonic() + 10 * 365 * 86400)
            ticked.set_result(None)

        loop.call_soon_threadsafe(tick)
        ticked.result(SOON)
        gate.open()
        assert [event.data for event in client.read_all()] == ["last"]


# What a client that has gone leaves behind


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_the_time_of_others_is_kept_while_a_generator_of_a_gone_client_is_closed(
    loop: str, monkeypatch: pytest.MonkeyPatch, log: Log
) -> None:
    """Its connection has no socket any more, and is ticked with all others."""
    if loop == "asyncio":
        monkeypatch.setattr(residence, "new_loop", asyncio.new_event_loop)
    gate = Gate()

    async def source() -> AsyncIterator[str]:
        try:
            yield "first"
            await asyncio.sleep(NEVER)
        finally:
            await gate.passed()

    def handler(req: Request) -> Any:
        return SSEResponse(source() if req.path == "/" else endless())

    with (
        serving(handler, heartbeat=BRIEF) as server,
        EventClient(server, "/other") as other,
    ):
        with EventClient(server) as client:
            client.read(1)
            client.drop(reset=True)
        until(lambda: gate.waiting == 1)
        before = other.comments
        other.wait_until(lambda: other.comments >= before + 5)
        assert log.messages == []
        gate.open()
        until(lambda: len(connections(server)) == 1)


# What two streams share


def test_streams_of_both_kinds_do_not_mix() -> None:
    """All streams of a server have one buffer."""

    async def source(name: str) -> AsyncIterator[str]:
        for number in range(200):
            yield f"{name}{number};"
            if number % 7 == 0:
                await asyncio.sleep(0)

    def handler(req: Request) -> Any:
        kind, name = req.path[1], req.path[2:]
        return SSEResponse(source(name)) if kind == "e" else Response(source(name))

    with serving(handler) as server:
        clients = [EventClient(server, f"/{'eb'[n % 2]}{n}.") for n in range(20)]
        bodies = [client.body() for client in clients]
        for client in clients:
            client.drop()
    for number, body in enumerate(bodies):
        template = "data: %d.%d;\n\n" if number % 2 == 0 else "%d.%d;"
        assert body.decode() == "".join(template % (number, n) for n in range(200))


def test_each_answer_is_well_formed_whatever_its_generator_did(log: Log) -> None:
    async def source(path: str) -> AsyncIterator[str]:
        for number in range(int(path[1:])):
            yield "x" * number
            await asyncio.sleep(0)
        if path == "/0":
            raise HTTPError(410)

    with serving(lambda req: SSEResponse(source(req.path))) as server:
        data = b"".join(head(f"/{n}") for n in (3, 0, 1, 0, 200)) + head("/1", "Connection: close")
        answers = parse_answers(exchange(server, data).data)
    assert [answer.status for answer in answers] == [200, 410, 200, 410, 200, 200]


# GeneratorExit, which closes a coroutine whose loop has gone, and which the program may raise as well


async def exits() -> None:
    raise GeneratorExit


async def exits_in_a_task() -> None:
    """What a future ends with is thrown into the coroutine of the task that awaits it, and not into this one."""
    await asyncio.get_running_loop().create_task(later_exits())


async def later_exits() -> None:
    await asyncio.sleep(0.01)
    raise GeneratorExit


EXITS = pytest.mark.parametrize("exit_", [exits, exits_in_a_task])


@EXITS
def test_a_handler_that_raises_generator_exit(exit_: Callable[[], Any], log: Log) -> None:
    async def handler(req: Request) -> str:
        if req.path == "/":
            await exit_()
        return "hello"

    with serving(handler) as server, Connection(server) as connection:
        connection.send(head() + head("/another"))
        assert b"500 Internal Server Error" in connection.receive_until(b"Error\n")
        connection.receive_until(b"hello")
        assert type(log.take_error()) is GeneratorExit


@pytest.mark.parametrize("has_sent", [False, True])
def test_a_generator_that_raises_generator_exit(has_sent: bool, log: Log) -> None:
    ends: list[str] = []

    async def source() -> AsyncIterator[str]:
        try:
            if has_sent:
                yield "first"
                await asyncio.sleep(0.01)
            raise GeneratorExit
        finally:
            ends.append("finally")

    with serving(lambda req: SSEResponse(source(), on_close=ends.append)) as server:
        answer = exchange(server, head("/", "Connection: close"))
        assert answer.end == "closed"
        assert (b" 500 " in answer.data) is not has_sent
        assert not answer.data.endswith(b"0\r\n\r\n")
        until(lambda: is_idle(server))
    assert type(log.take_error()) is GeneratorExit
    assert ends == ["finally", "error"]


def test_a_source_that_awaits_what_raises_generator_exit(log: Log) -> None:
    ends: list[str] = []

    class Source:
        def __aiter__(self) -> Source:
            return self

        async def __anext__(self) -> str:
            if not ends:
                ends.append("first")
                return "first"
            await exits_in_a_task()
            return "never"

    with serving(lambda req: SSEResponse(Source(), on_close=ends.append)) as server:
        answer = exchange(server, head())
        assert answer.data.endswith(b"data: first\n\n\r\n")
        assert answer.end == "closed"
        until(lambda: is_idle(server))
    assert type(log.take_error()) is GeneratorExit
    assert ends == ["first", "error"]


def test_a_plain_generator_that_raises_generator_exit(log: Log) -> None:
    ends: list[str] = []

    def source() -> Iterator[str]:
        yield "first"
        raise GeneratorExit

    with serving(lambda req: SSEResponse(source(), on_close=ends.append)) as server:
        answer = exchange(server, head())
        assert answer.data.endswith(b"data: first\n\n\r\n")
        assert answer.end == "closed"
        until(lambda: is_idle(server))
    assert type(log.take_error()) is GeneratorExit
    assert ends == ["error"]


@EXITS
def test_a_source_that_raises_generator_exit_when_it_is_closed(
    exit_: Callable[[], Any], log: Log
) -> None:
    ends: list[str] = []

    class Source:
        def __aiter__(self) -> Source:
            return self

        async def __anext__(self) -> str:
            await asyncio.sleep(3600)
            return "never"

        async def aclose(self) -> None:
            await exit_()

    with serving(lambda req: SSEResponse(Source(), on_close=ends.append)) as server:
        with EventClient(server):
            pass
        until(lambda: is_idle(server))
    record = log.take()
    assert record.getMessage().endswith(": the generator failed to close")
    assert ends == ["client"]


@EXITS
def test_an_on_close_that_raises_generator_exit(exit_: Callable[[], Any], log: Log) -> None:
    """It is told once, and its connection goes on."""
    told: list[str] = []

    async def source() -> AsyncIterator[str]:
        yield "first"

    async def on_close(reason: str) -> None:
        told.append(reason)
        await exit_()

    def handler(req: Request) -> Any:
        return SSEResponse(source(), on_close=on_close) if req.path == "/" else "hello"

    with serving(handler) as server, Connection(server) as connection:
        connection.send(head() + head("/another"))
        connection.receive_until(b"0\r\n\r\n")
        connection.receive_until(b"hello")
    record = log.take()
    assert record.getMessage().endswith(": on_close raised")
    assert told == ["finished"]


def test_a_source_that_cannot_be_iterated_is_answered_500_and_told(log: Log) -> None:
    ends: list[str] = []

    class Source:
        def __aiter__(self) -> Source:
            raise LookupError("no source")

        async def __anext__(self) -> str:
            return "never"

    with serving(lambda req: SSEResponse(Source(), on_close=ends.append)) as server:
        assert request(server).status == 500
        until(lambda: is_idle(server))
    assert isinstance(log.take_error(), LookupError)
    assert ends == ["error"]
