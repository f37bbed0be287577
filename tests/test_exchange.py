"""One request and its answer over real sockets: each kind of result, each kind of failure, HEAD, and what stays."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import contextvars
import gc
import json
import logging
import socket
import sys
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Iterator,
)
from typing import Any

import pytest
from fakes import FakeTransport
from heads import LAST, head
from watching import Log, local, until

from bunpy.http.host import HostList
from bunpy.http.protocol import HTTPProtocol
from bunpy.http.service import Service
from bunpy.serve import HTTPError, Request, Response, SSEResponse
from bunpy.server.config import Config
from bunpy.testing import Answer, Connection, EventClient, exchange, request, serving

# What is logged, a test takes; nothing else may be.
pytestmark = pytest.mark.usefixtures("few_objects", "log")

SOON = 5.0  # seconds: what should come at once has surely come
TEXT = "text/plain; charset=utf-8"
BINARY = "application/octet-stream"
ERROR = b"Internal Server Error\n"

Handler = Callable[[Request], Any]


def error_of(record: logging.LogRecord) -> BaseException:
    assert record.name == "bunpy"
    assert record.levelname == "ERROR"
    assert record.exc_info is not None
    error = record.exc_info[1]
    assert error is not None
    return error


# What a handler may return


async def pieces() -> AsyncIterator[str | bytes | bytearray]:
    yield "grüß "
    await asyncio.sleep(0)
    yield b"dich \xff"
    yield bytearray(b"!")


def plain_pieces() -> Iterator[str | bytes]:
    yield "grüß "
    yield b"dich \xff"
    yield memoryview(b"!")  # type: ignore[misc]


class Pieces:
    """An async iterable that is no generator."""

    def __init__(self) -> None:
        self._left = [b"dich \xff!", "grüß "]

    def __aiter__(self) -> Pieces:
        return self

    async def __anext__(self) -> str | bytes:
        if not self._left:
            raise StopAsyncIteration
        return self._left.pop()  # type: ignore[return-value]


async def events() -> AsyncIterator[dict[str, Any]]:
    yield {"data": 1}


PIECES = "grüß dich ".encode() + b"\xff!"

#: What a handler returns, made anew for each request: the status, the content type and the body that come of it.
RESULTS: dict[str, tuple[Callable[[], Any], int, str | None, bytes]] = {
    "None": (lambda: None, 204, None, b""),
    "str": (lambda: "grüß", 200, TEXT, "grüß".encode()),
    "empty str": (lambda: "", 200, TEXT, b""),
    "bytes": (lambda: b"\0\xff", 200, BINARY, b"\0\xff"),
    "dict": (dict, 200, TEXT, b""),
    "dict: status": (lambda: {"status": 418}, 418, TEXT, b""),
    "dict: str": (lambda: {"body": "x"}, 200, TEXT, b"x"),
    "dict: bytes": (lambda: {"body": b"x"}, 200, BINARY, b"x"),
    "dict: bytearray": (lambda: {"body": bytearray(b"x")}, 200, BINARY, b"x"),
    "dict: memoryview": (lambda: {"body": memoryview(b"x")}, 200, BINARY, b"x"),
    "dict: no body": (lambda: {"body": None}, 200, None, b""),
    "dict: headers": (
        lambda: {"headers": {"content-TYPE": "text/html"}, "body": "<p>"},
        200,
        "text/html",
        b"<p>",
    ),
    "dict: all": (
        lambda: {"status": 201, "headers": [("Content-Type", "a/b")], "body": b"x"},
        201,
        "a/b",
        b"x",
    ),
    "dict: 204 with a body": (lambda: {"status": 204, "body": "lost"}, 204, None, b""),
    "dict: 205 with a body": (lambda: {"status": 205, "body": "lost"}, 205, None, b""),
    "dict: 205 with a stream": (lambda: {"status": 205, "body": pieces()}, 205, None, b""),
    "dict: 304 with a body": (lambda: {"status": 304, "body": "lost"}, 304, None, b""),
    "dict: 204 with a stream": (lambda: {"status": 204, "body": pieces()}, 204, None, b""),
    "Response": (lambda: Response("x", 404), 404, TEXT, b"x"),
    "Response: bytes": (lambda: Response(b"x"), 200, BINARY, b"x"),
    "Response: none": (lambda: Response(None), 200, None, b""),
    "dict: async generator": (lambda: {"body": pieces()}, 200, BINARY, PIECES),
    "dict: generator": (lambda: {"body": plain_pieces()}, 200, BINARY, PIECES),
    "dict: iterator": (lambda: {"body": iter([b"1", "2"])}, 200, BINARY, b"12"),
    "Response: async generator": (lambda: Response(pieces(), 206), 206, BINARY, PIECES),
    "Response: generator": (lambda: Response(plain_pieces()), 200, BINARY, PIECES),
    "Response: async iterable": (lambda: Response(Pieces()), 200, BINARY, PIECES),
    "Response: headers": (
        lambda: Response(pieces(), headers={"Content-Type": "a/b"}),
        200,
        "a/b",
        PIECES,
    ),
    "SSEResponse": (
        lambda: SSEResponse(events()),
        200,
        "text/event-stream; charset=utf-8",
        b"data: 1\n\n",
    ),
    "SSEResponse: all": (
        lambda: SSEResponse(events(), {"content-type": "a/b"}, status=203),
        203,
        "a/b",
        b"data: 1\n\n",
    ),
}


class Deferred:
    """An awaitable that is no coroutine."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make

    def __await__(self) -> Generator[Any, None, Any]:
        yield from asyncio.sleep(0).__await__()
        return self._make()


def sync_handler(make: Callable[[], Any]) -> Handler:
    return lambda req: make()


def async_handler(make: Callable[[], Any]) -> Handler:
    async def handler(req: Request) -> Any:
        return make()

    return handler


def patient_handler(make: Callable[[], Any]) -> Handler:
    async def handler(req: Request) -> Any:
        await asyncio.sleep(0.001)
        return make()

    return handler


def future_handler(make: Callable[[], Any]) -> Handler:
    def handler(req: Request) -> Awaitable[Any]:
        future = asyncio.get_running_loop().create_future()
        future.set_result(make())
        return future

    return handler


def deferred_handler(make: Callable[[], Any]) -> Handler:
    return lambda req: Deferred(make)


KINDS = [sync_handler, async_handler, patient_handler, future_handler, deferred_handler]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", RESULTS)
def test_what_a_handler_returns_is_answered_as_its_type_says(
    name: str, kind: Callable[[Callable[[], Any]], Handler]
) -> None:
    make, status, content_type, body = RESULTS[name]
    with serving(kind(make)) as server:
        taken = exchange(server, head() + LAST)
    assert taken.end == "closed"
    first, last = taken.answers  # two, so that the first one's end was where its head said
    for answer in (first, last):
        assert (answer.status, answer.body) == (status, body)
        assert answer.headers.get("content-type") == content_type
        assert "date" in answer.headers
        if answer.status in (204, 304):
            assert not {"content-length", "transfer-encoding"} & set(answer.headers)
        else:
            assert ("content-length" in answer.headers) != ("transfer-encoding" in answer.headers)
    assert [answer.closes for answer in (first, last)] == [False, True]


def test_headers_are_sent_in_order_and_repeated_where_they_were_given_twice() -> None:
    pairs = [("Set-Cookie", "a=1"), ("X-Late", "2"), ("Set-Cookie", "b=2")]
    with serving(lambda req: {"headers": pairs}) as server:
        answer = request(server)
    assert [field for field in answer.fields if field in pairs] == pairs


def test_the_fields_that_frame_an_answer_are_not_the_handlers() -> None:
    owned = {
        "Content-Length": "1",
        "Transfer-Encoding": "gzip",
        "Keep-Alive": "x",
        "Upgrade": "h2c",
    }
    with serving(lambda req: {"headers": owned, "body": "grüß"}) as server:
        sized, _ = exchange(server, head() + LAST).answers
    assert (sized.body, sized.headers["content-length"]) == ("grüß".encode(), "6")
    assert not {"transfer-encoding", "keep-alive", "upgrade"} & set(sized.headers)


def test_a_date_of_the_handlers_own_is_the_only_one() -> None:
    date = "Sat, 01 Jan 2000 00:00:00 GMT"
    with serving(lambda req: {"headers": {"date": date}}) as server:
        assert request(server).headers["date"] == date


def test_a_response_may_be_made_once_and_answered_often() -> None:
    response = Response("always", headers={"X-Made": "once"})
    with serving(lambda req: response) as server:
        answers = exchange(server, head() * 20 + LAST).answers
    assert [answer.body for answer in answers] == [b"always"] * 21


def test_a_large_body_arrives_whole_and_in_its_place() -> None:
    large = bytes(range(256)) * 32 * 1024  # 8 MiB: more than the kernel takes at once
    with serving(lambda req: large if req.path == "/large" else "small") as server:
        taken = exchange(server, head("/large") + LAST, timeout=20)
    assert [answer.body == large for answer in taken.answers] == [True, False]
    assert taken.answers[1].body == b"small"


# What a handler may not return


def generator_of_events() -> Iterator[str]:
    yield "never called"


class Odd:
    """Something that is no answer."""


WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "int": (lambda: 42, "int"),
    "list": (lambda: ["a"], "list"),
    "object": (Odd, "Odd"),
    "class": (lambda: Odd, "type"),
    "function": (lambda: events, "function"),
    "async generator": (events, "async_generator"),
    "generator": (generator_of_events, "generator"),
    "body: int": (lambda: {"body": 42}, "int"),
    "body: list": (lambda: {"body": ["a"]}, "list"),
    "body: dict": (lambda: {"body": {"a": 1}}, "dict"),
    "body: function": (lambda: Response(events), "function"),  # type: ignore[arg-type]
    "body: lone surrogate": (lambda: "\ud800", "lone surrogate"),
    "status: str": (lambda: {"status": "200"}, "'200'"),
    "status: None": (lambda: {"status": None}, "None"),
    "status: list": (lambda: {"status": [200]}, "list"),
    "status: bool": (lambda: {"status": True}, "True"),
    "status: 1xx": (lambda: {"status": 101}, "101"),
    "status: 600": (lambda: Response("", 600), "600"),
    "headers: str": (lambda: {"headers": "Content-Type: a/b"}, "str"),
    "headers: value": (lambda: {"headers": {"X-Number": 3}}, "X-Number"),
    "headers: None": (lambda: {"headers": {"X-None": None}}, "NoneType"),
    "headers: no pairs": (lambda: {"headers": ["abc"]}, "unpack"),
    "key": (lambda: {"message": "hello"}, "'message'"),
    "stream: status": (lambda: SSEResponse(events(), status=99), "99"),
    "stream: headers": (lambda: Response(events(), 200, {"X": 1}), "int"),  # type: ignore[arg-type]
    "source: function": (lambda: SSEResponse(events), "call it"),  # type: ignore[arg-type]
    "source: list": (lambda: SSEResponse(["a"]), "['a']"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("kind", [sync_handler, patient_handler])
@pytest.mark.parametrize("name", WRONG)
def test_anything_else_is_500_and_the_log_says_what_it_was(
    name: str, kind: Callable[[Callable[[], Any]], Handler], log: Log
) -> None:
    make, hint = WRONG[name]
    with serving(kind(make)) as server:
        answer = request(server, "GET", "/wrong")
        # Wrong headers may be the client's own words: the connection does not go on.
        closes = name in ("headers: value", "headers: None", "stream: headers")
        assert (answer.status, answer.body, answer.closes) == (500, ERROR, closes)
        record = log.take()
    assert hint in str(error_of(record))
    assert "<Request GET /wrong id=" in record.getMessage()


INJECTIONS: dict[str, Any] = {
    "CR LF": {"X-A": "1\r\nX-Forged: 2"},
    "LF": {"X-A": "1\nX-Forged: 2"},
    "CR": {"X-A": "1\rX-Forged: 2"},
    "NUL": {"X-A": "1\0"},
    "DEL": {"X-A": "1\x7f"},
    "head's end": {"X-A": "1\r\n\r\n<script>"},
    "name: CR LF": {"X-A: 1\r\nX-Forged": "2"},
    "name: colon": {"X-A:": "2"},
    "name: space": {"X A": "2"},
    "name: empty": {"": "2"},
    "name: bytes": {b"X-A": "2"},
    "not latin-1": {"X-A": "日本"},
    "owned": {"Content-Length": "1\r\nX-Forged: 2"},
    "connection": {"Connection": "close\r\nX-Forged: 2"},
    "pairs": [("X-B", "1"), ("X-A", "1\r\nX-Forged: 2")],
}


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("name", INJECTIONS)
def test_a_header_that_would_forge_another_is_refused(name: str, stream: bool, log: Log) -> None:
    def handler(req: Request) -> Any:
        return (
            (SSEResponse(events(), INJECTIONS[name])) if stream else {"headers": INJECTIONS[name]}
        )

    with serving(handler) as server:
        taken = exchange(server, head("/injected", "Connection: close"))
    (answer,) = taken.answers
    assert (answer.status, answer.body) == (500, ERROR)
    assert b"Forged" not in taken.data
    assert b"script" not in taken.data
    assert "header" in str(error_of(log.take()))


# What a handler raises


def raising(exc: BaseException) -> Callable[[], Any]:
    def make() -> Any:
        raise exc

    return make


class Abandoned(BaseException):
    """What some library cancels with: no Exception."""


FAILURES: dict[str, Callable[[], BaseException]] = {
    "RuntimeError": lambda: RuntimeError("the secret"),
    "ValueError": lambda: ValueError("the secret"),
    "StopIteration": lambda: StopIteration("the secret"),
    "SystemExit": lambda: SystemExit("the secret"),
    "CancelledError of a thread": lambda: concurrent.futures.CancelledError("the secret"),
    "CancelledError": lambda: asyncio.CancelledError("the secret"),
    "BaseException": lambda: Abandoned("the secret"),
}


@pytest.mark.parametrize("kind", [sync_handler, async_handler, patient_handler])
@pytest.mark.parametrize("name", FAILURES)
def test_a_handler_that_raises_is_500_with_its_traceback_in_the_log_only(
    name: str, kind: Callable[[Callable[[], Any]], Handler], log: Log
) -> None:
    with serving(kind(raising(FAILURES[name]()))) as server:
        failed, after = exchange(server, head("/fails") + LAST).answers
        assert (failed.status, failed.body) == (500, ERROR)
        assert failed.headers["content-type"] == TEXT
        assert after.status == 500  # the connection and the server go on
    for record in (records := list(log.records)):
        assert "the secret" in repr(error_of(record)) or "the secret" in repr(
            error_of(record).__cause__
        )
        assert "the secret" not in record.getMessage()
    assert len(records) == 2
    log.records.clear()


def test_an_http_error_is_answered_as_it_says_and_not_logged() -> None:
    def handler(req: Request) -> str:
        raise HTTPError(429, "Zu viele <b>", {"Retry-After": "7", "content-type": "text/x"})

    with serving(handler) as server:
        answer = request(server)
    assert (answer.status, answer.body) == (429, b"Zu viele <b>\n")
    assert (answer.headers["retry-after"], answer.headers["content-type"]) == ("7", "text/x")
    assert not answer.closes


@pytest.mark.parametrize("kind", KINDS[:3])
def test_an_http_error_without_a_message_has_the_statuss_phrase(
    kind: Callable[[Callable[[], Any]], Handler],
) -> None:
    with serving(kind(raising(HTTPError(404)))) as server:
        answer = request(server)
    assert (answer.status, answer.reason, answer.body) == (404, "Not Found", b"Not Found\n")
    assert answer.headers["content-type"] == TEXT


def test_an_http_error_whose_headers_must_not_be_sent_is_500(log: Log) -> None:
    with serving(sync_handler(raising(HTTPError(404, headers={"X": "\r\nX-Forged: 1"})))) as server:
        taken = exchange(server, LAST)
    assert taken.statuses == [500]
    assert b"Forged" not in taken.data
    assert "X" in str(error_of(log.take()))


def test_an_http_error_with_a_lone_surrogate_in_its_message_is_500(log: Log) -> None:
    with serving(sync_handler(raising(HTTPError(404, "\ud800")))) as server:
        assert exchange(server, LAST).statuses == [500]
    assert "surrogate" in str(error_of(log.take()))


@pytest.mark.parametrize(
    ("body", "status"),
    [(b'{"a": 1}', 200), (b"{", 400), (b"", 400), (b"\xff", 400), (b"[" * 100_000, 400)],
)
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_json_that_is_none_is_the_clients_fault(body: bytes, status: int, is_async: bool) -> None:
    def handler(req: Request) -> Any:
        return {"body": json.dumps(req.json())}

    async def async_handler(req: Request) -> Any:
        return handler(req)

    with serving(async_handler if is_async else handler) as server:
        answer = request(server, "POST", "/", body=body)
    assert answer.status == status
    assert "Traceback" not in answer.text()


def test_a_value_error_of_the_handlers_own_is_the_servers_fault(log: Log) -> None:
    with serving(lambda req: json.loads("{")) as server:
        answer = request(server)
    assert (answer.status, answer.body) == (500, ERROR)
    assert isinstance(error_of(log.take()), json.JSONDecodeError)


def test_an_invalid_body_can_be_caught_as_the_value_error_that_it_is() -> None:
    def handler(req: Request) -> str:
        try:
            req.json()
        except ValueError:
            return "caught"
        return "valid"

    with serving(handler) as server:
        assert request(server, "POST", "/", body=b"{").text() == "caught"


def test_an_async_handler_that_cancels_itself_is_500(log: Log) -> None:
    async def handler(req: Request) -> str:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(10)
        return "late"

    with serving(handler) as server:
        assert request(server).status == 500
    assert isinstance(error_of(log.take()), asyncio.CancelledError)


# HEAD


@pytest.mark.parametrize("kind", [sync_handler, async_handler])
@pytest.mark.parametrize("name", [name for name in RESULTS if "Pieces" not in name])
def test_head_is_answered_as_get_without_a_body(
    name: str, kind: Callable[[Callable[[], Any]], Handler]
) -> None:
    make = RESULTS[name][0]
    with serving(kind(make)) as server:
        taken = exchange(
            server,
            head(method="HEAD") + head(method="HEAD") + LAST,
            methods=["HEAD", "HEAD"],
        )
    first, second, got = taken.answers
    assert first.body == second.body == b""
    for answer in (first, second):
        assert (answer.status, answer.closes) == (got.status, False)
        assert strip(answer) == strip(got)


def strip(answer: Answer) -> list[tuple[str, str]]:
    return [field for field in answer.fields if field[0] not in ("Date", "Connection")]


def test_head_never_starts_a_generator() -> None:
    started: list[str] = []

    async def source() -> AsyncIterator[str]:
        started.append("async")
        yield "x"

    def plain_source() -> Iterator[str]:
        started.append("plain")
        yield "x"

    class Source:
        def __aiter__(self) -> Source:
            return self

        async def __anext__(self) -> str:
            started.append("class")
            return "x"

    def handler(req: Request) -> Response:
        sources = {
            "/async": source,
            "/plain": plain_source,
            "/class": Source,
        }
        made: Any = sources[req.path]()
        return SSEResponse(made) if "sse" in req.query else Response(made)

    targets = ["/async?sse", "/plain?sse", "/class?sse", "/async", "/plain", "/class"]
    with serving(handler) as server:
        for target in targets:
            answer = request(server, "HEAD", target)
            assert (answer.status, answer.body) == (200, b"")
            assert answer.headers["transfer-encoding"] == "chunked"
        gc.collect()
    assert started == []


def test_head_closes_a_source_that_is_no_generator() -> None:
    closed: list[str] = []

    class Source:
        def __aiter__(self) -> Source:
            return self

        async def __anext__(self) -> str:
            raise AssertionError("never asked")

        async def aclose(self) -> None:
            closed.append("async")

    class PlainSource:
        def __iter__(self) -> PlainSource:
            return self

        def __next__(self) -> str:
            raise AssertionError("never asked")

        def close(self) -> None:
            closed.append("plain")

    with serving(
        lambda req: SSEResponse(Source() if req.path == "/async" else PlainSource())
    ) as server:
        for path in ("/async", "/plain"):
            request(server, "HEAD", path)
        until(lambda: closed == ["async", "plain"])


def test_head_of_an_error_has_no_body() -> None:
    with serving(sync_handler(raising(HTTPError(404)))) as server:
        taken = exchange(
            server,
            head(method="HEAD") + head("/", "Connection: close", method="HEAD"),
            methods=["HEAD"] * 2,
        )
    assert taken.statuses == [404, 404]
    assert b"Not Found\n" not in taken.data


# The connection


@pytest.mark.parametrize("value", ["close", "Close", "keep-alive, close"])
def test_a_client_that_asks_for_the_close_gets_it(value: str) -> None:
    with serving(lambda req: "x") as server:
        taken = exchange(server, head("/", f"Connection: {value}") + head())
    (answer,) = taken.answers
    assert (taken.end, answer.headers["connection"]) == ("closed", "close")


RESPONSES: dict[str, Callable[[], Any]] = {
    "plain": lambda: {"headers": {"connection": "Close"}, "body": "data: 1\n\n"},
    "204": lambda: {"headers": {"Connection": "close"}, "status": 204},
    "stream": lambda: SSEResponse(events(), {"Connection": "close"}),
    "pairs": lambda: Response("data: 1\n\n", headers=[("Connection", "close")]),
}


@pytest.mark.parametrize("kind", [sync_handler, patient_handler])
@pytest.mark.parametrize("name", RESPONSES)
def test_a_handler_can_close_the_connection(
    name: str, kind: Callable[[Callable[[], Any]], Handler]
) -> None:
    with serving(kind(RESPONSES[name])) as server:
        taken = exchange(server, head() + head())
    (answer,) = taken.answers
    assert (taken.end, answer.headers["connection"]) == ("closed", "close")
    assert answer.body == (b"" if name == "204" else b"data: 1\n\n")


def test_a_handler_cannot_say_anything_else_of_the_connection() -> None:
    with serving(lambda req: {"headers": {"Connection": "upgrade", "Upgrade": "x"}}) as server:
        answers = exchange(server, head() + LAST).answers
    assert [answer.headers.get("connection") for answer in answers] == [None, "close"]


def test_options_is_the_handlers() -> None:
    def handler(req: Request) -> Any:
        return {"status": 204, "headers": {"Allow": "GET", "X-Target": f"{req.method} {req.url}"}}

    with serving(handler) as server:
        first, second = exchange(
            server,
            head("/a?b", method="OPTIONS") + head("*", "Connection: close", method="OPTIONS"),
        ).answers
    assert (first.status, first.headers["x-target"]) == (204, "OPTIONS /a?b")
    assert (second.status, second.headers["x-target"]) == (204, "OPTIONS *")


# What becomes of an async handler whose client leaves


def test_an_async_handler_is_cancelled_when_its_client_resets_the_connection() -> None:
    seen: list[str] = []

    async def handler(req: Request) -> str:
        seen.append("began")
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise
        return "late"

    with serving(handler) as server, Connection(server) as client:
        client.send(head())
        until(lambda: seen == ["began"])
        client.drop(reset=True)
        until(lambda: seen == ["began", "cancelled"])


def test_what_an_async_handler_gives_after_its_client_left_is_closed_unsent() -> None:
    seen: list[str] = []

    class Source:
        def __aiter__(self) -> Source:
            return self

        async def __anext__(self) -> str:
            seen.append("asked")
            return "x"

        async def aclose(self) -> None:
            seen.append("closed")

    async def handler(req: Request) -> Any:
        seen.append("began")
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return SSEResponse(Source())

    with serving(handler) as server, Connection(server) as client:
        client.send(head())
        until(lambda: seen == ["began"])
        client.drop(reset=True)
        until(lambda: seen == ["began", "closed"])


def test_what_an_async_handler_raises_after_its_client_left_is_logged(log: Log) -> None:
    began: list[bool] = []

    async def handler(req: Request) -> str:
        began.append(True)
        try:
            await asyncio.sleep(60)
        finally:
            raise RuntimeError("in the cleaning up")

    with serving(handler) as server, Connection(server) as client:
        client.send(head())
        until(lambda: bool(began))
        client.drop(reset=True)
        assert str(error_of(log.take())) == "in the cleaning up"


# Context variables: each request has a context of its own

mark: contextvars.ContextVar[str] = contextvars.ContextVar("mark", default="none")


async def marked() -> AsyncIterator[str]:
    yield mark.get()
    await asyncio.sleep(0)
    mark.set(mark.get() + "+")
    yield mark.get()
    await asyncio.sleep(0.001)
    yield mark.get()


def plain_marked() -> Iterator[str]:
    yield mark.get()
    mark.set(mark.get() + "+")
    yield mark.get()
    yield mark.get()


def marking(req: Request) -> Any:
    if req.path == "/read":
        return mark.get()
    seen = mark.get()
    mark.set(req.path)
    if req.path == "/async":
        return Response(marked(), headers={"X-Seen": seen})
    if req.path == "/plain":
        return Response(plain_marked(), headers={"X-Seen": seen})
    return seen


async def async_marking(req: Request) -> Any:
    await asyncio.sleep(0)
    return marking(req)


@pytest.mark.parametrize("path", ["/async", "/plain", "/set"])
@pytest.mark.parametrize("handler", [marking, async_marking])
@pytest.mark.parametrize("together", [False, True], ids=["one by one", "pipelined"])
def test_what_a_handler_sets_its_generator_sees_and_the_next_request_does_not(
    path: str, handler: Handler, together: bool
) -> None:
    requests = [head(path), head(path), head("/read")]
    with serving(handler) as server, Connection(server) as client:
        if together:
            client.send(b"".join(requests))
        received = []
        for data in requests:
            if not together:
                client.send(data)
            received.append(client.receive_until(b"\r\n\r\n"))
            if b"chunked" in received[-1]:
                received[-1] += client.receive_until(b"0\r\n\r\n")
            else:
                received[-1] += client.receive_exactly(4)
    first, second, read = received
    if path == "/set":
        assert (first[-4:], second[-4:]) == (b"none", b"none")
    else:
        assert b"X-Seen: none\r\n" in first
        assert b"X-Seen: none\r\n" in second
        for answer in (first, second):
            assert answer.count(path.encode() + b"+") == 2
            assert b"++" not in answer
    assert read[-4:] == b"none"


def test_a_handler_and_its_generator_run_on_the_servers_loop_and_the_generator_in_one_task() -> (
    None
):
    tasks: list[asyncio.Task[Any] | None] = []

    async def source() -> AsyncIterator[str]:
        try:
            for _ in range(3):
                tasks.append(asyncio.current_task())
                yield "x"
                await asyncio.sleep(0)
        finally:
            tasks.append(asyncio.current_task())

    with serving(lambda req: SSEResponse(source())) as server:
        with EventClient(server) as client:
            client.read_all()
        assert len(tasks) == 4
        assert len(set(map(id, tasks))) == 1
        assert tasks[0] is not None
        assert tasks[0].get_loop() is local(server)._loop


def test_a_coroutine_of_another_loop_is_500(log: Log) -> None:
    """What a handler awaits may fail in any way; the answer is still given."""
    other = asyncio.new_event_loop()
    future = other.create_future()

    def handler(req: Request) -> Coroutine[Any, Any, Any] | Awaitable[Any]:
        return future

    try:
        with serving(handler) as server:
            assert request(server).status == 500
    finally:
        other.close()
    error = error_of(log.take())
    assert isinstance(error, RuntimeError)
    assert sys.exc_info() == (None, None, None)


def test_a_client_lost_before_an_async_handler_has_begun_is_let_go() -> None:
    """A task that is cancelled before its first step never gets to its end.

    asyncio's own transports tell of a loss one turn later, when the task has begun; this one tells of it at once.
    """
    outcome: list[str] = []

    async def handler(req: Request) -> str:
        try:
            await asyncio.sleep(SOON)
        except asyncio.CancelledError:
            outcome.append("cancelled")
            raise
        return "late"

    async def main() -> int:
        loop = asyncio.get_running_loop()
        service = Service(handler, Config(), loop, HostList(None, ["127.0.0.1"]))
        sock = socket.socket()
        with contextlib.closing(sock):
            extra = {"sslcontext": object(), "peername": ("127.0.0.1", 1), "socket": sock}
            connection = HTTPProtocol(service)
            connection.connection_made(FakeTransport(connection, extra))
            connection.data_received(head())
            connection.connection_lost(None)
            for _ in range(10):
                await asyncio.sleep(0)
        return len(service.connections)

    assert asyncio.run(main()) == 0
    assert outcome in ([], ["cancelled"])
