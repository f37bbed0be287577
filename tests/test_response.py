"""What a handler may answer with, and what it stands for."""

from __future__ import annotations

from collections import UserDict, UserString
from collections.abc import AsyncIterator, Iterator
from types import MappingProxyType
from typing import Any

import pytest

from bunpy.errors import InvalidResponse
from bunpy.http.response import Response, response_from
from bunpy.sse.response import SSEResponse

TEXT = (("content-type", b"Content-Type: text/plain; charset=utf-8\r\n"),)
BYTES = (("content-type", b"Content-Type: application/octet-stream\r\n"),)


class Words(str):
    __slots__ = ()


class Source:
    """Async iterable, and no generator."""

    def __aiter__(self) -> AsyncIterator[str]:
        return pieces()


async def pieces() -> AsyncIterator[str]:
    yield "never asked for"


def plain_pieces() -> Iterator[str]:
    yield "never asked for"


def test_a_response_is_what_it_was_given() -> None:
    response = Response()
    assert (response.body, response.status, response.headers) == ("", 200, None)
    headers = {"X": "y"}
    response = Response(b"a", 404, headers)
    assert (response.body, response.status, response.headers) == (b"a", 404, headers)
    assert response.headers is headers


def test_a_response_shows_its_kind_and_status() -> None:
    assert repr(Response("secret", 404)) == "<Response 404>"
    assert repr(SSEResponse(pieces())) == "<SSEResponse 200>"


def test_a_response_takes_no_other_attribute() -> None:
    with pytest.raises(AttributeError):
        Response().header = {}  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("body", "content"),
    [
        ("", (b"", TEXT)),
        ("h\xe9llo \u2603", (b"h\xc3\xa9llo \xe2\x98\x83", TEXT)),
        (Words("hello"), (b"hello", TEXT)),
        ("a\0\r\nb", (b"a\0\r\nb", TEXT)),
        (b"", (b"", BYTES)),
        (b"\x00\xff", (b"\x00\xff", BYTES)),
        (bytearray(b"abc"), (b"abc", BYTES)),
        (memoryview(b"abc"), (b"abc", BYTES)),
        (memoryview(b"abcd")[::2], (b"ac", BYTES)),
        (None, (b"", ())),
    ],
)
def test_the_content_of_a_body(body: Any, content: tuple[bytes, object]) -> None:
    given = Response(body).content()
    assert given is not None
    assert (given[0], given[1].pairs) == content


def test_the_content_is_not_changed_by_what_it_was_made_of() -> None:
    body = bytearray(b"abc")
    content = Response(body).content()
    body[0] = 0
    assert content is not None
    assert content[0] == b"abc"


@pytest.mark.parametrize(
    "make", [pieces, plain_pieces, Source, lambda: iter(["a"]), lambda: map(str, [1])]
)
def test_a_body_that_is_iterated_is_streamed(make: Any) -> None:
    assert Response(make()).content() is None


@pytest.mark.parametrize(
    "body",
    [0, 1.5, True, ["a"], ("a",), {"a": 1}, {"a"}, range(3), UserString("a"), pieces, object()],
)
def test_a_body_that_is_none_is_refused(body: Any) -> None:
    kind = type(body).__name__
    with pytest.raises(
        InvalidResponse,
        match=f"a response's body is str, bytes, None or a generator of them, not {kind}$",
    ):
        Response(body).content()


def test_a_text_is_what_it_says() -> None:
    """Whatever a class of its own makes of ``encode``: a stream sends the text too."""

    class Shout(str):
        __slots__ = ()

        def encode(self, *args: Any) -> bytes:
            return b"HELLO"

    given = Response(Shout("hello")).content()
    assert given is not None
    assert given[0] == b"hello"


@pytest.mark.parametrize("body", ["\ud800", "a\udfff"])
def test_a_lone_surrogate_is_refused(body: str) -> None:
    with pytest.raises(InvalidResponse, match="the body has a lone surrogate"):
        Response(body).content()


def test_a_streamed_body_is_bytes_unless_said_otherwise() -> None:
    assert Response(pieces()).stream_defaults.pairs == BYTES


# What a handler returns


@pytest.mark.parametrize("response", [Response("a", 404), SSEResponse(pieces())])
def test_a_response_is_itself(response: Response) -> None:
    assert response_from(response) is response


@pytest.mark.parametrize("result", ["", "hello", b"hello", Words("hello")])
def test_text_and_bytes_are_bodies(result: Any) -> None:
    response = response_from(result)
    assert (response.body, response.status, response.headers) == (result, 200, None)


def test_nothing_is_a_204() -> None:
    """On which an EventSource does not reconnect."""
    response = response_from(None)
    assert (response.body, response.status, response.headers) == (None, 204, None)


@pytest.mark.parametrize(
    ("result", "body", "status", "headers"),
    [
        ({}, "", 200, None),
        ({"body": "a"}, "a", 200, None),
        ({"status": 404}, "", 404, None),
        ({"status": 404, "body": b"a"}, b"a", 404, None),
        ({"headers": {"X": "y"}}, "", 200, {"X": "y"}),
        ({"headers": [("X", "y")]}, "", 200, [("X", "y")]),
        ({"headers": (("X", "y"),)}, "", 200, (("X", "y"),)),
        ({"headers": None, "body": None}, None, 200, None),
        ({"status": 201, "headers": {}, "body": "a"}, "a", 201, {}),
        ({"headers": MappingProxyType({"X": "y"})}, "", 200, {"X": "y"}),
    ],
)
def test_a_dict(result: dict[str, Any], body: object, status: int, headers: object) -> None:
    response = response_from(result)
    assert type(response) is Response
    assert (response.body, response.status, response.headers) == (body, status, headers)


@pytest.mark.parametrize(
    ("result", "unknown"),
    [
        ({"error": "x"}, "'error'"),
        ({"Status": 404}, "'Status'"),
        ({"status": 404, "header": {}, "json": 1}, "'header', 'json'"),
        ({1: 2, "body": "a"}, "1"),
        ({None: 1}, "None"),
        ({b"body": "a"}, "b'body'"),
    ],
)
def test_a_dict_with_other_keys_is_refused(result: dict[Any, Any], unknown: str) -> None:
    with pytest.raises(InvalidResponse) as error:
        response_from(result)
    assert str(error.value) == (
        f"a handler's dict has the keys status, headers and body, not {unknown}: json.dumps what is meant as a body"
    )


@pytest.mark.parametrize("headers", ["X: y", b"X: y", 1, {"X"}, iter([("X", "y")])])
def test_a_dict_with_headers_that_are_none_is_refused(headers: Any) -> None:
    with pytest.raises(
        InvalidResponse, match=f"headers is a dict or a list of pairs, not {type(headers).__name__}"
    ):
        response_from({"headers": headers})


@pytest.mark.parametrize(
    "result",
    [0, 404, 1.5, True, [], ["a"], (), ("a", 200), set(), object(), pieces, pieces(), plain_pieces(), bytearray(b"a"),
     UserDict(body="a"), Response, ValueError("a")],
    ids=lambda result: type(result).__name__,
)  # fmt: skip
def test_anything_else_is_refused_by_its_type(result: object) -> None:
    with pytest.raises(InvalidResponse) as error:
        response_from(result)
    assert str(error.value) == (
        "a handler returns SSEResponse, Response, dict, str, bytes or None, not "
        + type(result).__name__
    )
