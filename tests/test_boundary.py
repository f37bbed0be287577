"""The boundary, request by request: what bunpy answers, how often, and what becomes of the connection.

The cases are in ``boundary_*.py``. Each is fed over memory, to both implementations, whole, byte by byte, before a
good request and behind one; and over real connections of each transport whole, in pieces, and with FIN behind it.
"""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, NamedTuple

import boundary_answers
import boundary_chunks
import boundary_connections
import boundary_framing
import boundary_lines
import boundary_targets
import pytest
from boundary_cases import GOOD, LAST, SAW_GOOD, SAW_LAST, Case, Saw, chunked, get, post
from certificates import Pair
from fakes import FakeTransport

import bunpy.http.protocol
import bunpy.http.service
import bunpy.sse.event
import bunpy.sse.stream
from bunpy.http.host import HostList
from bunpy.http.protocol import HTTPProtocol
from bunpy.http.service import Service
from bunpy.serve import Request
from bunpy.server.config import Config
from bunpy.testing import parse_answers, serving
from bunpy.testing.answer import Answer, AnswerParser

SOON: Final = 5.0  # seconds: what should come at once has surely come
BRIEF: Final = 0.1  # seconds: a timeout that is waited for

CASES = [
    *boundary_lines.CASES,
    *boundary_framing.CASES,
    *boundary_chunks.CASES,
    *boundary_targets.CASES,
    *boundary_connections.CASES,
    *boundary_answers.CASES,
]


def name_of(value: object) -> str | None:
    return value.name.replace(" ", "-") if isinstance(value, Case) else None


@cache
def hosts_of(site: str) -> list[str] | None:
    """What ``allowed_hosts`` is: the names of every good request in the table, or None on a loopback address."""
    if site == "loopback":
        return None
    hosts = {saw.host for case in CASES for saw in case.saw if saw.host and case.site == site}
    return sorted(
        {
            (host if host.endswith("]") else host.rpartition(":")[0] or host).lower()
            for host in hosts
        }
    )


#: Targets whose answers take more than one write.
STREAMS: Final = ("/stream", "/plain", "/events", "/stream204", "/stream205")


class Record:
    """A handler that answers as the table's does, and keeps what it saw."""

    def __init__(self) -> None:
        self.saw: list[Saw] = []

    def __call__(self, req: Request) -> Any:
        self.saw.append(Saw(req.method, req.url, req.body, req.headers.get("host")))
        return boundary_answers.handler(req)


def test_the_table_is_as_large_as_it_should_be() -> None:
    names = Counter(case.name for case in CASES)
    assert [name for name, count in names.items() if count > 1] == []
    raws = Counter((case.raw, case.site) for case in CASES)
    assert [raw[:100] for (raw, _), count in raws.items() if count > 1] == []
    assert len(CASES) >= 300


# One way of feeding a case, and what must come of it


class Way(NamedTuple):
    """Bytes in pieces, the requests in them that are seen, the answers that come, and whether that is the end."""

    name: str
    pieces: list[bytes]
    saw: tuple[Saw, ...]
    methods: list[str]
    statuses: list[int]
    closes: bool
    continues: int = 0


def by_byte(raw: bytes) -> list[bytes]:
    """Byte by byte; what is larger than any line may be is in segments between its beginning and its end."""
    if len(raw) <= 20_000:
        return [raw[i : i + 1] for i in range(len(raw))]
    middle = range(2000, len(raw) - 300, 1448 if len(raw) < 200_000 else 64 * 1024)
    segments = [raw[start:end] for start, end in pairwise([*middle, len(raw) - 300])]
    return [*by_byte(raw[:2000]), *segments, *by_byte(raw[-300:])]


def in_three(case: Case) -> list[bytes]:
    """Cut at two places, which are the case's own and the same in each run."""
    picks = random.Random(case.name)
    first, second = sorted(picks.randint(0, len(case.raw)) for _ in range(2))
    pieces = [case.raw[:first], case.raw[first:second], case.raw[second:]]
    return [piece for piece in pieces if piece]


def ways(case: Case) -> Iterator[Way]:
    methods, statuses, closes = case.methods, [*case.statuses], case.closes
    yield Way("whole", [case.raw], case.saw, methods, statuses, closes)
    yield Way(
        "byte by byte", by_byte(case.raw), case.saw, methods, statuses, closes, case.takes_100
    )
    if closes:
        yield Way("before a good one", [case.raw + GOOD], case.saw, methods, statuses, True)
    else:
        yield Way(
            "before a good one",
            [case.raw + GOOD],
            (*case.saw, SAW_GOOD),
            [*methods, "GET"],
            [*statuses, 200],
            False,
        )
    yield Way(
        "behind a good one",
        [GOOD + case.raw],
        (SAW_GOOD, *case.saw),
        ["GET", *methods],
        [200, *statuses],
        closes,
    )


def check(case: Case, way: Way, data: bytes, saw: Sequence[Saw], *, had_last: bool) -> None:
    """``data`` is all that came until the connection's end, ``had_last`` whether ``LAST`` asked for that."""
    assert tuple(saw) == (*way.saw, *[SAW_LAST] * had_last)
    answers = parse_answers(data, way.methods)
    final = [answer for answer in answers if answer.status >= 200]
    interim = [answer.status for answer in answers if answer.status < 200]
    assert [answer.status for answer in final] == [*way.statuses, *[200] * had_last]
    assert interim == [100] * way.continues
    assert [answer.closes for answer in final[:-1]] == [False] * (len(final) - 1)
    assert final[-1].closes is (way.closes or had_last)
    for answer in final:
        check_answer(answer)
    answer = final[len(way.statuses) - 1 - (way.name == "before a good one" and not case.closes)]
    check_case(case, answer)


def check_answer(answer: Answer) -> None:
    names = Counter(name.lower() for name, _ in answer.fields)
    assert names["date"] == 1
    assert max(names.values()) == 1, names
    assert answer.version == "1.1"
    options = answer.headers.get("connection", "").lower()
    assert options in ("close", "keep-alive", "")
    assert answer.closes == (options == "close")
    assert boundary_answers.SECRET.encode() not in answer.body


def check_case(case: Case, answer: Answer) -> None:
    for name, value in case.headers.items():
        if value == "":
            assert answer.headers.get(name), name
        else:
            assert answer.headers.get(name) == value, name
    if case.body is not None:
        assert answer.body == case.body
    if len(case.saw) < len(case.statuses):  # bunpy's own words
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        assert answer.body.endswith(b"\n") or case.methods[-1] == "HEAD"
        assert "content-length" in answer.headers


# Over memory


class Wire:
    """A connection over memory: what a transport does, as far as it matters here."""

    def __init__(self, service: Service) -> None:
        self.transport = FakeTransport(
            extra={"sslcontext": object(), "peername": ("192.0.2.1", 1234)}
        )
        self.protocol = HTTPProtocol(service)
        self.transport.protocol = self.protocol
        self.protocol.connection_made(self.transport)

    @property
    def has_ended(self) -> bool:
        """Whether the client would see the end of the connection."""
        return self.transport.is_closing() or self.transport.has_sent_eof

    async def feed(self, pieces: Sequence[bytes]) -> None:
        """Deliver pieces as a transport does: none while reading is paused, none once it is closing."""
        for piece in pieces:
            if len(piece) > 1 or len(pieces) < 3000:
                await self.until(self.transport.is_reading)
            if self.transport.is_closing():
                return
            self.protocol.data_received(piece)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Let the loop turn until the condition is met or the transport closes."""
        deadline = time.monotonic() + SOON
        await asyncio.sleep(0)
        while not (condition() or self.transport.is_closing()):
            assert time.monotonic() < deadline, f"it only sent {self.transport.sent[-500:]!r}"
            await asyncio.sleep(0)

    async def until_answered(self, methods: Sequence[str], count: int) -> None:
        """Wait for answers, and a few turns more for what must not come."""
        parser = AnswerParser(methods)
        taken = 0

        def is_answered() -> bool:
            nonlocal taken
            writes = self.transport.writes
            parser.feed(b"".join(writes[taken:]))
            taken = len(writes)
            return parser.finals >= count or self.has_ended

        await self.until(is_answered)
        for _ in range(3):
            await asyncio.sleep(0)

    def lose(self) -> None:
        self.protocol.connection_lost(None)


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@pytest.fixture
def implementation(speedups: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each implementation, wherever one is used."""
    monkeypatch.setattr(bunpy.http.protocol, "Outlet", speedups.Outlet)
    monkeypatch.setattr(bunpy.http.service, "EventBuffer", speedups.EventBuffer)
    monkeypatch.setattr(bunpy.http.service, "BytesBuffer", speedups.BytesBuffer)
    monkeypatch.setattr(bunpy.sse.stream, "Pump", speedups.Pump)
    monkeypatch.setattr(bunpy.sse.event, "encode", speedups.encode)


@pytest.mark.usefixtures("implementation")
@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_over_memory(case: Case, loop: asyncio.AbstractEventLoop) -> None:
    for way in ways(case):
        loop.run_until_complete(feed(case, way, loop))


async def feed(case: Case, way: Way, loop: asyncio.AbstractEventLoop) -> None:
    record = Record()
    hosts = HostList(hosts_of(case.site), ["127.0.0.1"])
    service = Service(record, Config(), loop, hosts)
    wire = Wire(service)
    try:
        await wire.feed(way.pieces)
        await wire.until_answered(way.methods, len(way.statuses))
        had_last = not wire.has_ended
        if had_last:
            await wire.feed([LAST])
            await wire.until(lambda: wire.has_ended)
        else:  # a refused client may go on for a while, unheard
            await wire.feed([GOOD, GOOD])
        assert had_last is not way.closes, way.name
        check(case, way, wire.transport.sent, record.saw, had_last=had_last)
        if not any(answer.url in STREAMS for answer in record.saw):
            answers = len(way.statuses) + way.continues + had_last
            assert len(wire.transport.writes) <= answers, "a head and its body leave in one write"
    except Exception as exc:
        raise AssertionError(f"{way.name}: {type(exc).__name__}: {exc}") from exc
    finally:
        wire.lose()
    await asyncio.sleep(0)
    assert service.connections == set()


# Over real connections


class Line:
    """A client's end of a connection, of any transport."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.socket.settimeout(SOON)
        self.received = b""
        self.has_ended = False

    def send(self, pieces: Sequence[bytes]) -> None:
        """Send piece by piece, as long as the server takes them."""
        try:
            for piece in pieces:
                self.socket.sendall(piece)
        except TimeoutError:
            raise
        except OSError:  # it has gone, and what it said before that can still be received
            return

    def receive(self) -> bytes:
        """What has come; b"" at the end. An RST is a failure: it may cost the client its answer."""
        data = self.socket.recv(256 * 1024)
        self.received += data
        self.has_ended = not data
        return data

    def receive_answers(self, methods: Sequence[str], count: int, closes: bool) -> None:
        """Receive so many answers, the last of which says what becomes of the connection."""
        parser = AnswerParser(methods)
        answers: list[Answer] = []
        while parser.finals < count and not self.has_ended:
            answers += parser.feed(self.receive())
        if parser.finals == count:  # not so with one that lasts until the close
            assert (answers[-1].status, answers[-1].closes) == (answers[-1].status, closes)

    def receive_to_end(self) -> None:
        while not self.has_ended:
            self.receive()

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


class Place(NamedTuple):
    """A server, how to connect to it, and what its handler saw."""

    connect: Callable[[], socket.socket]
    record: Record


def connect_plain(port: int) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port), SOON)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def connect_unix(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(SOON)
    sock.connect(path)
    return sock


def connect_tls(port: int, context: ssl.SSLContext) -> socket.socket:
    """An end without close_notify is a failure here: it may be an attacker's (RFC 8446 section 6.1)."""
    return context.wrap_socket(
        connect_plain(port), server_hostname="localhost", suppress_ragged_eofs=False
    )


#: Long and short timeouts: "hasty" is a server whose clients are late soon.
SITES: Final[dict[str, dict[str, Any]]] = {
    "listed": {"allowed_hosts": hosts_of("listed")},
    "loopback": {},
    "hasty": dict.fromkeys(("head_timeout", "body_timeout", "keep_alive_timeout"), BRIEF),
}
TRANSPORTS: Final = ("plain", "TLS") if sys.platform == "win32" else ("plain", "unix", "TLS")


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[tuple[str, str], Place]]:
    """One server for each transport and site."""
    folder = tmp_path_factory.mktemp("b")  # a socket's path is 100 characters at most
    with ExitStack() as stack:
        yield {
            (transport, site): place_of(
                transport, options, folder / f"{transport[0]}{site[:2]}", stack
            )
            for transport in TRANSPORTS
            for site, options in SITES.items()
        }


def place_of(transport: str, options: dict[str, Any], folder: Path, stack: ExitStack) -> Place:
    record = Record()
    folder.mkdir()
    if transport == "unix":
        path = str(folder / "s")
        stack.enter_context(serving(record, hostname=f"unix:{path}", **options))
        return Place(partial(connect_unix, path), record)
    if transport == "TLS":
        pair = Pair.made_in(folder)
        server = stack.enter_context(serving(record, tls=pair.option, **options))
        return Place(partial(connect_tls, server.port, pair.client()), record)
    server = stack.enter_context(serving(record, **options))
    return Place(partial(connect_plain, server.port), record)


def talk(case: Case, way: Way, place: Place, *, has_fin: bool = False) -> None:
    """Send a case on a connection of its own, and look at all that comes until its end."""
    place.record.saw.clear()
    had_last = not (way.closes or has_fin)
    with Line(place.connect()) as line:
        line.send(way.pieces)
        if has_fin:
            line.socket.shutdown(socket.SHUT_WR)
        else:
            line.receive_answers(way.methods, len(way.statuses), way.closes)
        if had_last:
            line.send([LAST])
        line.receive_to_end()
    if len(way.pieces) > 1:  # a 100 depends on whether the body comes with the head
        continues = min(case.takes_100, line.received.count(b" 100 Continue\r\n"))
        way = way._replace(continues=continues)
    check(case, way, line.received, place.record.saw, had_last=had_last)


@pytest.mark.parametrize(
    ("transport", "case"),
    [
        pytest.param(transport, case, id=f"{transport}-{name_of(case)}")
        for transport in TRANSPORTS
        for case in CASES
        if (transport, case.site) != ("unix", "loopback")  # it is on no loopback address
    ],
)
def test_over_a_connection(
    transport: str, case: Case, places: dict[tuple[str, str], Place]
) -> None:
    place = places[transport, case.site]
    whole = Way("whole", [case.raw], case.saw, case.methods, [*case.statuses], case.closes)
    talk(case, whole, place)
    talk(case, whole._replace(name="in three pieces", pieces=in_three(case)), place)
    if transport != "TLS":  # asyncio's TLS closes when its peer does
        talk(case, whole._replace(name="with FIN behind it"), place, has_fin=True)


# What is late


LATE = {
    "nothing": (b"", ()),
    "a letter": (b"G", (408,)),
    "an empty line": (b"\r\n", (408,)),
    "a head": (get()[:-2], (408,)),
    "a head behind a request": (GOOD + get()[:-1], (200, 408)),
    "a HEAD's head": (get(method="HEAD")[:-2], (408,)),
    "a body": (post("Content-Length: 6"), (408,)),
    "a body that has not begun": (post("Content-Length: 6", body=b""), (408,)),
    "a chunk's size": (chunked(b"5"), (408,)),
    "a chunk's extension": (chunked(b"5;a="), (408,)),
    "a chunk": (chunked(b"5\r\nhell"), (408,)),
    "the last chunk": (chunked(b"5\r\nhello\r\n"), (408,)),
    "a trailer": (chunked(b"5\r\nhello\r\n0\r\nX: y"), (408,)),
    "the end of the trailers": (chunked(b"5\r\nhello\r\n0\r\nX: y\r\n"), (408,)),
    "the next request": (GOOD, (200,)),
    "the next request, behind an empty line": (GOOD + b"\r\n", (200, 408)),
}


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("name", LATE)
def test_what_is_late(name: str, transport: str, places: dict[tuple[str, str], Place]) -> None:
    """408 for what has begun, no more than a close for what has not; no handler runs for it."""
    raw, statuses = LATE[name]
    place = places[transport, "hasty"]
    for _ in range(
        5
    ):  # what has not begun in that time either, on a busy machine, is closed without a word
        place.record.saw.clear()
        with Line(place.connect()) as line:
            line.send([raw] if raw else [])
            line.receive_to_end()
        if line.received or not statuses:
            break
    methods = ["HEAD"] if raw.startswith(b"HEAD") else ["GET"]
    answers = parse_answers(line.received, methods)
    assert tuple(answer.status for answer in answers) == statuses
    assert [answer.closes for answer in answers] == [status == 408 for status in statuses]
    for answer in answers:
        check_answer(answer)
    assert place.record.saw == [SAW_GOOD] * (200 in statuses)


# What comes behind an answer


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(
    "raw", [get("X: \x00"), post(f"Content-Length: {2**40}")], ids=["malformed", "too large"]
)
def test_a_refusal_arrives_although_its_client_goes_on_sending(
    raw: bytes, transport: str, places: dict[tuple[str, str], Place]
) -> None:
    """The server takes up to 1 MiB more, so that no RST costs the client its answer; nothing in it is a request."""
    place = places[transport, "listed"]
    place.record.saw.clear()
    with Line(place.connect()) as line:
        line.send([raw])
        for _ in range(20):
            line.send([GOOD * (40_000 // len(GOOD))])
        line.receive_to_end()
    (answer,) = parse_answers(line.received)
    assert answer.status in (400, 413)
    assert answer.closes
    assert place.record.saw == []
