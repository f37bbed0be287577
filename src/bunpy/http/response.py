"""What a handler answers with, and what each kind of answer means. Sending it is the protocol's."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Iterator, Mapping
from types import AsyncGeneratorType
from typing import TYPE_CHECKING, Any, Final

from bunpy.errors import InvalidResponse
from bunpy.http.wire import NO_FIELDS, Fields, Headers

if TYPE_CHECKING:
    from bunpy.sse.reason import EndReason

__all__ = ["ASYNC", "STREAMED", "Body", "Content", "Response", "response_from"]

#: A body's bytes, and the header fields that go with its type.
Content = tuple[bytes, Fields]

#: What a response's body may be; a generator of str or bytes is streamed.
Body = str | bytes | bytearray | memoryview | AsyncIterable[Any] | Iterator[Any] | None

#: The types of bodies that are streamed. Async generators are that, and found out 0.2 µs sooner than by an ABC.
ASYNC: Final = (AsyncGeneratorType, AsyncIterable)
STREAMED: Final = (*ASYNC, Iterator)

_DICT_KEYS: Final = frozenset({"status", "headers", "body"})

_TEXT: Final = Fields(("content-type", b"Content-Type: text/plain; charset=utf-8\r\n"))
_BYTES: Final = Fields(("content-type", b"Content-Type: application/octet-stream\r\n"))


class Response:
    """A response (RFC 9110 section 6): ``status`` 200 to 599, ``headers``, and a ``body``.

    The body is text (sent as UTF-8), bytes, None for none, or a plain or async generator of either, which is
    streamed. ``headers`` is a mapping, or pairs where a name comes more than once; it replaces the default
    Content-Type. Content-Length, Transfer-Encoding and Connection are the server's: only ``Connection: close`` is
    heeded. What must not be sent is refused when it would be: the client gets 500, the log says why.
    """

    __slots__ = ("body", "headers", "status")

    #: Header lines that ``headers`` replace when the body is streamed.
    stream_defaults: Fields = _BYTES
    #: Only event streams are told of their ends.
    on_close: Callable[[EndReason], Any] | None = None

    def __init__(self, body: Body = "", status: int = 200, headers: Headers | None = None) -> None:
        self.body = body
        self.status = status
        self.headers = headers

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.status}>"

    def content(self) -> Content | None:
        """The body's bytes and the header lines that go with its type; None if it is to be streamed."""
        body = self.body
        if isinstance(body, str):
            try:
                return str.encode(body), _TEXT  # what it says, whatever a class of its own encodes
            except UnicodeEncodeError as exc:
                raise InvalidResponse(f"the body has a lone surrogate: {exc}") from exc
        if body is None:
            return b"", NO_FIELDS
        if isinstance(body, (bytes, bytearray, memoryview)):
            return bytes(body), _BYTES
        if isinstance(body, STREAMED):
            return None
        raise InvalidResponse(
            f"a response's body is str, bytes, None or a generator of them, not {type(body).__name__}"
        )


def response_from(result: object) -> Response:
    """The response that a handler's return value stands for; ``InvalidResponse`` if it stands for none."""
    if isinstance(result, Response):
        return result
    if isinstance(result, dict):
        if len(result) == 1 and "body" in result:
            return Response(result["body"])
        body, status, headers = (
            result.get("body", ""),
            result.get("status", 200),
            result.get("headers"),
        )
        if len(result) > ("body" in result) + ("status" in result) + ("headers" in result):
            unknown = ", ".join(repr(key) for key in result if key not in _DICT_KEYS)
            raise InvalidResponse(
                f"a handler's dict has the keys status, headers and body, not {unknown}:"
                " json.dumps what is meant as a body"
            )
        if headers is not None and not isinstance(headers, (Mapping, list, tuple)):
            raise InvalidResponse(
                f"headers is a dict or a list of pairs, not {type(headers).__name__}"
            )
        return Response(body, status, headers)
    if isinstance(result, (str, bytes)):
        return Response(result)
    if result is None:
        return Response(None, 204)
    raise InvalidResponse(
        f"a handler returns SSEResponse, Response, dict, str, bytes or None, not {type(result).__name__}"
    )
