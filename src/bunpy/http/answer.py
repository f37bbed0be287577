"""A response and the request it answers, as bytes: what depends on both. The connection's state is not here."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final

from bunpy.errors import HTTPError
from bunpy.http.request_id import REQUEST_ID
from bunpy.http.response import Content, Response
from bunpy.http.wire import (
    BODILESS,
    CHUNKED,
    CLOSE,
    KEEP,
    KEEP_OLD,
    NO_FIELDS,
    Headers,
    head,
    usual_answer,
)

if TYPE_CHECKING:
    from bunpy.http.request import Request
    from bunpy.http.service import Service

__all__ = [
    "connection_after",
    "error_response",
    "fields_of",
    "plain_answer",
    "stream_head",
    "turned_away",
]

#: Seconds, from and to: when whoever is turned away may come back.
_RETURN_TIME: Final = (30, 90)

#: Bytes of a body that is not copied to stand behind its head: one of 100 MB would hold the loop for 50 ms and more.
_LARGE: Final = 64 * 1024

#: The parameter of a media range that is not acceptable (RFC 9110 section 12.4.2).
_UNWANTED: Final = re.compile(r"q=0(?:\.0{0,3})?")


def connection_after(request: Request, keeps_alive: bool) -> bytes:
    """What becomes of the connection after the answer (RFC 9112 section 9.3)."""
    if not keeps_alive:
        return CLOSE
    return KEEP if request.http_version == "1.1" else KEEP_OLD


def plain_answer(
    status: int,
    headers: Headers | None,
    content: Content,
    method: str,
    date: bytes,
    connection: bytes,
) -> tuple[bytes, bytes, bytes]:
    """A whole response in one piece; after that, if it is large, its body; and what becomes of the connection.

    ``InvalidResponse`` if it must not be sent.
    """
    body, defaults = content
    if status in BODILESS:
        start, connection = head(status, headers, NO_FIELDS, BODILESS[status], date, connection)
        return start, b"", connection
    if not headers and method != "HEAD" and len(body) <= _LARGE:
        return usual_answer(status, defaults, body, date, connection), b"", connection
    framing = b"Content-Length: %d\r\n" % len(body)
    start, connection = head(status, headers, defaults, framing, date, connection)
    if method == "HEAD":
        return start, b"", connection
    return (start, body, connection) if len(body) > _LARGE else (start + body, b"", connection)


def stream_head(
    response: Response,
    headers: Headers | None,
    request: Request,
    date: bytes,
    connection: bytes,
) -> tuple[bytes, bytes]:
    """The head of a streamed response: chunked, or for HTTP/1.0 ended by the connection's end."""
    if response.status in BODILESS:
        framing = BODILESS[response.status]
        return head(response.status, headers, NO_FIELDS, framing, date, connection)
    framing = CHUNKED
    if request.http_version != "1.1":
        framing, connection = b"", CLOSE
    return head(response.status, headers, response.stream_defaults, framing, date, connection)


def error_response(exc: BaseException) -> Response:
    """What a client is told of an error: an ``HTTPError`` what it says, of anything else nothing."""
    if isinstance(exc, HTTPError):
        return Response(f"{exc.message}\n", exc.status, exc.headers)
    return Response("Internal Server Error\n", 500)


def fields_of(
    response: Response, request: Request, service: Service
) -> tuple[Headers | None, bytes]:
    """The header fields of an answer, those for CORS included, and the lines that are the server's own: the Date and,
    where the request has an id, X-Request-Id.
    """
    headers, cors = response.headers, service.config.cors
    if cors is not None:
        headers = cors.headers_for(request, response)
    if not request.has_id:
        return headers, service.date
    if isinstance(headers, Iterator):
        headers = [*headers]  # it is looked through twice
    return headers, _with_request_id(service.date, headers, request)


def _with_request_id(date: bytes, headers: Headers | None, request: Request) -> bytes:
    """The Date field, and after it X-Request-Id unless that is among ``headers``.

    It is not put among them: each id is another, and the lines that are made of those are kept.
    """
    if headers:
        pairs = headers.items() if isinstance(headers, Mapping) else headers
        if any(isinstance(name, str) and name.lower() == REQUEST_ID for name, _ in pairs):
            return date
    return b"%bX-Request-Id: %b\r\n" % (date, request.id.encode())


def turned_away(request: Request) -> Response:
    """What a client is told for which there is no room: to come back later.

    An EventSource gives up for good on any status but 200 (WHATWG HTML 9.2.3): it gets an event stream that only sets
    its reconnection time, and ends.
    """
    later = random.uniform(*_RETURN_TIME)
    if _accepts_events(request.headers.get("accept", "")):
        return Response(
            f"retry: {int(later * 1000)}\n\n",
            200,
            {
                "Content-Type": "text/event-stream; charset=utf-8",
                "Cache-Control": "no-store",
                "X-Accel-Buffering": "no",
                "Connection": "close",
            },
        )
    return Response(
        "The server is full\n", 503, {"Retry-After": str(int(later)), "Connection": "close"}
    )


def _accepts_events(accept: str) -> bool:
    """Whether an Accept field names event streams, as an EventSource's does; a wildcard does not (section 12.5.1)."""
    for item in accept.lower().split(","):
        kind, *parameters = (part.strip(" \t") for part in item.split(";"))
        if kind == "text/event-stream" and not any(map(_UNWANTED.fullmatch, parameters)):
            return True
    return False
