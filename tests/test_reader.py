"""Requests out of bytes, as HTTP.md's table of requests wants them: the same however the bytes are cut."""

from __future__ import annotations

import gc
import random
import sys
import tracemalloc
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import httptools
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bunpy.errors import RequestRefused
from bunpy.http.host import HostList
from bunpy.http.known_heads import KnownHeads
from bunpy.http.limits import Limits
from bunpy.http.reader import RequestReader

LINE_LIMIT = 16 * 1024
HEAD_LIMIT = 64 * 1024
BODY_LIMIT = 10 * 1024 * 1024


class Seen(NamedTuple):
    """A request as the reader hands it on, and whether the connection may go on after it."""

    method: str
    url: str
    headers: dict[str, str]
    body: bytes
    keeps_alive: bool


class Outcome(NamedTuple):
    """What came of some bytes: the requests handed on, then the status of the refusal, 0 if there was none."""

    requests: tuple[Seen, ...]
    refused: int


def a_reader(
    *,
    line_limit: int = LINE_LIMIT,
    head_limit: int = HEAD_LIMIT,
    body_limit: int = BODY_LIMIT,
    hosts: HostList | None = None,
    known: KnownHeads | None = None,
) -> RequestReader:
    return RequestReader(
        Limits(request_line=line_limit, head=head_limit, body=body_limit),
        hosts=hosts or HostList(None, ["192.0.2.1"]),
        known=known,
    )


def read(pieces: Iterable[bytes], reader: RequestReader | None = None) -> Outcome:
    """Feed as a connection does: all that is ready after each piece, nothing after a refusal or a last request."""
    reader = reader or a_reader()
    requests: list[Seen] = []
    for piece in pieces:
        reader.feed(piece)
        while True:
            try:
                request = reader.next_request()
            except RequestRefused as refusal:
                return Outcome((*requests,), refusal.status)
            if request is None:
                break
            keeps_alive = reader.keeps_alive
            headers = dict(request.headers)
            requests.append(Seen(request.method, request.url, headers, request.body, keeps_alive))
            if not keeps_alive:
                return Outcome((*requests,), 0)
    return Outcome((*requests,), 0)


def in_bytes(raw: bytes) -> list[bytes]:
    return [raw[i : i + 1] for i in range(len(raw))]


def ways(raw: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """Whole, byte by byte, in pieces of 3, and cut before, between and behind the bytes of each line end."""
    yield "whole", [raw]
    yield "byte by byte", in_bytes(raw)
    yield "in threes", [raw[i : i + 3] for i in range(0, len(raw), 3)]
    cuts = {i + beside for i, byte in enumerate(raw) if byte in b"\r\n" for beside in (-1, 0, 1, 2)}
    for cut in sorted(cuts):
        if 0 < cut < len(raw):
            yield f"cut at {cut}", [raw[:cut], raw[cut:]]


def assert_outcome(
    raw: bytes, expected: Outcome, make: Callable[[], RequestReader] = a_reader
) -> None:
    for way, pieces in ways(raw):
        assert read(pieces, make()) == expected, way


# Raw requests


def head(*lines: str) -> bytes:
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode("latin-1")


def get(*fields: str) -> bytes:
    return head("GET / HTTP/1.1", "Host: a", *fields)


def post(*fields: str, body: bytes = b"hello") -> bytes:
    return head("POST / HTTP/1.1", "Host: a", *fields) + body


def chunked(body: bytes, *fields: str) -> bytes:
    return post("Transfer-Encoding: chunked", *fields, body=body)


def to(target: str, method: str = "GET", host: str = "a") -> bytes:
    return head(f"{method} {target} HTTP/1.1", f"Host: {host}")


def hosted(host: str) -> bytes:
    return to("/", host=host)


def seen(
    method: str = "GET",
    url: str = "/",
    body: bytes = b"",
    keeps_alive: bool = True,
    **headers: str,
) -> Seen:
    """A request with Host a, unless ``host`` says otherwise; ``_`` in a name stands for ``-``."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return Seen(method, url, {"host": "a", **names}, body, keeps_alive)


def upgraded(request: Seen) -> Seen:
    """The request with the fields of ``H2C`` as well."""
    fields = (field.split(": ") for field in H2C)
    return request._replace(
        headers={**request.headers, **{key.lower(): text for key, text in fields}}
    )


def chunky(body: bytes) -> Seen:
    return seen("POST", body=body, transfer_encoding="chunked")


NEXT = head("GET /next HTTP/1.1", "Host: b")
SEEN_NEXT = seen(url="/next", host="b")
#: What Java's HttpClient and ``curl --http2`` send with a request over plain HTTP.
H2C = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQ")
HELLO = b"5\r\nhello\r\n0\r\n\r\n"
SMUGGLED = head("GET /smuggled HTTP/1.1", "Host: a")

#: Requests that are good, and what is handed on of them.
ACCEPTED: dict[str, tuple[bytes, Sequence[Seen]]] = {
    "a GET": (get(), [seen()]),
    "a HEAD": (to("/", "HEAD"), [seen("HEAD")]),
    "a PUT without a body": (to("/", "PUT"), [seen("PUT")]),
    "a PATCH": (to("/", "PATCH"), [seen("PATCH")]),
    "a DELETE": (to("/", "DELETE"), [seen("DELETE")]),
    "a PROPFIND": (to("/", "PROPFIND"), [seen("PROPFIND")]),
    "a query": (to("/a/b?c=d&e"), [seen(url="/a/b?c=d&e")]),
    "a target with odd characters": (
        to("//a/%20;b='(c)'?d=[e]|f"),
        [seen(url="//a/%20;b='(c)'?d=[e]|f")],
    ),
    # Fields
    "names in any case": (get("X-A: 1", "x-b: 2", "X-C: 3"), [seen(x_a="1", x_b="2", x_c="3")]),
    "every character of a token in a name": (
        get("!#$%&'*+-.^_`|~09azAZ: 1"),
        [Seen("GET", "/", {"host": "a", "!#$%&'*+-.^_`|~09azaz": "1"}, b"", True)],
    ),
    "blanks around a value": (get("X: \t a \t b \t "), [seen(x="a \t b")]),
    "no blank before a value": (get("X:a"), [seen(x="a")]),
    "empty values": (get("X:", "Y: ", "Z: \t "), [seen(x="", y="", z="")]),
    "colons in a value": (get("X: a:b: c"), [seen(x="a:b: c")]),
    "bytes over 127 in a value": (get("X: \x80\xe9\xff"), [seen(x="\x80\xe9\xff")]),
    "a repeated field": (get("X: 1", "x: 2", "X: 3"), [seen(x="1, 2, 3")]),
    "repeated cookies": (get("Cookie: a=1", "cookie: b=2"), [seen(cookie="a=1; b=2")]),
    "a name like a framing field's": (
        get("Transfer_Encoding: chunked", "Content-Length-: 5"),
        [
            Seen(
                "GET",
                "/",
                {"host": "a", "transfer_encoding": "chunked", "content-length-": "5"},
                b"",
                True,
            )
        ],
    ),
    # Bodies by length
    "a body": (post("Content-Length: 5"), [seen("POST", body=b"hello", content_length="5")]),
    "a body of a GET": (
        get("Content-Length: 5") + b"hello",
        [seen(body=b"hello", content_length="5")],
    ),
    "no body and no length": (post(body=b""), [seen("POST")]),
    "an empty body": (post("Content-Length: 0", body=b""), [seen("POST", content_length="0")]),
    "leading zeros": (
        post("Content-Length: 005"),
        [seen("POST", body=b"hello", content_length="005")],
    ),
    "many leading zeros": (
        post(f"Content-Length: {'0' * 300}5"),
        [seen("POST", body=b"hello", content_length=f"{'0' * 300}5")],
    ),
    "blanks around a length": (
        post("Content-Length: \t 5 "),
        [seen("POST", body=b"hello", content_length="5")],
    ),
    "a body that looks like a request": (
        post(f"Content-Length: {len(SMUGGLED)}", body=SMUGGLED),
        [seen("POST", body=SMUGGLED, content_length=str(len(SMUGGLED)))],
    ),
    "a body with every byte": (
        post("Content-Length: 256", body=bytes(range(256))),
        [seen("POST", body=bytes(range(256)), content_length="256")],
    ),
    "a compressed body, as it is": (
        post("Content-Encoding: gzip", "Content-Length: 3", body=b"\x1f\x8b\x08"),
        [seen("POST", body=b"\x1f\x8b\x08", content_encoding="gzip", content_length="3")],
    ),
    # Bodies in chunks
    "chunks": (chunked(HELLO), [chunky(b"hello")]),
    "several chunks": (chunked(b"1\r\nh\r\n3\r\nell\r\n1\r\no\r\n0\r\n\r\n"), [chunky(b"hello")]),
    "no chunk but the last": (chunked(b"0\r\n\r\n"), [chunky(b"")]),
    "chunk sizes in either case": (
        chunked(b"a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n"),
        [chunky(b"0123456789" * 2)],
    ),
    "a zero-padded chunk size": (
        chunked(b"0000000000000005\r\nhello\r\n00000\r\n\r\n"),
        [chunky(b"hello")],
    ),
    "line ends in a chunk": (
        chunked(b"8\r\n\r\n0\r\n\r\n\n\r\n0\r\n\r\n"),
        [chunky(b"\r\n0\r\n\r\n\n")],
    ),
    "a chunk that looks like a request": (
        chunked(b"%x\r\n%b\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED)),
        [chunky(SMUGGLED)],
    ),
    "chunk extensions": (
        chunked(b'5;a\r\nhello\r\n5;a=b;c="d;e"\r\nhello\r\n0;f\r\n\r\n'),
        [chunky(b"hellohello")],
    ),
    "a blank before a chunk extension": (
        chunked(b"5 \t;a\r\nhello\r\n0\r\n\r\n"),
        [chunky(b"hello")],
    ),
    "a chunk extension of 4 KiB": (
        chunked(b"5;%b\r\nhello\r\n0\r\n\r\n" % (b"x" * 4095)),
        [chunky(b"hello")],
    ),
    "a padded size with an extension of 4 KiB": (
        chunked(b"0000000000000005;%b\r\nhello\r\n0\r\n\r\n" % (b"x" * 4095)),
        [chunky(b"hello")],
    ),
    "chunk extensions of 16 KiB in all": (
        chunked(b"1;%b\r\nx\r\n" % (b"x" * 4095) * 4 + b"0\r\n\r\n"),
        [chunky(b"xxxx")],
    ),
    "trailers, dropped": (
        chunked(b"5\r\nhello\r\n0\r\nX-Sum: 1\r\nY:\r\n\r\n", "X-Sum: 0"),
        [seen("POST", body=b"hello", transfer_encoding="chunked", x_sum="0")],
    ),
    "trailers of 8 KiB": (chunked(b"0\r\nX: %b\r\n\r\n" % (b"x" * (8192 - 7))), [chunky(b"")]),
    "Transfer-Encoding in any case": (
        post("TRANSFER-ENCODING: Chunked", body=HELLO),
        [seen("POST", body=b"hello", transfer_encoding="Chunked")],
    ),
    "blanks around a transfer coding": (
        post("Transfer-Encoding: \t chunked ", body=HELLO),
        [chunky(b"hello")],
    ),
    # Upgrades are ignored, and the body is read as its framing says
    "a GET with an upgrade": (get(*H2C), [upgraded(seen())]),
    "a POST with an upgrade to h2c": (
        post(*H2C, "Content-Length: 5"),
        [upgraded(seen("POST", body=b"hello", content_length="5"))],
    ),
    "an upgrade with a body that looks like a request": (
        post(*H2C, f"Content-Length: {len(SMUGGLED)}", body=SMUGGLED),
        [upgraded(seen("POST", body=SMUGGLED, content_length=str(len(SMUGGLED))))],
    ),
    "an upgrade with chunks": (
        post(*H2C, "Transfer-Encoding: chunked", body=HELLO),
        [upgraded(seen("POST", body=b"hello", transfer_encoding="chunked"))],
    ),
    "an upgrade with an empty body": (
        post(*H2C, "Content-Length: 0", body=b""),
        [upgraded(seen("POST", content_length="0"))],
    ),
    "an upgrade to a websocket": (
        get("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"),
        [seen(connection="Upgrade", upgrade="websocket", sec_websocket_version="13")],
    ),
    "an upgrade of HTTP/1.0": (
        head("GET / HTTP/1.0", "Host: a", "Connection: upgrade", "Upgrade: h2c"),
        [seen(keeps_alive=False, connection="upgrade", upgrade="h2c")],
    ),
    "an upgrade and close": (
        get("Connection: close, upgrade", "Upgrade: h2c"),
        [seen(keeps_alive=False, connection="close, upgrade", upgrade="h2c")],
    ),
    "Upgrade without Connection": (get("Upgrade: h2c"), [seen(upgrade="h2c")]),
    # Hosts
    "a host and a port": (hosted("a.example:8080"), [seen(host="a.example:8080")]),
    "an empty port": (hosted("a:"), [seen(host="a:")]),
    "the last port": (hosted("a:65535"), [seen(host="a:65535")]),
    "an IPv4 address": (hosted("192.0.2.1:80"), [seen(host="192.0.2.1:80")]),
    "an IPv6 address": (hosted("[2001:db8::1]"), [seen(host="[2001:db8::1]")]),
    "an IPv6 address and a port": (hosted("[::1]:80"), [seen(host="[::1]:80")]),
    "a percent-encoded host": (hosted("a%20b"), [seen(host="a%20b")]),
    "an underscore in a host": (hosted("a_b"), [seen(host="a_b")]),
    "no Host in HTTP/1.0": (head("GET / HTTP/1.0"), [Seen("GET", "/", {}, b"", False)]),
    # Targets
    "absolute form": (to("http://b.example/c?d=e"), [seen(url="/c?d=e", host="b.example")]),
    "absolute form with a port": (to("http://b:81/"), [seen(host="b:81")]),
    "absolute form with an IPv6 address": (to("http://[::1]:81/"), [seen(host="[::1]:81")]),
    "absolute form without a path": (to("http://b"), [seen(host="b")]),
    "absolute form with a query and no path": (to("http://b?c=d"), [seen(url="/?c=d", host="b")]),
    "absolute form in capitals": (to("HTTP://B/C"), [seen(url="/C", host="B")]),
    "absolute form of https": (to("https://b/c"), [seen(url="/c", host="b")]),
    "absolute form in a path": (to("http://b/http://c/"), [seen(url="/http://c/", host="b")]),
    "absolute form in a query": (to("http://b?http://c/"), [seen(url="/?http://c/", host="b")]),
    "absolute form of two slashes": (to("http://b//c"), [seen(url="//c", host="b")]),
    "absolute form in HTTP/1.0 without Host": (
        head("GET http://b/ HTTP/1.0"),
        [Seen("GET", "/", {"host": "b"}, b"", False)],
    ),
    "absolute form of OPTIONS": (to("http://b", "OPTIONS"), [seen("OPTIONS", host="b")]),
    "OPTIONS *": (to("*", "OPTIONS"), [seen("OPTIONS", "*")]),
    "OPTIONS /": (to("/", "OPTIONS"), [seen("OPTIONS")]),
    # What becomes of the connection
    "Connection: close": (get("Connection: close"), [seen(keeps_alive=False, connection="close")]),
    "close among options": (
        get("Connection: x,\tClose ,y"),
        [seen(keeps_alive=False, connection="x,\tClose ,y")],
    ),
    "close in a second field": (
        get("Connection: keep-alive", "Connection: close"),
        [seen(keeps_alive=False, connection="keep-alive, close")],
    ),
    "Connection: keep-alive": (get("Connection: keep-alive"), [seen(connection="keep-alive")]),
    "an option that only begins with close": (
        get("Connection: closed"),
        [seen(connection="closed")],
    ),
    "HTTP/1.0": (head("GET / HTTP/1.0", "Host: a"), [seen(keeps_alive=False)]),
    # Only spaces and tabs stand around a list's members (RFC 9110 section 5.6.1); found by ``fuzz.requests``.
    "HTTP/1.0 keep-alive behind a no-break space": (
        head("GET / HTTP/1.0", "Host: a", "Connection: \xa0keep-alive"),
        [seen(keeps_alive=False, connection="\xa0keep-alive")],
    ),
    "close behind a next-line control": (
        get("Connection: \x85close"),
        [seen(connection="\x85close")],
    ),
    "HTTP/1.0 with keep-alive": (
        head("GET / HTTP/1.0", "Host: a", "Connection: Keep-Alive"),
        [seen(connection="Keep-Alive")],
    ),
    "HTTP/1.0 with keep-alive and close": (
        head("GET / HTTP/1.0", "Host: a", "Connection: keep-alive, close"),
        [seen(keeps_alive=False, connection="keep-alive, close")],
    ),
    "HTTP/1.0 with a body": (
        head("POST / HTTP/1.0", "Host: a", "Content-Length: 5") + b"hello",
        [seen("POST", body=b"hello", keeps_alive=False, content_length="5")],
    ),
    # Only Connection says what becomes of it: llhttp thinks otherwise, and would refuse what follows
    "Proxy-Connection: close": (get("Proxy-Connection: close"), [seen(proxy_connection="close")]),
    # Expectations
    "Expect: 100-continue": (
        post("Expect: 100-Continue", "Content-Length: 5"),
        [seen("POST", body=b"hello", expect="100-Continue", content_length="5")],
    ),
    "Expect: 100-continue without a body": (
        get("Expect: 100-continue"),
        [seen(expect="100-continue")],
    ),
    "any expectation in HTTP/1.0": (
        head("GET / HTTP/1.0", "Host: a", "Expect: a miracle"),
        [seen(keeps_alive=False, expect="a miracle")],
    ),
    # Before and between requests
    "an empty line first": (b"\r\n" + get(), [seen()]),
    "two empty lines first": (b"\r\n\r\n" + get(), [seen()]),
    "an empty line behind a body": (
        post("Content-Length: 5") + b"\r\n" + get(),
        [seen("POST", body=b"hello", content_length="5"), seen()],
    ),
    "two empty lines between requests": (get() + b"\r\n\r\n" + get(), [seen(), seen()]),
    "pipelined requests": (
        get() + post("Content-Length: 5") + chunked(HELLO) + to("/", "HEAD") + get("X: y") * 20,
        [
            seen(),
            seen("POST", body=b"hello", content_length="5"),
            chunky(b"hello"),
            seen("HEAD"),
            *[seen(x="y")] * 20,
        ],
    ),
    "requests behind the last one are not looked at": (
        get("Connection: close") + b"\x00\x00\r\n" + get(),
        [seen(keeps_alive=False, connection="close")],
    ),
    "a request of the limit's number of fields": (
        get(*["X: 1"] * (Limits().fields - 1)),
        [seen(x=", ".join("1" * (Limits().fields - 1)))],
    ),
}

#: Requests that are refused, by the status of the refusal.
REFUSED: dict[int, dict[str, bytes]] = {
    400: {
        # Content-Length with Transfer-Encoding, in all orders and disguises
        "length and chunked": post(
            "Content-Length: 5", "Transfer-Encoding: chunked", body=b"0\r\n\r\n"
        ),
        "chunked and length": post(
            "Transfer-Encoding: chunked", "Content-Length: 5", body=b"0\r\n\r\n"
        ),
        "chunked and length 0": post(
            "Transfer-Encoding: chunked", "Content-Length: 0", body=b"0\r\n\r\n"
        ),
        "length and chunked around a request": post(
            f"Content-Length: {len(SMUGGLED) + 5}",
            "Transfer-Encoding: chunked",
            body=b"0\r\n\r\n" + SMUGGLED,
        ),
        "length and chunked with an upgrade": post(
            *H2C, "Content-Length: 5", "Transfer-Encoding: chunked", body=b"0\r\n\r\n"
        ),
        "chunked and length with an upgrade": post(
            *H2C, "Transfer-Encoding: chunked", "Content-Length: 5", body=b"0\r\n\r\n"
        ),
        "length and chunked in HTTP/1.0": head(
            "POST / HTTP/1.0", "Host: a", "Content-Length: 5", "Transfer-Encoding: chunked"
        ),
        "length and gzip": post("Content-Length: 5", "Transfer-Encoding: gzip"),
        "length and identity": post("Content-Length: 5", "Transfer-Encoding: identity"),
        "length and an empty coding": post("Content-Length: 5", "Transfer-Encoding:"),
        # Transfer codings
        "gzip": post("Transfer-Encoding: gzip"),
        "identity": post("Transfer-Encoding: identity"),
        "gzip, chunked": post("Transfer-Encoding: gzip, chunked", body=HELLO),
        "chunked, gzip": post("Transfer-Encoding: chunked, gzip", body=HELLO),
        "chunked, identity": post("Transfer-Encoding: chunked, identity", body=HELLO),
        "chunked, chunked": post("Transfer-Encoding: chunked, chunked", body=HELLO),
        "chunked in two fields": post(
            "Transfer-Encoding: chunked", "Transfer-Encoding: chunked", body=HELLO
        ),
        "gzip and chunked in two fields": post(
            "Transfer-Encoding: gzip", "Transfer-Encoding: chunked", body=HELLO
        ),
        "chunked and gzip in two fields": post(
            "Transfer-Encoding: chunked", "Transfer-Encoding: gzip", body=HELLO
        ),
        "chunked and nothing in two fields": post(
            "Transfer-Encoding: chunked", "Transfer-Encoding:", body=HELLO
        ),
        "an empty coding": post("Transfer-Encoding:", body=HELLO),
        "a coding of blanks": post("Transfer-Encoding: \t ", body=HELLO),
        "an empty coding in a list": post("Transfer-Encoding: , chunked", body=HELLO),
        "an empty coding behind": post("Transfer-Encoding: chunked,", body=HELLO),
        "xchunked": post("Transfer-Encoding: xchunked", body=HELLO),
        "chunkedx": post("Transfer-Encoding: chunkedx", body=HELLO),
        "chunked chunked": post("Transfer-Encoding: chunked chunked", body=HELLO),
        "chunked with a parameter": post("Transfer-Encoding: chunked;q=1", body=HELLO),
        "chunked in quotes": post('Transfer-Encoding: "chunked"', body=HELLO),
        "chunked behind a control": post("Transfer-Encoding: \x0bchunked", body=HELLO),
        "chunked before a control": post("Transfer-Encoding: chunked\x0c", body=HELLO),
        "chunked behind a no-break space": post("Transfer-Encoding: \xa0chunked", body=HELLO),
        "chunked on a folded line": post("Transfer-Encoding:\r\n chunked", body=HELLO),
        "a folded line behind chunked": post(
            "Transfer-Encoding: chunked\r\n , identity", body=HELLO
        ),
        "a space behind Transfer-Encoding": post("Transfer-Encoding : chunked", body=HELLO),
        "gzip with an upgrade": post(*H2C, "Transfer-Encoding: gzip", body=HELLO),
        "gzip, chunked with an upgrade": post(*H2C, "Transfer-Encoding: gzip, chunked", body=HELLO),
        "chunked twice with an upgrade": post(
            *H2C, "Transfer-Encoding: chunked", "Transfer-Encoding: chunked", body=HELLO
        ),
        "an empty coding with an upgrade": post(*H2C, "Transfer-Encoding:", body=HELLO),
        "chunked in HTTP/1.0": head("POST / HTTP/1.0", "Host: a", "Transfer-Encoding: chunked")
        + HELLO,
        "chunked in HTTP/1.0 with keep-alive": head(
            "POST / HTTP/1.0", "Host: a", "Connection: keep-alive", "Transfer-Encoding: chunked"
        )
        + HELLO,
        "gzip in HTTP/1.0": head("POST / HTTP/1.0", "Host: a", "Transfer-Encoding: gzip") + HELLO,
        # Content-Length
        "two lengths": post("Content-Length: 5", "Content-Length: 6"),
        "one length twice": post("Content-Length: 5", "Content-Length: 5"),
        "one length twice, written otherwise": post("Content-Length: 5", "content-length: 05"),
        "a length twice with an upgrade": post(*H2C, "Content-Length: 5", "Content-Length: 5"),
        "a list of lengths": post("Content-Length: 5, 5"),
        "a list of different lengths": post("Content-Length: 5,6"),
        "+5": post("Content-Length: +5"),
        "-5": post("Content-Length: -5"),
        "-0": post("Content-Length: -0", body=b""),
        "an empty length": post("Content-Length:"),
        "an empty length and a good one": post("Content-Length:", "Content-Length: 5"),
        "a length of blanks": post("Content-Length: \t "),
        "5.0": post("Content-Length: 5.0"),
        "0x5": post("Content-Length: 0x5"),
        "5e0": post("Content-Length: 5e0"),
        "5_0": post("Content-Length: 5_0"),
        "5 0": post("Content-Length: 5 0"),
        "5;": post("Content-Length: 5;"),
        "five": post("Content-Length: five"),
        "a superscript": post("Content-Length: \xb2"),
        "a length in quotes": post('Content-Length: "5"'),
        "a NUL behind a length": post("Content-Length: 5\x00"),
        "a length of 2^64": post("Content-Length: 18446744073709551616"),
        "a length of 2^64 + 5": post("Content-Length: 18446744073709551621"),
        "a length of 40 digits": post(f"Content-Length: {'9' * 40}"),
        "a length on a folded line": post("Content-Length:\r\n 5"),
        "a space behind Content-Length": post("Content-Length : 5"),
        "a NUL behind Content-Length": post("Content-Length\x00: 5"),
        # Lines
        "a folded line": get("X: a\r\n b"),
        "a line folded with a tab": get("X: a\r\n\tb"),
        "an empty folded line": get("X: a\r\n "),
        "a folded line before all": head("GET / HTTP/1.1", " X: a", "Host: a"),
        "a folded Host": head("GET / HTTP/1.1", "Host: a", " b"),
        "LF behind the request line": b"GET / HTTP/1.1\nHost: a\r\n\r\n",
        "LF behind a field": b"GET / HTTP/1.1\r\nHost: a\n\r\n",
        "LF behind another field": b"GET / HTTP/1.1\r\nHost: a\r\nX: y\nZ: z\r\n\r\n",
        "LF for the empty line": b"GET / HTTP/1.1\r\nHost: a\r\n\n",
        "LF everywhere": b"GET / HTTP/1.1\nHost: a\n\n",
        "CR behind a field": b"GET / HTTP/1.1\r\nHost: a\rX: y\r\n\r\n",
        "CR CR LF behind a field": b"GET / HTTP/1.1\r\nHost: a\r\r\n\r\n",
        "CR CR LF for the empty line": b"GET / HTTP/1.1\r\nHost: a\r\n\r\r\n",
        "CR and no LF for the empty line": b"GET / HTTP/1.1\r\nHost: a\r\n\rX",
        "CR behind the request line": b"GET / HTTP/1.1\rHost: a\r\n\r\n",
        "CR CR LF behind the request line": b"GET / HTTP/1.1\r\r\nHost: a\r\n\r\n",
        "CR in a target": to("/a\rb"),
        "CR in a name": get("X\ry: a"),
        "CR in a value": get("X: a\rb"),
        # Characters
        "NUL in a value": get("X: a\x00b"),
        "NUL alone": get("X: \x00"),
        "SOH in a value": get("X: a\x01b"),
        "VT in a value": get("X: a\x0bb"),
        "FF in a value": get("X: a\x0cb"),
        "ESC in a value": get("X: a\x1bb"),
        "US in a value": get("X: a\x1fb"),
        "DEL in a value": get("X: a\x7fb"),
        "NUL in a name": get("X\x00Y: a"),
        "NUL in a target": to("/a\x00b"),
        "NUL in a method": to("/", "G\x00T"),
        "a control in a target": to("/a\x01b"),
        "DEL in a target": to("/a\x7fb"),
        "a tab in a target": to("/a\tb"),
        "a space in a target": to("/a b"),
        "a byte over 127 in a target": to("/\xe9"),
        "a space before a colon": get("X : a"),
        "a tab before a colon": get("X\t: a"),
        "a space in a name": get("X Y: a"),
        "an empty name": get(": a"),
        "a line without a colon": get("X"),
        "parentheses in a name": get("(X): a"),
        "quotes in a name": get('"X": a'),
        "an at in a name": get("X@Y: a"),
        "a slash in a name": get("X/Y: a"),
        "a bracket in a name": get("X[0]: a"),
        "a comma in a name": get("X,Y: a"),
        "a byte over 127 in a name": get("X\xe9: a"),
        "DEL in a name": get("X\x7f: a"),
        # Chunks
        "a chunk size of letters": chunked(b"x\r\n"),
        "an empty chunk size": chunked(b"\r\nhello\r\n0\r\n\r\n"),
        "a chunk size with a sign": chunked(b"+5\r\nhello\r\n0\r\n\r\n"),
        "a negative chunk size": chunked(b"-5\r\nhello\r\n0\r\n\r\n"),
        "a chunk size with 0x": chunked(b"0x5\r\nhello\r\n0\r\n\r\n"),
        "a chunk size with _": chunked(b"1_0\r\n"),
        "a chunk size behind a blank": chunked(b" 5\r\nhello\r\n0\r\n\r\n"),
        "a chunk size before a blank": chunked(b"5 \r\nhello\r\n0\r\n\r\n"),
        "a list of chunk sizes": chunked(b"5,5\r\nhello\r\n0\r\n\r\n"),
        "a chunk size with NUL": chunked(b"5\x00\r\nhello\r\n0\r\n\r\n"),
        "a chunk size of 2^64": chunked(b"10000000000000000\r\n"),
        "a chunk size of 2^64 + 5": chunked(b"10000000000000005\r\nhello\r\n0\r\n\r\n"),
        "a chunk size of 17 digits": chunked(b"FFFFFFFFFFFFFFFFF\r\n"),
        "a chunk size padded to 17 digits": chunked(b"00000000000000005\r\nhello\r\n0\r\n\r\n"),
        "LF behind a chunk size": chunked(b"5\nhello\r\n0\r\n\r\n"),
        "CR behind a chunk size": chunked(b"5\rhello\r\n0\r\n\r\n"),
        "LF behind a chunk extension": chunked(b"5;a\nhello\r\n0\r\n\r\n"),
        "CR in a chunk extension": chunked(b"5;a\rb\r\nhello\r\n0\r\n\r\n"),
        "NUL in a chunk extension": chunked(b"5;\x00\r\nhello\r\n0\r\n\r\n"),
        "DEL in a chunk extension": chunked(b"5;\x7f\r\nhello\r\n0\r\n\r\n"),
        "LF behind the last chunk size": chunked(b"0\n\r\n"),
        "no CR LF behind a chunk": chunked(b"5\r\nhello0\r\n\r\n"),
        "LF behind a chunk": chunked(b"5\r\nhello\n0\r\n\r\n"),
        "CR behind a chunk": chunked(b"5\r\nhello\r0\r\n\r\n"),
        "a chunk longer than its size": chunked(b"4\r\nhello\r\n0\r\n\r\n"),
        "a chunk shorter than its size": chunked(b"6\r\nhello\r\n0\r\n\r\n"),
        "a chunk extension over 4 KiB": chunked(b"5;%b\r\nhello\r\n0\r\n\r\n" % (b"x" * 4096)),
        "a chunk extension over 4 KiB without end": chunked(b"5;" + b"x" * 4200),
        "a padded size with an extension over 4 KiB": chunked(
            b"0000000000000005;%b\r\n" % (b"x" * 4096)
        ),
        # The last byte of all is what a reader must not lose that counts only up to the limit
        "CR and more in an extension of 4 KiB": chunked(
            b"0000000000000005;%b\rlost\nhello\r\n0\r\n\r\n" % (b"x" * 4095)
        ),
        "chunk extensions over 16 KiB in all": chunked(
            b"1;%b\r\nx\r\n" % (b"x" * 4095) * 4 + b"1;\r\nx\r\n0\r\n\r\n"
        ),
        "an extension of the last chunk over 16 KiB in all": chunked(
            b"1;%b\r\nx\r\n" % (b"x" * 4095) * 4 + b"0;\r\n\r\n"
        ),
        # Trailers
        "Transfer-Encoding in the trailers": chunked(b"0\r\nTransfer-Encoding: chunked\r\n\r\n"),
        "Content-Length in the trailers": chunked(b"5\r\nhello\r\n0\r\ncontent-length: 5\r\n\r\n"),
        "Host in the trailers": chunked(b"0\r\nX: a\r\nHOST: b\r\n\r\n"),
        "Authorization in the trailers": chunked(b"0\r\nAuthorization: b\r\n\r\n"),
        "Proxy-Authorization in the trailers": chunked(b"0\r\nProxy-Authorization: b\r\n\r\n"),
        "Connection in the trailers": chunked(b"0\r\nConnection: close\r\n\r\n"),
        "a trailer without a colon": chunked(b"0\r\nX\r\n\r\n"),
        "a request for trailers": chunked(b"0\r\nGET / HTTP/1.1\r\n\r\n"),
        "a space before a trailer's colon": chunked(b"0\r\nX : a\r\n\r\n"),
        "an empty trailer name": chunked(b"0\r\n: a\r\n\r\n"),
        "a folded trailer": chunked(b"0\r\nX: a\r\n b\r\n\r\n"),
        "NUL in a trailer": chunked(b"0\r\nX: \x00\r\n\r\n"),
        "LF behind a trailer": chunked(b"0\r\nX: a\n\r\n"),
        "CR in a trailer": chunked(b"0\r\nX: a\rb\r\n\r\n"),
        "LF for the empty line behind a trailer": chunked(b"0\r\nX: a\r\n\n"),
        "LF for the empty line behind the last chunk": chunked(b"0\r\n\n"),
        "CR CR LF behind the last chunk": chunked(b"0\r\n\r\r\n"),
        # Hosts
        "no Host": head("GET / HTTP/1.1"),
        "no Host with an upgrade": head("GET / HTTP/1.1", *H2C),
        "no Host and a body that has not come": head("POST / HTTP/1.1", "Content-Length: 5"),
        "no Host and Expect": head("POST / HTTP/1.1", "Content-Length: 5", "Expect: 100-continue"),
        "two Hosts": get("Host: b"),
        "one Host twice": get("Host: a"),
        "one Host twice, far apart": get("X: 1", "Y: 2", "host: a"),
        "two Hosts in HTTP/1.0": head("GET / HTTP/1.0", "Host: a", "Host: b"),
        "two Hosts and absolute form": head("GET http://a/ HTTP/1.1", "Host: a", "Host: a"),
        "an empty Host": hosted(""),
        "a space in a Host": hosted("a b"),
        "a list of Hosts": hosted("a, b"),
        "a comma in a Host": hosted("a,b"),
        "a path in a Host": hosted("a/b"),
        "a query in a Host": hosted("a?b"),
        "a fragment in a Host": hosted("a#b"),
        "a backslash in a Host": hosted("a\\b"),
        "a user in a Host": hosted("a@b"),
        "a URL for a Host": hosted("http://a"),
        "markup for a Host": hosted("<a>"),
        "a byte over 127 in a Host": hosted("\xe9"),
        "a percent alone in a Host": hosted("a%2"),
        "a port of letters": hosted("a:b"),
        "a port over 65535": hosted("a:65536"),
        "a port of six digits": hosted("a:000080"),
        "a negative port": hosted("a:-80"),
        "two ports": hosted("a:80:80"),
        "a port alone": hosted(":80"),
        "an IPv6 address without brackets": hosted("::1"),
        "half a bracket": hosted("[::1"),
        "the other half": hosted("::1]"),
        "empty brackets": hosted("[]"),
        "text behind brackets": hosted("[::1]a"),
        "colons in brackets": hosted("[:::::]"),
        "a number in brackets": hosted("[1]"),
        "an IPv4 address in brackets": hosted("[127.0.0.1]"),
        "a Host that is none in HTTP/1.0": head("GET / HTTP/1.0", "Host: a b"),
        "a Host that is none and absolute form": to("http://a/", host="a b"),
        # Targets
        "absolute form without Host": head("GET http://a/ HTTP/1.1"),
        "absolute form without a host": to("http:///a"),
        "absolute form of nothing": to("http://"),
        "absolute form of a query": to("http://?a"),
        "absolute form with a user": to("http://u:p@a/"),
        "absolute form with a comma": to("http://a,b/"),
        "absolute form with a port of letters": to("http://a:b/"),
        "absolute form with a port over 65535": to("http://a:65536/"),
        "absolute form with half a bracket": to("http://[::1"),
        "absolute form with one slash": to("http:/a"),
        "another scheme": to("ftp://a/"),
        "a scheme without slashes": to("mailto:a@b"),
        "a target without a slash": to("a"),
        "a target that is a query": to("?a"),
        "a fragment": to("/a#b"),
        "an empty fragment": to("/#"),
        "a fragment in absolute form": to("http://a/b?c#d"),
        "GET *": to("*"),
        "POST *": to("*", "POST"),
        "OPTIONS **": to("**", "OPTIONS"),
        "OPTIONS */": to("*/", "OPTIONS"),
        "authority form without CONNECT": to("a:80"),
        # Versions
        "HTTP/0.9": b"GET /\r\n\r\n",
        "HTTP/0.9 by number": b"GET / HTTP/0.9\r\nHost: a\r\n\r\n",
        "HTTP/0.9 with a version in its target": b"GET /HTTP/1.1\r\nHost: a\r\n\r\n",
        "no target": b"GET HTTP/1.1\r\nHost: a\r\n\r\n",
        "HTTP/1.2": b"GET / HTTP/1.2\r\nHost: a\r\n\r\n",
        "HTTP/1": b"GET / HTTP/1\r\nHost: a\r\n\r\n",
        "HTTP/1.1.1": b"GET / HTTP/1.1.1\r\nHost: a\r\n\r\n",
        "http/1.1": b"GET / http/1.1\r\nHost: a\r\n\r\n",
        "HTTP/x.y": b"GET / HTTP/x.y\r\nHost: a\r\n\r\n",
        "HTTPS/1.1": b"GET / HTTPS/1.1\r\nHost: a\r\n\r\n",
        "an empty version": b"GET / \r\nHost: a\r\n\r\n",
        "a blank behind the version": b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
        "a tab behind the version": b"GET / HTTP/1.1\t\r\nHost: a\r\n\r\n",
        # Request lines
        "two spaces before the version": b"GET /  HTTP/1.1\r\nHost: a\r\n\r\n",
        "two spaces before the target": b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
        "a tab before the target": b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "a tab before the version": b"GET /\tHTTP/1.1\r\nHost: a\r\n\r\n",
        "no space before the target": b"GET/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "a space first": b" GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "a method alone": b"GET\r\n\r\n",
        "a colon in a method": to("/", "G:T"),
        "a byte over 127 in a method": to("/", "G\xc9T"),
        "a method of 33 bytes": to("/", "A" * 33),
        "a method of 33 bytes that goes on": b"A" * 33,
        "a response": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        "a TLS handshake": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        "an SSH greeting": b"SSH-2.0-OpenSSH_9.6\r\n",
        # Empty lines
        "three empty lines first": b"\r\n\r\n\r\n" + get(),
        "a thousand empty lines": b"\r\n" * 1000,
        "two and a half empty lines": b"\r\n\r\n\r",
        "LF first": b"\n" + get(),
        "CR first": b"\r" + get(),
        "CR CR LF first": b"\r\r\n" + get(),
        "CR LF LF first": b"\r\n\n" + get(),
        "a blank line first": b" \r\n" + get(),
    },
    405: {
        "TRACE": to("/", "TRACE"),
        "TRACE *": to("*", "TRACE"),
        "CONNECT": to("a:443", "CONNECT", "a:443"),
        "CONNECT with a body": head("CONNECT a:443 HTTP/1.1", "Host: a:443", "Content-Length: 5")
        + b"hello",
        "CONNECT with a request for its body": head(
            "CONNECT a:443 HTTP/1.1", "Host: a:443", f"Content-Length: {len(SMUGGLED)}"
        )
        + SMUGGLED,
        "CONNECT with chunks": head(
            "CONNECT a:443 HTTP/1.1", "Host: a:443", "Transfer-Encoding: chunked"
        )
        + HELLO,
        "CONNECT with an upgrade": head("CONNECT a:443 HTTP/1.1", "Host: a:443", *H2C),
        "CONNECT of HTTP/1.0": head("CONNECT a:443 HTTP/1.0"),
    },
    413: {
        "a length over the limit": post(f"Content-Length: {BODY_LIMIT + 1}"),
        "a length over the limit, padded": post(f"Content-Length: {'0' * 30}{BODY_LIMIT + 1}"),
        "a length of 2^64 - 1": post("Content-Length: 18446744073709551615"),
        "a length over the limit and Expect": post(
            "Content-Length: 99999999", "Expect: 100-continue"
        ),
        "a length over the limit and an upgrade": post(*H2C, "Content-Length: 99999999"),
        "a chunk over the limit": chunked(b"%x\r\n" % (BODY_LIMIT + 1)),
        "a chunk of 2^64 - 1": chunked(b"FFFFFFFFFFFFFFFF\r\n"),
        "chunks over the limit in all": chunked(b"5\r\nhello\r\n%x\r\n" % (BODY_LIMIT - 4)),
    },
    417: {
        "another expectation": post("Expect: 200-ok", "Content-Length: 5"),
        "another expectation without a body": get("Expect: a miracle"),
        "an empty expectation": get("Expect:"),
        "two expectations": post("Expect: 100-continue, 200-ok", "Content-Length: 5"),
        "an expectation with a parameter": post("Expect: 100-continue;a=b", "Content-Length: 5"),
    },
    431: {
        "more fields than the limit": get(*[f"x{number}: 1" for number in range(Limits().fields)]),
        "more fields of one name than the limit": get(*["x: 1"] * Limits().fields),
        "trailers over 8 KiB": chunked(b"0\r\nX: %b\r\n\r\n" % (b"x" * (8192 - 6))),
        "trailers over 8 KiB in all": chunked(
            b"0\r\n" + b"X: %b\r\n" % (b"y" * 1019) * 8 + b"\r\n"
        ),
        "a trailer over 8 KiB without end": chunked(b"0\r\nX: %b" % (b"x" * 8192)),
    },
    501: {
        "an unknown method": to("/", "FROB"),
        "a method in small letters": to("/", "get"),
        "a method that goes on": to("/", "GETS"),
        "half a method": to("/", "GE"),
        "a method of odd characters": to("/", "!#$%&'*+-.^_`|~"),
        "a method of 32 bytes": to("/", "A" * 32),
        "a method of RTSP": to("/", "DESCRIBE"),
    },
    505: {
        "HTTP/2.0": b"GET / HTTP/2.0\r\nHost: a\r\n\r\n",
        "HTTP/3.0": b"GET / HTTP/3.0\r\nHost: a\r\n\r\n",
        "HTTP/10.0": b"GET / HTTP/10.0\r\nHost: a\r\n\r\n",
        "RTSP": b"DESCRIBE rtsp://a/ RTSP/1.0\r\n\r\n",
        "ICE": b"SOURCE /a ICE/1.0\r\n\r\n",
        "GET of ICE": b"GET / ICE/1.0\r\nHost: a\r\n\r\n",
        "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    },
}
REFUSALS = {name: (raw, status) for status, cases in REFUSED.items() for name, raw in cases.items()}


def test_the_tables_are_as_large_as_they_should_be() -> None:
    """No two cases share a name, and so hide each other."""
    assert len(REFUSALS) == sum(map(len, REFUSED.values()))
    assert len(ACCEPTED) + len(REFUSALS) >= 150


@pytest.mark.parametrize("name", ACCEPTED)
def test_a_good_request_is_handed_on(name: str) -> None:
    raw, requests = ACCEPTED[name]
    assert_outcome(raw, Outcome((*requests,), 0))


@pytest.mark.parametrize("name", ACCEPTED)
def test_a_good_request_ends_where_the_next_begins(name: str) -> None:
    raw, requests = ACCEPTED[name]
    rest = [SEEN_NEXT] if requests[-1].keeps_alive else []
    assert_outcome(raw + NEXT, Outcome((*requests, *rest), 0))


@pytest.mark.parametrize(
    "name", [name for name, (_, requests) in ACCEPTED.items() if requests[-1].keeps_alive]
)
def test_a_good_request_is_read_the_same_when_it_comes_again(name: str) -> None:
    """As one that the reader remembers, and as one that it could but for the cuts."""
    raw, requests = ACCEPTED[name]
    reader = a_reader()
    for pieces in ([raw], [raw], in_bytes(raw), [raw], [raw + raw], [raw], [raw[:-1], raw[-1:]]):
        assert read(pieces, reader).requests[: len(requests)] == (*requests,)


@pytest.mark.parametrize("name", REFUSALS)
def test_a_bad_request_is_refused_and_not_handed_on(name: str) -> None:
    raw, status = REFUSALS[name]
    assert_outcome(raw, Outcome((), status))


@pytest.mark.parametrize("name", REFUSALS)
def test_a_bad_request_is_refused_once_whatever_follows(name: str) -> None:
    raw, status = REFUSALS[name]
    assert_outcome(raw + NEXT, Outcome((), status))


@pytest.mark.parametrize("name", REFUSALS)
def test_a_good_request_before_a_bad_one_is_handed_on(name: str) -> None:
    raw, status = REFUSALS[name]
    assert_outcome(get() + raw, Outcome((seen(),), status))
    assert read([get(), get(), raw]) == Outcome((seen(), seen()), status)


def refusal(raw: bytes) -> RequestRefused:
    reader = a_reader()
    reader.feed(raw)
    with pytest.raises(RequestRefused) as caught:
        reader.next_request()
    return caught.value


@pytest.mark.parametrize("method", ["CONNECT", "TRACE"])
def test_a_method_that_is_not_allowed_is_told_which_are(method: str) -> None:
    allow = refusal(to("a:80" if method == "CONNECT" else "/", method)).headers["Allow"].split(", ")
    assert {"GET", "HEAD", "POST", "OPTIONS"} <= {*allow}
    assert method not in allow


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refusal_closes_and_says_why(name: str) -> None:
    exc = refusal(REFUSALS[name][0])
    # A request that has no body has ended where its head has, whatever it expected.
    assert exc.closes == (
        name not in ("another expectation without a body", "an empty expectation")
    )
    assert exc.message.isprintable()
    assert len(exc.message) < 200


# Limits, at the byte


def a_line(size: int) -> bytes:
    """A request line of so many bytes, without its line end."""
    return b"GET /%b HTTP/1.1" % (b"a" * (size - 14))


def a_head(size: int, value: int = 600) -> bytes:
    """A head of so many bytes, the last line end included, in fields of about ``value`` bytes."""
    raw = get()[:-2]
    while size - len(raw) - 2 > 2 * value + 20:
        raw += b"X: %b\r\n" % (b"v" * value)
    return raw + b"Y: %b\r\n\r\n" % (b"v" * (size - len(raw) - 7))


def pieces_of(raw: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """A large request whole, byte by byte, in segments as they come from a network, and with its last bytes alone."""
    yield "whole", [raw]
    yield "byte by byte", in_bytes(raw)
    yield "in segments", [raw[i : i + 1448] for i in range(0, len(raw), 1448)]
    for back in range(1, 5):
        yield f"cut at -{back}", [raw[:-back], raw[-back:]]


@pytest.mark.parametrize("size", [LINE_LIMIT - 1, LINE_LIMIT])
def test_a_request_line_of_the_limit_is_read(size: int) -> None:
    raw = a_line(size) + b"\r\nHost: a\r\n\r\n"
    assert raw.index(b"\r\n") == size
    expected = Outcome((seen(url=f"/{'a' * (size - 14)}"),), 0)
    assert_outcome(raw, expected)


def test_a_request_line_over_the_limit_is_refused() -> None:
    assert_outcome(a_line(LINE_LIMIT + 1) + b"\r\nHost: a\r\n\r\n", Outcome((), 414))


def test_a_request_line_over_the_limit_is_refused_at_the_byte() -> None:
    for pieces in (
        [b"GET /" + b"a" * (LINE_LIMIT - 5)],
        in_bytes(b"GET /" + b"a" * (LINE_LIMIT - 5)),
    ):
        reader = a_reader()
        assert read(pieces, reader) == Outcome((), 0)
        assert read([b"a"], reader) == Outcome((), 414)


@pytest.mark.parametrize("end", [b"", b" / HTTP/1.1\r\n"])
def test_a_line_that_cannot_be_one_is_told_so_before_its_length(end: bytes) -> None:
    """Byte by byte the method is seen to be too long before the line is."""
    assert_outcome(b"A" * (LINE_LIMIT + 1) + end, Outcome((), 400))


def test_empty_lines_do_not_count_as_the_request_line() -> None:
    raw = b"\r\n\r\n" + a_line(100) + b"\r\nHost: a\r\n\r\n"
    expected = Outcome((seen(url=f"/{'a' * 86}"),), 0)
    assert_outcome(raw, expected, lambda: a_reader(line_limit=100))
    assert_outcome(raw, Outcome((), 414), lambda: a_reader(line_limit=99))


@pytest.mark.parametrize("value", [600, HEAD_LIMIT])
def test_a_head_of_the_limit_is_read(value: int) -> None:
    raw = a_head(HEAD_LIMIT, value)
    assert len(raw) == HEAD_LIMIT
    for way, pieces in pieces_of(raw):
        requests, refused = read([*pieces, NEXT])
        assert (refused, len(requests)) == (0, 2), way
        assert sum(map(len, requests[0].headers.values())) > HEAD_LIMIT - 1500, way


@pytest.mark.parametrize("value", [600, HEAD_LIMIT])
def test_a_head_over_the_limit_is_refused(value: int) -> None:
    raw = a_head(HEAD_LIMIT + 1, value)
    assert len(raw) == HEAD_LIMIT + 1
    for way, pieces in pieces_of(raw):
        assert read([*pieces, NEXT]) == Outcome((), 431), way


def test_a_head_over_the_limit_is_refused_at_the_byte() -> None:
    raw = a_head(HEAD_LIMIT + 100)[:HEAD_LIMIT]
    for pieces in ([raw], in_bytes(raw)):
        reader = a_reader()
        assert read(pieces, reader) == Outcome((), 0)
        assert read([b"v"], reader) == Outcome((), 431)


def test_each_head_has_the_whole_limit() -> None:
    raw = a_head(1000)
    for pieces in ([raw * 5], in_bytes(raw * 5)):
        assert len(read(pieces, a_reader(head_limit=1000)).requests) == 5


def test_fields_over_the_limit_are_refused_before_the_head_is_complete() -> None:
    raw = get(*["x: 1"] * (Limits().fields + 1))[:-2]
    for way, pieces in ways(raw):
        assert read(pieces) == Outcome((), 431), way


def test_a_body_of_the_limit_is_read() -> None:
    def make() -> RequestReader:
        return a_reader(body_limit=10)

    good = Outcome((seen("POST", body=b"hellohello", content_length="10"),), 0)
    assert_outcome(post("Content-Length: 10", body=b"hellohello"), good, make)
    assert_outcome(post("Content-Length: 11", body=b"hellohello!"), Outcome((), 413), make)
    assert_outcome(
        chunked(b"a\r\nhellohello\r\n0\r\n\r\n"), Outcome((chunky(b"hellohello"),), 0), make
    )
    assert_outcome(
        chunked(b"5\r\nhello\r\n5\r\nhello\r\n0\r\n\r\n"),
        Outcome((chunky(b"hellohello"),), 0),
        make,
    )
    assert_outcome(chunked(b"b\r\nhellohello!\r\n0\r\n\r\n"), Outcome((), 413), make)
    assert_outcome(chunked(b"5\r\nhello\r\n6\r\nhello!\r\n0\r\n\r\n"), Outcome((), 413), make)


def test_a_body_over_the_limit_is_refused_before_it_comes() -> None:
    for raw in (post("Content-Length: 11", body=b""), chunked(b"5\r\nhello\r\n6\r\n")):
        assert_outcome(raw, Outcome((), 413), lambda: a_reader(body_limit=10))


def test_a_limit_of_no_body_at_all() -> None:
    def make() -> RequestReader:
        return a_reader(body_limit=0)

    assert_outcome(get(), Outcome((seen(),), 0), make)
    assert_outcome(
        post("Content-Length: 0", body=b""), Outcome((seen("POST", content_length="0"),), 0), make
    )
    assert_outcome(chunked(b"0\r\n\r\n"), Outcome((chunky(b""),), 0), make)
    assert_outcome(post("Content-Length: 1", body=b""), Outcome((), 413), make)
    assert_outcome(chunked(b"1\r\n"), Outcome((), 413), make)


# Work and memory


@pytest.fixture
def fed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of what readers feed to httptools."""
    sizes: list[int] = []
    make = httptools.HttpRequestParser

    class Counted:
        def __init__(self, protocol: object) -> None:
            self._parser = make(protocol)

        def feed_data(self, data: bytes) -> None:
            sizes.append(len(data))
            self._parser.feed_data(data)

    monkeypatch.setattr(httptools, "HttpRequestParser", Counted)
    return sizes


def calls_of(run: Callable[[], object]) -> int:
    """How many calls, of Python and of C, ``run`` makes."""
    calls = 0

    def count(frame: object, event: str, arg: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        run()
    finally:
        sys.setprofile(None)
    return calls


@pytest.mark.parametrize("value", [1, 600, HEAD_LIMIT])
def test_a_head_sent_byte_by_byte_is_parsed_once(fed: list[int], value: int) -> None:
    raw = a_head(HEAD_LIMIT if value > 1 else 1000, value)
    assert len(read(in_bytes(raw)).requests) == 1
    assert sum(fed) == len(raw)


def test_the_work_for_a_byte_does_not_grow_with_the_head() -> None:
    small, large = a_head(HEAD_LIMIT // 8), a_head(HEAD_LIMIT)
    few, many = (calls_of(lambda raw=raw: read(in_bytes(raw))) for raw in (small, large))  # type: ignore[misc]
    assert many / len(large) < 1.1 * few / len(small)


def test_the_work_for_a_byte_does_not_grow_with_the_body() -> None:
    def body(chunks: int) -> bytes:
        return chunked(b"1\r\nx\r\n" * chunks + b"0\r\n\r\n")

    small, large = body(200), body(2000)
    few, many = (calls_of(lambda raw=raw: read(in_bytes(raw))) for raw in (small, large))  # type: ignore[misc]
    assert many / len(large) < 1.1 * few / len(small)


def test_a_refused_head_has_not_been_parsed_beyond_its_limit(fed: list[int]) -> None:
    assert read([a_head(10 * HEAD_LIMIT)]).refused == 431
    assert sum(fed) <= HEAD_LIMIT


def memory_kept(raws: Iterable[bytes]) -> int:
    """Bytes that are still held when these have been read, each on a connection of its own, and forgotten."""
    hosts = HostList(None, ["192.0.2.1"])
    read([get()], a_reader(hosts=hosts))
    tracemalloc.start()
    try:
        for raw in raws:
            requests, refused = read([raw], a_reader(hosts=hosts))
            assert requests or refused
        gc.collect()
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


def test_names_that_clients_make_up_are_not_kept() -> None:
    """Whatever is remembered of requests that are over is bounded in bytes, not only in number."""
    assert memory_kept(get(f"{'x' * 50_000}{number}: 1") for number in range(200)) < 1024 * 1024


def test_hosts_that_clients_make_up_are_not_kept() -> None:
    assert memory_kept(hosted(f"{'x' * 50_000}{number}") for number in range(200)) < 1024 * 1024


# Hosts that are answered for


LOOPBACK = HostList(None, ["127.0.0.1"])


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (hosted("localhost:3000"), Outcome((seen(host="localhost:3000"),), 0)),
        (hosted("evil.example"), Outcome((), 421)),
        (hosted("evil example"), Outcome((), 400)),
        (to("http://127.0.0.1/", host="localhost"), Outcome((seen(host="127.0.0.1"),), 0)),
        (to("http://evil.example/", host="localhost"), Outcome((), 421)),
        (to("http://localhost/", host="evil.example"), Outcome((seen(host="localhost"),), 0)),
        (to("http://localhost/", host="evil example"), Outcome((), 400)),
        (head("GET / HTTP/1.0", "Host: evil.example"), Outcome((), 421)),
        (head("GET http://evil.example/ HTTP/1.0"), Outcome((), 421)),
        (head("POST / HTTP/1.1", "Host: evil.example", "Content-Length: 5"), Outcome((), 421)),
        (head("OPTIONS * HTTP/1.1", "Host: evil.example"), Outcome((), 421)),
    ],
)
def test_a_host_that_is_not_answered_for(raw: bytes, expected: Outcome) -> None:
    assert_outcome(raw, expected, lambda: a_reader(hosts=LOOPBACK))


# What the reader says of itself


def test_versions_and_the_peer() -> None:
    reader = a_reader()
    reader.feed(get() + head("GET / HTTP/1.0"))
    new, old = reader.next_request(), reader.next_request()
    assert new is not None
    assert old is not None
    assert (new.http_version, old.http_version) == ("1.1", "1.0")
    assert new.client is None


def test_it_knows_where_it_is() -> None:
    reader = a_reader()

    def where() -> tuple[bool, bool, int]:
        return reader.is_between, reader.is_in_body, reader.unread

    assert where() == (True, False, 0)
    reader.feed(b"PO")
    assert reader.next_request() is None
    assert where() == (False, False, 2)
    reader.feed(b"ST / HTTP/1.1\r\nHost: a\r\n")
    assert reader.next_request() is None
    assert where() == (False, False, 0)
    reader.feed(b"Content-Length: 5\r\n\r\n")
    assert reader.next_request() is None
    assert where() == (False, True, 0)
    reader.feed(b"hel")
    assert reader.next_request() is None
    assert where() == (False, True, 0)
    reader.feed(b"lo" + get())
    assert reader.is_in_body
    assert reader.next_request() is not None
    assert where() == (False, False, len(get()))
    assert reader.next_request() is not None
    assert where() == (True, False, 0)
    assert reader.next_request() is None


def test_nothing_is_taken_before_it_is_asked_for() -> None:
    reader = a_reader()
    for piece in in_bytes(get() + NEXT):
        reader.feed(piece)
    assert reader.unread == len(get() + NEXT)
    assert reader.next_request() is not None
    assert reader.unread == len(NEXT)


@pytest.mark.parametrize(
    ("raw", "method"),
    [
        (b"", ""),
        (b"HEAD / HTTP/1.1\r\n", "HEAD"),
        (to("/", "HEAD"), "HEAD"),
        (to("/", "HEAD") + b"POST / HTTP/1.1\r\n", "POST"),
    ],
)
def test_it_knows_the_method_of_the_last_request(raw: bytes, method: str) -> None:
    for pieces in ([raw], in_bytes(raw)):
        reader = a_reader()
        read(pieces, reader)
        assert reader.method == method


def test_it_knows_the_method_of_a_request_that_it_remembers() -> None:
    reader = a_reader()
    for method in ("HEAD", "GET", "HEAD", "GET"):
        assert read([to("/", method)], reader).requests == (seen(method),)
        assert reader.method == method


@pytest.mark.parametrize(
    "raw", [head("HEAD / HTTP/1.1", "Host: a b"), to("/#", "HEAD"), to("/", "HEAD", "")]
)
def test_it_knows_the_method_of_a_refused_request(raw: bytes) -> None:
    """The answer to a HEAD has no body, be it a refusal."""
    for pieces in ([raw], in_bytes(raw)):
        reader = a_reader()
        assert read(pieces, reader) == Outcome((), 400)
        assert reader.method == "HEAD"


@pytest.mark.parametrize(
    "raw",
    [
        b"GET / HTTP/9.0\r\n",
        b"GET /\r\n",
        b"\x16\x03\x01",
        b"\r\r",
        a_line(LINE_LIMIT + 1) + b"\r\n",
    ],
    ids=lambda raw: repr(raw[:12]),
)
def test_a_refused_line_does_not_inherit_the_method_before(raw: bytes) -> None:
    """Only the answer to a HEAD goes without its body: behind a HEAD, nonsense is answered in full."""
    for pieces in ([to("/", "HEAD") + raw], in_bytes(to("/", "HEAD") + raw)):
        reader = a_reader()
        outcome = read(pieces, reader)
        assert (outcome.requests, outcome.refused > 0) == ((seen("HEAD"),), True)
        assert reader.method != "HEAD"


def test_it_goes_on_after_its_parser_was_released() -> None:
    for pieces in ([NEXT], in_bytes(NEXT)):
        reader = a_reader()
        for raw in (get(), get("X: y")):
            reader.feed(raw)
            assert reader.next_request() is not None
            reader.release()
        assert read(pieces, reader) == Outcome((SEEN_NEXT,), 0)


def test_one_request_keeps_nothing_of_the_one_before() -> None:
    reader = a_reader()
    reader.feed(post("X: 1", "Connection: keep-alive", "Content-Length: 5") + get("Y: 2"))
    first, second = reader.next_request(), reader.next_request()
    assert first is not None
    assert second is not None
    assert (second.headers, second.body) == ({"host": "a", "y": "2"}, b"")
    assert first.headers["x"] == "1"
    assert first.body == b"hello"


def test_what_a_handler_does_to_a_request_is_not_remembered() -> None:
    reader = a_reader()
    for _ in range(3):
        reader.feed(to("/?a=1"))
        request = reader.next_request()
        assert request is not None
        assert (request.method, request.url, request.headers) == ("GET", "/?a=1", {"host": "a"})
        assert (request.body, request.client, request.query) == (b"", None, {"a": "1"})
        request.headers["x"] = "y"  # type: ignore[index]
        request.query_all["a"].append("2")
        request.query_all["b"] = ["3"]
        request.url, request.body, request.client = "/b", b"body", ("192.0.2.1", 4000)


def test_what_is_remembered_is_no_part_of_another_request() -> None:
    """The bytes of a whole request, where they are not one: in a body, or behind the beginning of a head."""
    reader = a_reader()
    assert read([get(), get()], reader).requests == (seen(), seen())
    body = post(f"Content-Length: {len(get())}", body=b"")
    assert read([body, get()], reader).requests == (
        seen("POST", body=get(), content_length=str(len(get()))),
    )
    assert read([b"GET / HTTP/1.1\r\nHost: a\r\nX: ", get()], reader) == Outcome((), 400)


def test_what_is_remembered_is_little() -> None:
    known = KnownHeads()
    reader = a_reader(known=known)
    large = get(f"X: {'x' * 1000}")
    for raw in (get(), large, chunked(HELLO), post("Content-Length: 5"), get("Connection: x")):
        assert len(read([raw], reader).requests) == 1
    assert [*known] == [get()]
    sizes = []
    for number in range(1000):
        read([to(f"/{number}")], reader)
        sizes.append(len(known))
    assert 100 < max(sizes) <= 256


@pytest.mark.parametrize(
    "field", ["Cookie: id=secret", "Authorization: Bearer secret", "PROXY-AUTHORIZATION: secret"]
)
def test_credentials_are_not_remembered(field: str) -> None:
    known = KnownHeads()
    assert len(read([get(field), get()], a_reader(known=known)).requests) == 2
    assert [*known] == [get()]


def test_what_one_connection_has_read_another_knows() -> None:
    known = KnownHeads()
    first, second = a_reader(known=known), a_reader(known=known)
    assert read([get()], first) == read([get()], second) == Outcome((seen(),), 0)
    assert len(known) == 1


# Expect: 100-continue (RFC 9110 section 10.1.1)


CONTINUE = ("Expect: 100-continue", "Content-Length: 5")


def after_head(raw: bytes) -> RequestReader:
    reader = a_reader(body_limit=10)
    read(in_bytes(raw), reader)
    return reader


def test_a_client_that_waits_for_a_100() -> None:
    reader = after_head(post(*CONTINUE, body=b""))
    assert reader.wants_continue
    assert read([b"hello"], reader).requests[0].body == b"hello"
    assert not reader.wants_continue


def test_a_client_that_waits_for_a_100_before_its_chunks() -> None:
    assert after_head(chunked(b"", "Expect: 100-continue")).wants_continue


@pytest.mark.parametrize(
    "raw",
    [
        get(),
        post("Content-Length: 5", body=b""),
        get("Expect: 100-continue"),
        post("Expect: 100-continue", "Content-Length: 0", body=b""),
        head("POST / HTTP/1.0", "Host: a", *CONTINUE),
    ],
    ids=["a GET", "no expectation", "no body", "an empty body", "HTTP/1.0"],
)
def test_a_client_that_does_not_wait(raw: bytes) -> None:
    assert not after_head(raw).wants_continue


@pytest.mark.parametrize("body", [b"hel", b"hello"])
def test_a_client_whose_body_has_begun_does_not_wait(body: bytes) -> None:
    reader = a_reader()
    reader.feed(post(*CONTINUE, body=body))
    reader.next_request()
    assert not reader.wants_continue


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (post("Expect: 100-continue", "Content-Length: 11", body=b""), 413),
        (post("Expect: 200-ok", "Content-Length: 5", body=b""), 417),
        (head("POST / HTTP/1.1", *CONTINUE), 400),
        (head("POST / HTTP/1.1", "Host: a b", *CONTINUE), 400),
        (post(*CONTINUE, "Transfer-Encoding: chunked", body=b""), 400),
    ],
)
def test_no_100_for_a_request_that_is_refused(raw: bytes, status: int) -> None:
    reader = a_reader(body_limit=10)
    assert read(in_bytes(raw), reader) == Outcome((), status)
    assert not reader.wants_continue


# Any bytes at all


TOKENS = [
    b"\r\n", b"\r", b"\n", b"\0", b" ", b"\t", b":", b",", b";", b"0", b"5", b"\xff", b"\r\n\r\n", b"HTTP/1.1",
    b"HTTP/1.0", b"Host: b\r\n", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"5\r\nhello\r\n",
    b"Connection: close\r\n", b"Connection: upgrade\r\nUpgrade: h2c\r\n", b"Expect: 100-continue\r\n", b" x\r\n",
]  # fmt: skip
SEEDS = [case[0] for case in (*ACCEPTED.values(), *REFUSALS.values()) if len(case[0]) < 400]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """One or two requests of the tables, with a few bytes put in, taken out, changed or moved."""
    raw = b"".join(draw(st.lists(st.sampled_from(SEEDS), min_size=1, max_size=2)))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(raw)))
        end = min(len(raw), start + draw(st.integers(0, 12)))
        raw = draw(
            st.sampled_from(
                [
                    raw[:start] + draw(st.sampled_from(TOKENS)) + raw[start:],
                    raw[:start] + raw[end:],
                    raw[:start] + draw(st.binary(max_size=3)) + raw[end:],
                    raw[:end] + raw[start:],
                ]
            )
        )
    return raw


def cuts(raw: bytes, seed: int) -> list[bytes]:
    """The bytes cut at random."""
    random_ = random.Random(seed)
    edges = sorted(
        {0, len(raw), *(random_.randrange(len(raw) + 1) for _ in range(random_.randrange(6)))}
    )
    return [raw[start:end] for start, end in pairwise(edges)]


@settings(deadline=None, max_examples=400)
@given(st.binary(max_size=200), st.integers(0, 1000))
def test_any_bytes_are_read_or_refused_the_same_way(raw: bytes, seed: int) -> None:
    expected = read([raw])
    assert read(in_bytes(raw)) == expected
    assert read(cuts(raw, seed)) == expected


@settings(deadline=None, max_examples=1000)
@given(mutated(), st.integers(0, 1000))
def test_anything_like_a_request_is_read_or_refused_the_same_way(raw: bytes, seed: int) -> None:
    reader = a_reader()
    expected = read([raw], reader)
    assert read(in_bytes(raw)) == expected
    assert read(cuts(raw, seed)) == expected
    if reader.is_between and reader.keeps_alive and not expected.refused:
        assert read([raw], reader) == expected


@settings(deadline=None, max_examples=300)
@given(mutated(), st.integers(8, 60), st.integers(30, 120), st.integers(0, 8))
def test_under_small_limits_the_same_requests_are_read(
    raw: bytes, line: int, size: int, body: int
) -> None:
    """Of two reasons to refuse a request either may come first: only then may the status depend on the cuts."""

    def outcome(pieces: list[bytes]) -> tuple[tuple[Seen, ...], bool]:
        requests, refused = read(
            pieces, a_reader(line_limit=line, head_limit=size, body_limit=body)
        )
        return requests, refused > 0

    assert outcome(in_bytes(raw)) == outcome([raw])


NAMES = st.from_regex(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,20}", fullmatch=True).filter(
    lambda name: (
        name.lower()
        not in ("connection", "content-length", "expect", "host", "transfer-encoding", "cookie")
    )
)
VALUES = st.text(st.characters(max_codepoint=255, exclude_categories=["Cc"]), max_size=30)


@st.composite
def good_requests(draw: st.DrawFn) -> tuple[bytes, Seen]:
    """A request that is good, and what is to be seen of it."""
    method = draw(st.sampled_from(["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"]))
    url = "/" + draw(
        st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="#"))
    )
    fields = draw(st.lists(st.tuples(NAMES, VALUES), max_size=5))
    headers = {"host": "a"}
    for name, value in fields:
        key, text = name.lower(), value.strip(" \t")
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    lines = [f"{method} {url} HTTP/1.1", "Host: a", *(f"{name}: {value}" for name, value in fields)]
    body = draw(st.binary(max_size=60))
    framing = draw(st.sampled_from(["none", "length", "chunks"]))
    if framing == "none":
        return head(*lines), Seen(method, url, headers, b"", True)
    if framing == "length":
        headers["content-length"] = str(len(body))
        return head(*lines, f"Content-Length: {len(body)}") + body, Seen(
            method, url, headers, body, True
        )
    headers["transfer-encoding"] = "chunked"
    pieces = [piece for piece in cuts(body, draw(st.integers(0, 100))) if piece]
    chunks = b"".join(b"%X\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    raw = head(*lines, "Transfer-Encoding: chunked") + chunks + b"0\r\n\r\n"
    return raw, Seen(method, url, headers, body, True)


@settings(deadline=None, max_examples=200)
@given(st.lists(good_requests(), min_size=1, max_size=4), st.integers(0, 1000))
def test_whatever_is_good_is_read_as_it_was_written(
    requests: list[tuple[bytes, Seen]], seed: int
) -> None:
    raw = b"".join(raw for raw, _ in requests)
    expected = Outcome(tuple(request for _, request in requests), 0)
    assert read([raw]) == expected
    assert read(in_bytes(raw)) == expected
    assert read(cuts(raw, seed)) == expected


class Recorder:
    """What httptools calls back, whatever the cuts: pieces of one value joined."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def on_url(self, url: bytes) -> None:
        self._join("url", url)

    def on_body(self, body: bytes) -> None:
        self._join("body", body)

    def on_header(self, name: bytes, value: bytes) -> None:
        self.calls.append(("header", name, value))

    def on_headers_complete(self) -> None:
        self.calls.append(("head",))

    def on_message_complete(self) -> None:
        self.calls.append(("message",))

    def _join(self, kind: str, data: bytes) -> None:
        if self.calls and self.calls[-1][0] == kind:
            data = self.calls.pop()[1] + data
        self.calls.append((kind, data))


@settings(deadline=None, max_examples=300)
@given(mutated())
def test_httptools_does_not_care_for_cuts_either(raw: bytes) -> None:
    """What the reader relies on: the same calls and the same exception whole and byte by byte."""

    def outcome(pieces: list[bytes]) -> tuple[list[tuple[Any, ...]], type[Exception] | None]:
        recorder = Recorder()
        parser = httptools.HttpRequestParser(recorder)
        try:
            for piece in pieces:
                parser.feed_data(piece)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as exc:
            return recorder.calls, type(exc)
        return recorder.calls, None

    whole, refused = outcome([raw])
    single, refused_singly = outcome(in_bytes(raw))
    assert refused_singly is refused
    if refused is None:
        assert single == whole
