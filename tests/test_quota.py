"""How many of a thing there may be: the counts by themselves, then connections and streams over real sockets."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

import pytest
from browser import Browser
from watching import Log, connections, service_of, until

from bunpy.http import answer, quota
from bunpy.http.quota import Quota
from bunpy.serve import HTTPError, Request, Response, Server, SSEResponse
from bunpy.testing import Connection, EventClient, exchange, parse_answers, request, serving

# What is logged, a test takes; nothing else may be.
pytestmark = pytest.mark.usefixtures("log")

NEVER = 60.0  # seconds: what is not waited for


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Time that does not pass by itself."""
    clock = SimpleNamespace(now=5.0)
    monkeypatch.setattr(quota, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


# The counts


def test_any_number() -> None:
    counted = Quota("things", None, None)
    assert all(counted.take("192.0.2.1") for _ in range(1000))
    assert counted.count == 1000
    for _ in range(1000):
        counted.give_back("192.0.2.1")
    assert counted.count == 0


def test_so_many_in_all(log: Log) -> None:
    counted = Quota("things", 2, None)
    assert [counted.take(host) for host in ("192.0.2.1", None, "192.0.2.3")] == [True, True, False]
    assert counted.count == 2
    counted.give_back(None)
    assert counted.take("192.0.2.3")
    assert counted.count == 2
    log.take()


def test_so_many_for_one_client(log: Log) -> None:
    counted = Quota("things", None, 2)
    assert [counted.take("192.0.2.1") for _ in range(3)] == [True, True, False]
    assert [counted.take("192.0.2.2") for _ in range(3)] == [True, True, False]
    assert counted.count == 4
    counted.give_back("192.0.2.1")
    assert counted.take("192.0.2.1")
    assert not counted.take("192.0.2.1")
    log.take()


def test_who_shares_its_address_counts_in_all_only(log: Log) -> None:
    counted = Quota("things", 3, 1)
    assert [counted.take(None) for _ in range(4)] == [True, True, True, False]
    counted.give_back(None)
    assert counted.count == 2
    log.take()


def test_what_is_refused_is_not_counted(log: Log) -> None:
    """Neither for the client when there is no room in all, nor in all when there is none for the client."""
    counted = Quota("things", 2, 1)
    assert counted.take("192.0.2.1")
    assert not counted.take("192.0.2.1")
    assert counted.count == 1
    assert counted.take("192.0.2.2")
    assert not counted.take("192.0.2.3")
    counted.give_back("192.0.2.1")
    assert counted.take("192.0.2.3")
    log.take()


def test_a_client_that_has_gone_is_forgotten() -> None:
    """A server that has seen very many addresses holds none of them."""
    counted = Quota("things", None, 5)
    for number in range(1000):
        host = f"10.0.{number >> 8}.{number & 255}"
        assert counted.take(host)
        counted.give_back(host)
    assert counted.count == 0
    assert counted._clients == {}


@pytest.mark.parametrize(
    ("first", "second", "is_same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::2", True),
        ("2001:db8::1", "2001:db8:0:0:ffff:ffff:ffff:ffff", True),
        ("2001:db8::1", "2001:0DB8::1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("::1", "127.0.0.1", False),
        ("no address", "no address", True),
        ("no address", "another", False),
    ],
)
def test_whose_an_address_is(first: str, second: str, is_same: bool, log: Log) -> None:
    """An IPv6 client has a network of 64 bits; a mapped IPv4 address is that address."""
    counted = Quota("things", None, 1)
    assert counted.take(first)
    assert counted.take(second) is not is_same
    counted.give_back(first)
    if not is_same:
        counted.give_back(second)
    assert (counted.count, counted._clients) == (0, {})
    log.records.clear()


def test_a_place_is_given_back_under_another_address_of_the_client() -> None:
    counted = Quota("things", None, 1)
    assert counted.take("2001:db8::1")
    counted.give_back("2001:db8::2")
    assert counted.take("2001:db8::3")


def test_what_is_logged(clock: SimpleNamespace, log: Log) -> None:
    """Once a minute, however many are turned away; also in the first minute of the machine."""
    counted = Quota("streams", 2, 1)
    counted.take("192.0.2.1")
    counted.take("192.0.2.1")
    record = log.take()
    assert (record.name, record.levelname) == ("bunpy", "WARNING")
    assert record.getMessage() == (
        "there are 1 streams of 192.0.2.1, as many as max_streams_per_client allows:"
        " further ones are told to come back later"
    )
    counted.take("192.0.2.2")
    for _ in range(100):
        clock.now += 0.59
        assert not counted.take("192.0.2.3")
    clock.now += 1.1
    counted.take("192.0.2.3")
    assert log.take().getMessage() == (
        "there are 2 streams, as many as max_streams allows: further ones are told to come back later"
    )


def test_the_network_of_a_client_is_logged(log: Log) -> None:
    counted = Quota("connections", None, 1)
    counted.take("2001:db8::1")
    counted.take("2001:db8::2")
    assert "1 connections of 2001:db8::/64, as many as max_connections_per_client allows" in (
        log.take().getMessage()
    )


# Over sockets


class Handler:
    """Answers in every way there is, by the path, and counts its calls."""

    def __init__(self) -> None:
        self.calls = 0
        self.ends: list[str] = []

    def __call__(self, req: Request) -> Any:
        self.calls += 1
        kind = req.path[1:]
        if kind == "plain":
            return "hello"
        if kind == "none":
            return SSEResponse(self._forever(), status=204)
        if kind == "headers":
            return SSEResponse(self._forever(), {"X": "\n"})
        if kind == "bytes":
            return Response(self._pieces())
        if kind == "thread":
            return SSEResponse(self._plain_events(), on_close=self.ends.append)
        if kind == "later":
            return self._later()
        sources = {
            "finished": self._once,
            "error": self._failing,
            "early": self._refusing,
            "flood": self._flood,
        }
        return SSEResponse(sources.get(kind, self._forever)(), on_close=self.ends.append)

    async def _later(self) -> SSEResponse:
        await asyncio.sleep(0)
        return SSEResponse(self._forever(), on_close=self.ends.append)

    async def _forever(self) -> AsyncIterator[str]:
        yield "first"
        await asyncio.sleep(NEVER)

    async def _pieces(self) -> AsyncIterator[bytes]:
        yield b"first"
        await asyncio.sleep(NEVER)

    async def _once(self) -> AsyncIterator[str]:
        yield "first"

    async def _failing(self) -> AsyncIterator[str]:
        yield "first"
        raise RuntimeError("of the generator")

    async def _refusing(self) -> AsyncIterator[str]:
        raise HTTPError(404)
        yield "never"

    async def _flood(self) -> AsyncIterator[str]:
        while True:
            yield "x" * 1000

    def _plain_events(self) -> Iterator[str]:
        yield "first"
        yield "second"


def get(target: str, *lines: str, method: str = "GET", version: str = "1.1") -> bytes:
    return "\r\n".join(
        [f"{method} {target} HTTP/{version}", "Host: localhost", *lines, "", ""]
    ).encode()


EVENTS = "Accept: text/event-stream"


def check_turned_away(taken: bytes, *, is_event_stream: bool) -> None:
    """An EventSource comes back after its ``retry``, and gives up on anything but 200; others know 503."""
    (turned,) = parse_answers(taken)
    assert turned.closes
    if is_event_stream:
        assert turned.status == 200
        assert turned.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert turned.headers["cache-control"] == "no-store"
        name, _, rest = turned.text().partition(": ")
        time, _, end = rest.partition("\n")
        assert (name, end) == ("retry", "\n")
        assert 30_000 <= int(time) <= 90_000
    else:
        assert turned.status == 503
        assert turned.body == b"The server is full\n"
        assert 30 <= int(turned.headers["retry-after"]) <= 90


def is_turned_away(server: Server, target: str = "/", source: str = "127.0.0.1") -> bool:
    """What becomes of a new client, whose stream is left at its first event."""
    with socket.create_connection(("127.0.0.1", server.port), 5, (source, 0)) as sock:
        sock.sendall(get(target, EVENTS))
        received = b""
        while b"\n\n" not in received.partition(b"\r\n\r\n")[2]:
            data = sock.recv(65536)
            assert data, received
            received += data
    body = received.partition(b"\r\n\r\n")[2]
    assert (b"retry: " in body) != (b"data: first" in body), received
    return b"retry: " in body


@pytest.fixture
def full(request: pytest.FixtureRequest) -> Iterator[tuple[Server, Handler, list[EventClient]]]:
    """A server with one of the limits at two, and two streams on it."""
    handler = Handler()
    with serving(handler, **{request.param: 2}) as server, ExitStack() as stack:
        clients = [stack.enter_context(EventClient(server)) for _ in range(2)]
        for client in clients:
            assert client.read(1)[0].data == "first"
        yield server, handler, clients


LIMITS = [
    "max_streams",
    "max_streams_per_client",
    "max_connections",
    "max_connections_per_client",
]
EACH_LIMIT = pytest.mark.parametrize("full", LIMITS, indirect=True)

Full = tuple[Server, Handler, list[EventClient]]


@EACH_LIMIT
@pytest.mark.parametrize(
    ("lines", "is_event_stream"),
    [
        ([EVENTS], True),
        (["Accept: text/event-stream, */*;q=0.1"], True),
        ([], False),
        (["Accept: */*"], False),
        (["Accept: application/json"], False),
    ],
)
@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_one_more_is_turned_away(
    full: Full, lines: list[str], is_event_stream: bool, version: str, log: Log
) -> None:
    server, _, clients = full
    taken = exchange(server, get("/", *lines, version=version))
    assert taken.end == "closed"
    check_turned_away(taken.data, is_event_stream=is_event_stream)
    for client in clients:
        assert client.ended_cleanly is None
    log.take()


@EACH_LIMIT
def test_there_is_room_again_when_one_has_gone(full: Full, log: Log) -> None:
    server, _, clients = full
    assert is_turned_away(server)
    clients[0].drop()
    until(lambda: not is_turned_away(server))
    log.take()


@pytest.mark.parametrize("full", ["max_connections", "max_connections_per_client"], indirect=True)
@pytest.mark.parametrize("target", ["/plain", "/", "/later"])
def test_the_handler_is_not_asked_for_a_connection_without_a_place(
    full: Full, target: str, log: Log
) -> None:
    server, handler, _ = full
    taken = exchange(server, get(target) * 3)
    check_turned_away(taken.data, is_event_stream=False)  # the first, and the others not at all
    taken = exchange(server, get(target, "Content-Length: 5", method="POST") + b"hello")
    check_turned_away(taken.data, is_event_stream=False)
    taken = exchange(server, get(target, method="HEAD"), methods=["HEAD"])
    (turned,) = taken.answers
    assert (turned.status, turned.body, turned.closes) == (503, b"", True)
    assert handler.calls == 2
    until(lambda: service_of(server).excess == 0)
    log.take()


@pytest.mark.parametrize("full", ["max_connections", "max_connections_per_client"], indirect=True)
def test_a_connection_without_a_place_that_asks_for_nothing(full: Full, log: Log) -> None:
    """It counts as one too many, for as long as it is there."""
    server, _, _ = full
    with Connection(server), Connection(server):
        until(lambda: service_of(server).excess == 2)
        assert service_of(server).places.count == 2
    until(lambda: service_of(server).excess == 0)
    assert service_of(server).places.count == 2
    log.take()


@pytest.mark.parametrize("full", ["max_connections", "max_connections_per_client"], indirect=True)
def test_what_is_no_request_is_refused_as_ever(full: Full, log: Log) -> None:
    server, _, _ = full
    assert exchange(server, b"nonsense\r\n\r\n").statuses == [400]
    until(lambda: service_of(server).excess == 0)
    log.take()


@pytest.mark.parametrize("full", ["max_streams", "max_streams_per_client"], indirect=True)
@pytest.mark.parametrize("target", ["/", "/later", "/bytes", "/thread", "/flood"])
def test_each_kind_of_stream_is_turned_away(full: Full, target: str, log: Log) -> None:
    server, _, _ = full
    check_turned_away(exchange(server, get(target, EVENTS)).data, is_event_stream=True)
    check_turned_away(exchange(server, get(target)).data, is_event_stream=False)
    log.take()


@pytest.mark.parametrize("full", ["max_streams", "max_streams_per_client"], indirect=True)
def test_what_is_no_stream_is_answered(full: Full) -> None:
    """Plain answers, and the heads of streams."""
    server, handler, _ = full
    for _ in range(5):
        assert request(server, "GET", "/plain").text() == "hello"
        assert request(server, "HEAD").status == 200
        assert request(server, "GET", "/none").status == 204
    assert service_of(server).streams.count == 2
    assert handler.ends == ["finished"] * 5  # the HEAD requests'


@pytest.mark.parametrize("limit", ["max_connections_per_client", "max_streams_per_client"])
def test_each_client_has_its_own(limit: str, log: Log) -> None:
    with serving(Handler(), **{limit: 1}) as server, ExitStack() as stack:
        for number in (1, 2, 3):
            sock = stack.enter_context(
                socket.create_connection(("127.0.0.1", server.port), 5, (f"127.0.0.{number}", 0))
            )
            sock.sendall(get("/"))
            received = b""
            while b"data: first" not in received:
                received += sock.recv(65536)
            assert received.startswith(b"HTTP/1.1 200")
            assert is_turned_away(server, source=f"127.0.0.{number}")
        assert not is_turned_away(server, source="127.0.0.4")
    log.take()


def test_a_turned_away_stream_does_not_take_the_connection_s_place() -> None:
    """A connection that is closed gives its place back, whatever it was answered."""
    with serving(Handler(), max_connections=1) as server:
        for _ in range(50):
            assert request(server, "GET", "/plain").status == 200
            until(lambda: service_of(server).places.count == 0)


# What is counted is given back


def leave(server: Server, handler: Handler, client: EventClient, end: str) -> None:
    """Bring a stream to its end, in one of the ways in which they end."""
    if end == "fin":
        client.drop()
    elif end == "rst":
        client.drop(reset=True)
    elif end in ("finished", "lifetime", "thread"):
        client.read_all()
    elif end == "error":
        with pytest.raises(ConnectionError):
            client.read_all()
    else:
        assert end == "slow"
        until(lambda: bool(handler.ends))


ENDS = {
    "fin": "client",
    "rst": "client",
    "finished": "finished",
    "thread": "finished",
    "error": "error",
    "lifetime": "lifetime",
    "slow": "slow",
}


@pytest.mark.parametrize("end", ENDS)
def test_a_place_comes_back_whatever_ended_the_stream(
    end: str, small_buffers: None, log: Log
) -> None:
    handler = Handler()
    options: dict[str, Any] = {"lifetime": {"stream_lifetime": 0.1}, "slow": {"send_timeout": 0.1}}
    target = {"slow": "/flood"}.get(end, f"/{end}")
    with serving(
        handler,
        max_streams=1,
        max_streams_per_client=1,
        max_connections=1,
        max_connections_per_client=1,
        **options.get(end, {}),
    ) as server:
        service = service_of(server)
        for _ in range(3):
            handler.ends.clear()
            with EventClient(server, target, receive_buffer=4096) as client:
                if end != "slow":
                    client.read(1)
                leave(server, handler, client, end)
            until(lambda: not connections(server))
            assert (service.streams.count, service.places.count) == (0, 0)
            assert handler.ends == [ENDS[end]]
    if end == "error":
        for record in log.records:
            record.exc_info = None
        log.records.clear()


@pytest.mark.parametrize("target", ["/early", "/headers", "/none"])
def test_an_answer_that_became_no_stream_gives_its_place_back(target: str, log: Log) -> None:
    with serving(Handler(), max_streams=1) as server:
        for _ in range(3):
            request(server, "GET", target)
            until(lambda: not connections(server))
            assert service_of(server).streams.count == 0
            assert not is_turned_away(server)
            until(lambda: not connections(server))
    for record in log.records:
        record.exc_info = None
    log.records.clear()


def test_streams_of_one_connection_after_each_other_take_one_place() -> None:
    with serving(Handler(), max_streams=1, max_streams_per_client=1) as server:
        taken = exchange(server, get("/finished") * 20 + get("/finished", "Connection: close"))
        assert [answer.body for answer in taken.answers] == [b"data: first\n\n"] * 21


def test_two_hundred_streams_that_come_and_go(log: Log) -> None:
    """Of every kind, several at a time, half of them turned away: in the end nothing is counted."""
    handler = Handler()
    kinds = ["/", "/finished", "/later", "/thread", "/bytes", "/plain", "/early"]

    def churn(first: int) -> None:
        for number in range(first, first + 25):
            kind = kinds[number % len(kinds)]
            with EventClient(server, kind, timeout=20) as client:
                if number % 3 == 0 and kind not in ("/", "/later", "/bytes"):
                    client.body()
                # That a silent body's client has gone for good only RST tells: it gets no heartbeats.
                client.drop(reset=kind == "/bytes" or number % 2 == 0)

    with serving(
        handler,
        max_streams=3,
        max_streams_per_client=3,
        max_connections=5,
        max_connections_per_client=5,
    ) as server:
        threads = [threading.Thread(target=churn, args=(25 * n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()
        service = service_of(server)
        until(lambda: not connections(server))
        assert (service.streams.count, service.places.count, service.excess) == (0, 0, 0)
        assert (service.streams._clients, service.places._clients) == ({}, {})
        with ExitStack() as stack:
            for _ in range(3):
                client = stack.enter_context(EventClient(server))
                assert client.read(1)[0].data == "first"
        until(lambda: not connections(server))
    assert {"finished", "client", "limit"} <= set(handler.ends)
    for message in log.messages:
        assert message.startswith("there are ")
    log.records.clear()


def test_idle_connections_without_a_place_do_not_keep_others_out(log: Log) -> None:
    """As many as the server takes in beyond its limit, which ask for nothing: when there is room, it serves again."""
    with serving(Handler(), max_connections=2) as server, ExitStack() as stack:
        first = [stack.enter_context(EventClient(server)) for _ in range(2)]
        for client in first:
            client.read(1)
        for _ in range(16):
            stack.enter_context(Connection(server))
        until(lambda: service_of(server).excess >= 16)
        for client in first:
            client.drop()
        until(lambda: service_of(server).places.count < 2)
        assert not is_turned_away(server)
    log.records.clear()


# An EventSource in a browser

PAGE = """<!doctype html><title>x</title><script>
let opened = 0, failed = 0, events = [];
const source = new EventSource("/events");
source.onopen = () => opened++;
source.onerror = () => failed++;
source.onmessage = event => events.push(event.data);
</script>"""


@pytest.fixture(scope="module")
def browser(program: Callable[[str], str]) -> Iterator[Browser]:
    with Browser(program("chromium")) as browser:
        yield browser


def test_an_event_source_comes_back_when_there_is_room(
    browser: Browser, monkeypatch: pytest.MonkeyPatch, log: Log
) -> None:
    """By itself, after the time that it was told."""
    monkeypatch.setattr(answer, "_RETURN_TIME", (1, 1))
    handler = Handler()

    def page_or_events(req: Request) -> Any:
        return (
            Response(PAGE, 200, {"Content-Type": "text/html"}) if req.path == "/" else handler(req)
        )

    with serving(page_or_events, max_streams=1) as server, EventClient(server, "/one") as client:
        client.read(1)
        page = browser.open(server.url)
        # CONNECTING, but for the moments in which it tries
        assert page.wait_for("failed >= 2 && source.readyState === 0 && [events.length]") == [0]
        assert handler.ends.count("limit") >= 2
        client.drop()
        page.wait_for("events.length === 1 && source.readyState === 1")
        page.close()
        until(lambda: service_of(server).streams.count == 0)
    assert "max_streams allows" in log.take().getMessage()
