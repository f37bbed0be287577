"""The end of a connection over real sockets: who gets the last answer whole, and what it may cost. Clocks by hand."""

from __future__ import annotations

import asyncio
import errno
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import pytest
from fakes import FakeTransport
from heads import LAST, head
from watching import Log, connections, until

from bunpy.http import protocol
from bunpy.http.parting import Parting
from bunpy.http.service import Service
from bunpy.serve import Request, Response, Server, SSEResponse
from bunpy.server.config import Config
from bunpy.testing import Connection, EventClient, exchange, parse_answers, serving

pytestmark = pytest.mark.usefixtures("log")

SOON = 5.0  # seconds: what should come at once has surely come
BRIEF = 0.1  # seconds: a timeout that is waited for
MIB = 1024 * 1024


# The last answer

#: More than the kernel's buffers hold: some of it waits in the server.
LARGE = 4 * MIB


def large(req: Request) -> Response:
    return Response(bytes(LARGE), headers={"Connection": "close"} if req.path == "/close" else None)


def has_had_its_last_answer(server: Server) -> bool:
    return [connection._phase for connection in connections(server)] == [protocol._LAST]


@pytest.mark.parametrize(
    "asked",
    [
        head("/", "Connection: close"),
        head("/", version="1.0"),
        head("/close"),
        head("/close") + head(),
    ],
)
@pytest.mark.parametrize("late", [b"\r\n", head() * 1000, bytes(500_000)], ids=len)
def test_who_sends_on_after_the_last_answer_still_gets_all_of_it(asked: bytes, late: bytes) -> None:
    """It is not closed on, which would reset the connection; what came is dropped (RFC 9112 section 9.6)."""
    with serving(large) as server, Connection(server) as client:
        client.send(asked)
        until(lambda: has_had_its_last_answer(server))
        client.send(late)
        (answer,) = parse_answers(client.receive_to_end())
        assert len(answer.body) == LARGE
        assert client.end == "closed"


def test_what_waits_unread_in_the_kernel_does_not_reset_the_last_answer() -> None:
    with serving(large) as server, Connection(server) as client:
        client.send(head("/close") + bytes(500_000))
        (answer,) = parse_answers(client.receive_to_end())
        assert len(answer.body) == LARGE
        assert client.end == "closed"


def test_who_does_not_close_after_the_last_answer_is_cut_off() -> None:
    with serving(lambda req: "x", drain_timeout=BRIEF) as server, Connection(server) as client:
        client.send(LAST)
        client.receive_to_end()
        until(lambda: not connections(server))


def test_who_takes_the_last_answer_slowly_gets_all_of_it() -> None:
    """The time that there is after the last answer begins when that has been taken."""
    with (
        serving(large, drain_timeout=BRIEF) as server,
        Connection(server, receive_buffer=8192) as client,
    ):
        client.send(head("/close"))
        client.receive_until(b"\r\n\r\n")
        for _ in range(5):
            client.receive_exactly(16 * 1024)
            time.sleep(BRIEF)  # for as long as it could stay if it had taken all
        assert len(client.receive_to_end(4 * SOON)) == LARGE - 5 * 16 * 1024
        assert client.end == "closed"


def test_who_takes_nothing_of_the_last_answer_is_cut_off() -> None:
    with (
        serving(large, drain_timeout=BRIEF, send_timeout=3 * BRIEF) as server,
        Connection(server, receive_buffer=8192) as client,
    ):
        client.send(head("/close"))
        client.receive_until(b"\r\n\r\n")
        until(lambda: not connections(server))


def test_a_last_answer_that_a_stop_finds_half_taken_arrives() -> None:
    with serving(large) as server, Connection(server, receive_buffer=8192) as client:
        client.send(head("/close"))
        until(lambda: has_had_its_last_answer(server))
        server.request_stop(grace=SOON)
        assert len(client.receive_until(b"\r\n\r\n")) > 0
        assert len(client.receive_to_end()) == LARGE
        assert client.end == "closed"


class Broken:
    """A source that cannot be begun."""

    def __aiter__(self) -> Broken:
        raise ValueError("why")

    async def __anext__(self) -> str:
        raise StopAsyncIteration


async def endless() -> AsyncIterator[str]:
    yield "first"
    await asyncio.sleep(3600)


def refuses_streams(req: Request) -> SSEResponse:
    """One cannot be begun; and there is room for one only, which is there."""
    return SSEResponse(Broken() if req.path == "/broken" else endless())


async def refuses_streams_later(req: Request) -> SSEResponse:
    return refuses_streams(req)


@pytest.mark.parametrize("handler", [refuses_streams, refuses_streams_later])
@pytest.mark.parametrize(("path", "status"), [("/", 503), ("/broken", 500)])
@pytest.mark.parametrize("end", ["time", "stop"])
def test_who_gets_a_refusal_in_place_of_a_stream_and_stays_is_cut_off(
    handler: Any, path: str, status: int, end: str, log: Log
) -> None:
    """Its stream is closed only then, and has no say in when the connection is."""
    drain_timeout = BRIEF if end == "time" else 3600.0
    with (
        serving(handler, max_streams=1, drain_timeout=drain_timeout) as server,
        EventClient(server) as other,
        Connection(server) as client,
    ):
        other.read(1)
        client.send(head(path, "Connection: close"))
        assert parse_answers(client.receive_to_end())[0].status == status
        if end == "stop":
            began = time.monotonic()
            server.stop(2 * SOON)
            assert time.monotonic() - began < SOON
        else:
            until(lambda: len(connections(server)) == 1)
    log.take()


# The answer to what is no request

BAD = b"GET / HTTP/1.1\r\n\r\n"


@pytest.mark.parametrize("size", [1000, 100_000, 900_000])
def test_a_refused_client_gets_its_answer_although_it_goes_on_sending(size: int) -> None:
    with serving(lambda req: "x", body_limit=100) as server:
        for data in (BAD, head("/", f"Content-Length: {size}", method="POST")):
            taken = exchange(server, data + b"x" * size, half_close=True)
            assert (len(taken.answers), taken.end) == (1, "closed")
            assert taken.answers[0].closes


def test_a_refused_client_that_sends_without_end_is_cut_off() -> None:
    with serving(lambda req: "x") as server, Connection(server) as client:
        with pytest.raises(ConnectionError):
            client.send(BAD + b"x" * 64 * MIB)
        assert client.receive_to_end().startswith(b"HTTP/1.1 400 ")
        until(lambda: not connections(server))


def test_a_refused_client_that_stays_is_cut_off() -> None:
    with serving(lambda req: "x", drain_timeout=BRIEF) as server, Connection(server) as client:
        client.send(BAD)
        assert parse_answers(client.receive_to_end())[0].status == 400
        assert client.end == "closed"  # half: it could still send
        until(lambda: not connections(server))


# The clock and the agenda in the test's hands

NEVER = float("inf")


class Case:
    """A parting over memory, of a service with these options."""

    def __init__(
        self,
        *,
        is_stopping: bool = False,
        halves: bool = True,
        is_stuck: bool = False,
        **options: Any,
    ) -> None:
        self.due: list[Callable[[], object]] = []
        self.service = SimpleNamespace(
            config=Config(**options),
            is_stopping=is_stopping,
            agenda=SimpleNamespace(call_later=lambda delay, call: self.due.append(call)),
        )
        self.transport = FakeTransport(is_stuck=is_stuck)
        if not halves:
            self.transport.can_write_eof = partial(bool, False)  # type: ignore[method-assign]
        self.transport.write(b"the last answer")
        self.parting = Parting(cast(Service, self.service), self.transport, -1)

    def call(self) -> None:
        """What is on the agenda."""
        due, self.due[:] = self.due[:], []
        for call in due:
            call()

    @property
    def state(self) -> tuple[bool, bool, bool]:
        """Whether our side is closed, both are, and whether it was cut off."""
        return self.transport.has_sent_eof, self.transport.is_closing(), self.transport.is_aborted


OPEN, HALF, CLOSED, CUT_OFF = (
    (False, False, False),
    (True, False, False),
    (False, True, False),
    (True, True, True),
)


def test_it_is_closed_by_halves_and_has_its_time() -> None:
    case = Case(drain_timeout=3.0)
    assert case.state == OPEN
    assert case.parting.begin(10.0, is_left_time=True) == 13.0
    assert case.state == HALF
    assert case.parting.time_out(13.0) == NEVER
    assert case.state == CUT_OFF


@pytest.mark.parametrize(("halves", "is_left_time"), [(False, True), (True, False), (False, False)])
@pytest.mark.parametrize("is_stopping", [False, True])
def test_it_is_closed_at_once(halves: bool, is_left_time: bool, is_stopping: bool) -> None:
    case = Case(halves=halves, is_stopping=is_stopping)
    assert case.parting.begin(10.0, is_left_time) == NEVER
    assert (case.state, case.due) == (CLOSED, [])


def test_a_transport_that_cannot_close_by_halves_because_its_client_has_gone() -> None:
    """asyncio's tells what the kernel does of a connection that was reset, and that nobody has looked at since."""

    class Gone(FakeTransport):
        def write_eof(self) -> None:
            raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")

    case = Case()
    case.parting = Parting(cast(Service, case.service), gone := Gone(), -1)
    assert case.parting.begin(10.0, is_left_time=True) == NEVER
    assert gone.is_aborted


def test_who_has_not_taken_the_answer_gets_as_much_time_again() -> None:
    case = Case(drain_timeout=3.0, is_stuck=True)
    case.parting.begin(10.0, is_left_time=True)
    assert case.parting.time_out(13.0) == 16.0
    assert case.state == HALF
    case.transport.resume()
    assert case.parting.time_out(16.5) == NEVER
    assert case.state == CUT_OFF


def test_a_server_that_stops_waits_for_who_takes_the_answer_and_no_longer() -> None:
    case = Case(is_stopping=True, is_stuck=True)
    assert case.parting.begin(10.0, is_left_time=True) == NEVER
    for _ in range(3):
        case.call()
        assert (case.state, len(case.due)) == (HALF, 1)
    case.transport.resume()
    case.call()
    assert (case.state, case.due) == (CUT_OFF, [])


def test_a_server_that_stops_has_no_more_to_do_with_who_has_closed() -> None:
    case = Case()
    case.parting.begin(10.0, is_left_time=True)
    case.parting.hasten()
    case.transport.close()
    case.call()
    assert (case.transport.is_aborted, case.due) == (False, [])


def test_what_comes_meanwhile_is_counted() -> None:
    case = Case(drain_limit=100)
    case.parting.begin(10.0, is_left_time=True)
    case.parting.drop(60)
    case.parting.drop(40)
    assert case.state == HALF
    case.parting.drop(1)
    assert case.state == CUT_OFF
