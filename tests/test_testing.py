"""The clients of bunpy.testing against scripted servers: a thread, a socket, and exact bytes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import struct
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from certificates import Pair
from ports import reserved
from watching import until

from bunpy import testing
from bunpy.errors import BunpyError, ConfigError
from bunpy.serve import Request, Server, SSEResponse
from bunpy.testing import (
    Answer,
    Connection,
    DecodedEvent,
    EventClient,
    Exchange,
    IncompleteAnswer,
    InvalidAnswer,
    StreamEnded,
    exchange,
    parse_answers,
    request,
    serving,
)
from bunpy.testing.address import Address
from bunpy.testing.answer import AnswerParser
from bunpy.testing.connection import cut
from bunpy.testing.deadline import Deadline
from bunpy.testing.head import request_bytes

Turn = Callable[[socket.socket], object]
SECOND = 1.0

STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
CHUNKED = STREAM_HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
UNTIL_CLOSE = STREAM_HEAD + b"\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def read_head(conn: socket.socket) -> bytes:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = conn.recv(1)
        assert byte, f"the client left in the middle of its head: {head!r}"
        head += byte
    return head


def wait_for_fin(conn: socket.socket) -> None:
    while conn.recv(65536):
        pass


def reset(conn: socket.socket) -> None:
    conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    conn.close()


def answering(*pieces: bytes) -> Turn:
    """A turn that reads a head, then sends the pieces, one ``send`` each, and closes."""

    def turn(conn: socket.socket) -> None:
        read_head(conn)
        for piece in pieces:
            conn.sendall(piece)

    return turn


def holding(*pieces: bytes) -> Turn:
    """The same, but it closes only when the client has."""

    def turn(conn: socket.socket) -> None:
        answering(*pieces)(conn)
        wait_for_fin(conn)

    return turn


@contextmanager
def scripted(*turns: Turn, listener: socket.socket | None = None) -> Iterator[str]:
    """A server that serves one connection a turn, in order; its URL. A turn's failure is raised."""
    listener = listener or socket.create_server(("127.0.0.1", 0))
    listener.settimeout(10)

    def serve() -> None:
        for turn in turns:
            conn, _ = listener.accept()
            with conn:
                conn.settimeout(10)
                turn(conn)

    with listener, ThreadPoolExecutor(1) as executor:
        served = executor.submit(serve)
        name = listener.getsockname()
        yield f"unix:{name}" if isinstance(name, str) else f"http://127.0.0.1:{name[1]}"
        served.result(timeout=10)


class Recorder:
    """A turn that keeps the head it read and answers with ``data``."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.head = b""

    def __call__(self, conn: socket.socket) -> None:
        self.head = read_head(conn)
        conn.sendall(self.data)

    @property
    def fields(self) -> dict[str, str]:
        lines = self.head.decode().split("\r\n")[1:-2]
        return {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}


def event(data: str, id: str = "", event: str = "message") -> DecodedEvent:  # noqa: A002
    return DecodedEvent(event, data, id)


# --- addresses ---------------------------------------------------------------------------------


class Somewhere:
    """A server object as far as the clients look at one."""

    def __init__(self, hostname: str, port: int = 0) -> None:
        self.hostname = hostname
        self.port = port


@pytest.mark.parametrize(
    ("server", "address", "authority", "text"),
    [
        ("http://a.test", Address("a.test", 80, "/"), "a.test:80", "http://a.test:80"),
        (
            "http://a.test:81/b?c=d",
            Address("a.test", 81, "/b?c=d"),
            "a.test:81",
            "http://a.test:81",
        ),
        ("http://[::1]:81", Address("::1", 81, "/"), "[::1]:81", "http://[::1]:81"),
        ("http://0.0.0.0:81", Address("127.0.0.1", 81, "/"), "127.0.0.1:81", "http://127.0.0.1:81"),
        (
            "https://a.test/b",
            Address("a.test", 443, "/b", is_secure=True),
            "a.test:443",
            "https://a.test:443",
        ),
        ("unix:/a/b", Address("/a/b", None), "localhost", "unix:/a/b"),
        (Somewhere("unix:/a/b"), Address("/a/b", None), "localhost", "unix:/a/b"),
        ("unix:@a", Address("@a", None), "localhost", "unix:@a"),
        (Somewhere("unix:@a"), Address("@a", None), "localhost", "unix:@a"),
        (Somewhere("a.test", 81), Address("a.test", 81), "a.test:81", "http://a.test:81"),
        (Somewhere("0.0.0.0", 81), Address("127.0.0.1", 81), "127.0.0.1:81", "http://127.0.0.1:81"),
        (Somewhere("::", 81), Address("::1", 81), "[::1]:81", "http://[::1]:81"),
    ],
)
def test_where_a_server_is(
    server: Somewhere | str, address: Address, authority: str, text: str
) -> None:
    assert Address.of(server) == address
    assert Address.of(server).authority == authority
    assert str(Address.of(server)) == text


@pytest.mark.parametrize("url", ["ftp://a.test", "https://", "a.test:80", "http://", "/a/b", ""])
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(
        ValueError, match=r"must be 'http://host.*', 'https://.*' or 'unix:/path', not"
    ):
        Address.of(url)


def test_a_refused_connection_names_the_address() -> None:
    with reserved() as port:
        url = f"http://127.0.0.1:{port}"
        with pytest.raises(ConnectionRefusedError, match=f"no connection to {url}"):
            request(url)
    with pytest.raises(FileNotFoundError, match="no connection to unix:/no/such/socket"):
        request("unix:/no/such/socket")


def test_connecting_has_a_deadline() -> None:
    # A listener with a full queue leaves further connections without an answer.
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        place = listener.getsockname()
        waiting = []
        try:
            for _ in range(4):
                sock = socket.socket()
                sock.setblocking(False)
                sock.connect_ex(place)
                waiting.append(sock)
            with pytest.raises(TimeoutError, match=r"no connection to http://.* within 0\.2 s"):
                Connection(f"http://127.0.0.1:{place[1]}", timeout=0.2)
        finally:
            for sock in waiting:
                sock.close()


def test_a_name_is_tried_at_each_of_its_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    with scripted(answering(b"HTTP/1.1 204 No Content\r\n\r\n")) as url, reserved() as port:
        ports = [port, int(url.rpartition(":")[2])]
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)) for port in ports]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        assert request("http://a.test").status == 204


def test_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "s"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(os.fspath(path))
    listener.listen()
    recorder = Recorder(b"HTTP/1.1 204 No Content\r\n\r\n")
    with scripted(recorder, answering(CHUNKED, b"0\r\n\r\n"), listener=listener) as url:
        assert request(url, path="/a").status == 204
        assert recorder.head.startswith(b"GET /a HTTP/1.1\r\nHost: localhost\r\n")
        with EventClient(Somewhere(url)) as client:
            assert client.read_all() == []


def test_an_abstract_unix_socket() -> None:
    name = f"bunpy-test-{os.urandom(8).hex()}"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"\0{name}")
    listener.listen()
    with scripted(answering(b"HTTP/1.1 204 No Content\r\n\r\n"), listener=listener):
        assert request(f"unix:@{name}").status == 204
    with pytest.raises(ConnectionRefusedError, match=f"no connection to unix:@{name}"):
        request(f"unix:@{name}")


@pytest.mark.parametrize(("unread", "error"), [(b"", None), (b"x", ConnectionResetError)])
def test_leaving_over_a_unix_socket(
    tmp_path: Path, unread: bytes, error: type[OSError] | None
) -> None:
    """Without SO_LINGER there: a client that leaves bytes unread is what the server sees as an RST."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(os.fspath(tmp_path / "s"))
    listener.listen()
    has_gone = threading.Event()
    seen: list[bytes | type[OSError]] = []

    def turn(conn: socket.socket) -> None:
        if unread:
            conn.sendall(unread)
        assert has_gone.wait(10)
        try:
            seen.append(conn.recv(1))
        except OSError as exc:
            seen.append(type(exc))

    with scripted(turn, listener=listener) as url:
        connection = Connection(url)
        if unread:
            connection.socket.recv(1, socket.MSG_PEEK)
        connection.drop(reset=True)
        has_gone.set()
    assert seen == [error or b""]


# --- deadlines and pieces ----------------------------------------------------------------------


def test_a_deadline() -> None:
    assert 0 < Deadline(60.0).remaining() <= 60.0
    with pytest.raises(TimeoutError, match="not done within 0 s"):
        Deadline(0).remaining()
    for seconds in (-1.0, float("nan")):
        with pytest.raises(ValueError, match="a timeout is a number of seconds, 0 or more, not"):
            Deadline(seconds)


def test_pieces() -> None:
    assert cut(b"abcd") == [b"abcd"]
    assert cut(b"abcd", "bytes") == [b"a", b"b", b"c", b"d"]
    assert cut(b"abcd", [1, 3]) == [b"a", b"bc", b"d"]
    assert cut(b"abcd", []) == [b"abcd"]
    with pytest.raises(ValueError, match=r"must rise from 0 to 4, not \[3, 1\]"):
        cut(b"abcd", [3, 1])
    with pytest.raises(ValueError, match=r"must rise from 0 to 4, not \[5\]"):
        cut(b"abcd", [5])
    with pytest.raises(ValueError, match="not 'halves'"):
        cut(b"abcd", "halves")  # type: ignore[arg-type]


# --- heads, bodies and answers, without a socket ------------------------------------------------


def test_a_request() -> None:
    assert request_bytes("GET", "/", "a:1") == b"GET / HTTP/1.1\r\nHost: a:1\r\n\r\n"
    assert request_bytes("POST", "/b", "a:1", {"host": "c", "X": "é"}, b"{}") == (
        "POST /b HTTP/1.1\r\nhost: c\r\nContent-Length: 2\r\nX: é\r\n\r\n{}".encode()
    )
    assert b"content-length: 7\r\n" in request_bytes("POST", "/", "a", {"content-length": "7"}, b"")


@pytest.mark.parametrize("bad", ["a\rb", "a\nb", "a\0b"])
def test_a_request_is_not_broken_by_accident(bad: str) -> None:
    for method, target, headers in [(bad, "/", {}), ("GET", bad, {}), ("GET", "/", {"X": bad})]:
        with pytest.raises(ValueError, match=r"CR, LF or NUL in .*: send such bytes with exchange"):
            request_bytes(method, target, "a", headers)


OK = b"HTTP/1.1 200 OK\r\n"


def answer(
    status: int = 200,
    reason: str = "OK",
    fields: Sequence[tuple[str, str]] = (),
    body: bytes = b"",
    *,
    closes: bool = False,
    version: str = "1.1",
) -> Answer:
    headers: dict[str, str] = {}
    for name, value in fields:
        key = name.lower()
        headers[key] = f"{headers[key]}, {value}" if key in headers else value
    return Answer(status, reason, headers, body, closes, version, tuple(fields))


LENGTH_3 = ("Content-Length", "3")
TE = ("Transfer-Encoding", "chunked")

# The bytes of a connection, the methods of its requests, and the answers in it.
CONNECTIONS: dict[str, tuple[bytes, list[str], list[Answer]]] = {
    "nothing": (b"", [], []),
    "counted": (OK + b"Content-Length: 3\r\n\r\nabc", [], [answer(fields=[LENGTH_3], body=b"abc")]),
    "empty": (OK + b"Content-Length: 0\r\n\r\n", [], [answer(fields=[("Content-Length", "0")])]),
    "chunked": (
        OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n01;x=y\r\nc\r\n0\r\n\r\n",
        [],
        [answer(fields=[TE], body=b"abc")],
    ),
    "a trailer": (
        OK + b"Transfer-Encoding: chunked\r\n\r\nA\r\n0123456789\r\n0\r\nX: y\r\n\r\n",
        [],
        [answer(fields=[TE], body=b"0123456789")],
    ),
    "until the close": (OK + b"\r\nabc", [], [answer(body=b"abc", closes=True)]),
    "1.0": (
        b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc",
        [],
        [answer(fields=[LENGTH_3], body=b"abc", closes=True, version="1.0")],
    ),
    "1.0 that stays": (
        b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\nConnection: Keep-Alive\r\n\r\nabc",
        [],
        [answer(fields=[LENGTH_3, ("Connection", "Keep-Alive")], body=b"abc", version="1.0")],
    ),
    "1.1 that closes": (
        OK + b"connection: x , CLOSE\r\nContent-Length: 3\r\n\r\nabc",
        [],
        [answer(fields=[("connection", "x , CLOSE"), LENGTH_3], body=b"abc", closes=True)],
    ),
    "HEAD": (OK + b"Content-Length: 3\r\n\r\n", ["HEAD"], [answer(fields=[LENGTH_3])]),
    "HEAD, chunked": (OK + b"Transfer-Encoding: chunked\r\n\r\n", ["HEAD"], [answer(fields=[TE])]),
    "HEAD without framing": (OK + b"\r\n", ["HEAD"], [answer()]),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", [], [answer(204, "No Content")]),
    "304": (
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\n",
        [],
        [answer(304, "Not Modified", [LENGTH_3])],
    ),
    "no reason": (b"HTTP/1.1 204 \r\n\r\n", [], [answer(204, "")]),
    "repeated fields": (
        b"HTTP/1.1 204 \r\nA: b\r\na:c \t\r\nB:\r\n\r\n",
        [],
        [answer(204, "", [("A", "b"), ("a", "c"), ("B", "")])],
    ),
    "high bytes": (b"HTTP/1.1 204 \xe9\r\nA: \xe9\r\n\r\n", [], [answer(204, "é", [("A", "é")])]),
    "several": (
        b"HTTP/1.1 100 Continue\r\n\r\n"
        + (OK + b"Content-Length: 3\r\n\r\nabc")
        + (OK + b"Content-Length: 3\r\n\r\n")
        + (OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
        + b"HTTP/1.1 400 Bad Request\r\n\r\nno",
        ["POST", "HEAD"],
        [
            answer(100, "Continue"),
            answer(fields=[LENGTH_3], body=b"abc"),
            answer(fields=[LENGTH_3]),
            answer(fields=[TE]),
            answer(400, "Bad Request", body=b"no", closes=True),
        ],
    ),
}


@pytest.mark.parametrize(("data", "methods", "answers"), CONNECTIONS.values(), ids=CONNECTIONS)
def test_answers(data: bytes, methods: list[str], answers: list[Answer]) -> None:
    assert parse_answers(data, methods) == answers
    for at in range(len(data)):
        parser = AnswerParser(methods)
        assert [*parser.feed(data[:at]), *parser.feed(data[at:]), *parser.close()] == answers
    parser = AnswerParser(methods)
    found = [one for piece in cut(data, "bytes") for one in parser.feed(piece)]
    assert [*found, *parser.close()] == answers


CHUNKS = OK + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"HTTP/1.1 200\r\n\r\n", "not an HTTP/1.1 status line: b'HTTP/1.1 200'"),
        (b"HTTP/2.0 200 OK\r\n\r\n", "status line"),
        (b"HTTP/1.1 099 OK\r\n\r\n", "status line"),
        (b"HTTP/1.1 200 a\x01b\r\n\r\n", "status line"),
        (b"http/1.1 200 OK\r\n\r\n", "status line"),
        (b"<p>hello</p>\r\n\r\n", "status line: b'<p>hello</p>'"),
        (OK + b"A : b\r\n\r\n", "not a field line: b'A : b'"),
        (OK + b"A\r\n\r\n", "not a field line"),
        (OK + b": b\r\n\r\n", "not a field line"),
        (OK + b"A: b\r\n c\r\n\r\n", "not a field line: b' c'"),
        (OK + b"A: b\nC: d\r\n\r\n", "not a field line"),
        (OK + b"A: b\0\r\n\r\n", "not a field line"),
        (OK + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\n", "not one Content-Length"),
        (OK + b"Content-Length: +1\r\n\r\n", "not one Content-Length in decimal: '\\+1'"),
        (OK + b"Content-Length:\r\n\r\n", "not one Content-Length"),
        (CHUNKS[:-2] + b"Content-Length: 1\r\n\r\n", "framing it must not have"),
        (CHUNKS.replace(b"1.1", b"1.0"), "HTTP/1.0 with framing it must not have"),
        (CHUNKS.replace(b"chunked", b"gzip, chunked"), "framing it must not have"),
        (CHUNKS[:-2] + b"Transfer-Encoding: chunked\r\n\r\n", "framing it must not have"),
        (b"HTTP/1.1 204 \r\nContent-Length: 0\r\n\r\n", "204 with a body's framing"),
        (b"HTTP/1.1 100 \r\nTransfer-Encoding: chunked\r\n\r\n", "100 with a body's framing"),
        (CHUNKS + b"x\r\n", "not a chunk size: b'x'"),
        (CHUNKS + b"\r\n", "not a chunk size: b''"),
        (CHUNKS + b"-1\r\n", "not a chunk size"),
        (CHUNKS + b"0x1\r\n", "not a chunk size"),
        (CHUNKS + b"1\na\r\n", "not a chunk size"),
        (CHUNKS + b"1\r\nab\r\n", "no CRLF after a chunk, but b'b"),
        (CHUNKS + b"0\r\nX\r\n\r\n", "not a trailer field: b'X'"),
        (CHUNKS + b"1" * 20_000, "no CRLF in 16384 bytes"),
        (CHUNKS + b"1;" + b"x" * 20_000 + b"\r\n", "no CRLF in 16384 bytes"),
        (OK + b"Content-Length: 3\r\n\r\nabcd\r\n\r\n", "status line: b'd'"),
    ],
)
def test_what_is_not_an_answer(data: bytes, message: str) -> None:
    with pytest.raises(InvalidAnswer, match=message):
        parse_answers(data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"HTTP/1.1 200 OK\r\n", "ended in the head of an answer: b'HTTP/1.1 200 OK"),
        (OK + b"Content-Length: 3\r\n\r\nab", "1 bytes of its Content-Length are missing"),
        (CHUNKS, "the last chunk is missing"),
        (CHUNKS + b"3\r\nab", "1 bytes of a chunk, and the last chunk, are missing"),
        (CHUNKS + b"3\r\nabc", "the last chunk is missing"),
        (CHUNKS + b"3\r\nabc\r\n0\r\n", "the last chunk is missing"),
        (CHUNKS + b"0\r\n\r\nabcd", "ended in the head of an answer: b'abcd'"),
    ],
)
def test_an_answer_that_is_cut(data: bytes, message: str) -> None:
    with pytest.raises(IncompleteAnswer, match=message):
        parse_answers(data)


def test_the_body_of_an_answer() -> None:
    assert answer(body="é".encode()).text() == "é"
    assert answer(body=b'{"a": [1]}').json() == {"a": [1]}
    with pytest.raises(UnicodeDecodeError):
        answer(body=b"\xff").text()
    with pytest.raises(ValueError):
        answer(body=b"{").json()


def test_the_errors_are_caught_as_what_they_are() -> None:
    assert issubclass(StreamEnded, ConnectionError)
    assert issubclass(IncompleteAnswer, ConnectionError)
    assert issubclass(InvalidAnswer, ValueError)
    assert all(issubclass(error, BunpyError) for error in (StreamEnded, IncompleteAnswer))


# --- request -----------------------------------------------------------------------------------


def test_a_plain_request() -> None:
    seen = b""

    def turn(conn: socket.socket) -> None:
        nonlocal seen
        seen = read_head(conn) + conn.recv(2)
        conn.sendall(OK + b"Content-Length: 3\r\n\r\nabc")

    with scripted(turn) as url:
        got = request(url, "POST", "/a?b", {"X-Y": "z"}, b"{}")
    assert got == answer(fields=[LENGTH_3], body=b"abc")
    host = url.removeprefix("http://").encode()
    assert seen == (
        b"POST /a?b HTTP/1.1\r\nHost: %b\r\nContent-Length: 2\r\nX-Y: z\r\n\r\n{}" % host
    )


def test_the_path_is_by_default_that_of_the_url() -> None:
    recorders = [Recorder(b"HTTP/1.1 204 \r\n\r\n") for _ in range(3)]
    with scripted(*recorders) as url:
        request(url)
        request(f"{url}/a?b=c")
        request(f"{url}/a?b=c", path="/d")
    targets = [recorder.head.split()[1] for recorder in recorders]
    assert targets == [b"/", b"/a?b=c", b"/d"]


@pytest.mark.parametrize("pieces", ["whole", "bytes"])
def test_a_request_passes_over_interim_answers(pieces: str) -> None:
    data = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 \r\nA: b\r\n\r\n" + CHUNKED
    data += chunk(b"abc") + b"0\r\n\r\n"
    with scripted(answering(*cut(data, pieces))) as url:  # type: ignore[arg-type]
        assert request(url).body == b"abc"


def test_a_request_until_the_close() -> None:
    with scripted(answering(OK + b"\r\n", b"a", b"b")) as url:
        assert request(url) == answer(body=b"ab", closes=True)


def test_an_answer_to_head() -> None:
    with scripted(answering(OK + b"Content-Length: 3\r\n\r\n")) as url:
        assert request(url, "HEAD").body == b""


def test_bytes_after_the_answer_are_seen() -> None:
    more = OK + b"Content-Length: 0\r\n\r\n"
    turns = [answering(more + more)] * 2
    with scripted(*turns, answering(CHUNKED + b"0\r\n\r\nx")) as url:
        for method in ("GET", "HEAD"):
            with pytest.raises(InvalidAnswer, match="38 bytes after the end of the answer"):
                request(url, method)
        with pytest.raises(InvalidAnswer, match=r"1 bytes after the end of the answer: .*b'x'"):
            request(url)


def test_an_answer_that_never_begins() -> None:
    with scripted(answering(), answering(b"HTTP/1.1 2")) as url:
        with pytest.raises(IncompleteAnswer, match=r"was closed before .* came, after nothing"):
            request(url)
        with pytest.raises(IncompleteAnswer, match=r"after 10 bytes: b'HTTP/1\.1 2'"):
            request(url)


def test_an_answer_that_stops() -> None:
    with (
        scripted(answering(CHUNKED, b"3\r\na")) as url,
        pytest.raises(IncompleteAnswer, match=r"was closed before .* body ended: 2 bytes of a"),
    ):
        request(url)


def test_a_reset_is_never_a_clean_end() -> None:
    gate = threading.Event()

    def turn(conn: socket.socket) -> None:
        read_head(conn)
        conn.sendall(UNTIL_CLOSE)
        gate.wait(10)
        reset(conn)

    with scripted(turn) as url, EventClient(url) as client:
        gate.set()
        with pytest.raises(IncompleteAnswer, match="was reset before the answer's body ended"):
            client.read_all()
        assert client.ended_cleanly is False
        assert client.connection.end == "reset"


def test_the_answer_to_a_request_that_was_refused_unread() -> None:
    # The server closes its reading side: the client's bytes end in an RST, its answer arrives.
    def turn(conn: socket.socket) -> None:
        conn.recv(1)
        conn.sendall(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n")
        conn.shutdown(socket.SHUT_WR)
        wait_for_fin(conn)

    with scripted(turn) as url:
        assert request(url, "POST", body=bytes(20_000_000)).status == 413


def test_a_long_request_and_a_long_answer_at_once() -> None:
    # Neither side reads before it has sent all: the client takes the answer in while sending.
    size = 20_000_000

    def turn(conn: socket.socket) -> None:
        read_head(conn)
        conn.sendall(OK + b"Content-Length: %d\r\n\r\n" % size + bytes(size))
        left = size
        while left:
            left -= len(conn.recv(min(left, 1 << 20)))

    with scripted(turn) as url:
        assert len(request(url, "POST", body=bytes(size), timeout=20).body) == size


def test_the_deadline_is_a_total_one() -> None:
    stop = threading.Event()

    def turn(conn: socket.socket) -> None:
        read_head(conn)
        conn.sendall(OK + b"Content-Length: 1000000\r\n\r\n")
        with contextlib.suppress(ConnectionError):  # the client goes when its time is over
            while not stop.wait(0.02):
                conn.sendall(b"a")

    with scripted(turn) as url:
        start = time.monotonic()
        with pytest.raises(TimeoutError):
            request(url, timeout=0.3)
        assert 0.3 <= time.monotonic() - start < 5
        stop.set()


# --- the event client --------------------------------------------------------------------------

ONE, TWO, THREE = (b"id: %d\ndata: %d\n\n" % (i, i) for i in (1, 2, 3))
EVENTS = [event("1", "1"), event("2", "2"), event("3", "3")]


def test_the_request_of_an_event_client() -> None:
    recorders = [Recorder(CHUNKED + b"0\r\n\r\n") for _ in range(3)]
    with scripted(*recorders) as url:
        EventClient(url, "/a").drop()
        EventClient(url, headers={"accept": "*/*", "X": "y"}, last_event_id="é").drop()
        EventClient(url, method="POST", headers={"LAST-EVENT-ID": "5"}, body=b"").drop()
    host = url.removeprefix("http://")
    assert recorders[0].head.startswith(b"GET /a HTTP/1.1\r\n")
    assert recorders[0].fields == {"host": host, "accept": "text/event-stream"}
    assert recorders[1].fields == {"host": host, "accept": "*/*", "x": "y", "last-event-id": "é"}
    assert recorders[2].head.startswith(b"POST / HTTP/1.1\r\n")
    assert recorders[2].fields["content-length"] == "0"
    assert recorders[2].fields["last-event-id"] == "5"


def test_the_head_of_the_answer() -> None:
    with (
        scripted(answering(CHUNKED[:-2] + b"A: b\r\na: c\r\n\r\n")) as url,
        EventClient(url) as client,
    ):
        assert (client.status, client.reason) == (200, "OK")
        assert client.headers["content-type"] == "text/event-stream"
        assert client.headers["a"] == "b, c"
        assert client.last_event_id == ""
        assert client.retry is None
        assert client.comments == 0
        assert client.ended_cleanly is None
        assert client.socket.getpeername()[1] == int(url.rpartition(":")[2])


@pytest.mark.parametrize("pieces", ["whole", "bytes"])
def test_events_and_a_clean_end(pieces: str) -> None:
    data = (
        CHUNKED
        + chunk(b":\n\nretry: 9\n\n" + ONE + TWO[:4])
        + chunk(TWO[4:] + THREE)
        + b"0\r\n\r\n"
    )
    with scripted(answering(*cut(data, pieces))) as url, EventClient(url) as client:  # type: ignore[arg-type]
        assert client.read() == EVENTS[:1]
        assert client.ended_cleanly is None or client.ended_cleanly
        assert client.read(0) == []
        assert client.read_all() == EVENTS[1:]
        assert client.ended_cleanly is True
        assert (client.retry, client.comments, client.last_event_id) == (9, 1, "3")
        assert client.read_all() == []


@pytest.mark.parametrize(
    "head",
    [UNTIL_CLOSE, UNTIL_CLOSE.replace(b"1.1", b"1.0"), STREAM_HEAD + b"Content-Length: 40\r\n\r\n"],
)
def test_events_with_other_framing(head: bytes) -> None:
    stream = (ONE + TWO).ljust(40, b"\n")
    with scripted(answering(head, stream)) as url, EventClient(url) as client:
        assert client.read_all() == EVENTS[:2]
        assert client.ended_cleanly is True


def test_events_are_read_as_they_come() -> None:
    gate = threading.Event()

    def turn(conn: socket.socket) -> None:
        read_head(conn)
        conn.sendall(CHUNKED + chunk(ONE))
        assert gate.wait(10)
        conn.sendall(chunk(TWO) + b"0\r\n\r\n")

    with scripted(turn) as url, EventClient(url) as client:
        assert client.read() == EVENTS[:1]
        assert client.ended_cleanly is None
        gate.set()
        assert client.read() == EVENTS[1:2]


def test_too_few_events_in_time() -> None:
    with scripted(holding(CHUNKED + chunk(ONE + TWO))) as url, EventClient(url) as client:
        with pytest.raises(TimeoutError, match=r"^2 of 3 events came from the 200 answer \(text/"):
            client.read(3, timeout=0.1)
        with pytest.raises(TimeoutError, match=r"^2 events and no end came .* within 0\.1 s$"):
            client.read_all(timeout=0.1)
        with pytest.raises(TimeoutError, match=r"^2 events and the condition is not met came"):
            client.wait_until(lambda: client.comments > 0, timeout=0.1)
        assert client.last_event_id == ""
        assert client.read(2) == EVENTS[:2]  # those that came are not lost


def test_the_timeout_of_the_client_is_that_of_each_call() -> None:
    with scripted(holding(CHUNKED)) as url, EventClient(url) as client:
        client.connection.timeout = 0.1  # as if given then, but for the head
        with pytest.raises(TimeoutError, match=r"within 0\.1 s$"):
            client.read()
        with pytest.raises(TimeoutError):
            client.body()


def test_heads_that_do_not_come_in_time() -> None:
    late = r"not received within 2 s, but 17 bytes: b'HTTP"
    with scripted(holding(b"HTTP/1.1 200 OK\r\n")) as url, pytest.raises(TimeoutError, match=late):
        EventClient(url, timeout=2.0)


def test_a_stream_that_ends_early_but_cleanly() -> None:
    with scripted(answering(CHUNKED, chunk(ONE), b"0\r\n\r\n")) as url, EventClient(url) as client:
        with pytest.raises(StreamEnded, match=r"^1 of 2 events .*, then the stream ended cleanly$"):
            client.read(2)
        assert client.ended_cleanly is True
        assert client.read() == EVENTS[:1]


@pytest.mark.parametrize(
    ("stream", "missing"),
    [
        (chunk(ONE), "the last chunk is missing"),
        (chunk(ONE) + b"5\r\nda", "3 bytes of a chunk, and the last chunk, are missing"),
    ],
)
def test_a_stream_that_is_cut(stream: bytes, missing: str) -> None:
    with scripted(answering(CHUNKED, stream)) as url, EventClient(url) as client:
        with pytest.raises(
            StreamEnded, match=f"connection was closed in the middle of it: {missing}$"
        ):
            client.read(2)
        assert client.ended_cleanly is False
        with pytest.raises(IncompleteAnswer, match=missing):
            client.read_all()
        with pytest.raises(IncompleteAnswer, match=missing):
            client.body()
        assert client.read() == EVENTS[:1]


def test_an_answer_that_is_no_stream() -> None:
    no = b"HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\n\r\nabc"
    with scripted(answering(no), answering(no)) as url:
        with EventClient(url) as client:
            assert (client.status, client.reason) == (404, "Not Found")
            assert client.body() == b"abc"
            assert client.body() == b""
        with (
            EventClient(url) as client,
            pytest.raises(StreamEnded, match=r"0 of 1 events came from the 404 answer \(no con"),
        ):
            client.read()


def test_the_body_after_some_events() -> None:
    gate = threading.Event()

    def turn(conn: socket.socket) -> None:
        read_head(conn)
        conn.sendall(CHUNKED + chunk(ONE))
        assert gate.wait(10)
        conn.sendall(chunk(TWO) + b"0\r\n\r\n")

    with scripted(turn) as url, EventClient(url) as client:
        assert client.read() == EVENTS[:1]
        gate.set()
        assert client.body() == TWO


def test_a_broken_chunk_is_not_waited_for() -> None:
    with scripted(holding(CHUNKED, b"x\r\n")) as url, EventClient(url) as client:
        with pytest.raises(InvalidAnswer, match="not a chunk size: b'x'"):
            client.read()
        assert client.ended_cleanly is False


def test_bytes_as_they_came() -> None:
    with scripted(holding(CHUNKED + chunk(ONE), chunk(TWO))) as url, EventClient(url) as client:
        assert client.raw(4) == b"%x\r\n" % len(ONE) + ONE[:1]
        assert client.raw(len(ONE) + 1) == ONE[1:] + b"\r\n"
        assert client.read() == EVENTS[1:2]
        with pytest.raises(TimeoutError, match="3 bytes not received within 0 s, but nothing"):
            client.raw(3, timeout=0)


def test_waiting_for_comments() -> None:
    turn = holding(CHUNKED, chunk(b":\n\n"), chunk(ONE + b":\n\n"))
    with scripted(turn) as url, EventClient(url) as client:
        client.wait_until(lambda: client.comments >= 2)
        assert client.comments == 2
        assert client.read() == EVENTS[:1]


def test_waiting_for_what_the_stream_did_not_bring() -> None:
    with scripted(answering(CHUNKED + b"0\r\n\r\n")) as url, EventClient(url) as client:
        with pytest.raises(StreamEnded, match="0 events and the condition is not met"):
            client.wait_until(lambda: client.retry is not None)
        client.wait_until(lambda: client.ended_cleanly is True)


def test_a_reconnection_resumes_after_the_last_event_that_was_read() -> None:
    first = Recorder(CHUNKED + chunk(ONE + TWO + THREE))
    second = Recorder(CHUNKED + chunk(b"data: a\n\nid\n\n") + b"0\r\n\r\n")
    third = Recorder(CHUNKED + b"0\r\n\r\n")
    with scripted(first, second, third) as url:
        client = EventClient(url, "/a", headers={"X": "y", "last-event-id": "0"})
        assert client.last_event_id == "0"
        assert client.read(2) == EVENTS[:2]
        assert client.last_event_id == "2"
        again = client.reconnect()
        assert client.socket.fileno() == -1
        assert again.last_event_id == "2"
        assert again.read() == [event("a", "2")]
        again.read_all()
        assert again.last_event_id == ""
        with again.reconnect() as last:
            assert last.read_all() == []
    common = {"host": url.removeprefix("http://"), "accept": "text/event-stream", "x": "y"}
    assert first.fields == {**common, "last-event-id": "0"}
    assert second.fields == {**common, "last-event-id": "2"}
    assert third.fields == common
    assert third.head.startswith(b"GET /a ")


def test_leaving_with_fin_or_reset() -> None:
    ends: list[str] = []
    seen = threading.Semaphore(0)

    def turn(conn: socket.socket) -> None:
        read_head(conn)
        conn.sendall(CHUNKED + chunk(ONE))
        try:
            ends.append("FIN" if conn.recv(1) == b"" else "data")
        except ConnectionResetError:
            ends.append("RST")
        seen.release()

    with scripted(turn, turn, turn, turn) as url:
        with EventClient(url) as client:
            client.drop()
            assert seen.acquire(timeout=5)
            client.drop()
        with EventClient(url) as client:
            client.drop(reset=True)
            assert seen.acquire(timeout=5)
        with EventClient(url) as client:
            client.half_close()
            assert seen.acquire(timeout=5)
            assert client.read() == EVENTS[:1]
        with EventClient(url):
            pass
    assert ends == ["FIN", "RST", "FIN", "FIN"]


def test_fin_goes_out_first_though_bytes_lie_unread() -> None:
    ends: list[bytes] = []
    gate = threading.Event()

    def turn(conn: socket.socket) -> None:
        read_head(conn)
        conn.sendall(CHUNKED)
        assert gate.wait(10)
        conn.sendall(chunk(ONE))
        ends.append(conn.recv(1))

    with scripted(turn) as url:
        client = EventClient(url)
        gate.set()
        client.socket.settimeout(5)
        assert client.socket.recv(1, socket.MSG_PEEK)  # it is in the kernel now, unread
        client.drop()
    assert ends == [b""]


def test_leaving_a_connection_that_is_gone() -> None:
    def turn(conn: socket.socket) -> None:
        read_head(conn)
        conn.sendall(CHUNKED)
        reset(conn)

    with scripted(turn) as url:
        client = EventClient(url)
        with pytest.raises(StreamEnded, match="was reset in the middle"):
            client.read()
        client.drop()
        assert client.socket.fileno() == -1


def test_a_failed_client_closes_its_socket() -> None:
    # An open one would be a ResourceWarning, which is an error here.
    with scripted(answering(b"nonsense\r\n\r\n"), wait_for_fin) as url:
        with pytest.raises(InvalidAnswer):
            EventClient(url)
        with pytest.raises(ValueError, match="CR, LF or NUL"):
            EventClient(url, headers={"A": "b\r\nC: d"})


def test_a_small_receive_buffer() -> None:
    with scripted(holding(CHUNKED)) as url:
        with EventClient(url, receive_buffer=4096) as client:
            size = client.socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        assert size <= 2 * 4096  # Linux doubles it


# --- connections and raw exchanges --------------------------------------------------------------

EMPTY = OK + b"Content-Length: 0\r\n\r\n"


def test_a_connection_by_hand() -> None:
    def turn(conn: socket.socket) -> None:
        read_head(conn)
        conn.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert conn.recv(2) == b"{}"
        conn.sendall(EMPTY)

    with scripted(turn) as url, Connection(url) as connection:
        connection.send(b"POST / HTTP/1.1\r\nExpect: 100-continue\r\n\r\n")
        assert connection.receive_until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.send(b"{}")
        assert connection.receive_exactly(8) == EMPTY[:8]
        assert connection.end is None
        assert connection.receive_to_end() == EMPTY[8:]
        assert connection.end == "closed"
        assert connection.receive() == b""
        with pytest.raises(IncompleteAnswer, match="was closed before 1 bytes came, after nothing"):
            connection.receive_exactly(1)


def test_a_mark_that_does_not_come() -> None:
    with scripted(holding(b"a" * 100)) as url, Connection(url) as connection:
        connection.send(b"\r\n\r\n")
        with pytest.raises(InvalidAnswer, match="no b'x' in 100 bytes: 100 bytes: b'aaa"):
            connection.receive_until(b"x", limit=99)
        with pytest.raises(TimeoutError, match=r"b'x' not received within 0\.1 s"):
            connection.receive_until(b"x", timeout=0.1)


def test_a_mark_over_two_pieces() -> None:
    gate = threading.Event()

    def turn(conn: socket.socket) -> None:
        conn.sendall(b"a\r\n\r")
        assert gate.wait(10)
        conn.sendall(b"\nb")

    with scripted(turn) as url, Connection(url) as connection:
        first = connection.receive()
        gate.set()
        connection.pending[:0] = first
        assert connection.receive_until(b"\r\n\r\n") == b"a\r\n\r\n"
        assert connection.receive_to_end() == b"b"


def test_sending_has_a_deadline() -> None:
    gate = threading.Event()

    def turn(conn: socket.socket) -> None:
        gate.wait(10)

    def closing_turn(conn: socket.socket) -> None:
        conn.shutdown(socket.SHUT_WR)
        gate.wait(10)

    with scripted(turn) as url, Connection(url) as connection:
        with pytest.raises(TimeoutError, match=r"not done within 0\.2 s"):
            connection.send(bytes(50_000_000), timeout=0.2)
        gate.set()
    gate.clear()
    with scripted(closing_turn) as url, Connection(url) as connection:
        assert connection.receive() == b""
        with pytest.raises(TimeoutError, match=r"not done within 0\.2 s"):
            connection.send(bytes(50_000_000), timeout=0.2)
        gate.set()


def test_sending_to_a_slow_reader() -> None:
    size = 20_000_000

    def turn(conn: socket.socket) -> None:
        left = size
        time.sleep(0.1)  # so that the client has filled the kernel's buffers, and waits
        while left:
            left -= len(conn.recv(min(left, 1 << 20)))
        conn.sendall(EMPTY)

    with scripted(turn) as url, Connection(url) as connection:
        connection.send(bytes(size))
        assert connection.receive_to_end() == EMPTY


@pytest.mark.parametrize("pieces", ["whole", "bytes", [3, 20]])
def test_an_exchange(pieces: str | list[int]) -> None:
    data = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    recorder = Recorder(EMPTY + b"HTTP/1.1 400 Bad Request\r\n\r\nno")
    with scripted(recorder) as url:
        got = exchange(url, data, pieces=pieces)  # type: ignore[arg-type]
    assert recorder.head == data
    assert got == Exchange(recorder.data, "closed", ())
    assert got.statuses == [200, 400]
    assert got.answers[1].body == b"no"


def test_pieces_arrive_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    pieces: list[bytes] = []
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        """Until what was sent has been received, however long that takes."""
        pauses.append(seconds)
        until(lambda: len(pieces) == len(pauses))

    def turn(conn: socket.socket) -> None:
        while piece := conn.recv(100):
            pieces.append(piece)
        conn.sendall(EMPTY)

    monkeypatch.setattr("bunpy.testing.connection.time", SimpleNamespace(sleep=sleep))
    with scripted(turn) as url:
        got = exchange(url, b"abcdef", pieces=[1, 3], pause=0.05, half_close=True)
    assert pauses == [0.05, 0.05]
    assert got.statuses == [200]
    assert pieces == [b"a", b"bc", b"def"]


def test_an_exchange_with_a_connection_that_stays() -> None:
    with scripted(*[holding(EMPTY + CHUNKED, b"0\r\n\r\n")] * 2) as url:
        got = exchange(url, b"\r\n\r\n", until=2)
        assert got.end == "open"
        assert got.statuses == [200, 200]
        with pytest.raises(
            TimeoutError, match=r"has not closed the connection within .* it sent 1"
        ):
            exchange(url, b"\r\n\r\n", timeout=2.0)


def test_an_exchange_with_fewer_answers_than_wanted() -> None:
    with scripted(answering(EMPTY), holding(EMPTY)) as url:
        got = exchange(url, b"\r\n\r\n", until=2)
        assert (got.end, got.statuses) == ("closed", [200])
        with pytest.raises(TimeoutError, match=r"^1 of 2 answers within 2 s, in 38 bytes: b'HTTP"):
            exchange(url, b"\r\n\r\n", until=2, timeout=2.0)


def test_an_exchange_knows_head() -> None:
    with scripted(*[answering(OK + b"Content-Length: 5\r\n\r\n" + EMPTY)] * 2) as url:
        assert exchange(url, b"\r\n\r\n", methods=["HEAD"]).statuses == [200, 200]
        assert exchange(url, b"\r\n\r\n", methods=["HEAD"], until=2).statuses == [200, 200]


def test_an_exchange_ended_by_a_reset() -> None:
    def turn(conn: socket.socket) -> None:
        read_head(conn)
        conn.sendall(CHUNKED)
        assert conn.recv(1) == b""
        reset(conn)

    with scripted(turn) as url:
        got = exchange(url, b"\r\n\r\n", half_close=True)
    assert (got.data, got.end) == (CHUNKED, "reset")
    with pytest.raises(IncompleteAnswer, match="the last chunk is missing"):
        _ = got.statuses


def test_an_exchange_with_a_server_that_takes_no_more() -> None:
    # The answer came before the RST: it is read, and the exchange says how it ended.
    def turn(conn: socket.socket) -> None:
        conn.recv(1)
        conn.sendall(b"HTTP/1.1 413 \r\nContent-Length: 0\r\n\r\n")
        reset(conn)

    with scripted(turn) as url:
        got = exchange(url, bytes(50_000_000), half_close=True)
    assert got.end == "reset"
    assert got.data in (b"", b"HTTP/1.1 413 \r\nContent-Length: 0\r\n\r\n")


# --- TLS ---------------------------------------------------------------------------------------


@contextmanager
def secured(pair: Pair, *turns: Callable[[ssl.SSLSocket], object]) -> Iterator[str]:
    """A scripted server of TLS; a turn begins when the hands are shaken."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)

    def wrapped(turn: Callable[[ssl.SSLSocket], object]) -> Turn:
        def secure_turn(conn: socket.socket) -> None:
            with context.wrap_socket(conn, server_side=True, suppress_ragged_eofs=False) as tls:
                tls.settimeout(10)
                turn(tls)

        return secure_turn

    with scripted(*map(wrapped, turns)) as url:
        yield url.replace("http:", "https:")


def shutting(*pieces: bytes) -> Callable[[ssl.SSLSocket], None]:
    """A turn that answers, says close_notify, and waits for the client's."""

    def turn(conn: ssl.SSLSocket) -> None:
        answering(*pieces)(conn)
        conn.unwrap()

    return turn


def test_a_request_over_tls(pair: Pair) -> None:
    with secured(pair, shutting(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab")) as url:
        assert request(url, tls=pair.client()).body == b"ab"


def test_a_server_object_with_a_context_is_spoken_to_by_tls(pair: Pair) -> None:
    recorder = Recorder(b"HTTP/1.1 204 No Content\r\n\r\n")
    with secured(pair, recorder) as url:
        server = Somewhere("127.0.0.1", int(url.rpartition(":")[2]))
        assert request(server, tls=pair.client()).status == 204
    assert recorder.fields == {"host": url.removeprefix("https://")}


def test_an_https_url_is_trusted_as_the_system_does(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssl, "create_default_context", pair.client)
    with secured(pair, shutting(b"HTTP/1.1 204 No Content\r\n\r\n")) as url:
        assert request(url).status == 204


def test_tls_with_a_url_without_is_a_contradiction(pair: Pair) -> None:
    with pytest.raises(ValueError, match=r"and 'http://127\.0\.0\.1:1' does not"):
        Connection("http://127.0.0.1:1", tls=pair.client())


def test_a_certificate_that_is_not_trusted(pair: Pair) -> None:
    told: list[str | None] = []

    def accept(conn: socket.socket) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.cert, pair.key)
        with pytest.raises(ssl.SSLError) as caught:
            context.wrap_socket(conn, server_side=True).recv(1)
        told.append(caught.value.reason)

    stranger = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with scripted(accept) as url, pytest.raises(ssl.SSLCertVerificationError):
        request(url.replace("http:", "https:"), tls=stranger)
    assert told == ["TLSV1_ALERT_UNKNOWN_CA"]


def test_a_server_that_does_not_speak_tls(pair: Pair) -> None:
    def answer(conn: socket.socket) -> None:
        conn.recv(1000)
        conn.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with scripted(answer) as url, pytest.raises(ssl.SSLError):
        request(url.replace("http:", "https:"), tls=pair.client())


def read_hello(conn: socket.socket) -> None:
    assert conn.recv(1000)


def test_a_server_that_closes_in_the_handshake(pair: Pair) -> None:
    message = r"https://127.* closed in the TLS handshake"
    with scripted(read_hello) as url, pytest.raises(ConnectionError, match=message):
        request(url.replace("http:", "https:"), tls=pair.client())


def test_the_handshake_has_a_deadline(pair: Pair) -> None:
    with scripted(wait_for_fin) as url:
        message = r"no TLS handshake with https://127.* within 2 s"
        with pytest.raises(TimeoutError, match=message):
            request(url.replace("http:", "https:"), tls=pair.client(), timeout=2.0)


def test_what_is_known_of_a_connection_over_tls(pair: Pair) -> None:
    with (
        secured(pair, wait_for_close_notify) as url,
        Connection(url, tls=pair.client()) as connection,
    ):
        assert connection.tls is not None
        assert connection.tls.getpeercert(binary_form=True) == pair.der
        assert connection.tls.version() == "TLSv1.3"
        assert str(connection.address) == url
    with scripted(wait_for_fin) as url, Connection(url) as connection:
        assert connection.tls is None


def wait_for_close_notify(conn: ssl.SSLSocket) -> None:
    """FIN alone would be an SSLEOFError."""
    while conn.recv(65536):
        pass


@pytest.mark.parametrize("pieces", ["whole", "bytes"])
def test_events_over_tls(pair: Pair, pieces: str) -> None:
    stream = chunk(b"id: 1\ndata: a\n\n") + chunk(b":\n\ndata: b\n\n") + b"0\r\n\r\n"
    records = cut(CHUNKED + stream, "bytes" if pieces == "bytes" else "whole")
    with secured(pair, shutting(*records)) as url, EventClient(url, tls=pair.client()) as client:
        assert client.read_all() == [event("a", "1"), event("b", "1")]
        assert client.ended_cleanly
        assert client.connection.receive() == b""
        assert client.connection.end == "closed"


def test_a_record_that_comes_in_pieces(pair: Pair) -> None:
    """A call waits for the rest of it, and takes nothing for the end."""

    def dribble(conn: socket.socket) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.cert, pair.key)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_side=True)
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                conn.sendall(outgoing.read())
                incoming.write(conn.recv(65536))
        tls.write(b"all of it")
        conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in cut(outgoing.read(), "bytes"):
            conn.sendall(piece)
            time.sleep(0.0001)  # so that they are received one at a time, or nearly
        wait_for_fin(conn)

    with (
        scripted(dribble) as url,
        Connection(url.replace("http:", "https:"), tls=pair.client()) as connection,
    ):
        assert connection.receive() == b"all of it"


@pytest.mark.parametrize(
    ("head", "is_clean"),
    [(CHUNKED, True), (UNTIL_CLOSE, False)],
    ids=["chunked", "until the close"],
)
def test_a_connection_that_is_cut_without_close_notify(
    pair: Pair, head: bytes, is_clean: bool
) -> None:
    """It shows where the end of the connection is that of the answer."""
    body = chunk(b"data: a\n\n") + b"0\r\n\r\n" if is_clean else b"data: a\n\n"
    with (
        secured(pair, answering(head + body)) as url,
        EventClient(url, tls=pair.client()) as client,
    ):
        assert client.read() == [event("a")]
        assert client.connection.receive_to_end() == b""
        assert client.connection.end == "truncated"
        if is_clean:
            assert client.read_all() == []
        else:
            with pytest.raises(IncompleteAnswer, match="the connection was truncated before"):
                client.read_all()
        assert client.ended_cleanly is is_clean


def test_a_stream_that_ends_with_close_notify_only(pair: Pair) -> None:
    turn = shutting(UNTIL_CLOSE + b"data: a\n\n")
    with secured(pair, turn) as url, EventClient(url, tls=pair.client()) as client:
        assert client.read_all() == [event("a")]
        assert client.ended_cleanly


def test_a_reset_over_tls(pair: Pair) -> None:
    has_come = threading.Event()

    def turn(conn: ssl.SSLSocket) -> None:
        answering(CHUNKED)(conn)
        assert has_come.wait(5)
        reset(conn)

    with secured(pair, turn) as url, Connection(url, tls=pair.client()) as connection:
        connection.send(b"GET / HTTP/1.1\r\n\r\n")
        assert connection.receive_until(b"\r\n\r\n") == CHUNKED
        has_come.set()
        assert connection.receive_to_end() == b""
        assert connection.end == "reset"


def test_half_close_is_close_notify(pair: Pair) -> None:
    def turn(conn: ssl.SSLSocket) -> None:
        read_head(conn)
        wait_for_close_notify(conn)
        conn.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
        conn.unwrap()

    with secured(pair, turn) as url:
        done = exchange(
            url, b"GET / HTTP/1.1\r\n\r\n", pieces="bytes", half_close=True, tls=pair.client()
        )
    assert (done.statuses, done.end) == ([204], "closed")


@pytest.mark.parametrize(("way", "seen"), [("drop", None), ("close the socket", ssl.SSLEOFError)])
def test_leaving_over_tls(pair: Pair, way: str, seen: type[OSError] | None) -> None:
    ends: list[type[BaseException] | None] = []

    def turn(conn: ssl.SSLSocket) -> None:
        conn.sendall(b"x")
        try:
            wait_for_close_notify(conn)
        except OSError as exc:
            ends.append(type(exc))
        else:
            ends.append(None)

    with secured(pair, turn) as url:
        connection = Connection(url, tls=pair.client())
        assert connection.receive() == b"x"
        if way == "close the socket":
            connection.socket.close()
        else:
            connection.drop()
            connection.drop()
    assert ends == [seen]


def read_records(conn: ssl.SSLSocket) -> None:
    """To the end of the connection below TLS: OpenSSL would not tell RST from FIN."""
    while socket.socket.recv(conn, 65536):
        pass


def test_leaving_with_a_reset_over_tls(pair: Pair) -> None:
    def turn(conn: ssl.SSLSocket) -> None:
        conn.sendall(b"x")
        with pytest.raises(ConnectionResetError):
            read_records(conn)

    with secured(pair, turn) as url:
        connection = Connection(url, tls=pair.client())
        assert connection.receive() == b"x"
        connection.drop(reset=True)


def test_a_long_request_and_a_long_answer_at_once_over_tls(pair: Pair) -> None:
    size = 4_000_000

    def turn(conn: ssl.SSLSocket) -> None:
        read_head(conn)
        conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + bytes(size))
        left = size
        while left:
            left -= len(conn.recv(65536))
        conn.unwrap()

    with secured(pair, turn) as url:
        answer = request(url, "POST", body=bytes(size), tls=pair.client())
    assert len(answer.body) == size


def test_a_reconnection_over_tls(pair: Pair) -> None:
    first = holding(CHUNKED + chunk(b"id: 7\ndata: a\n\n"))
    second = Recorder(CHUNKED + b"0\r\n\r\n")
    with secured(pair, first, second) as url, EventClient(url, tls=pair.client()) as client:
        client.read()
        with client.reconnect() as again:
            assert again.connection.tls is not None
            assert again.read_all() == []
    assert second.fields["last-event-id"] == "7"


# --- serving -----------------------------------------------------------------------------------


def counting(req: Request) -> SSEResponse:
    """Count on from the Last-Event-ID, without end."""

    async def count() -> AsyncIterator[dict[str, str]]:
        i = int(req.last_event_id or "0")
        while True:
            i += 1
            yield {"id": str(i), "data": str(i)}
            await asyncio.sleep(0.001)

    return SSEResponse(count())


def test_a_server_for_a_while(capfd: pytest.CaptureFixture[str]) -> None:
    with serving(lambda req: f"{req.method} {req.path}") as server:
        assert server.port > 0
        assert not server.is_closed
        got = request(server, path="/a")
        assert (got.status, got.text(), got.closes) == (200, "GET /a", False)
        assert request(server.url, "HEAD").body == b""
    assert server.is_closed
    with pytest.raises(ConnectionRefusedError):
        request(server)
    assert capfd.readouterr() == ("", "")


def test_a_server_is_stopped_after_an_exception_too() -> None:
    running: list[Server] = []

    def fail() -> None:
        with serving(counting) as server, EventClient(server) as client:
            running.append(server)
            client.read()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert running[0].is_closed


def test_the_options_of_a_server() -> None:
    with reserved() as port, serving(counting, port=port, hostname="localhost") as server:
        assert (server.hostname, server.port) == ("localhost", port)
        with EventClient(server) as client:
            assert client.read() == EVENTS[:1]
    with pytest.raises(ConfigError, match="nonsense"), serving(counting, nonsense=1):
        pass


def test_events_of_a_server_resume_after_the_last_one_read() -> None:
    with serving(counting) as server, EventClient(server) as client:
        assert client.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert client.read(3) == EVENTS
        with client.reconnect() as again:
            assert [one.id for one in again.read(2)] == ["4", "5"]
        with EventClient(server, last_event_id="41") as later:
            assert later.read() == [event("42", "42")]


def test_a_stream_that_is_open_when_its_server_stops_ends_cleanly() -> None:
    with serving(counting, grace=0.5) as server:
        client = EventClient(server)
        client.read()
        start = time.monotonic()
    assert time.monotonic() - start < 5
    client.read_all()
    assert client.ended_cleanly is True
    client.drop()


def test_what_a_server_shows_of_a_generator() -> None:
    async def failing() -> AsyncIterator[str]:
        yield "1"
        raise RuntimeError("on purpose")

    async def silent() -> AsyncIterator[str]:
        try:
            await asyncio.Event().wait()
            yield "never"
        finally:
            left.set()

    left = threading.Event()
    sources = {"/failing": failing, "/silent": silent}
    with serving(lambda req: SSEResponse(sources[req.path]()), heartbeat=0.05) as server:
        with EventClient(server, "/failing") as client:
            with pytest.raises(StreamEnded, match=r"1 of 2 events .* the last chunk is missing"):
                client.read(2)
            assert client.ended_cleanly is False
        with EventClient(server, "/silent") as client:
            client.wait_until(lambda: client.comments >= 2)
            assert not left.is_set()
        assert left.wait(5)


@pytest.mark.parametrize("pieces", ["whole", "bytes"])
def test_an_exchange_with_a_server(pieces: str) -> None:
    good = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}"
    last = good.replace(b"Host", b"Connection: close\r\nHost")
    with serving(lambda req: req.text()) as server:
        got = exchange(server, good + last, pieces=pieces)  # type: ignore[arg-type]
        assert [one.body for one in got.answers] == [b"{}", b"{}"]
        assert [one.closes for one in got.answers] == [False, True]
        assert got.end == "closed"
        assert exchange(server, good + b"GET /\r\n\r\n").statuses == [200, 400]
        assert exchange(server, good, half_close=True).statuses == [200]
        assert exchange(server, good * 3, until=3).end == "open"


def test_a_server_in_a_running_loop() -> None:
    async def run() -> None:
        with serving(lambda req: "here") as server:
            got = await asyncio.to_thread(request, server)
            assert got.text() == "here"
        await asyncio.wait_for(server.wait_closed(), 5)
        assert server.is_closed

    asyncio.run(run())


# --- the module --------------------------------------------------------------------------------


def test_the_decoder_and_the_clients_do_without_the_server() -> None:
    code = "import sys, bunpy.testing; sys.exit(any(name in sys.modules for name in sys.argv[1:]))"
    modules = ["bunpy.serve", "bunpy._speedups", "asyncio", "httptools"]
    subprocess.run([sys.executable, "-c", code, *modules], check=True, timeout=30)


def test_the_example_of_the_module(tmp_path: Path) -> None:
    _, _, rest = (testing.__doc__ or "").partition("With pytest::")
    example, _, _ = rest.partition("\nEverything here")
    path = tmp_path / "test_example.py"
    path.write_text(textwrap.dedent(example), "utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    command += [f"--rootdir={tmp_path}", os.fspath(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert "2 passed" in done.stdout, done.stdout + done.stderr
