"""What is counted and told of requests and streams: every metric and field of the log, where its value is known."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from seen import Lines, Metrics, access_lines
from watching import SOON, Log, connections, service_of, until

from bunpy.http.account import Account
from bunpy.http.counters import Counters
from bunpy.http.ending import Ending
from bunpy.serve import HTTPError, Request, Response, Server, SSEResponse
from bunpy.sse.reason import END_REASONS, EndReason
from bunpy.testing import Connection, EventClient, exchange, parse_answers, request, serving

NEVER = 60.0  # seconds: what is not waited for


@pytest.fixture
def lines() -> Iterator[Lines]:
    with access_lines() as lines:
        yield lines


async def numbers(count: int, then: Callable[[], Any] = lambda: None) -> AsyncIterator[str]:
    for number in range(count):
        yield str(number)
    result = then()
    if result is not None:
        await result


async def farewell() -> AsyncIterator[str]:
    try:
        await asyncio.sleep(NEVER)
    finally:
        yield "goodbye"


def fail(message: str = "on purpose") -> None:
    raise RuntimeError(message)


async def late() -> str:
    await asyncio.sleep(NEVER)
    return "never"


def handler(req: Request) -> Any:
    """Answers in as many ways as there are ends."""
    ways: dict[str, Callable[[], Any]] = {
        "/": lambda: "hello",
        "/three": lambda: SSEResponse(numbers(3)),
        "/endless": lambda: SSEResponse(numbers(2, lambda: asyncio.sleep(NEVER))),
        "/silent": lambda: SSEResponse(numbers(0, lambda: asyncio.sleep(NEVER))),
        "/farewell": lambda: SSEResponse(farewell()),
        "/none": lambda: SSEResponse(numbers(0)),
        "/pieces": lambda: Response(numbers(4)),
        "/raises-first": lambda: SSEResponse(numbers(0, fail)),
        "/raises-later": lambda: SSEResponse(numbers(1, fail)),
        "/late": late,
        "/fails": fail,
        "/moved": lambda: Response(status=302, headers={"Location": "/"}),
    }
    if req.path not in ways:
        raise HTTPError(404)
    return ways[req.path]()


@contextlib.contextmanager
def watched(**options: Any) -> Iterator[Server]:
    with serving(handler, access_log=True, metrics="/metrics", **options) as server:
        yield server


def whole(server: Server, path: str, method: str = "GET") -> bytes:
    """The bytes of the answer to a request, all of them."""
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    return exchange(server, head.encode(), methods=[method]).data


STREAM = {
    "bunpy_connections_total": 1,
    "bunpy_streams_total": 1,
    "bunpy_stream_duration_seconds_count": 1,
}
ANSWER = {"bunpy_connections_total": 1, "bunpy_answer_duration_seconds_count": 1}


def ends(reason: str) -> dict[str, float]:
    return {f'bunpy_stream_ends_total{{reason="{reason}"}}': 1}


def answers(kind: str, count: int = 1) -> dict[str, float]:
    return {f'bunpy_responses_total{{status="{kind}"}}': count}


def first() -> dict[str, float]:
    return {"bunpy_time_to_first_event_seconds_count": 1}


WHOLE: dict[str, tuple[str, int, int, str, dict[str, float]]] = {
    # path, status, events, reason, what is counted besides bytes
    "a plain answer": ("/", 200, 0, "finished", {**ANSWER, **answers("2xx")}),
    "elsewhere": ("/moved", 302, 0, "finished", {**ANSWER, **answers("3xx")}),
    "not found": ("/nowhere", 404, 0, "finished", {**ANSWER, **answers("4xx")}),
    "a stream": (
        "/three",
        200,
        3,
        "finished",
        {**STREAM, **answers("2xx"), **ends("finished"), **first(), "bunpy_events_total": 3},
    ),
    "a stream of nothing": (
        "/none",
        200,
        0,
        "finished",
        {**STREAM, **answers("2xx"), **ends("finished")},
    ),
    "pieces": (
        "/pieces",
        200,
        4,
        "finished",
        {**STREAM, **answers("2xx"), **ends("finished"), **first(), "bunpy_events_total": 4},
    ),
    "a handler that raises": ("/fails", 500, 0, "error", {**ANSWER, **answers("5xx")}),
    "a generator that raises first": (
        "/raises-first",
        500,
        0,
        "error",
        {**STREAM, **answers("5xx"), **ends("error")},
    ),
    "a generator that raises later": (
        "/raises-later",
        200,
        1,
        "error",
        {**STREAM, **answers("2xx"), **ends("error"), **first(), "bunpy_events_total": 1},
    ),
}


@pytest.mark.parametrize("name", WHOLE)
def test_an_answer_that_comes_to_its_end(name: str, lines: Lines, log: Log) -> None:
    path, status, events, reason, counted = WHOLE[name]
    with watched() as server:
        before = Metrics.of(server)
        began = time.monotonic()
        data = whole(server, path)
        took = time.monotonic() - began
        fields = lines.take()
        changed = Metrics.of(server).since(before)
    assert changed == {**counted, "bunpy_sent_bytes_total": len(data)}
    duration, first_event = fields.pop("duration"), fields.pop("first_event")
    assert 0 < duration < took
    assert (first_event is not None) == (events > 0)
    if first_event is not None:
        assert 0 < first_event <= duration
    assert f"x-request-id: {fields.pop('request_id')}\r\n".encode() in data.lower()
    assert fields == {
        "client": "127.0.0.1",
        "method": "GET",
        "path": path,
        "status": status,
        "bytes": len(data),
        "events": events,
        "reason": reason,
    }
    if reason == "error":
        log.take_error()


def test_the_head_alone(lines: Lines) -> None:
    """Of a stream as of anything else."""
    with watched() as server:
        for path in ("/three", "/"):
            before = Metrics.of(server)
            data = whole(server, path, "HEAD")
            assert data.endswith(b"\r\n\r\n")
            fields = lines.take()
            assert (fields["method"], fields["path"], fields["status"]) == ("HEAD", path, 200)
            assert (fields["events"], fields["first_event"], fields["bytes"]) == (
                0,
                None,
                len(data),
            )
            assert fields["reason"] == "finished"
            assert Metrics.of(server).since(before) == {
                **ANSWER,
                **answers("2xx"),
                "bunpy_sent_bytes_total": len(data),
            }


def test_two_requests_on_one_connection(lines: Lines) -> None:
    """Each has numbers of its own; the second stream does not begin with the bytes of the first."""
    get = b"GET %b HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with watched() as server:
        before = Metrics.of(server)
        sizes = []
        with Connection(server) as connection:
            for path in (b"/three", b"/three", b"/"):
                connection.send(get % path)
                end = b"hello" if path == b"/" else b"\r\n0\r\n\r\n"
                sizes.append(len(connection.receive_until(end)))
        fields = lines.take_all(3)
        changed = Metrics.of(server).since(before)
    assert [line["bytes"] for line in fields] == sizes
    assert [line["events"] for line in fields] == [3, 3, 0]
    assert [line["path"] for line in fields] == ["/three", "/three", "/"]
    assert len({line["request_id"] for line in fields}) == 3
    assert all(line["duration"] < SOON for line in fields)
    assert changed == {
        "bunpy_connections_total": 1,
        "bunpy_streams_total": 2,
        "bunpy_stream_duration_seconds_count": 2,
        "bunpy_answer_duration_seconds_count": 1,
        "bunpy_time_to_first_event_seconds_count": 2,
        "bunpy_events_total": 6,
        "bunpy_sent_bytes_total": sum(sizes),
        'bunpy_stream_ends_total{reason="finished"}': 2,
        **answers("2xx", 3),
    }


@pytest.mark.parametrize("way", ["FIN", "RST"])
def test_a_client_that_leaves(way: str, lines: Lines) -> None:
    with watched() as server:
        before = Metrics.of(server)
        with EventClient(server, "/endless") as client:
            client.read(2)
            # What is so now, while it is.
            during = Metrics.of(server)
            assert (during["bunpy_open_streams"], during["bunpy_open_connections"]) == (1, 2)
            client.drop(reset=way == "RST")
        fields = lines.take()
        until(lambda: Metrics.of(server)["bunpy_open_streams"] == 0)
        after = Metrics.of(server)
    assert (fields["status"], fields["events"], fields["reason"]) == (200, 2, "client")
    assert after["bunpy_open_connections"] == 1
    assert after['bunpy_stream_ends_total{reason="client"}'] == 1
    assert after["bunpy_events_total"] - before["bunpy_events_total"] == 2


@pytest.mark.parametrize("path", ["/silent", "/farewell"])
def test_a_client_that_leaves_before_the_first_event(path: str, lines: Lines) -> None:
    """Nothing had been sent to it: it has no status, whatever its generator yields then."""
    with watched(head_delay=NEVER) as server:
        before = Metrics.of(server)
        with Connection(server) as connection:
            connection.send(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            until(lambda: service_of(server).streams.count == 1)
            connection.drop(reset=True)
        fields = lines.take()
        changed = Metrics.of(server).since(before)
    assert (fields["status"], fields["bytes"], fields["events"]) == (None, 0, 0)
    assert (fields["first_event"], fields["reason"]) == (None, "client")
    assert changed == {**STREAM, **ends("client")}


def test_a_client_that_leaves_before_the_answer(lines: Lines) -> None:
    with watched() as server:
        before = Metrics.of(server)
        with Connection(server) as connection:
            connection.send(b"GET /late HTTP/1.1\r\nHost: localhost\r\n\r\n")
            until(lambda: any(each._exchange.is_busy for each in connections(server)))
            connection.drop(reset=True)
        fields = lines.take()
        changed = Metrics.of(server).since(before)
    assert (fields["status"], fields["bytes"], fields["reason"]) == (None, 0, "client")
    assert changed == ANSWER


def test_a_server_that_stops(lines: Lines) -> None:
    with watched() as server:
        with EventClient(server, "/endless") as client:
            client.read(2)
            server.stop()
            assert client.body().endswith(b"\n\n")  # its end is clean, with a retry
        fields = lines.take()
        stats = server.stats()
    assert (fields["status"], fields["events"], fields["reason"]) == (200, 2, "shutdown")
    assert stats.ends["shutdown"] == 1


def test_a_lifetime(lines: Lines) -> None:
    with watched(stream_lifetime=2.0) as server:
        with EventClient(server, "/endless") as client:
            client.read_all()
        fields = lines.take()
        metrics = Metrics.of(server)
    assert (fields["events"], fields["reason"]) == (2, "lifetime")
    assert 1 < fields["duration"] < 2 + SOON
    assert metrics['bunpy_stream_ends_total{reason="lifetime"}'] == 1
    # Between the first event and the end there is a difference.
    assert metrics["bunpy_time_to_first_event_seconds_sum"] == pytest.approx(
        fields["first_event"], abs=1e-5
    )
    assert metrics["bunpy_stream_duration_seconds_sum"] == pytest.approx(
        fields["duration"], abs=1e-5
    )
    assert metrics['bunpy_stream_duration_seconds_bucket{le="1.0"}'] == 0
    assert metrics['bunpy_time_to_first_event_seconds_bucket{le="30.0"}'] == 1


@pytest.mark.parametrize("accept", ["*/*", "text/event-stream"])
def test_too_many_streams(accept: str, lines: Lines, log: Log) -> None:
    """It is counted among the ends, and not among the streams, since it did not begin."""
    with watched(max_streams=1) as server:
        with EventClient(server, "/endless") as client:
            client.read(2)
            before = Metrics.of(server)
            answer = request(server, "GET", "/three", {"Accept": accept})
            fields = lines.take()
            changed = Metrics.of(server).since(before)
        assert lines.take()["reason"] == "client"
    status = 200 if accept == "text/event-stream" else 503
    assert answer.status == fields["status"] == status
    assert (fields["reason"], fields["events"], fields["first_event"]) == ("limit", 0, None)
    assert changed == {
        **ANSWER,
        **ends("limit"),
        **answers(f"{status // 100}xx"),
        "bunpy_turned_away_total": 1,
        "bunpy_sent_bytes_total": fields["bytes"],
    }
    log.take()


def test_too_many_connections(lines: Lines, log: Log) -> None:
    """No handler sees it; the pages of the server's own are seen all the same."""
    with watched(max_connections=1, health=True) as server, Connection(server) as connection:
        connection.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        connection.receive_until(b"hello")
        lines.take()
        before = Metrics.of(server)
        answer = request(server, "GET", "/")
        fields = lines.take()
        changed = Metrics.of(server).since(before)
        health = request(server, "GET", "/healthz")
        assert (health.status, health.closes) == (200, True)
        lines.take()
    assert (answer.status, fields["status"], fields["reason"]) == (503, 503, "limit")
    assert changed == {
        **ANSWER,
        **answers("5xx"),
        "bunpy_turned_away_total": 1,
        "bunpy_sent_bytes_total": fields["bytes"],
    }
    log.take()


def told_and_held(server: Server) -> bool:
    """Whether as much is held for clients as is told; now and then a little is taken, in between."""
    told = Metrics.of(server)["bunpy_buffered_bytes"]
    return 64 * 1024 < told == sum(each.buffered for each in connections(server))


@pytest.mark.usefixtures("small_buffers")
def test_a_client_that_takes_nothing(lines: Lines) -> None:
    async def torrent() -> AsyncIterator[str]:
        while True:
            yield "x" * 50_000

    options: dict[str, Any] = {"access_log": True, "metrics": "/metrics", "send_timeout": 1.0}
    with serving(lambda req: SSEResponse(torrent()), **options) as server:
        with EventClient(server, "/", receive_buffer=8192):
            until(lambda: told_and_held(server))
            # They are counted as sent while the stream goes on.
            until(lambda: Metrics.of(server)["bunpy_events_total"] > 0)
            fields = lines.take()
        metrics = Metrics.of(server)
    assert (fields["status"], fields["reason"]) == (200, "slow")
    assert fields["duration"] >= 1.0
    assert metrics['bunpy_stream_ends_total{reason="slow"}'] == 1
    assert metrics["bunpy_events_total"] == fields["events"] > 0
    assert metrics["bunpy_buffered_bytes"] == 0


@pytest.mark.parametrize(
    ("data", "method", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "GET", 400),
        (b"FLY / HTTP/1.1\r\nHost: localhost\r\n\r\n", None, 501),
        (b"\x16\x03\x01\x02\x00\r\n\r\n", None, 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 2000 + b"\r\n\r\n", None, 431),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n123456789", "POST", 413),
        (b"GET / HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n", "GET", 421),
    ],
)
def test_what_is_refused(data: bytes, method: str | None, status: int, lines: Lines) -> None:
    """There is no request, and a line and a number all the same."""
    with watched(head_limit=1024, body_limit=4) as server:
        before = Metrics.of(server)
        sent = exchange(server, data).data
        fields = lines.take()
        changed = Metrics.of(server).since(before)
    assert parse_answers(sent)[0].status == status
    assert fields.pop("method") in (method, data.split()[0].decode("latin-1"), "GET")
    assert fields == {
        "client": "127.0.0.1",
        "path": None,
        "status": status,
        "bytes": len(sent),
        "events": 0,
        "first_event": None,
        "duration": 0.0,
        "reason": "finished",
        "request_id": None,
    }
    assert changed == {
        "bunpy_connections_total": 1,
        "bunpy_sent_bytes_total": len(sent),
        **answers("4xx" if status < 500 else "5xx"),
    }


def test_the_loop_is_late() -> None:
    """And it is told for a while, so that a scrape finds it."""
    options: dict[str, Any] = {"metrics": "/metrics", "block_warning": None, "heartbeat": 0.2}
    with serving(lambda req: time.sleep(0.5), **options) as server:
        request(server, "GET", "/")
        until(lambda: Metrics.of(server)["bunpy_loop_lag_seconds"] > 0.3)


def test_without_anybody_who_is_told(log: Log) -> None:
    """The numbers of ``stats`` are counted all the same, but for the durations of plain answers."""
    with serving(handler) as server:
        size = len(whole(server, "/three")) + len(whole(server, "/"))
        with EventClient(server, "/endless") as client:
            client.read(2)
        until(lambda: server.stats().stream_duration.count == 2)  # what is counted last
        stats = server.stats()
    assert (stats.connections_total, stats.streams_total, stats.events) == (3, 2, 5)
    assert stats.responses == {"1xx": 0, "2xx": 3, "3xx": 0, "4xx": 0, "5xx": 0}
    assert stats.ends == {**dict.fromkeys(END_REASONS, 0), "finished": 1, "client": 1}
    assert stats.bytes_sent > size
    assert (stats.first_event.count, stats.stream_duration.count) == (2, 2)
    assert stats.answer_duration.count == 0


@pytest.mark.parametrize("reason", END_REASONS)
def test_every_reason(reason: EndReason) -> None:
    """Also those that take a network to bring about."""
    endings: list[Ending] = []
    observer = SimpleNamespace(see_stream=lambda request: None, see_end=endings.append)
    counters = Counters()
    service: Any = SimpleNamespace(counters=counters, observer=observer)
    account = Account(service)
    request_ = Request("GET", "/", {})
    stream: Any = SimpleNamespace(
        count=lambda: None,
        reason=reason,
        events=7,
        bytes_sent=700,
        first_sent=0.0,
    )
    account.begin_stream(request_, 200)
    account.close(request_, stream, None)
    (ending,) = endings
    assert (ending.reason, ending.events, ending.bytes_sent) == (reason, 7, 700)
    assert ending.request is request_
    assert ending.is_stream
    assert counters.ends == {**dict.fromkeys(END_REASONS, 0), reason: 1}


# X-Request-Id


@pytest.mark.parametrize("path", ["/", "/three", "/nowhere", "/fails", "/raises-first"])
def test_an_id_goes_in_and_out(path: str, lines: Lines, log: Log) -> None:
    with watched() as server:
        answer = request(server, "GET", path, {"X-Request-Id": "edge-7:42"})
        assert answer.headers["x-request-id"] == "edge-7:42"
        assert lines.take()["request_id"] == "edge-7:42"
    if path in ("/fails", "/raises-first"):
        record = log.records[0]
        assert vars(record)["request_id"] == "edge-7:42"
        assert record.getMessage() == f"<Request GET {path} id=edge-7:42>: answered 500"
        log.take_error()


@pytest.mark.parametrize("sent", ["a b", 'a"b', "x" * 129, "é", "a,b", ""])
def test_an_id_that_is_none_is_replaced(sent: str, lines: Lines) -> None:
    with watched() as server:
        answer = request(server, "GET", "/", {"X-Request-Id": sent})
        said = answer.headers["x-request-id"]
        assert re.fullmatch("[0-9a-f]{32}", said)
        assert lines.take()["request_id"] == said


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (lambda: {"X-A": "1"}, {"x-a": "1", "x-request-id": "seven"}),
        (lambda: [("X-A", "1")], {"x-a": "1", "x-request-id": "seven"}),
        (lambda: iter([("X-A", "1")]), {"x-a": "1", "x-request-id": "seven"}),
        (lambda: {"Date": "today"}, {"date": "today", "x-request-id": "seven"}),
        (lambda: {"x-request-ID": "mine"}, {"x-request-id": "mine"}),
        (lambda: iter([("x-request-ID", "mine")]), {"x-request-id": "mine"}),
    ],
)
@pytest.mark.parametrize("is_stream", [False, True])
def test_an_id_beside_other_headers(
    headers: Callable[[], Any], expected: dict[str, str], is_stream: bool
) -> None:
    """What the handler says of it goes."""

    def handle(req: Request) -> Response:
        if is_stream:
            return SSEResponse(numbers(1), headers=headers())
        return Response("hello", headers=headers())

    with serving(handle) as server:
        answer = request(server, "GET", "/", {"X-Request-Id": "seven"})
    assert answer.status == 200
    assert {name: answer.headers[name] for name in expected} == expected
    names = [name.lower() for name, _ in answer.fields]
    assert names.count("date") == names.count("x-request-id") == 1


def test_an_id_is_not_made_for_nobody(log: Log) -> None:
    """Where there is no access log, one that was sent comes back, and one is made for an error."""
    with serving(handler) as server:
        assert "x-request-id" not in request(server, "GET", "/").headers
        assert request(server, "GET", "/", {"X-Request-Id": "a"}).headers["x-request-id"] == "a"
        made = request(server, "GET", "/fails").headers["x-request-id"]
    assert vars(log.records[0])["request_id"] == made
    assert made in log.records[0].getMessage()
    log.take_error()


def test_a_stream_that_raises_later_tells_its_id(lines: Lines, log: Log) -> None:
    with watched() as server:
        answer = exchange(
            server, b"GET /raises-later HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: abc\r\n\r\n"
        )
        assert b"x-request-id: abc\r\n" in answer.data.lower()
        assert lines.take()["request_id"] == "abc"
    assert vars(log.records[0])["request_id"] == "abc"
    assert log.records[0].getMessage() == (
        "<Request GET /raises-later id=abc>: the generator raised"
    )
    log.take_error()


def test_an_error_in_the_end_tells_its_id(lines: Lines, log: Log) -> None:
    def handle(req: Request) -> SSEResponse:
        return SSEResponse(numbers(1), on_close=lambda reason: fail())

    with serving(handle, access_log=True) as server:
        made = request(server, "GET", "/").headers["x-request-id"]
        assert lines.take()["request_id"] == made
    assert vars(log.records[0])["request_id"] == made
    log.take_error()
