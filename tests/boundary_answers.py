"""Cases of the boundary's table: what is answered, in which framing, and the handler that says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any, TypeVar

from boundary_cases import (
    Case,
    Saw,
    accepted,
    get,
    post,
    refused,
)

from bunpy.serve import HTTPError, Request, Response, SSEResponse

__all__ = ["CASES", "SECRET", "handler"]

Text = TypeVar("Text", str, "str | None")

#: What an exception says, and no client may read.
SECRET = "the secret of the exception"

#: A header that would make two answers out of one.
SPLIT = "a\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


async def pieces() -> AsyncIterator[str]:
    for piece in ("one", "two"):
        await asyncio.sleep(0)
        yield piece


async def events() -> AsyncIterator[str]:
    yield "one"
    yield "two"


def plain_pieces() -> Iterator[str]:
    yield "one"
    yield "two"


async def later() -> str:
    await asyncio.sleep(0)
    return "later"


async def fails_later() -> str:
    await asyncio.sleep(0)
    raise RuntimeError(SECRET)


async def fails_before_its_head() -> AsyncIterator[str]:
    await asyncio.sleep(0)
    raise RuntimeError(SECRET)
    yield ""


def fails(_: Request) -> None:
    raise RuntimeError(SECRET)


def not_found(_: Request) -> None:
    raise HTTPError(404, "there is none")


def spelled(fields: Mapping[str, Text]) -> dict[str, Text]:
    """Fields that are written as arguments: "-" for "_"."""
    return {name.replace("_", "-"): value for name, value in fields.items()}


def headers(**fields: str) -> Callable[[Request], Any]:
    return lambda _: {
        "headers": spelled(fields),
        "body": "x",
    }


def status(code: int) -> Callable[[Request], Any]:
    return lambda _: {"status": code, "body": "lost"}


#: What is answered at a path; at any other it is "seen".
_SITE: dict[str, Callable[[Request], Any]] = {
    "/none": lambda _: None,
    "/204": status(204),
    "/205": status(205),
    "/304": status(304),
    "/stream204": lambda _: {"status": 204, "body": pieces()},
    "/stream205": lambda _: {"status": 205, "body": pieces()},
    "/418": status(418),
    "/empty": lambda _: "",
    "/long": lambda _: "x" * 200_000,
    "/later": lambda _: later(),
    "/stream": lambda _: Response(pieces()),
    "/plain": lambda _: Response(plain_pieces()),
    "/events": lambda _: SSEResponse(events()),
    "/close": headers(Connection="close"),
    "/length": headers(Content_Length="500"),
    "/short": headers(Content_Length="0"),
    "/coding": headers(Transfer_Encoding="chunked"),
    "/keep": headers(Connection="keep-alive", Keep_Alive="timeout=1000"),
    "/upgrade": headers(Connection="upgrade", Upgrade="h2c"),
    "/type": headers(content_TYPE="text/html"),
    "/404": not_found,
    "/fails": fails,
    "/fails-later": lambda _: fails_later(),
    "/fails-stream": lambda _: Response(fails_before_its_head()),
    "/json": lambda req: req.json(),
    "/split": headers(X=SPLIT),
    "/crlf": headers(X="a\r\nY: b"),
    "/cr": headers(X="a\rb"),
    "/lf": headers(X="a\nb"),
    "/nul": headers(X="a\0b"),
    "/lf-at-the-end": headers(X="a\n"),
    "/name": lambda _: {"headers": {"X\r\nY": "a"}},
    "/name-colon": lambda _: {"headers": {"X: a\r\nY": "b"}},
    "/name-nul": lambda _: {"headers": {"X\0": "b"}},
    "/owned-split": headers(Content_Length="5\r\nX: y"),
    "/pairs-split": lambda _: {"headers": [("X", "a"), ("X", "b\r\nY: c")]},
    "/stream-split": lambda _: Response(pieces(), headers={"X": "a\r\nY: b"}),
    "/events-split": lambda _: SSEResponse(events(), headers={"X": "a\r\nY: b"}),
    "/error-split": lambda _: _raise(HTTPError(404, headers={"X": "a\r\nY: b"})),
    "/type-split": headers(Content_Type="text/html\r\nX: y"),
    "/client": lambda req: str((req.client or [""])[0] in ("198.51.100.7", "198.51.100.8")),
}


def _raise(exc: Exception) -> None:
    raise exc


def handler(req: Request) -> Any:
    answer = _SITE.get(req.url)
    return "seen" if answer is None else answer(req)


# Answers


def at(
    name: str,
    target: str,
    code: int = 200,
    method: str = "GET",
    version: str = "HTTP/1.1",
    *,
    body: bytes | None = None,
    closes: bool = False,
    why: str = "",
    framing: Mapping[str, str | None] | None = None,
    **fields: str | None,
) -> Case:
    """A request for ``target`` that is answered with ``code``, ``body``, and these fields, "_" for "-"."""
    return accepted(
        name,
        get(target=target, method=method, version=version),
        Saw(method, target),
        status=code,
        closes=closes,
        body=body,
        headers={**(framing or {}), **spelled(fields)},
        why=why,
    )


BODILESS: dict[str, str | None] = {"content-length": None, "transfer-encoding": None}
CHUNKED: dict[str, str | None] = {"content-length": None, "transfer-encoding": "chunked"}
OLD: dict[str, str | None] = {
    "content-length": None,
    "transfer-encoding": None,
    "connection": "close",
}

KINDS = [
    at(
        "a text",
        "/text",
        body=b"seen",
        content_length="4",
        content_type="text/plain; charset=utf-8",
    ),
    at("an empty text", "/empty", body=b"", content_length="0"),
    at("a long text", "/long", body=b"x" * 200_000, content_length="200000"),
    at("a text that takes time", "/later", body=b"later", content_length="5"),
    at("another type", "/type", body=b"x", content_type="text/html"),
    at("another status", "/418", 418, body=b"lost", content_length="4"),
    at("None", "/none", 204, body=b"", framing=BODILESS),
    at("a 204 has no body", "/204", 204, body=b"", framing=BODILESS),
    at("a 205 has no body, and says so", "/205", 205, body=b"", content_length="0"),
    at("a 205 of a stream has no body", "/stream205", 205, body=b"", content_length="0"),
    at("a 304 has no body", "/304", 304, body=b"", transfer_encoding=None),
    at("a 204 of a stream has no body", "/stream204", 204, body=b"", framing=BODILESS),
    at("a stream", "/stream", body=b"onetwo", framing=CHUNKED),
    at("a stream of a thread", "/plain", body=b"onetwo", framing=CHUNKED),
    at(
        "events",
        "/events",
        body=b"data: one\n\ndata: two\n\n",
        framing=CHUNKED,
        cache_control="no-store",
        x_accel_buffering="no",
        content_type="text/event-stream; charset=utf-8",
    ),
    at(
        "a stream in HTTP/1.0",
        "/stream",
        200,
        version="HTTP/1.0",
        body=b"onetwo",
        closes=True,
        framing=OLD,
    ),
    at(
        "events in HTTP/1.0",
        "/events",
        200,
        version="HTTP/1.0",
        body=b"data: one\n\ndata: two\n\n",
        closes=True,
        framing=OLD,
    ),
    accepted(
        "a stream in HTTP/1.0 with keep-alive",
        get("Connection: keep-alive", target="/stream", version="HTTP/1.0"),
        Saw(url="/stream"),
        closes=True,
        body=b"onetwo",
        headers={"content-length": None, "transfer-encoding": None, "connection": "close"},
        why="its end is the connection's",
    ),
    at(
        "a 204 in HTTP/1.0",
        "/204",
        204,
        version="HTTP/1.0",
        body=b"",
        closes=True,
        framing=BODILESS,
    ),
    # HEAD as GET without the body
    at(
        "HEAD of a text",
        "/text",
        200,
        "HEAD",
        body=b"",
        content_length="4",
        content_type="text/plain; charset=utf-8",
    ),
    at("HEAD of a long text", "/long", 200, "HEAD", body=b"", content_length="200000"),
    at("HEAD of a text that takes time", "/later", 200, "HEAD", body=b"", content_length="5"),
    at("HEAD of None", "/none", 204, "HEAD", body=b"", framing=BODILESS),
    at("HEAD of a stream", "/stream", 200, "HEAD", body=b"", content_length=None),
    at("HEAD of a thread's stream", "/plain", 200, "HEAD", body=b"", content_length=None),
    at(
        "HEAD of events",
        "/events",
        200,
        "HEAD",
        body=b"",
        content_length=None,
        cache_control="no-store",
        content_type="text/event-stream; charset=utf-8",
    ),
    at("HEAD of an error", "/404", 404, "HEAD", body=b"", content_length="14"),
    at("HEAD of an exception", "/fails", 500, "HEAD", body=b""),
    at("HEAD in HTTP/1.0", "/", 200, "HEAD", "HTTP/1.0", body=b"", closes=True, content_length="4"),
    at(
        "HEAD of a stream in HTTP/1.0",
        "/stream",
        200,
        "HEAD",
        "HTTP/1.0",
        body=b"",
        closes=True,
        content_length=None,
    ),
    # What is the server's to say
    at("a handler that closes", "/close", body=b"x", closes=True, connection="close"),
    at("a handler's longer length", "/length", body=b"x", content_length="1"),
    at("a handler's shorter length", "/short", body=b"x", content_length="1"),
    at("a handler's coding", "/coding", body=b"x", content_length="1", transfer_encoding=None),
    at("a handler's keep-alive", "/keep", body=b"x", connection=None, keep_alive=None),
    at(
        "a handler's keep-alive in HTTP/1.0",
        "/keep",
        200,
        version="HTTP/1.0",
        body=b"x",
        closes=True,
        connection="close",
        keep_alive=None,
    ),
    at("a handler's upgrade", "/upgrade", body=b"x", connection=None, upgrade=None),
    # Errors; the request's body has been read, so the connection can stay
    at("an error", "/404", 404, body=b"there is none\n", content_length="14"),
    at("an exception", "/fails", 500, body=b"Internal Server Error\n"),
    at("an exception that takes time", "/fails-later", 500, body=b"Internal Server Error\n"),
    at(
        "an exception before a stream's head", "/fails-stream", 500, body=b"Internal Server Error\n"
    ),
    at(
        "an exception in HTTP/1.0",
        "/fails",
        500,
        version="HTTP/1.0",
        body=b"Internal Server Error\n",
        closes=True,
    ),
    at("a body that is not JSON", "/json", 400),
    accepted(
        "an exception and a body",
        post("Content-Length: 5").replace(b"POST /", b"POST /fails"),
        Saw("POST", "/fails", b"hello"),
        status=500,
        body=b"Internal Server Error\n",
    ),
]

SPLITS = [
    at(
        name,
        target,
        500,
        body=b"Internal Server Error\n",
        closes=True,
        x=None,
        y=None,
        why="the row says 500x",
    )
    for name, target in {
        "an answer in a value": "/split",
        "CR LF in a value": "/crlf",
        "CR in an answer's value": "/cr",
        "LF in an answer's value": "/lf",
        "NUL in an answer's value": "/nul",
        "LF at the end of a value": "/lf-at-the-end",
        "CR LF in an answer's name": "/name",
        "a field in an answer's name": "/name-colon",
        "NUL in an answer's name": "/name-nul",
        "CR LF in a field that is the server's": "/owned-split",
        "CR LF in one of two values": "/pairs-split",
        "CR LF in a type": "/type-split",
        "CR LF in a stream's header": "/stream-split",
        "CR LF in a header of events": "/events-split",
        "CR LF in an error's header": "/error-split",
    }.items()
]

_NO_CORS: dict[str, str | None] = {
    f"access-control-{name}": None
    for name in (
        "allow-origin",
        "allow-credentials",
        "allow-methods",
        "allow-headers",
        "expose-headers",
        "max-age",
    )
}

NOTHING_UNASKED = [
    accepted("an Origin", get("Origin: https://evil.example"), headers=_NO_CORS),
    accepted("an Origin of null", get("Origin: null"), headers=_NO_CORS),
    accepted(
        "an Origin and a cookie",
        get("Origin: https://evil.example", "Cookie: a=b"),
        headers=_NO_CORS,
    ),
    accepted(
        "an Origin with events",
        get("Origin: https://evil.example", target="/events"),
        Saw(url="/events"),
        headers=_NO_CORS,
    ),
    accepted(
        "a preflight",
        get("Origin: https://evil.example", "Access-Control-Request-Method: PUT", method="OPTIONS"),
        Saw("OPTIONS"),
        headers=_NO_CORS,
    ),
    accepted(
        "an Origin with a bad request",
        get("Origin: https://evil.example", target="/404"),
        Saw(url="/404"),
        status=404,
        headers=_NO_CORS,
    ),
    refused(
        "an Origin with a request that is refused",
        get("Origin: https://evil.example", "Host: b"),
        headers=_NO_CORS,
    ),
    accepted(
        "X-Forwarded-For",
        get("X-Forwarded-For: 198.51.100.7", target="/client"),
        Saw(url="/client"),
        body=b"False",
    ),
    accepted(
        "X-Real-IP",
        get("X-Real-IP: 198.51.100.7", target="/client"),
        Saw(url="/client"),
        body=b"False",
    ),
    accepted(
        "Forwarded",
        get("Forwarded: for=198.51.100.7", target="/client"),
        Saw(url="/client"),
        body=b"False",
    ),
    accepted("X-Forwarded-Host", get("X-Forwarded-Host: evil.example")),
    accepted("X-Forwarded-Proto", get("X-Forwarded-Proto: https")),
    accepted("X-HTTP-Method-Override", get("X-HTTP-Method-Override: DELETE")),
    accepted("X-Original-URL", get("X-Original-URL: /admin", "X-Rewrite-URL: /admin")),
]

CASES: list[Case] = [*KINDS, *SPLITS, *NOTHING_UNASKED]
