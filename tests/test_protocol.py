"""One connection over real sockets: requests in their order, bodies, limits, time, and clients that misbehave."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
from fakes import FakeTransport
from heads import head
from watching import Gate, connections, until

from bunpy.http import protocol
from bunpy.http.host import HostList
from bunpy.http.protocol import HTTPProtocol
from bunpy.http.service import Service
from bunpy.serve import HTTPError, Request, Response, SSEResponse
from bunpy.server import residence, ticker
from bunpy.server.config import Config
from bunpy.testing import (
    Connection,
    EventClient,
    IncompleteAnswer,
    exchange,
    parse_answers,
    request,
    serving,
)

pytestmark = pytest.mark.usefixtures("few_objects", "log")

SOON = 5.0  # seconds: what should come at once has surely come
BRIEF = 0.1  # seconds: a timeout that is waited for
MIB = 1024 * 1024


def post(body: bytes, *lines: str, target: str = "/") -> bytes:
    return head(target, f"Content-Length: {len(body)}", *lines, method="POST") + body


LAST = head("/last", "Connection: close")


def echo(req: Request) -> Any:
    """Answer in each way there is, as the path says, with the path."""
    kind = req.path.split("/")[1]
    if kind == "async":
        return async_echo(req)
    if kind == "stream":
        return Response(async_pieces(req.path))
    if kind == "plain":
        return Response(iter([req.path[:3], req.path[3:].encode()]))
    if kind == "late":
        return late_stream(req)
    if kind == "error":
        raise HTTPError(404, req.path)
    if kind == "none":
        return None
    return req.path


async def async_echo(req: Request) -> str:
    await asyncio.sleep(0)
    return req.path


async def async_pieces(path: str) -> AsyncIterator[str]:
    for piece in (path[:3], path[3:]):
        await asyncio.sleep(0)
        yield piece


async def late_stream(req: Request) -> Response:
    await asyncio.sleep(0)
    return Response(async_pieces(req.path))


KINDS = ["sync", "async", "stream", "plain", "late", "error", "none"]


def body_of(path: str) -> bytes:
    if path.startswith("/none"):
        return b""
    return path.encode() + (b"\n" if path.startswith("/error") else b"")


# Keep-alive and pipelining


@pytest.mark.parametrize("kind", KINDS)
def test_a_connection_answers_one_request_after_the_other(kind: str) -> None:
    with serving(echo) as server, Connection(server) as client:
        for number in range(3):
            path = f"/{kind}/{number}"
            client.send(head(path, method="HEAD") if number == 1 else head(path))
            data = client.receive_until(b"\r\n\r\n")
            if number != 1 and kind != "none":
                body = client.receive_until(b"0\r\n\r\n") if b"chunked" in data else b""
                data += body or client.receive_exactly(len(body_of(path)))
            method = "HEAD" if number == 1 else "GET"
            (answer,) = parse_answers(data, [method])
            assert answer.body == (b"" if number == 1 else body_of(path))
            assert not answer.closes
        assert client.pending == b""


@pytest.mark.parametrize("first", KINDS)
@pytest.mark.parametrize("second", KINDS)
def test_pipelined_answers_keep_the_order_of_their_requests(first: str, second: str) -> None:
    paths = [f"/{kind}/{number}" for number in range(3) for kind in (first, second, first)]
    with serving(echo) as server:
        taken = exchange(server, b"".join(head(path) for path in paths) + LAST)
    assert [answer.body for answer in taken.answers] == [*map(body_of, paths), b"/last"]


@pytest.mark.parametrize("pieces", ["whole", "bytes"])
def test_requests_of_all_kinds_are_answered_however_they_are_cut(pieces: Any) -> None:
    data = b"".join(
        [
            head("/async/1"),
            post(b"x" * 300, target="/sync/2"),
            b"\r\n",  # one that some clients send behind a body (RFC 9112 section 2.2)
            head("/stream/3", method="HEAD"),
            head("/late/4", "Transfer-Encoding: chunked", method="POST"),
            b"3;ext=1\r\nabc\r\n0\r\nX-Trailer: dropped\r\n\r\n",
            head("/plain/5"),
            LAST,
        ]
    )
    with serving(echo) as server:
        taken = exchange(server, data, pieces=pieces, methods=["GET", "POST", "HEAD"])
    assert [answer.body for answer in taken.answers] == [
        b"/async/1",
        b"/sync/2",
        b"",
        b"/late/4",
        b"/plain/5",
        b"/last",
    ]


def test_a_request_waits_until_the_one_before_is_answered() -> None:
    gates = {"/1": Gate(), "/2": Gate()}

    async def handler(req: Request) -> str:
        await gates[req.path].passed()
        return req.path

    with serving(handler) as server, Connection(server) as client:
        client.send(head("/1") + head("/2"))
        until(lambda: gates["/1"].waiting == 1)
        gates["/2"].open()
        assert gates["/2"].waiting == 0
        gates["/1"].open()
        assert client.receive_until(b"/2").count(b"HTTP/1.1 200") == 2


@pytest.mark.parametrize("kind", KINDS)
def test_hundreds_of_pipelined_requests_are_answered_in_order(kind: str) -> None:
    count = 3000 if kind == "sync" else 300
    data = b"".join(head(f"/{kind}/{number}") for number in range(count)) + LAST
    with serving(echo) as server:
        answers = exchange(server, data, timeout=30).answers
    assert [answer.body for answer in answers] == [
        *(body_of(f"/{kind}/{number}") for number in range(count)),
        b"/last",
    ]


def test_megabytes_of_pipelined_requests_cost_time_by_their_length_and_not_by_its_square() -> None:
    data = head() * (2 * MIB // len(head())) + LAST
    with serving(lambda req: None) as server:
        taken = exchange(server, data, timeout=30)
    assert taken.end == "closed"
    assert taken.data.count(b"HTTP/1.1 204") == data.count(b"GET ")


def test_reading_goes_on_after_it_was_held_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than is read ahead, that ends where a request does: the next one is read all the same."""
    monkeypatch.setattr(protocol, "READ_AHEAD", 1024)
    gate = Gate()

    async def wait(req: Request) -> str:
        await gate.passed()
        return "/slow"

    def handler(req: Request) -> Any:
        return wait(req) if req.path == "/slow" else req.path

    with serving(handler) as server, Connection(server) as client:
        client.send(head("/slow"))
        until(lambda: gate.waiting == 1)
        client.send(head("/next") * 10 + head("/batch") * 30)
        (connection,) = connections(server)
        until(lambda: connection._reader.unread > 1024)
        gate.open()
        received = client.receive_until(b"/batch")
        while received.count(b"/batch") < 30:
            received += client.receive()
        client.send(LAST)
        assert client.receive_to_end().endswith(b"/last")


def in_memory(
    handler: Callable[[Request], Any], config: Config
) -> tuple[HTTPProtocol, FakeTransport]:
    """A connection on the running loop, over memory."""
    service = Service(handler, config, asyncio.get_running_loop(), HostList(None, ["127.0.0.1"]))
    transport = FakeTransport(extra={"sslcontext": object(), "peername": ("127.0.0.1", 1)})
    connection = HTTPProtocol(service)
    connection.connection_made(transport)
    return connection, transport


def test_bytes_that_come_between_two_turns_start_nothing_out_of_turn() -> None:
    """Over memory, since it takes two reads in one turn of the loop."""
    order: list[str] = []

    async def wait(path: str) -> str:
        order.append(f"{path} begins")
        await asyncio.sleep(0.01)
        order.append(f"{path} ends")
        return path

    def handler(req: Request) -> Any:
        if req.path != "/sync":
            return wait(req.path)
        return "/sync"

    async def main() -> bytes:
        connection, transport = in_memory(handler, Config())
        connection.data_received(head("/sync") * 20)
        connection.data_received(head("/1") + head("/2"))
        for _ in range(100):
            await asyncio.sleep(0.002)
            if transport.sent.endswith(b"/2"):
                break
        connection.connection_lost(None)
        return transport.sent

    sent = asyncio.run(main())
    assert order == ["/1 begins", "/1 ends", "/2 begins", "/2 ends"]
    assert [answer.body for answer in parse_answers(sent)] == [b"/sync"] * 20 + [b"/1", b"/2"]


# Versions, and what becomes of the connection


@pytest.mark.parametrize("kind", KINDS)
def test_http_1_0_ends_with_its_answer(kind: str) -> None:
    path = f"/{kind}/x"
    with serving(echo) as server:
        taken = exchange(server, head(path, version="1.0") * 2)
    (answer,) = taken.answers
    assert (taken.end, answer.body, answer.headers["connection"]) == (
        "closed",
        body_of(path),
        "close",
    )
    assert "transfer-encoding" not in answer.headers


@pytest.mark.parametrize("kind", KINDS)
def test_http_1_0_stays_where_it_asks_to_and_the_answer_has_a_length(kind: str) -> None:
    path = f"/{kind}/x"
    with serving(echo) as server:
        taken = exchange(
            server,
            head(path, "Connection: keep-alive", version="1.0") + head(version="1.0"),
        )
    if kind in ("stream", "plain", "late"):  # its end is the connection's: it cannot stay
        (answer,) = taken.answers
        assert (answer.body, answer.headers["connection"]) == (body_of(path), "close")
    else:
        first, second = taken.answers
        assert (first.body, first.headers["connection"]) == (body_of(path), "keep-alive")
        assert (second.body, second.headers["connection"]) == (b"/", "close")
    assert all(b"chunked" not in taken.data for _ in taken.answers)


def test_http_1_0_needs_no_host() -> None:
    with serving(echo) as server:
        assert exchange(server, b"GET /a HTTP/1.0\r\n\r\n").answers[0].body == b"/a"


def test_http_1_0_streams_events_until_the_close() -> None:
    async def count() -> AsyncIterator[str]:
        for number in range(3):
            yield str(number)
            await asyncio.sleep(0)

    with serving(lambda req: SSEResponse(count())) as server:
        taken = exchange(server, head(version="1.0"))
    assert taken.end == "closed"
    assert taken.data.endswith(b"\r\n\r\ndata: 0\n\ndata: 1\n\ndata: 2\n\n")


# Bodies


@pytest.mark.parametrize("pieces", ["whole", "bytes"])
@pytest.mark.parametrize(
    "message",
    [
        post(b"hello body"),
        head("/", "Transfer-Encoding: chunked", method="POST")
        + b"5\r\nhello\r\n5\r\n body\r\n0\r\n\r\n",
        head("/", "Transfer-Encoding: Chunked", method="PUT")
        + b"00A;a=b\r\nhello body\r\n0\r\nX-Trailer: 1\r\n\r\n",
        head("/", "Content-Length: 10") + b"hello body",
    ],
    ids=["sized", "chunked", "trailers", "GET"],
)
def test_a_handler_gets_the_whole_body_and_nothing_behind_it(message: bytes, pieces: Any) -> None:
    bodies: list[bytes] = []

    def handler(req: Request) -> str:
        bodies.append(req.body)
        return "taken"

    with serving(handler) as server:
        taken = exchange(server, message + LAST, pieces=pieces)
    assert taken.statuses == [200, 200]
    assert bodies == [b"hello body", b""]


def test_a_large_body_arrives() -> None:
    body = bytes(range(256)) * 16 * 1024
    with serving(lambda req: str(hash(req.body))) as server:
        assert request(server, "POST", "/", body=body).text() == str(hash(body))


def test_a_handler_starts_only_when_the_body_is_complete() -> None:
    started: list[bytes] = []

    def handler(req: Request) -> str:
        started.append(req.body)
        return "x"

    with serving(handler) as server, Connection(server) as client:
        client.send(head("/", "Content-Length: 4", "Expect: 100-continue", method="POST"))
        client.receive_until(b"\r\n\r\n")
        client.send(b"abc")
        request(server)  # the server has had a turn since
        assert started == [b""]
        client.send(b"d")
        client.receive_until(b"x")
    assert started == [b"", b"abcd"]


EXPECT = "Expect: 100-continue"


def test_a_client_that_waits_for_it_gets_100_once() -> None:
    with serving(lambda req: req.body) as server, Connection(server) as client:
        client.send(head("/", "Content-Length: 4", EXPECT, method="POST"))
        assert client.receive_until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(b"ab")
        request(server)
        client.send(b"cd" + LAST)
        assert [answer.body for answer in parse_answers(client.receive_to_end())] == [b"abcd", b""]


@pytest.mark.parametrize(
    ("message", "statuses"),
    [
        (head("/", EXPECT), [200, 200]),
        (head("/", "Content-Length: 0", EXPECT, method="POST"), [200, 200]),
        (post(b"there", EXPECT), [200, 200]),
        (head("/", "Content-Length: 5", EXPECT, version="1.0", method="POST") + b"there", [200]),
        (head("/", "Content-Length: 101", EXPECT, method="POST"), [413]),
        (head("/", "Content-Length: 5", "Expect: 200-ok", method="POST"), [417]),
    ],
    ids=["no body", "empty", "sent already", "1.0", "too large", "unknown"],
)
def test_nobody_else_gets_100(message: bytes, statuses: list[int]) -> None:
    with serving(lambda req: "x", body_limit=100) as server:
        assert exchange(server, message + LAST).statuses == statuses


def test_the_100_of_a_pipelined_request_comes_after_the_answer_before_it() -> None:
    gate = Gate()

    async def handler(req: Request) -> Any:
        if req.path == "/slow":
            await gate.passed()
        return req.body or req.path

    with serving(handler) as server, Connection(server) as client:
        client.send(head("/slow") + head("/", "Content-Length: 4", EXPECT, method="POST"))
        until(lambda: gate.waiting == 1)
        gate.open()
        assert client.receive_until(b"100 Continue\r\n\r\n").startswith(b"HTTP/1.1 200")
        client.send(b"abcd")
        client.receive_until(b"abcd")


# Limits: the answer is 4xx, arrives, and is the last


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (head("/" + "x" * 200), 414),
        (b"GET /" + b"x" * 200, 414),
        (head("/", "X-Long: " + "x" * 400), 431),
        (b"GET / HTTP/1.1\r\nX-Long: " + b"x" * 500, 431),
        (head("/", *[f"X-{number}: 1" for number in range(60)]), 431),
        (head("/", "Content-Length: 101", method="POST"), 413),
        (head("/", "Content-Length: " + "9" * 18, method="POST"), 413),
        (head("/", "Transfer-Encoding: chunked", method="POST") + b"65\r\n", 413),
        (
            head("/", "Transfer-Encoding: chunked", method="POST") + b"1\r\nx\r\n" * 100 + b"1\r\n",
            413,
        ),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"hello\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01", 400),
        (head("localhost:1", method="CONNECT"), 405),
        (head(method="BREW"), 501),
        (head(version="2.0"), 505),
        (head("/").replace(b"localhost", b"example.org"), 421),
    ],
)
@pytest.mark.parametrize("pieces", ["whole", "bytes"])
def test_what_is_no_request_is_answered_once_and_the_connection_closed(
    data: bytes, status: int, pieces: Any
) -> None:
    handled: list[str] = []

    def handler(req: Request) -> str:
        handled.append(req.path)
        return "x"

    with serving(handler, request_line_limit=100, head_limit=400, body_limit=100) as server:
        taken = exchange(server, head("/good") + data, pieces=pieces, half_close=False)
        (good, bad) = taken.answers
        assert (good.status, bad.status, bad.headers["connection"]) == (200, status, "close")
        assert taken.end == "closed"
        assert len(bad.body) > 10
        until(lambda: not connections(server))
    assert handled == ["/good"]


def test_what_is_within_the_limits_is_answered() -> None:
    line = head("/" + "x" * 85)
    assert line.index(b"\r\n") == 99
    exact = head("/", "X-Long: " + "x" * (400 - len(head()) - 10))
    assert len(exact) == 400
    body = post(b"x" * 100)
    chunked = head("/", "Transfer-Encoding: chunked", method="POST") + b"64\r\n%b\r\n0\r\n\r\n" % (
        b"x" * 100
    )
    with serving(lambda req: "x", request_line_limit=99, head_limit=400, body_limit=100) as server:
        taken = exchange(server, line + exact + body + chunked + LAST)
    assert taken.statuses == [200] * 5


def test_a_refusal_of_head_has_no_body() -> None:
    with serving(lambda req: "x") as server:
        taken = exchange(server, b"HEAD / HTTP/1.1\r\n\r\n", methods=["HEAD"])
    assert taken.data.endswith(b"\r\n\r\n")
    assert taken.statuses == [400]


BAD = b"GET / HTTP/1.1\r\n\r\n"


# Time


def test_a_client_that_says_nothing_is_closed() -> None:
    with serving(lambda req: "x", head_timeout=BRIEF) as server, Connection(server) as client:
        assert client.receive_to_end() == b""
        assert client.end == "closed"


@pytest.mark.parametrize("beginning", [b"G", b"\r\n", head()[:-2]])
@pytest.mark.parametrize("is_first", [True, False])
def test_a_head_that_is_not_completed_is_408(beginning: bytes, is_first: bool) -> None:
    """Its time is over when it has begun, however long that took: before, it would be closed without a word."""
    data = beginning if is_first else head("/") + beginning
    with (
        serving(lambda req: "x", send_timeout=4 * BRIEF) as server,  # looked at every 0.1 s
        Connection(server) as client,
    ):
        client.send(data)
        until(lambda: any(each._phase == protocol._HEAD for each in connections(server)))
        (connection,) = connections(server)
        connection._deadline = 0.0
        answers = parse_answers(client.receive_to_end())
        assert client.end == "closed"
    assert [answer.status for answer in answers] == ([408] if is_first else [200, 408])


def test_a_head_has_its_time_in_all_and_not_for_each_byte() -> None:
    with serving(lambda req: "x", head_timeout=1.0) as server:
        taken = exchange(server, head("/" + "x" * 30), pieces="bytes", pause=0.03)
    assert taken.statuses == [408]


@pytest.mark.parametrize(
    "data",
    [
        head("/", "Content-Length: 4", method="POST") + b"abc",
        head("/", "Content-Length: 4", method="POST"),
        head("/", "Transfer-Encoding: chunked", method="POST") + b"4\r\nabc",
    ],
)
def test_a_body_that_stalls_is_408(data: bytes) -> None:
    with serving(lambda req: "x", body_timeout=BRIEF) as server:
        taken = exchange(server, data)
    assert (taken.statuses, taken.end) == ([408], "closed")


def test_a_body_that_comes_slowly_but_steadily_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over memory, by a clock of its own."""
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(protocol, "time", SimpleNamespace(monotonic=lambda: clock.now))

    async def main() -> bytes:
        connection, transport = in_memory(
            lambda req: req.body, Config(body_timeout=0.5, head_timeout=0.5)
        )
        connection.data_received(head("/", "Content-Length: 20", method="POST"))
        for _ in range(20):
            clock.now += 0.4
            connection.tick(clock.now)
            connection.data_received(b"x")
        connection.connection_lost(None)
        return transport.sent

    (answer,) = parse_answers(asyncio.run(main()))
    assert answer.body == b"x" * 20


def test_an_idle_connection_is_closed_without_a_word() -> None:
    with serving(lambda req: "x", keep_alive_timeout=BRIEF) as server, Connection(server) as client:
        client.send(head())
        answer = client.receive_until(b"\r\n\r\nx")
        assert b"Connection" not in answer
        assert client.receive_to_end() == b""
        assert client.end == "closed"


@pytest.mark.parametrize("kind", ["async", "stream", "blocking"])
def test_an_answer_may_take_its_time(kind: str) -> None:
    async def sleep() -> str:
        await asyncio.sleep(5 * BRIEF)
        return "done"

    async def stream() -> AsyncIterator[str]:
        yield await sleep()

    def plain() -> Iterator[str]:
        time.sleep(5 * BRIEF)
        yield "done"

    def handler(req: Request) -> Any:
        if kind == "async":
            return sleep()
        return Response(stream() if kind == "stream" else plain())

    timeouts = dict.fromkeys(("body_timeout", "keep_alive_timeout", "send_timeout"), BRIEF)
    with serving(handler, **timeouts) as server:
        assert request(server).text() == "done"


# Clients that take nothing


def send_without_reading(client: Connection, data: bytes, total: int) -> int:
    """Send ``data`` again and again until the server has taken no more for a while; how much it took."""
    sent = 0
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)
    client.socket.settimeout(0.3)
    view = memoryview(data)
    while sent < total:
        try:
            sent += client.socket.send(view[sent % len(data) :])
        except TimeoutError:
            break
    return sent


@pytest.mark.parametrize("size", [0, 1000])
def test_a_client_that_asks_and_never_reads_holds_little_and_is_answered_when_it_does(
    size: int,
) -> None:
    body = "x" * size
    total = 32 * MIB
    data = head() * 10_000
    with serving(lambda req: body) as server, Connection(server) as client:
        client.send(head())
        answer = client.receive_until(b"\r\n\r\n") + client.receive_exactly(size)
        gc.collect()
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            sent = send_without_reading(client, data, total)
            cost = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
        assert sent < total, "the server took everything in"
        assert cost < 4 * MIB
        began = time.monotonic()
        assert request(server).text() == body
        assert time.monotonic() - began < SOON
        missing = sent // len(head()) * len(answer)
        while missing > 0:
            missing -= len(client.receive())
        assert (missing, client.end) == (0, None)


def test_a_client_that_asks_behind_a_stream_without_end_holds_little() -> None:
    gate = Gate()

    async def source() -> AsyncIterator[str]:
        yield "first"
        await gate.passed()

    def handler(req: Request) -> Any:
        return SSEResponse(source()) if req.path == "/stream" else "x"

    with serving(handler) as server, EventClient(server, "/stream") as client:
        client.read(1)
        total = 64 * MIB
        tracemalloc.start()
        try:
            sent = send_without_reading(client.connection, head() * 10_000, total)
            cost = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
        assert sent < total
        assert cost < MIB
        gate.open()
        client.connection.timeout = 20
        until(lambda: client.connection.receive().count(b"HTTP/1.1 200 ") > 0)


@pytest.mark.parametrize("size", [16 * MIB, 200_000])
@pytest.mark.parametrize("closes", [False, True], ids=["keep-alive", "close"])
def test_a_client_that_takes_nothing_of_its_answer_is_reset(
    size: int, closes: bool, small_buffers: None
) -> None:
    timeouts = dict.fromkeys(("send_timeout", "keep_alive_timeout"), 2 * BRIEF)
    with (
        serving(lambda req: b"x" * size, **timeouts) as server,
        Connection(server, receive_buffer=4096) as client,
    ):
        client.send(LAST if closes else head())
        until(lambda: len(connections(server)) == 1)
        until(lambda: not connections(server))
        client.receive_to_end()
        assert client.end == "reset"


def test_a_remainder_below_the_high_water_mark_is_not_kept_for_ever(small_buffers: None) -> None:
    """A body that the kernel takes but for its last 20 KiB does not pause writing; it stalls all the same."""
    timeouts = dict.fromkeys(("send_timeout", "keep_alive_timeout"), 2 * BRIEF)
    with serving(lambda req: b"x" * 60_000, **timeouts) as server:
        client = Connection(server, receive_buffer=2048)
        with client:
            client.send(head())
            until(lambda: len(connections(server)) == 1)
            (connection,) = connections(server)
            until(lambda: connection._transport.get_write_buffer_size() > 0)
            assert not connection._outlet.is_paused
            until(lambda: not connections(server))


def test_a_client_that_reads_slowly_but_steadily_gets_it_all(
    small_buffers: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server's clock is moved on with each read, and so never further than that."""
    clock = SimpleNamespace(now=time.monotonic(), time=time.time)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr(ticker, "time", clock)
    body = b"x" * 400_000
    with (
        serving(lambda req: body, send_timeout=0.5) as server,
        Connection(server, receive_buffer=8192) as client,
    ):
        client.send(LAST)
        received = bytearray(client.receive_until(b"\r\n\r\n"))
        client.socket.settimeout(SOON)
        for _ in range(60):
            received += client.socket.recv(2048)
            clock.now += 0.02
            time.sleep(0.02)
        received += client.receive_to_end()
        assert client.end == "closed"
        assert received.endswith(body)


# Clients that have said all


@pytest.mark.parametrize("kind", KINDS)
def test_a_client_that_half_closes_is_answered(kind: str) -> None:
    path = f"/{kind}/x"
    with serving(echo) as server:
        taken = exchange(server, head(path) * 3, half_close=True)
        assert taken.end == "closed"
        assert [answer.body for answer in taken.answers] == [body_of(path)] * 3
        until(lambda: not connections(server))


def test_nothing_is_closed_while_the_transport_tells_that_it_has_room() -> None:
    """asyncio's loses one twice that is."""

    async def main() -> None:
        hosts = HostList(None, ["127.0.0.1"])
        service = Service(lambda req: bytes(MIB), Config(), asyncio.get_running_loop(), hosts)
        transport = FakeTransport(
            extra={"sslcontext": object(), "peername": ("127.0.0.1", 1)}, is_stuck=True
        )
        connection = transport.protocol = HTTPProtocol(service)
        connection.connection_made(transport)
        connection.data_received(head())
        connection.eof_received()
        assert transport.get_write_buffer_size() > MIB
        transport.resume()
        assert not transport.is_closing()
        await asyncio.sleep(0)
        assert transport.is_closing()
        connection.connection_lost(None)

    asyncio.run(main())


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_a_client_that_half_closes_gets_a_large_answer(
    loop: str, small_buffers: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its connection is closed once, and not while the transport tells that it has room again."""
    if loop == "asyncio":
        monkeypatch.setattr(residence, "new_loop", asyncio.new_event_loop)
    with serving(lambda req: bytes(3 * MIB)) as server:
        for _ in range(3):
            with Connection(server, receive_buffer=16 * 1024) as client:
                client.send(head())
                client.half_close()
                (answer,) = parse_answers(client.receive_to_end())
                assert len(answer.body) == 3 * MIB
                assert client.end == "closed"


def test_a_client_that_half_closes_long_before_its_answer_gets_it() -> None:
    gate = Gate()

    async def handler(req: Request) -> str:
        await gate.passed()
        return "late"

    with serving(handler) as server, Connection(server) as client:
        client.send(head() + head())
        client.half_close()
        until(lambda: gate.waiting == 1)
        gate.open()
        answers = parse_answers(client.receive_to_end())
    assert [answer.body for answer in answers] == [b"late"] * 2


def test_a_client_that_half_closes_goes_on_with_its_stream() -> None:
    gate = Gate()

    async def source() -> AsyncIterator[str]:
        yield "before"
        await gate.passed()
        yield "after"

    with serving(lambda req: SSEResponse(source())) as server, EventClient(server) as client:
        assert client.read(1)[0].data == "before"
        client.half_close()
        client.wait_until(lambda: client.comments >= 3)  # it is looked at, and stays
        gate.open()
        assert [event.data for event in client.read_all()] == ["after"]


@pytest.mark.parametrize(
    "data", [b"", b"GET", head()[:-2], head("/", "Content-Length: 3", method="POST")]
)
def test_a_client_that_half_closes_in_the_middle_of_a_request_is_closed(data: bytes) -> None:
    with serving(lambda req: "x") as server:
        taken = exchange(server, data, half_close=True)
        assert (taken.end, taken.data) == ("closed", b"")
        until(lambda: not connections(server))


def test_a_refused_client_that_half_closed_is_told() -> None:
    with serving(lambda req: "x") as server:
        taken = exchange(server, BAD, half_close=True)
        assert (taken.statuses, taken.end) == ([400], "closed")


# Many at a time


def test_slow_answers_hold_up_nobody_else() -> None:
    gate = Gate()

    async def handler(req: Request) -> str:
        if req.path == "/slow":
            await gate.passed()
        return req.path

    with serving(handler) as server, ThreadPoolExecutor(8) as pool:
        slow = [pool.submit(request, server, "GET", "/slow") for _ in range(4)]
        until(lambda: gate.waiting == 4)
        fast = list(pool.map(lambda n: request(server, "GET", f"/{n}").text(), range(50)))
        assert fast == [f"/{number}" for number in range(50)]
        assert not any(future.done() for future in slow)
        gate.open()
        assert [future.result().text() for future in slow] == ["/slow"] * 4


def test_the_handler_is_told_who_asks() -> None:
    with serving(lambda req: f"{req.client}") as server, Connection(server) as client:
        client.send(head("/", "Connection: close"))
        expected = str(client.socket.getsockname()[:2])
        assert parse_answers(client.receive_to_end())[0].text() == expected


def test_an_answer_that_is_cut_off_by_the_server_is_not_taken_for_whole() -> None:
    def handler(req: Request) -> Any:
        return b"x" * 64 * MIB

    with serving(handler) as server, EventClient(server) as client:
        threading.Thread(target=server.stop, args=(0,)).start()
        with pytest.raises(IncompleteAnswer):
            client.body()
