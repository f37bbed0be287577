"""Plain generators over real sockets: each in a thread of its own, never an item ahead, closed when it is left."""

from __future__ import annotations

import asyncio
import gc
import sqlite3
import threading
import time
import traceback
from collections.abc import Iterator
from typing import Any
from weakref import ref

import pytest
from watching import Log, connections, local, until

from bunpy.serve import HTTPError, InvalidEvent, Request, Response, Server, SSEResponse
from bunpy.sse.threaded import ThreadedSource
from bunpy.testing import (
    Connection,
    EventClient,
    IncompleteAnswer,
    StreamEnded,
    exchange,
    request,
    serving,
)

pytestmark = pytest.mark.usefixtures("few_objects")

SOON = 5.0  # seconds: what should come at once has surely come
NEVER = 60.0  # seconds: what is not waited for
BRIEF = 0.1  # seconds: what is


@pytest.fixture(autouse=True)
def log(caplog: pytest.LogCaptureFixture) -> Iterator[Log]:
    log = Log(caplog)
    yield log
    gc.collect()  # what was forgotten without being closed warns now, and warnings are errors
    until(lambda: generator_threads() == [])
    assert log.messages == []


def generator_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("bunpy-generator")]


def is_idle(server: Server) -> bool:
    """Whether nothing runs for a client: no connection, no thread, and no task but the server's own."""
    assert local(server)._loop is not None
    return (
        not connections(server)
        and len(asyncio.all_tasks(local(server)._loop)) == 1
        and not generator_threads()
    )


def head(target: str = "/", *lines: str, version: str = "1.1", method: str = "GET") -> bytes:
    return "\r\n".join(
        [f"{method} {target} HTTP/{version}", "Host: localhost", *lines, "", ""]
    ).encode()


# Where it runs


def test_a_generator_runs_in_one_thread_of_its_own_from_its_first_step_to_its_finally() -> None:
    idents: list[int] = []

    def source() -> Iterator[str]:
        try:
            for number in range(5):
                idents.append(threading.get_ident())
                yield f"{number}"
        finally:
            idents.append(threading.get_ident())

    with serving(lambda req: SSEResponse(source())) as server, EventClient(server) as client:
        assert [event.data for event in client.read_all()] == ["0", "1", "2", "3", "4"]
        assert len(idents) == 6
        assert len(set(idents)) == 1
        assert idents[0] not in (server._thread, threading.get_ident())


def test_each_generator_has_a_thread_and_no_two_share_it() -> None:
    barrier = threading.Barrier(40)  # more than any pool of this machine's would hold

    def source() -> Iterator[str]:
        yield f"{threading.get_ident()}"
        barrier.wait(SOON)
        yield f"{threading.get_ident()}"

    with serving(lambda req: SSEResponse(source())) as server:
        clients = [EventClient(server) for _ in range(40)]
        pairs = [tuple(event.data for event in client.read_all()) for client in clients]
        for client in clients:
            client.drop()
        until(lambda: is_idle(server))
    assert all(first == second for first, second in pairs)
    assert len(set(pairs)) == 40


def test_what_belongs_to_one_thread_works() -> None:
    def rows() -> Iterator[dict[str, Any]]:
        connection = sqlite3.connect(":memory:")
        try:
            connection.execute("create table t (n)")
            for number in range(3):
                connection.execute("insert into t values (?)", (number,))
                yield {"data": connection.execute("select count(*) from t").fetchone()[0]}
        finally:
            connection.close()

    with serving(lambda req: SSEResponse(rows())) as server:
        with EventClient(server) as client:
            assert [event.data for event in client.read_all()] == ["1", "2", "3"]
        with EventClient(server) as client:  # and when it is closed half-way
            client.read(1)
        until(lambda: is_idle(server))


def test_a_blocking_generator_stalls_nobody() -> None:
    blocked = [threading.Event() for _ in range(3)]
    go_on = threading.Event()

    def source(number: int) -> Iterator[str]:
        yield "first"
        blocked[number].set()
        go_on.wait(SOON)
        yield "last"

    def handler(req: Request) -> Any:
        return "other" if req.path == "/" else SSEResponse(source(int(req.path[1:])))

    with serving(handler) as server:
        clients = [EventClient(server, f"/{number}") for number in range(3)]
        for number, client in enumerate(clients):
            assert client.read(1)[0].data == "first"
            assert blocked[number].wait(SOON)
        for _ in range(20):
            began = time.monotonic()
            assert request(server).text() == "other"
            assert time.monotonic() - began < SOON
        go_on.set()
        for client in clients:
            assert client.read_all()[0].data == "last"
            client.drop()


def test_a_blocking_generator_may_use_the_clock() -> None:
    together = threading.Barrier(10)

    def source() -> Iterator[str]:
        for number in range(5):
            together.wait(SOON)  # all ten are at it, or none goes on
            time.sleep(0.02)
            yield f"{number}"

    with serving(lambda req: SSEResponse(source())) as server:
        clients = [EventClient(server) for _ in range(10)]
        for client in clients:
            assert len(client.read_all()) == 5
            client.drop()


def test_a_plain_body_is_streamed_from_a_thread_as_well() -> None:
    def source() -> Iterator[str | bytes]:
        yield "grüß "
        yield f"{threading.get_ident() != server._thread}".encode()

    with serving(lambda req: {"body": source()}) as server:
        assert request(server).text() == "grüß True"


# Never an item ahead


def test_a_generator_is_asked_for_an_item_only_when_the_one_before_was_sent() -> None:
    made: list[int] = []
    taken = threading.Semaphore(0)

    def source() -> Iterator[str]:
        for number in range(5):
            made.append(number)
            yield f"{number}"
            assert taken.acquire(timeout=SOON)

    with serving(lambda req: SSEResponse(source())) as server, EventClient(server) as client:
        for number in range(5):
            assert client.read(1)[0].data == f"{number}"
            assert made == list(range(number + 1))
            taken.release()
        assert client.read_all() == []


def test_a_generator_is_held_back_by_a_client_that_takes_nothing() -> None:
    steps = [0]

    def source() -> Iterator[str]:
        while True:
            steps[0] += 1
            yield f"{steps[0]}".ljust(50_000)

    def handler(req: Request) -> Any:
        return "other" if req.path == "/" else SSEResponse(source())

    with serving(handler) as server, EventClient(server, "/slow", receive_buffer=4096) as client:
        (connection,) = connections(server)
        until(lambda: connection._outlet.is_paused)
        held_at = steps[0]
        for _ in range(20):
            request(server)
        assert steps[0] == held_at
        assert connection._transport.get_write_buffer_size() <= 160 * 1024
        events = client.read(held_at + 10, timeout=20)
        assert [int(event.data) for event in events] == list(range(1, held_at + 11))
        client.drop(reset=True)
        until(lambda: is_idle(server))


def test_a_head_starts_no_thread() -> None:
    def source() -> Iterator[str]:
        raise AssertionError("never started")
        yield "never"

    with serving(lambda req: SSEResponse(source())) as server:
        assert request(server, "HEAD").status == 200
        assert generator_threads() == []


# Errors, as those of async generators


@pytest.mark.parametrize(
    ("error", "status"), [(HTTPError(404), 404), (LookupError("x"), 500), (SystemExit(1), 500)]
)
def test_an_error_before_the_first_event_is_a_status(
    error: BaseException, status: int, log: Log
) -> None:
    def source() -> Iterator[str]:
        time.sleep(0.01)
        raise error
        yield "never"

    with serving(lambda req: SSEResponse(source()), head_delay=SOON) as server:
        assert request(server).status == status
    if status == 500:
        assert log.take_error() is error


def test_an_error_after_the_first_event_cuts_the_stream(log: Log) -> None:
    go_on = threading.Event()

    def breaking() -> Iterator[str]:
        yield "first"
        assert go_on.wait(SOON)
        raise LookupError("the secret")

    with serving(lambda req: SSEResponse(breaking())) as server, EventClient(server) as client:
        client.read(1)
        go_on.set()
        with pytest.raises(StreamEnded):
            client.read(1)
        assert client.ended_cleanly is False
        until(lambda: is_idle(server))
    error = log.take_error()
    assert isinstance(error, LookupError)
    assert traceback.extract_tb(error.__traceback__)[-1].name == "breaking"


@pytest.mark.parametrize("item", [42, {"data": 1, "id": "\n"}, ["fine", None]])
def test_an_invalid_event_raises_at_its_own_yield_in_the_generators_thread(
    item: Any, log: Log
) -> None:
    idents: list[int] = []

    def source() -> Iterator[Any]:
        idents.append(threading.get_ident())
        try:
            yield item  # the line that is to blame
        except InvalidEvent:
            idents.append(threading.get_ident())
            raise

    with serving(lambda req: SSEResponse(source())) as server:
        assert request(server).status == 500
    error = log.take_error()
    assert isinstance(error, InvalidEvent)
    lines = [frame.line for frame in traceback.extract_tb(error.__traceback__)]
    assert "yield item  # the line that is to blame" in lines
    assert len(set(idents)) == 1


def test_an_invalid_event_can_be_caught_there_and_the_stream_goes_on() -> None:
    def source() -> Iterator[Any]:
        for _ in range(3):
            try:
                yield {"retry": "soon"}
            except InvalidEvent as exc:
                yield f"caught {'retry' in str(exc)}"

    with serving(lambda req: SSEResponse(source())) as server, EventClient(server) as client:
        assert [event.data for event in client.read_all()] == ["caught True"] * 3


def test_an_invalid_event_of_an_iterator_that_cannot_be_thrown_into_ends_the_stream(
    log: Log,
) -> None:
    with (
        serving(lambda req: SSEResponse(iter(["fine", 42]))) as server,
        EventClient(server) as client,
    ):
        client.wait_until(lambda: len(client._events) == 1)
        with pytest.raises(IncompleteAnswer):
            client.read_all()
    assert isinstance(log.take_error(), InvalidEvent)


@pytest.mark.parametrize("error", [StopIteration, StopAsyncIteration])
def test_what_ends_an_iteration_is_no_end_when_it_is_raised(
    error: type[BaseException], log: Log
) -> None:
    def source() -> Iterator[str]:
        raise error
        yield "never"

    with serving(lambda req: SSEResponse(source())) as server:
        assert request(server).status == 500
    assert isinstance(log.take_error(), (RuntimeError, error))


# Its client leaves


class Case:
    """A generator that is left while it blocks in a step, or at its yield while it is held back."""

    def __init__(self) -> None:
        self.is_blocked = threading.Event()
        self.go_on = threading.Event()
        self.seen: list[tuple[str, int]] = []

    def note(self, what: str) -> None:
        self.seen.append((what, threading.get_ident()))

    @property
    def what(self) -> list[str]:
        return [what for what, _ in self.seen]

    def block(self) -> None:
        self.is_blocked.set()
        assert self.go_on.wait(SOON)

    def leave(self, server: Server, reset: bool = True) -> None:
        """Leave, and let the generator go on when the server knows it."""
        with EventClient(server) as client:
            assert self.is_blocked.wait(SOON)
            (connection,) = connections(server)
            client.drop(reset=reset)
            until(lambda: connection._is_lost)
        self.go_on.set()


@pytest.mark.parametrize("reset", [True, False], ids=["RST", "FIN"])
def test_a_generator_is_closed_in_its_thread_after_the_step_in_which_its_client_left(
    reset: bool,
) -> None:
    case = Case()

    def source() -> Iterator[str]:
        try:
            case.note("first")
            yield "first"
            case.block()
            case.note("steps on")
            yield "second"
            case.note("one too many")
        finally:
            case.note("finally")

    with serving(lambda req: SSEResponse(source())) as server:
        case.leave(server, reset)
        began = time.monotonic()
        until(lambda: is_idle(server))
        assert time.monotonic() - began < SOON
    assert case.what == ["first", "steps on", "finally"]
    assert len({ident for _, ident in case.seen}) == 1


def test_a_generator_that_ends_in_the_step_in_which_its_client_left_is_over() -> None:
    case = Case()

    def source() -> Iterator[str]:
        yield "first"
        case.block()

    with serving(lambda req: SSEResponse(source())) as server:
        case.leave(server)
        began = time.monotonic()
        until(lambda: is_idle(server))
        assert time.monotonic() - began < SOON


def test_a_generator_that_raises_in_the_step_in_which_its_client_left_is_logged_once(
    log: Log,
) -> None:
    case = Case()

    def source() -> Iterator[str]:
        yield "first"
        case.block()
        raise LookupError("too late")

    with serving(lambda req: SSEResponse(source())) as server:
        case.leave(server)
        began = time.monotonic()
        until(lambda: is_idle(server))
        assert time.monotonic() - began < SOON
    assert isinstance(log.take_error(), LookupError)


def test_a_generator_that_is_left_before_its_first_event_is_closed() -> None:
    case = Case()

    def source() -> Iterator[str]:
        try:
            case.block()
            yield "first"
        finally:
            case.note("finally")

    with serving(lambda req: SSEResponse(source())) as server, Connection(server) as client:
        client.send(head())
        assert case.is_blocked.wait(SOON)
        (connection,) = connections(server)
        client.drop(reset=True)
        until(lambda: connection._is_lost)
        case.go_on.set()
        until(lambda: is_idle(server), 2.0)
    assert case.what == ["finally"]


def test_a_generator_that_is_left_at_its_yield_is_closed_there() -> None:
    case = Case()

    def source() -> Iterator[str]:
        try:
            while True:
                yield "x" * 50_000
        finally:
            case.note("finally")

    with serving(lambda req: SSEResponse(source())) as server:
        with EventClient(server, receive_buffer=4096) as client:
            (connection,) = connections(server)
            until(lambda: connection._outlet.is_paused)
            client.drop(reset=True)
        until(lambda: is_idle(server))
    assert case.what == ["finally"]
    assert case.seen[0][1] != server._thread


def test_a_finally_that_raises_is_logged_once(log: Log) -> None:
    case = Case()

    def source() -> Iterator[str]:
        try:
            yield "first"
            case.block()
            yield "second"
        finally:
            raise LookupError("in the cleaning up")

    with serving(lambda req: SSEResponse(source())) as server:
        case.leave(server)
        until(lambda: is_idle(server), 2.0)
    assert isinstance(log.take_error(), LookupError)


def test_a_generator_that_yields_in_its_finally_is_logged_once(log: Log) -> None:
    case = Case()

    def source() -> Iterator[str]:
        try:
            yield "first"
            case.block()
            yield "second"
        finally:
            yield "goodbye"

    with serving(lambda req: SSEResponse(source())) as server:
        case.leave(server)
        until(lambda: is_idle(server), 2.0)
    assert "ignored GeneratorExit" in str(log.take_error())


def test_a_generator_that_blocks_for_too_long_is_given_up_and_logged_and_closed_in_the_end(
    log: Log,
) -> None:
    case = Case()

    def source() -> Iterator[str]:
        try:
            yield "first"
            case.block()
            yield "second"
        finally:
            case.note("finally")

    with serving(lambda req: SSEResponse(source()), close_timeout=BRIEF) as server:
        with EventClient(server) as client:
            assert case.is_blocked.wait(SOON)
            client.drop(reset=True)
        assert "still runs 0.1 s after its stream has ended" in log.take().getMessage()
        assert local(server)._loop is not None
        until(lambda: not connections(server))
        case.go_on.set()
        until(lambda: is_idle(server))
    assert case.what == ["finally"]


def test_an_iterator_that_is_no_generator_is_closed_if_it_can_be() -> None:
    case = Case()

    class Items:
        def __iter__(self) -> Items:
            return self

        def __next__(self) -> str:
            if case.seen:
                case.block()
            case.note("next")
            return "x"

        def close(self) -> None:
            case.note("close")

    with serving(lambda req: SSEResponse(Items())) as server:
        case.leave(server)
        until(lambda: is_idle(server), 2.0)
    assert case.what == ["next", "next", "close"]
    assert len({ident for _, ident in case.seen}) == 1


def test_an_iterator_that_cannot_be_closed_is_left() -> None:
    case = Case()

    class Items:
        def __iter__(self) -> Items:
            return self

        def __next__(self) -> str:
            if case.seen:
                case.block()
            case.note("next")
            return "x"

    with serving(lambda req: SSEResponse(Items())) as server:
        case.leave(server)
        until(lambda: is_idle(server), 2.0)
    assert case.what == ["next", "next"]


# The server stops


def test_a_server_that_stops_ends_the_stream_and_closes_the_generator() -> None:
    case = Case()

    def source() -> Iterator[str]:
        try:
            yield "first"
            case.block()
            yield "second"
        finally:
            case.note("finally")

    with serving(lambda req: SSEResponse(source())) as server, EventClient(server) as client:
        assert case.is_blocked.wait(SOON)
        stopping = threading.Thread(target=server.stop, args=(SOON,))
        stopping.start()
        assert [event.data for event in client.read_all()] == ["first"]  # before it has gone on
        assert client.retry is not None
        case.go_on.set()
        began = time.monotonic()
        stopping.join()
        assert time.monotonic() - began < SOON
    assert case.what == ["finally"]


def test_a_server_stops_although_a_generator_blocks_which_is_closed_when_it_does_not(
    log: Log,
) -> None:
    case = Case()

    def source() -> Iterator[str]:
        try:
            yield "first"
            case.block()
            yield "second"
        finally:
            case.note("finally")

    with serving(lambda req: SSEResponse(source())) as server, EventClient(server) as client:
        assert case.is_blocked.wait(SOON)
        began = time.monotonic()
        server.stop(grace=BRIEF)
        assert time.monotonic() - began < SOON
        assert [event.data for event in client.read_all()] == ["first"]
    assert "did not end" in log.take().getMessage()
    case.go_on.set()
    until(lambda: not generator_threads())
    assert case.what == ["finally"]


# The source by itself


def test_a_source_is_an_async_iterator_that_ends_and_stays_so() -> None:
    async def main() -> None:
        source = ThreadedSource(iter("ab"))
        assert source.__aiter__() is source
        assert [item async for item in source] == ["a", "b"]
        with pytest.raises(StopAsyncIteration):
            await source.__anext__()
        await source.aclose()

    asyncio.run(main())


def test_a_source_that_was_closed_gives_nothing_more() -> None:
    async def main() -> list[str]:
        closed: list[str] = []

        def generator() -> Iterator[str]:
            try:
                yield "a"
            finally:
                closed.append("finally")

        for steps in (0, 1):
            source = ThreadedSource(generator())
            for _ in range(steps):
                await source.__anext__()
            await source.aclose()
            await source.aclose()
            with pytest.raises(StopAsyncIteration):
                await source.__anext__()
        return closed

    assert asyncio.run(main()) == ["finally"]


@pytest.mark.parametrize("step", ["__anext__", "aclose", "athrow"])
def test_an_error_leaves_nothing_to_the_collector(step: str) -> None:
    class Kept:
        """Lives as long as the frame of the generator that raised."""

    kept: list[ref[Kept]] = []

    def generator() -> Iterator[str]:
        there = Kept()
        kept.append(ref(there))
        try:
            yield "a"
        finally:
            raise ValueError("why")

    async def main() -> None:
        source = ThreadedSource(generator())
        await source.__anext__()
        with pytest.raises(ValueError, match="why"):
            await getattr(source, step)(*[KeyError()] * (step == "athrow"))

    gc.disable()
    try:
        asyncio.run(main())
        until(lambda: kept[0]() is None)
    finally:
        gc.enable()


def test_a_loop_that_closes_under_a_blocked_generator_leaves_it_closed() -> None:
    case = Case()

    def generator() -> Iterator[str]:
        try:
            case.block()
            yield "a"
        finally:
            case.note("finally")

    async def main() -> ThreadedSource:
        source = ThreadedSource(generator())
        task = asyncio.ensure_future(source.__anext__())
        await asyncio.to_thread(case.is_blocked.wait, SOON)
        task.cancel()
        return source

    source = asyncio.run(main())
    case.go_on.set()
    until(lambda: not generator_threads())
    assert case.what == ["finally"]
    assert threading.get_ident() not in {ident for _, ident in case.seen}
    del source


def test_answers_of_threads_and_of_the_loop_keep_their_order_on_one_connection() -> None:
    def source(path: str) -> Iterator[str]:
        yield path
        yield "!"

    def handler(req: Request) -> Any:
        return Response(source(req.path)) if len(req.path) % 2 else req.path

    paths = [f"/{number}" for number in range(5, 150)]
    with serving(handler) as server:
        data = b"".join(head(path) for path in paths) + head("/", "Connection: close")
        answers = exchange(server, data).answers
    expected = [path + "!" if len(path) % 2 else path for path in paths] + ["/!"]
    assert [answer.text() for answer in answers] == expected
