"""Whole answers as bytes: what depends on the response and on the request together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from bunpy.errors import HTTPError, InvalidBody, InvalidResponse, RequestRefused
from bunpy.http.answer import (
    connection_after,
    error_response,
    plain_answer,
    stream_head,
    turned_away,
)
from bunpy.http.request import Request
from bunpy.http.response import Response
from bunpy.http.wire import CLOSE, KEEP, KEEP_OLD
from bunpy.sse.response import SSEResponse
from bunpy.testing import parse_answers

DATE = b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"


def a_request(method: str = "GET", version: str = "1.1") -> Request:
    return Request(method, "/", {"host": "a"}, http_version=version)


def answer(
    response: Response, method: str = "GET", connection: bytes = KEEP
) -> tuple[bytes, bytes]:
    content = response.content()
    assert content is not None
    data, body, after = plain_answer(
        response.status, response.headers, content, method, DATE, connection
    )
    assert body == b""
    return data, after


async def events() -> AsyncIterator[str]:
    yield "never asked for"


# The connection


@pytest.mark.parametrize(
    ("version", "keeps_alive", "after"),
    [("1.1", True, KEEP), ("1.1", False, CLOSE), ("1.0", True, KEEP_OLD), ("1.0", False, CLOSE)],
)
def test_what_becomes_of_the_connection(version: str, keeps_alive: bool, after: bytes) -> None:
    assert connection_after(a_request(version=version), keeps_alive) is after


# Plain answers


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("headers", [None, {"X-A": "b"}])
def test_a_large_body_is_not_copied(method: str, headers: dict[str, str] | None) -> None:
    large = bytes(10_000_000)
    response = Response(large, headers=headers)
    content = response.content()
    assert content is not None
    data, body, after = plain_answer(200, headers, content, method, DATE, KEEP)
    assert (b"\r\nContent-Length: 10000000\r\n" in data, after) == (True, KEEP)
    assert data.endswith(b"\r\n\r\n")
    if method == "GET":
        assert body is large
    else:
        assert body == b""


def test_text() -> None:
    data, after = answer(Response("h\xe9llo"))
    assert after is KEEP
    assert data == (
        b"HTTP/1.1 200 OK\r\n"
        b"Content-Type: text/plain; charset=utf-8\r\n"
        b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
        b"Content-Length: 6\r\n"
        b"\r\n"
        b"h\xc3\xa9llo"
    )


def test_bytes_with_a_type_of_their_own() -> None:
    response = Response(b"{}", 201, {"content-type": "application/json", "X": "y"})
    assert answer(response)[0] == (
        b"HTTP/1.1 201 Created\r\n"
        b"content-type: application/json\r\n"
        b"X: y\r\n"
        b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
        b"Content-Length: 2\r\n"
        b"\r\n"
        b"{}"
    )


@pytest.mark.parametrize("body", [None, "", b""])
def test_an_empty_body_has_its_length(body: Any) -> None:
    [parsed] = parse_answers(answer(Response(body))[0])
    assert (parsed.headers["content-length"], parsed.body) == ("0", b"")


@pytest.mark.parametrize("length", ["0", "3", "99", "-1", "x"])
def test_the_length_is_right_whatever_is_said_of_it(length: str) -> None:
    response = Response("hello", headers={"Content-Length": length, "Transfer-Encoding": "chunked"})
    [parsed] = parse_answers(answer(response)[0])
    assert [value for name, value in parsed.fields if name.lower() == "content-length"] == ["5"]
    assert "transfer-encoding" not in parsed.headers
    assert parsed.body == b"hello"


@pytest.mark.parametrize("status", [200, 201, 404, 500])
@pytest.mark.parametrize("connection", [KEEP, KEEP_OLD, CLOSE])
def test_a_head_is_as_a_get_without_its_body(status: int, connection: bytes) -> None:
    response = Response("hello", status)
    whole, after = answer(response, "GET", connection)
    assert whole.endswith(b"\r\n\r\nhello")
    assert answer(response, "HEAD", connection) == (whole[:-5], after)


def test_only_a_head_goes_without_its_body() -> None:
    for method in ("GET", "POST", "OPTIONS", "head", "HEADER", ""):
        assert answer(Response("hello"), method)[0].endswith(b"\r\n\r\nhello")


@pytest.mark.parametrize("status", [204, 304])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
@pytest.mark.parametrize("body", ["hello", b"hello", "", None])
def test_a_status_without_a_body_has_none(status: int, method: str, body: Any) -> None:
    response = Response(body, status, {"ETag": '"a"', "Content-Length": "5"})
    data, after = answer(response, method)
    phrase = {204: b"No Content", 304: b"Not Modified"}[status]
    assert data == (
        b"HTTP/1.1 %d %b\r\n" % (status, phrase) + b'ETag: "a"\r\n'
        b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
        b"\r\n"
    )
    assert after is KEEP


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
@pytest.mark.parametrize("body", ["hello", b"hello", "", None])
def test_a_205_says_that_it_has_no_body(method: str, body: Any) -> None:
    """It must have none (RFC 9110 section 15.3.6), and a client that is not told so would wait for one."""
    data, after = answer(Response(body, 205, {"Content-Length": "5"}), method)
    assert data == b"HTTP/1.1 205 Reset Content\r\n" + DATE + b"Content-Length: 0\r\n\r\n"
    assert after is KEEP


@pytest.mark.parametrize(("version", "connection"), [("1.1", KEEP), ("1.0", KEEP_OLD)])
def test_a_stream_with_205_has_no_body(version: str, connection: bytes) -> None:
    request = a_request(version=version)
    data, after = stream_head(SSEResponse(events(), status=205), None, request, DATE, connection)
    start = b"HTTP/1.1 205 Reset Content\r\n"
    assert data == start + DATE + b"Content-Length: 0\r\n" + connection + b"\r\n"
    assert after is connection


def test_a_status_without_a_body_may_end_the_connection() -> None:
    data, after = answer(Response(None, 204, {"Connection": "close"}))
    assert data.endswith(b"Connection: close\r\n\r\n")
    assert after is CLOSE


@pytest.mark.parametrize(
    ("connection", "line"),
    [(KEEP, b""), (KEEP_OLD, b"Connection: keep-alive\r\n"), (CLOSE, b"Connection: close\r\n")],
)
def test_the_connection_is_said_last(connection: bytes, line: bytes) -> None:
    data, after = answer(Response("hello"), connection=connection)
    assert data.endswith(b"Content-Length: 5\r\n" + line + b"\r\nhello")
    assert after is connection


@pytest.mark.parametrize("connection", [KEEP, KEEP_OLD, CLOSE])
def test_a_response_may_end_the_connection(connection: bytes) -> None:
    data, after = answer(Response("hello", headers={"Connection": "close"}), connection=connection)
    assert after is CLOSE
    assert data.endswith(b"Content-Length: 5\r\nConnection: close\r\n\r\nhello")


def test_cookies_are_not_joined() -> None:
    response = Response("hello", headers=[("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")])
    [parsed] = parse_answers(answer(response)[0])
    assert [value for name, value in parsed.fields if name == "Set-Cookie"] == ["a=1", "b=2"]


@pytest.mark.parametrize(
    "response",
    [
        Response("hello", 99),
        Response("hello", 100),
        Response("hello", 600),
        Response("hello", "200"),  # type: ignore[arg-type]
        Response("hello", 204.0),  # type: ignore[arg-type]
        Response("hello", headers={"X": "a\r\nSet-Cookie: b"}),
        Response("hello", headers={"X\r\nSet-Cookie": "b"}),
        Response("hello", headers={"X": "\u2603"}),
        Response("hello", headers={"X": 1}),  # type: ignore[arg-type]
        Response(None, 204, {"X": "a\r\nb"}),
    ],
    ids=lambda response: f"{response.status!r} {response.headers}",
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_what_must_not_be_sent_is_refused(response: Response, method: str) -> None:
    with pytest.raises(InvalidResponse):
        answer(response, method)


# Streams


def test_a_stream_is_chunked() -> None:
    data, after = stream_head(SSEResponse(events()), None, a_request(), DATE, KEEP)
    assert data == (
        b"HTTP/1.1 200 OK\r\n"
        b"Content-Type: text/event-stream; charset=utf-8\r\n"
        b"Cache-Control: no-store\r\n"
        b"X-Accel-Buffering: no\r\n"
        b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
        b"Transfer-Encoding: chunked\r\n"
        b"\r\n"
    )
    assert after is KEEP


@pytest.mark.parametrize("connection", [KEEP_OLD, CLOSE])
def test_to_http_1_0_the_end_of_a_stream_is_that_of_the_connection(connection: bytes) -> None:
    data, after = stream_head(
        SSEResponse(events()), None, a_request(version="1.0"), DATE, connection
    )
    assert data == (
        b"HTTP/1.1 200 OK\r\n"
        b"Content-Type: text/event-stream; charset=utf-8\r\n"
        b"Cache-Control: no-store\r\n"
        b"X-Accel-Buffering: no\r\n"
        b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
        b"Connection: close\r\n"
        b"\r\n"
    )
    assert after is CLOSE


def test_headers_of_a_stream_replace_the_defaults() -> None:
    headers = {
        "CACHE-CONTROL": "no-cache",
        "content-type": "text/event-stream",
        "X-Accel-Buffering": "yes",
        "X": "y",
    }
    data, _ = stream_head(SSEResponse(events()), headers, a_request(), DATE, KEEP)
    assert data == (
        b"HTTP/1.1 200 OK\r\n"
        b"CACHE-CONTROL: no-cache\r\n"
        b"content-type: text/event-stream\r\n"
        b"X-Accel-Buffering: yes\r\n"
        b"X: y\r\n"
        b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
        b"Transfer-Encoding: chunked\r\n"
        b"\r\n"
    )


def test_a_plain_streamed_body_has_a_plain_type() -> None:
    data, _ = stream_head(Response(events(), 201), None, a_request(), DATE, CLOSE)
    assert data == (
        b"HTTP/1.1 201 Created\r\n"
        b"Content-Type: application/octet-stream\r\n"
        b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
        b"Transfer-Encoding: chunked\r\n"
        b"Connection: close\r\n"
        b"\r\n"
    )


@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_a_length_of_a_stream_is_not_sent(version: str) -> None:
    response = Response(events(), headers={"Content-Length": "5", "Transfer-Encoding": "gzip"})
    data, _ = stream_head(response, response.headers, a_request(version=version), DATE, KEEP)
    assert b"Content-Length" not in data
    assert b"gzip" not in data


@pytest.mark.parametrize("status", [204, 304])
@pytest.mark.parametrize(("version", "connection"), [("1.1", KEEP), ("1.0", KEEP_OLD)])
def test_a_stream_without_a_body_has_no_framing(
    status: int, version: str, connection: bytes
) -> None:
    response = SSEResponse(events(), status=status)
    data, after = stream_head(
        response, response.headers, a_request(version=version), DATE, connection
    )
    assert data.partition(b"\r\n")[2] == DATE + connection + b"\r\n"
    assert after is connection


def test_a_stream_may_end_the_connection() -> None:
    response = SSEResponse(events(), {"Connection": "close"})
    data, after = stream_head(response, response.headers, a_request(), DATE, KEEP)
    assert data.endswith(b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n")
    assert after is CLOSE


def test_a_stream_that_must_not_be_sent_is_refused() -> None:
    with pytest.raises(InvalidResponse):
        stream_head(SSEResponse(events()), {"X": "a\nb"}, a_request(), DATE, KEEP)


# Errors


@pytest.mark.parametrize(
    ("error", "status", "body"),
    [
        (HTTPError(404), 404, "Not Found\n"),
        (HTTPError(404, "no such log"), 404, "no such log\n"),
        (HTTPError(503, "later", {"Retry-After": "5"}), 503, "later\n"),
        (InvalidBody("The body is not JSON: what"), 400, "The body is not JSON: what\n"),
        (RequestRefused(405, "no TRACE", {"Allow": "GET"}), 405, "no TRACE\n"),
    ],
)
def test_an_http_error_is_answered_as_it_says(error: HTTPError, status: int, body: str) -> None:
    response = error_response(error)
    assert (response.status, response.body, response.headers) == (status, body, error.headers)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("secret"),
        InvalidResponse("secret"),
        RuntimeError("secret"),
        SystemExit("secret"),
        KeyError("secret"),
    ],
)
def test_of_any_other_error_nothing_is_told(error: BaseException) -> None:
    data, after = answer(error_response(error))
    assert data == (
        b"HTTP/1.1 500 Internal Server Error\r\n"
        b"Content-Type: text/plain; charset=utf-8\r\n"
        b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
        b"Content-Length: 22\r\n"
        b"\r\n"
        b"Internal Server Error\n"
    )
    assert after is KEEP


def test_an_error_without_a_body_has_none() -> None:
    data, _ = answer(error_response(HTTPError(404)), "HEAD", CLOSE)
    assert data.endswith(b"Content-Length: 10\r\nConnection: close\r\n\r\n")


def test_an_error_cannot_forge_headers_either() -> None:
    with pytest.raises(InvalidResponse):
        answer(error_response(HTTPError(302 + 100, headers={"Location": "/\r\nSet-Cookie: a"})))


# Who is turned away


@pytest.mark.parametrize(
    ("accept", "status"),
    [
        ("text/event-stream", 200),
        ("Text/Event-Stream", 200),
        ("text/html, text/event-stream;q=0.5, */*", 200),
        ("text/html ,\tTEXT/EVENT-STREAM ; Q=1.000", 200),
        ("text/event-stream;charset=utf-8", 200),
        ("text/event-stream;q=0.001", 200),
        ("text/event-stream;q=0,text/event-stream", 200),
        ("text/event-stream;q=0", 503),
        ("text/event-stream; q=0.000", 503),
        ("text/event-stream;charset=utf-8 ; Q=0.", 503),
        ("text/html, Text/Event-Stream;q=0, */*", 503),
        ("text/event-streams", 503),
        ("x-text/event-stream", 503),
        ("text/html;a=text/event-stream", 503),
        ("text/*", 503),
        ("*/*", 503),
        ("", 503),
        (",;,", 503),
        (None, 503),
    ],
)
def test_an_event_source_is_told_so_by_a_stream(accept: str | None, status: int) -> None:
    headers = {"host": "a"} if accept is None else {"host": "a", "accept": accept}
    assert turned_away(Request("GET", "/", headers)).status == status


def test_the_stream_that_turns_away_is_as_streams_are() -> None:
    """A proxy that keeps it back would keep the reconnection time back."""
    request = Request("GET", "/", {"host": "a", "accept": "text/event-stream"})
    (got,) = parse_answers(answer(turned_away(request))[0])
    for name, line in SSEResponse.stream_defaults.pairs:
        assert f"{got.headers[name]}\r\n".encode() == line.partition(b": ")[2]
    assert got.closes
