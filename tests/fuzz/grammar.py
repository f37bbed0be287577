"""Requests, good and nearly good, and how they are spoiled: by the byte, by the line, by the number, by the message."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import Final

__all__ = ["PROXY_HEADERS", "SEEDS", "WORDS", "mutate", "request"]

_SIZE_LIMIT: Final = 24 * 1024


def request(line: str, *fields: str, body: bytes = b"") -> bytes:
    """The bytes of a request with a Host and these field lines."""
    return "\r\n".join([line, "Host: a.test", *fields, "", ""]).encode("latin-1") + body


def _chunked(body: bytes, *fields: str) -> bytes:
    return request("POST /c HTTP/1.1", "Transfer-Encoding: chunked", *fields, body=body)


_GET: Final = request("GET / HTTP/1.1")
_BODY: Final = b'{"a": [1, 2.5, null], "b": "\xc3\xa9"}'
_FORM: Final = "Content-Type: application/x-www-form-urlencoded"
_LENGTH: Final = f"Content-Length: {len(_BODY)}"

SEEDS: Final[tuple[bytes, ...]] = (
    _GET,
    request("GET /a/b%20c?x=1&y=%C3%A9&x=2&z HTTP/1.1", "X-Echo: \xe9 b"),
    request("GET /async HTTP/1.1", "Accept: text/event-stream", "Last-Event-ID: 7\xc3\xa9"),
    request("GET /stream/x HTTP/1.1", "Cache-Control: no-cache"),
    request("GET /stream/x HTTP/1.0"),
    request("HEAD /stream HTTP/1.1"),
    request("HEAD /x HTTP/1.1", "Connection: close"),
    request("DELETE /x HTTP/1.1", 'Cookie: a=b; c="d"', "Cookie: e=f"),
    request("OPTIONS * HTTP/1.1"),
    request("OPTIONS /x HTTP/1.1", "Origin: http://b.test", "Access-Control-Request-Method: PUT"),
    request("GET http://b.test:81/p?q HTTP/1.1"),
    request("GET HTTPS://b.test?q HTTP/1.1"),
    request("CONNECT a.test:443 HTTP/1.1"),
    request("TRACE / HTTP/1.1"),
    request("BREW /pot HTTP/1.1"),
    request("PROPFIND / HTTP/1.1"),
    request("GET / HTTP/1.0", "Connection: keep-alive") + _GET,
    request("GET / HTTP/2.0"),
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"GET /\r\n\r\n",
    b"GET / HTTP/1.1\nHost: a.test\n\n",
    b"\r\n\r\n" + _GET,
    b"OPTIONS rtsp://a.test RTSP/1.0\r\nCSeq: 1\r\n\r\n",
    b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n" + _GET,
    b"GET / HTTP/1.1\r\n\r\n",
    request("GET / HTTP/1.1", "Host: b.test"),
    request("POST /x HTTP/1.1", _LENGTH, "Content-Type: application/json", body=_BODY),
    request("POST /json HTTP/1.1", _LENGTH, "Expect: 100-continue", body=_BODY),
    request("POST /x HTTP/1.1", _LENGTH, "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", body=_BODY),
    request("POST /x HTTP/1.1", _FORM, "Content-Length: 7", body=b"a=b&c=d"),
    request("POST /x HTTP/1.1", "Content-Type: text/plain; charset=utf-16", "Content-Length: 4", body=b"\xff\xfea\0"),
    request("PUT /async HTTP/1.1", "Content-Length: 3", body=b"abc") + _GET,
    request("POST /x HTTP/1.1", "Content-Length: 0") * 3,
    request("POST /x HTTP/1.1", "Content-Length: 4", "Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
    request("POST /x HTTP/1.1", "Content-Length: 4", "Content-Length: 5", body=b"abcde"),
    request("POST /x HTTP/1.1", "Content-Length: 5000", body=b"x" * 5000),
    _chunked(b"0\r\n\r\n"),
    _chunked(b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n") + _GET,
    _chunked(b"5;a=b;c\r\nhello\r\n0;d\r\nX-Sum: 1\r\nX-More: \xff\r\n\r\n"),
    _chunked(b"5\r\nhello\r\n0\r\n\r\n", "Connection: upgrade", "Upgrade: websocket"),
    _chunked(b"0000000a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n", "Expect: 100-continue"),
    _GET * 20,
    (request("GET /async HTTP/1.1") + request("POST /stream HTTP/1.1", "Content-Length: 1", body=b"x")) * 3,
    request("GET /" + "a" * 1010 + " HTTP/1.1"),
    request("GET / HTTP/1.1", *(f"X-{i}: {i}" for i in range(255))),
)  # fmt: skip

#: What a proxy may put before the first request, versions 1 and 2.
PROXY_HEADERS: Final[tuple[bytes, ...]] = (
    b"PROXY TCP4 192.0.2.9 192.0.2.1 4000 80\r\n",
    b"PROXY TCP6 2001:db8::1 ::1 4000 80\r\n",
    b"PROXY UNKNOWN\r\n",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x09\xc0\0\x02\x01\x0f\xa0\0\x50",
    b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x28" + b"\x20\x01" * 16 + b"\x0f\xa0\0\x50\x04\0\x01x",
)

#: What has a meaning somewhere.
WORDS: Final[tuple[bytes, ...]] = (
    b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"\n\n", b"\0", b" ", b"\t", b":", b",", b";", b"=", b"\x7f", b"\x80", b"\xff",
    b"\x0b", b"\x0c", b"\x85", b"\xa0", b"#", b"?", b"%", b"%00", b"%0d%0a", b"*", b"//", b"\\", b"[", b"]", b"@", b'"',
    b"HTTP/1.1", b"HTTP/1.0", b"HTTP/0.9", b"HTTP/2.0", b"http://", b"GET ", b"HEAD ", b"POST ", b"OPTIONS ",
    b"CONNECT ",
    b"Host: b.test\r\n", b"Host: \r\n", b"Host:a.test:99999\r\n", b"Host: [::1]:80\r\n",
    b"Content-Length: 1\r\n", b"Content-Length: +1\r\n", b"Content-Length: 1,1\r\n", b"Content-Length:\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip, chunked\r\n", b"Transfer-Encoding : chunked\r\n",
    b"Transfer-Encoding: identity\r\n", b"Transfer-Encoding: chunked, chunked\r\n",
    b"Transfer-Encoding:\x0bchunked\r\n",
    b"Expect: 100-continue\r\n", b"Expect: 200-ok\r\n", b"Upgrade: h2c\r\n", b"Connection: upgrade\r\n",
    b"Connection: close\r\n", b"Connection: keep-alive\r\n", b"Connection: close, keep-alive\r\n",
    b"Content-Encoding: gzip\r\n", b"Content-Type: text/plain; charset=idna\r\n", b"Cookie: ;=;a;b=\r\n",
    b" folded\r\n", b"\tfolded\r\n", b"Last-Event-ID: \xff\r\n", b"Origin: null\r\n", b"X-Echo: \xe9\r\n",
    b"X-Forwarded-For: 192.0.2.9, [::1]\r\n", b"X-Forwarded-Proto: https\r\n", b"Forwarded: for=a;host=b\r\n",
    b"0\r\n\r\n", b"1\r\nx\r\n", b"5;a=b\r\n", b"ffffffffffffffff\r\n", b"10000000000000000\r\n", b"0x5\r\n", b"-1\r\n",
    b"X-Trailer: 1\r\n\r\n", b"/stream", b"/async", b"/json",
)  # fmt: skip

_NUMBER = re.compile(rb"[0-9A-Fa-f]+")
_NUMBERS: Final = (b"0", b"1", b"00000000000000000005", b"-1", b"+5", b"0x5", b"4095", b"4096", b"4097",
    b"18446744073709551615", b"18446744073709551616", b"9" * 40, b"5 5", b"5,5", b"", b"\xd9\xa5")  # fmt: skip


def mutate(rng: random.Random, corpus: Sequence[bytes]) -> bytes:
    """A seed or one of ``corpus``, spoiled in one to six places; at most 24 KiB."""
    # What has been learnt is more than the seeds, which must not be forgotten over it.
    data = rng.choice(SEEDS if rng.random() < 0.4 else corpus)
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 6))):
        data = rng.choice(_WAYS)(rng, data, corpus)
    return data[:_SIZE_LIMIT]


def _place(rng: random.Random, data: bytes) -> int:
    return rng.randrange(len(data) + 1)


def _flip(rng: random.Random, data: bytes, corpus: Sequence[bytes]) -> bytes:
    if not data:
        return data
    at = rng.randrange(len(data))
    byte = data[at] ^ (1 << rng.randrange(8)) if rng.random() < 0.7 else rng.randrange(256)
    return data[:at] + bytes((byte,)) + data[at + 1 :]


def _insert(rng: random.Random, data: bytes, corpus: Sequence[bytes]) -> bytes:
    at = _place(rng, data)
    return data[:at] + rng.choice(WORDS) + data[at:]


def _insert_line(rng: random.Random, data: bytes, corpus: Sequence[bytes]) -> bytes:
    at = data.find(b"\r\n", _place(rng, data)) + 2
    return data[:at] + rng.choice(WORDS) + data[at:]


def _drop(rng: random.Random, data: bytes, corpus: Sequence[bytes]) -> bytes:
    at = _place(rng, data)
    return data[:at] + data[at + rng.choice((1, 1, 2, 4, 16)) :]


def _cut(rng: random.Random, data: bytes, corpus: Sequence[bytes]) -> bytes:
    return data[: _place(rng, data)]


def _repeat(rng: random.Random, data: bytes, corpus: Sequence[bytes]) -> bytes:
    at = _place(rng, data)
    size = rng.choice((1, 2, 8, 32, 200))
    times = rng.choice((2, 2, 3, 17, 100)) if size > 8 else rng.choice((2, 2, 3, 60, 5000))
    return data[:at] + data[at : at + size] * times + data[at + size :]


def _lines(rng: random.Random, data: bytes, corpus: Sequence[bytes]) -> bytes:
    lines = data.split(b"\r\n")
    a, b = rng.randrange(len(lines)), rng.randrange(len(lines))
    way = rng.randrange(4)
    if way == 0:
        lines[a], lines[b] = lines[b], lines[a]
    elif way == 1:
        lines.insert(a, lines[b])
    elif way == 2:
        del lines[a]
    else:
        lines[a] = (
            rng.choice((b" ", b"\t", b"")) + lines[a] + rng.choice((b" ", b"\t ", b"\r", b""))
        )
    return b"\r\n".join(lines)


def _ends(rng: random.Random, data: bytes, corpus: Sequence[bytes]) -> bytes:
    """Another line end for one, or for all."""
    end = rng.choice((b"\n", b"\r", b"\r\r\n", b"\n\r", b"\r\n\r\n", b""))
    if rng.random() < 0.1:
        return data.replace(b"\r\n", end)
    at = data.find(b"\r\n", _place(rng, data))
    return data if at < 0 else data[:at] + end + data[at + 2 :]


def _number(rng: random.Random, data: bytes, corpus: Sequence[bytes]) -> bytes:
    match = _NUMBER.search(data, _place(rng, data))
    if match is None:
        return data
    number = rng.choice(_NUMBERS)
    if rng.random() < 0.4 and match[0].isdigit() and len(match[0]) < 10:
        number = b"%d" % max(0, int(match[0]) + rng.choice((-2, -1, 1, 2)))
    return data[: match.start()] + number + data[match.end() :]


def _case(rng: random.Random, data: bytes, corpus: Sequence[bytes]) -> bytes:
    at = _place(rng, data)
    return data[:at] + data[at : at + 20].swapcase() + data[at + 20 :]


def _append(rng: random.Random, data: bytes, corpus: Sequence[bytes]) -> bytes:
    return data + rng.choice(corpus)


def _splice(rng: random.Random, data: bytes, corpus: Sequence[bytes]) -> bytes:
    other = rng.choice(corpus)
    return data[: _place(rng, data)] + other[_place(rng, other) :]


_WAYS: Final = (
    _flip, _flip, _flip, _insert, _insert, _insert_line, _insert_line, _drop, _drop, _cut, _repeat, _lines, _lines,
    _ends, _ends, _number, _number, _case, _append, _splice,
)  # fmt: skip
