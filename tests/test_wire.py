"""Response heads as exact bytes, and everything that must not get into one."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bunpy.errors import InvalidResponse
from bunpy.http.wire import (
    BODILESS,
    CHUNKED,
    CLOSE,
    CONTINUE,
    KEEP,
    KEEP_OLD,
    NO_FIELDS,
    Fields,
    Headers,
    date_line,
    head,
    status_line,
    usual_answer,
)

DATE = b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
LENGTH = b"Content-Length: 5\r\n"
TEXT = Fields(("content-type", b"Content-Type: text/plain; charset=utf-8\r\n"))
STREAM = Fields(
    ("content-type", b"Content-Type: text/event-stream; charset=utf-8\r\n"),
    ("cache-control", b"Cache-Control: no-store\r\n"),
)


def a_head(
    headers: Headers | None = None,
    status: int = 200,
    defaults: Fields = TEXT,
    framing: bytes = LENGTH,
    connection: bytes = KEEP,
) -> bytes:
    return head(status, headers, defaults, framing, DATE, connection)[0]


# Status lines


@pytest.mark.parametrize(
    ("status", "line"),
    [
        (200, b"HTTP/1.1 200 OK\r\n"),
        (204, b"HTTP/1.1 204 No Content\r\n"),
        (304, b"HTTP/1.1 304 Not Modified\r\n"),
        (404, b"HTTP/1.1 404 Not Found\r\n"),
        (431, b"HTTP/1.1 431 Request Header Fields Too Large\r\n"),
        (500, b"HTTP/1.1 500 Internal Server Error\r\n"),
        (HTTPStatus.CREATED, b"HTTP/1.1 201 Created\r\n"),
        (299, b"HTTP/1.1 299 Unknown\r\n"),
        (599, b"HTTP/1.1 599 Unknown\r\n"),
    ],
)
def test_a_status_line(status: int, line: bytes) -> None:
    assert status_line(status) == line


def test_every_status_has_its_phrase() -> None:
    for status in HTTPStatus:
        if status >= 200:
            assert (
                status_line(status.value) == f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode()
            )


@pytest.mark.parametrize(
    "status",
    [
        -200,
        0,
        1,
        20,
        100,
        101,
        199,
        600,
        999,
        2000,
        True,
        200.0,
        "200",
        "200 OK\r\nX: y",
        b"200",
        None,
    ],
)
def test_a_status_that_is_none(status: Any) -> None:
    message = f"a response's status is an int from 200 to 599, not {status!r}: 1xx answers are the server's"
    for _ in range(2):  # also when it has been asked for before
        with pytest.raises(InvalidResponse, match=re.escape(message)):
            status_line(status)
        with pytest.raises(InvalidResponse, match=re.escape(message)):
            a_head(status=status)
        with pytest.raises(InvalidResponse, match=re.escape(message)):
            a_head({"X": "y"}, status=status)


def test_a_status_is_not_taken_for_its_equal() -> None:
    """200.0 == 200: a cache that takes them for one gives the line that the check would have refused."""
    assert status_line(200)
    assert a_head()
    with pytest.raises(InvalidResponse):
        status_line(200.0)
    with pytest.raises(InvalidResponse):
        a_head(status=200.0)  # type: ignore[arg-type]


# Heads


@pytest.mark.parametrize("headers", [None, {}, [], ()])
def test_a_head_without_headers_of_its_own(headers: Headers | None) -> None:
    assert a_head(headers) == (
        b"HTTP/1.1 200 OK\r\n"
        b"Content-Type: text/plain; charset=utf-8\r\n"
        b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
        b"Content-Length: 5\r\n"
        b"\r\n"
    )


def test_a_head_with_headers() -> None:
    assert a_head({"X-One": "1", "x-two": "2"}, 404) == (
        b"HTTP/1.1 404 Not Found\r\n"
        b"X-One: 1\r\n"
        b"x-two: 2\r\n"
        b"Content-Type: text/plain; charset=utf-8\r\n"
        b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
        b"Content-Length: 5\r\n"
        b"\r\n"
    )


def test_a_head_of_a_stream() -> None:
    assert a_head(defaults=STREAM, framing=CHUNKED) == (
        b"HTTP/1.1 200 OK\r\n"
        b"Content-Type: text/event-stream; charset=utf-8\r\n"
        b"Cache-Control: no-store\r\n"
        b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
        b"Transfer-Encoding: chunked\r\n"
        b"\r\n"
    )


def test_a_bare_head() -> None:
    assert a_head(status=204, defaults=NO_FIELDS, framing=b"") == (
        b"HTTP/1.1 204 No Content\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("connection", "line"),
    [(KEEP, b""), (KEEP_OLD, b"Connection: keep-alive\r\n"), (CLOSE, b"Connection: close\r\n")],
)
@pytest.mark.parametrize("headers", [None, {"X": "y"}])
def test_a_head_says_what_becomes_of_the_connection(
    connection: bytes, line: bytes, headers: Headers | None
) -> None:
    data, after = head(200, headers, TEXT, LENGTH, DATE, connection)
    assert data.endswith(LENGTH + line + b"\r\n")
    assert after is connection


def test_the_interim_answer() -> None:
    assert CONTINUE == b"HTTP/1.1 100 Continue\r\n\r\n"


def test_the_statuses_without_a_body() -> None:
    assert set(BODILESS) == {204, 205, 304}


@pytest.mark.parametrize("name", ["Content-Type", "content-type", "CONTENT-TYPE", "cOnTeNt-TyPe"])
@pytest.mark.parametrize("as_pairs", [False, True])
def test_headers_replace_defaults_whatever_their_case(name: str, as_pairs: bool) -> None:
    headers: Headers = [(name, "text/html")] if as_pairs else {name: "text/html"}
    assert a_head(headers, defaults=STREAM, framing=CHUNKED) == (
        b"HTTP/1.1 200 OK\r\n" + name.encode() + b": text/html\r\n"
        b"Cache-Control: no-store\r\n"
        b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
        b"Transfer-Encoding: chunked\r\n"
        b"\r\n"
    )


@pytest.mark.parametrize("name", ["Date", "date"])
def test_a_date_replaces_the_date(name: str) -> None:
    data = a_head({name: "Thu, 01 Jan 1970 00:00:00 GMT"})
    assert re.findall(rb"(?i)^date: .*", data, re.MULTILINE) == [
        name.encode() + b": Thu, 01 Jan 1970 00:00:00 GMT\r"
    ]


def test_pairs_may_repeat_a_name() -> None:
    data = a_head([("Set-Cookie", "a=1"), ("X", "y"), ("Set-Cookie", "b=2; HttpOnly")])
    assert data.startswith(
        b"HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nX: y\r\nSet-Cookie: b=2; HttpOnly\r\nContent-Type: "
    )


def test_pairs_may_be_made_one_by_one() -> None:
    def pairs() -> Iterator[tuple[str, str]]:
        yield "X", "1"
        yield "X", "2"

    assert b"\r\nX: 1\r\nX: 2\r\n" in a_head(pairs())


class Proxy(Mapping[str, str]):
    """A mapping that is no dict."""

    def __getitem__(self, name: str) -> str:
        return {"X": "y"}[name]

    def __iter__(self) -> Iterator[str]:
        return iter(("X",))

    def __len__(self) -> int:
        return 1


def test_any_mapping_will_do() -> None:
    assert b"\r\nX: y\r\n" in a_head(Proxy())


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ("", b"X: \r\n"),
        ("a b", b"X: a b\r\n"),
        ("  a  ", b"X: a\r\n"),
        ("a\tb", b"X: a\tb\r\n"),
        ("caf\xe9", b"X: caf\xe9\r\n"),
        ("\x80\xff", b"X: \x80\xff\r\n"),
        ('W/"a", *;q=0.5', b'X: W/"a", *;q=0.5\r\n'),
    ],
)
def test_a_value(value: str, line: bytes) -> None:
    assert a_head({"X": value}).startswith(b"HTTP/1.1 200 OK\r\n" + line + b"Content-Type")


def test_every_character_of_a_token_may_be_in_a_name() -> None:
    name = "!#$%&'*+-.^_`|~09azAZ"
    assert b"\r\n" + name.encode() + b": y\r\n" in a_head({name: "y"})


@pytest.mark.parametrize("status", [200, 404, 599])
@pytest.mark.parametrize("defaults", [TEXT, STREAM, NO_FIELDS])
@pytest.mark.parametrize("body", [b"", b"hello", b"%b\r\n\x00\xff" * 500])
@pytest.mark.parametrize("connection", [KEEP, KEEP_OLD, CLOSE])
def test_the_usual_answer_is_that_head_and_that_body(
    status: int, defaults: Fields, body: bytes, connection: bytes
) -> None:
    framing = b"Content-Length: %d\r\n" % len(body)
    start, _ = head(status, None, defaults, framing, DATE, connection)
    assert usual_answer(status, defaults, body, DATE, connection) == start + body


@pytest.mark.parametrize("status", [100, 199, 600, True, 200.0, "200"])
def test_no_usual_answer_has_a_status_that_is_none(status: Any) -> None:
    assert usual_answer(200, TEXT, b"", DATE, KEEP)
    with pytest.raises(InvalidResponse, match="a response's status is an int from 200 to 599"):
        usual_answer(status, TEXT, b"", DATE, KEEP)


def test_fields_as_pairs_and_as_lines() -> None:
    assert [name for name, _ in STREAM.pairs] == ["content-type", "cache-control"]
    assert STREAM.lines == (
        b"Content-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-store\r\n"
    )
    assert (NO_FIELDS.pairs, NO_FIELDS.lines) == ((), b"")


# What is the server's to say


@pytest.mark.parametrize(
    "name", ["Content-Length", "Transfer-Encoding", "Connection", "Keep-Alive", "Upgrade"]
)
@pytest.mark.parametrize("spelling", [str, str.lower, str.upper])
def test_a_field_that_is_the_servers_is_not_sent(name: str, spelling: Any) -> None:
    assert a_head({spelling(name): "7", "X": "y"}) == a_head({"X": "y"})


@pytest.mark.parametrize("value", ["close", "Close", "CLOSE", "x, close", "close, x"])
@pytest.mark.parametrize("name", ["Connection", "connection"])
@pytest.mark.parametrize("connection", [KEEP, KEEP_OLD, CLOSE])
def test_a_close_is_heeded(name: str, value: str, connection: bytes) -> None:
    data, after = head(200, {name: value}, TEXT, LENGTH, DATE, connection)
    assert after is CLOSE
    assert data == head(200, None, TEXT, LENGTH, DATE, CLOSE)[0]


@pytest.mark.parametrize("value", ["keep-alive", "upgrade", ""])
@pytest.mark.parametrize("connection", [KEEP, KEEP_OLD, CLOSE])
def test_anything_else_said_of_the_connection_is_not(value: str, connection: bytes) -> None:
    data, after = head(200, {"Connection": value}, TEXT, LENGTH, DATE, connection)
    assert after is connection
    assert data == head(200, None, TEXT, LENGTH, DATE, connection)[0]


# What must not be sent


def refused(headers: Any) -> str:
    """Why a head with these headers is refused, as it is when it is asked for again."""
    messages = set()
    for _ in range(2):
        with pytest.raises(InvalidResponse) as error:
            a_head(headers)
        messages.add(str(error.value))
    assert len(messages) == 1
    return messages.pop()


@pytest.mark.parametrize("code", [*range(9), *range(10, 32), 127])
def test_a_control_in_a_value_is_refused(code: int) -> None:
    for value in (chr(code), f"a{chr(code)}b", f"{chr(code)}a", f"a{chr(code)}"):
        message = refused({"X-Name": value})
        assert message.startswith(
            f"the value of header X-Name has a control character in it: {value!r}"
        )
        assert refused([("A", "b"), ("X-Name", value)]) == message


@pytest.mark.parametrize(
    "value",
    ["a\r\nSet-Cookie: b", "a\r\n\r\n<script>", "a\n b", "a\rb", "\r\n", "a\0"],
)
@pytest.mark.parametrize(
    "name", ["X", "Content-Type", "Date", "Content-Length", "Connection", "Transfer-Encoding"]
)
def test_a_forged_line_is_refused_in_every_header(name: str, value: str) -> None:
    """Also in those that are not sent."""
    assert repr(value) in refused({name: value})


@pytest.mark.parametrize("code", [*range(33), *b'"(),/:;<=>?@[\\]{}', *range(127, 256)])
def test_a_character_that_is_in_no_token_is_refused_in_a_name(code: int) -> None:
    for name in (chr(code), f"X{chr(code)}Y", f"{chr(code)}X", f"X{chr(code)}"):
        assert (
            refused({name: "y"})
            == f"{name!r} is no header name: it is a token (RFC 9110 section 5.1)"
        )


@pytest.mark.parametrize(
    "name", ["", "X\r\nSet-Cookie: a", "X:", "X\n", "\u2603", "\u212a", 1, None, b"X", ("X",)]
)
def test_a_name_that_is_none_is_refused(name: Any) -> None:
    assert (
        refused([(name, "y")])
        == f"{name!r} is no header name: it is a token (RFC 9110 section 5.1)"
    )


@pytest.mark.parametrize("value", [1, 1.5, True, None, b"y", ["y"], ("y",), {"y": 1}, object])
def test_a_value_that_is_no_str_is_refused(value: Any) -> None:
    expected = f"the value of header X is {value!r} ({type(value).__name__}): make it a str"
    assert refused({"X": value}) == expected
    assert refused([("X", value)]) == expected


@pytest.mark.parametrize("value", ["\u2603", "a\u0100", "\ud800", "\U0001f600"])
def test_a_value_that_is_not_latin_1_is_refused(value: str) -> None:
    assert refused({"X": value}) == (
        f"the value of header X is not latin-1: {value!r}; percent-encode it (RFC 8187)"
    )


def test_a_value_is_not_taken_for_its_equal() -> None:
    """As a header's cached line would be, if 1 were asked for after True, or b"" after "" under -bb."""
    assert a_head({"X": "1"})
    for value in (1, True, 1.0):
        refused({"X": value})


@given(st.text(max_size=20), st.text(max_size=20))
def test_a_head_has_the_lines_that_were_given_or_is_refused(name: str, value: str) -> None:
    try:
        data = a_head({name: value}, defaults=NO_FIELDS)
    except InvalidResponse:
        return
    lines = data.split(b"\r\n")
    assert lines[0] == b"HTTP/1.1 200 OK"
    assert lines[-2:] == [b"", b""]
    assert (
        3
        <= len(lines[:-2]) + (name.lower() in ("date", "content-length", "connection", "upgrade"))
        <= 5
    )
    assert not re.search(rb"[\x00-\x08\x0a-\x0c\x0e-\x1f\x7f]", data.replace(b"\r\n", b""))
    assert b"\r" not in data.replace(b"\r\n", b"")


# The date


def test_the_date_is_now_in_the_one_good_format() -> None:
    before = int(time.time())
    line = date_line().decode()
    after = int(time.time())
    match = re.fullmatch(
        r"Date: ((?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d (?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) \d{4}"
        r" \d\d:\d\d:\d\d GMT)\r\n",
        line,
    )
    assert match
    assert before <= parsedate_to_datetime(match[1]).timestamp() <= after


@pytest.mark.parametrize(
    ("now", "line"),
    [
        (0.0, b"Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n"),
        (784111777.999, b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"),
        (1709164800.0, b"Date: Thu, 29 Feb 2024 00:00:00 GMT\r\n"),
    ],
)
def test_the_date_of_a_time(monkeypatch: pytest.MonkeyPatch, now: float, line: bytes) -> None:
    monkeypatch.setattr("bunpy.http.wire.time.time", lambda: now)
    assert date_line() == line


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (10**400, {}),
        (200, {"X": "\n" * 100_000}),
        (200, {"X": "日" * 100_000}),
        (200, {"X": ["a" * 100_000]}),
        (200, {"X " * 100_000: "a"}),
    ],
    ids=range(5),
)
def test_a_refusal_is_short(status: int, headers: Any) -> None:
    """It goes to the log, whatever a handler took from its client."""
    with pytest.raises(InvalidResponse) as error:
        head(status, headers, NO_FIELDS, b"", b"", KEEP)
    assert len(str(error.value)) < 250
