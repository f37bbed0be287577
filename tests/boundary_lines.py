"""Cases of the boundary's table: request lines, line ends, names and values, and how large they may be."""

from __future__ import annotations

from collections.abc import Iterator

from boundary_cases import (
    GOOD,
    H2C,
    HEAD_LIMIT,
    LINE_LIMIT,
    SAW_GOOD,
    Case,
    Saw,
    accepted,
    get,
    head,
    post,
    refusals,
    refused,
)

__all__ = ["CASES"]


def line(request_line: bytes) -> bytes:
    return request_line + b"\r\nHost: localhost\r\n\r\n"


METHODS = [
    *[
        accepted(method, get(method=method), Saw(method))
        for method in (
            "GET",
            "HEAD",
            "POST",
            "PUT",
            "PATCH",
            "DELETE",
            "OPTIONS",
            "PROPFIND",
            "QUERY",
        )
    ],
    *[
        refused(name, raw, 405, headers={"allow": ""})
        for name, raw in {
            "TRACE": get(method="TRACE"),
            "TRACE *": get(method="TRACE", target="*"),
            "TRACE with a body": get("Content-Length: 5", method="TRACE") + b"hello",
            "CONNECT": get(method="CONNECT", target="localhost:443", host="localhost:443"),
            "CONNECT with a body": get(
                "Content-Length: 5", method="CONNECT", target="localhost:443", host="localhost:443"
            )
            + b"hello",
            "CONNECT and a request": get(method="CONNECT", target="localhost:443") + GOOD,
            "CONNECT with an upgrade": get(*H2C, method="CONNECT", target="localhost:443"),
            "CONNECT in HTTP/1.0": head("CONNECT localhost:443 HTTP/1.0"),
        }.items()
    ],
    refused(
        "CONNECT with CL.TE",
        get(
            "Content-Length: 5",
            "Transfer-Encoding: chunked",
            method="CONNECT",
            target="localhost:443",
        ),
        why="405 would be as true",
    ),
    *refusals(
        501,
        {
            "an unknown method": get(method="FROB"),
            "a method in small letters": get(method="get"),
            "a method in both cases": get(method="Get"),
            "a method that goes on": get(method="GETS"),
            "half a method": get(method="GE"),
            "one letter": get(method="G"),
            "a method of all other token characters": get(method="!#$%&'*+-.^_`|~09"),
            "a method of 32 bytes": get(method="A" * 32),
            "an unknown method with a body": post("Content-Length: 5").replace(b"POST", b"BREW"),
            "a method of RTSP": get(method="DESCRIBE"),
            "a method of RTSP and of HTTP's shape": get(method="PLAY"),
            "the method of HTTP/2's preface": get(method="PRI"),
        },
    ),
    *refusals(
        400,
        {
            "a method of 33 bytes": get(method="A" * 33),
            "a method of 33 bytes without end": b"A" * 33,
            "a method of 20 KiB": get(method="A" * 20_000),
            "a colon in a method": get(method="G:T"),
            "a slash in a method": get(method="G/T"),
            "a NUL in a method": get(method="G\x00T"),
            "a NUL before a method": get(method="\x00GET"),
            "a high byte in a method": get(method="G\xc9T"),
            "a method in quotes": get(method='"GET"'),
            "a control before a method": get(method="\x01GET"),
            "a byte order mark before a method": get(method="\xef\xbb\xbfGET"),
        },
    ),
]

VERSIONS = [
    accepted("HTTP/1.0", get(version="HTTP/1.0"), closes=True),
    accepted("HTTP/1.0 without fields", head("GET / HTTP/1.0"), Saw(host=None), closes=True),
    *refusals(
        505,
        {
            "HTTP/2.0": get(version="HTTP/2.0"),
            "HTTP/3.0": get(version="HTTP/3.0"),
            "HTTP/9.9": get(version="HTTP/9.9"),
            "HTTP/2.0 without a Host": head("GET / HTTP/2.0"),
            "RTSP/1.0": head("DESCRIBE rtsp://localhost/a RTSP/1.0", "CSeq: 1"),
            "OPTIONS of RTSP/1.0": head("OPTIONS * RTSP/1.0", "CSeq: 1"),
            "GET of RTSP/1.0": get(version="RTSP/1.0"),
            "ICE/1.0": head("SOURCE /a ICE/1.0"),
            "GET of ICE/1.0": get(version="ICE/1.0"),
            "HTTP/2's preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0",
            "HEAD of HTTP/2.0": get(method="HEAD", version="HTTP/2.0"),
        },
    ),
    refused(
        "HTTP/10.0",
        get(version="HTTP/10.0"),
        505,
        why="a version is two digits; its major is another in any case",
    ),
    refused(
        "HTTP/1.2",
        get(version="HTTP/1.2"),
        why="RFC 9110 section 2.5 would let it pass for 1.1; httptools does not",
    ),
    *refusals(
        400,
        {
            "HTTP/0.9": b"GET /\r\n\r\n",
            "HTTP/0.9 with a version for its target": b"GET /HTTP/1.1\r\n\r\n",
            "HTTP/0.9 by number": get(version="HTTP/0.9"),
            "HTTP/0.0": get(version="HTTP/0.0"),
            "HTTP/1": get(version="HTTP/1"),
            "HTTP/1.": get(version="HTTP/1."),
            "HTTP/.1": get(version="HTTP/.1"),
            "HTTP/1,1": get(version="HTTP/1,1"),
            "HTTP/1.1.1": get(version="HTTP/1.1.1"),
            "HTTP/x.y": get(version="HTTP/x.y"),
            "HTTP/-1.1": get(version="HTTP/-1.1"),
            "HTTP/ and nothing": get(version="HTTP/"),
            "HTTP without a slash": get(version="HTTP1.1"),
            "HTTP 1.1": get(version="HTTP 1.1"),
            "http/1.1": get(version="http/1.1"),
            "Http/1.1": get(version="Http/1.1"),
            "HTTPS/1.1": get(version="HTTPS/1.1"),
            "HTP/1.1": get(version="HTP/1.1"),
            "an empty version": get(version=""),
            "a version of full-width digits": get(version="HTTP/\xef\xbc\x91.1"),
            "a NUL behind the version": get(version="HTTP/1.1\x00"),
        },
    ),
]

SHAPES = refusals(
    400,
    {
        "two spaces before the version": line(b"GET /  HTTP/1.1"),
        "two spaces before the target": line(b"GET  / HTTP/1.1"),
        "HEAD and two spaces": line(b"HEAD  / HTTP/1.1"),
        "a tab before the target": line(b"GET\t/ HTTP/1.1"),
        "a tab before the version": line(b"GET /\tHTTP/1.1"),
        "VT before the version": line(b"GET /\x0bHTTP/1.1"),
        "FF before the target": line(b"GET\x0c/ HTTP/1.1"),
        "a no-break space before the version": line(b"GET /\xa0HTTP/1.1"),
        "no space before the target": line(b"GET/ HTTP/1.1"),
        "no target": line(b"GET HTTP/1.1"),
        "an empty target": line(b"GET  HTTP/1.1"),
        "a blank behind the version": line(b"GET / HTTP/1.1 "),
        "a tab behind the version": line(b"GET / HTTP/1.1\t"),
        "a fourth word": line(b"GET / HTTP/1.1 X"),
        "a second request line in the first": line(b"GET / HTTP/1.1 GET / HTTP/1.1"),
        "a space in the target": line(b"GET /a b HTTP/1.1"),
        "a space before the method": line(b" GET / HTTP/1.1"),
        "a method alone": line(b"GET"),
        "a method and a space": line(b"GET "),
        "a target alone": line(b"/"),
        "a field for a request line": b"Host: localhost\r\n\r\n",
        "a response": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        # Other protocols
        "a TLS ClientHello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(64)),
        "an SSL 2 ClientHello": b"\x80\x2e\x01\x03\x01\x00\x15\x00\x00\x00\x10\x01\x00\x80",
        "an SSH greeting": b"SSH-2.0-OpenSSH_9.6\r\n",
        "an SMTP greeting": b"EHLO localhost\r\n",
        "a Redis command": b"*1\r\n$4\r\nPING\r\n",
        "a memcached command": b"stats\r\n",
        "a PROXY header that nobody asked for": b"PROXY TCP4 192.0.2.1 192.0.2.2 1 80\r\n" + GOOD,
        "a PROXY header of version 2": b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c" + bytes(12),
        "zeros": bytes(16),
    },
)

EMPTY_LINES = [
    accepted("an empty line first", b"\r\n" + get()),
    accepted("two empty lines first", b"\r\n\r\n" + get()),
    accepted(
        "an empty line behind a body",
        post("Content-Length: 5") + b"\r\n" + GOOD,
        Saw("POST", body=b"hello"),
        SAW_GOOD,
    ),
    accepted("two empty lines between requests", get() + b"\r\n\r\n" + GOOD, Saw(), SAW_GOOD),
    *refusals(
        400,
        {
            "three empty lines first": b"\r\n\r\n\r\n" + get(),
            "four empty lines first": b"\r\n\r\n\r\n\r\n" + get(),
            "a thousand empty lines": b"\r\n" * 1000,
            "LF first": b"\n" + get(),
            "two LF first": b"\n\n" + get(),
            "CR first": b"\r" + get(),
            "CR CR LF first": b"\r\r\n" + get(),
            "LF CR first": b"\n\r" + get(),
            "LF behind an empty line": b"\r\n\n" + get(),
            "CR behind an empty line": b"\r\n\r" + get(),
            "LF behind two empty lines": b"\r\n\r\n\n" + get(),
            "CR behind two empty lines": b"\r\n\r\n\r" + get(),
            "a blank line first": b" \r\n" + get(),
            "a blank behind an empty line": b"\r\n " + get(),
        },
    ),
]

#: A request with a line end in each place that there is, and what each ends.
_LINES = [
    ("the request line", b"POST / HTTP/1.1"),
    ("Host", b"Host: localhost"),
    ("Transfer-Encoding", b"Transfer-Encoding: chunked"),
    ("the last field", b"X: y"),
    ("the head", b""),
    ("a chunk's size", b"5"),
    ("a chunk's data", b"hello"),
    ("a chunk's extension", b"1;a=b"),
    ("a short chunk's data", b"x"),
    ("the last chunk", b"0"),
    ("a trailer", b"X: y"),
    ("the trailers", b""),
]


def _line_ends() -> Iterator[Case]:
    for place, (what, _) in enumerate(_LINES):
        for name, end in {
            "LF": b"\n",
            "CR": b"\r",
            "CR CR LF": b"\r\r\n",
            "LF CR": b"\n\r",
        }.items():
            raw = b"".join(
                text + (end if number == place else b"\r\n")
                for number, (_, text) in enumerate(_LINES)
            )
            # What follows a CR tells that it stands alone.
            yield refused(f"{name} behind {what}", raw + b"X")


LINE_ENDS = [
    accepted(
        "CR LF in each of these places",
        b"".join(text + b"\r\n" for _, text in _LINES),
        Saw("POST", body=b"hellox"),
    ),
    *_line_ends(),
    *refusals(
        400,
        {
            "LF everywhere": get().replace(b"\r\n", b"\n"),
            "CR everywhere": get().replace(b"\r\n", b"\r") + b"\n",
            "LF LF behind a field": get("X: y").replace(b"y\r\n\r\n", b"y\n\n"),
            "CR in a target": get(target="/a\rb"),
            "LF in a target": get(target="/a\nb"),
            "CR in a name": get("X\rY: a"),
            "LF in a name": get("X\nY: a"),
            "CR in a value": get("X: a\rb"),
            "LF in a value": get("X: a\nb"),
            "LF and a field in a value": get("X: a\nY: b"),
            "CR and a field in a value": get("X: a\rY: b"),
            "CR before a value": get("X:\ra"),
            "CR for a value": get("X: \r"),
            "LF before a value": get("X:\na"),
            "a folded value": get("X: a\r\n b"),
            "a value folded with a tab": get("X: a\r\n\tb"),
            "a value folded twice": get("X: a\r\n b\r\n c"),
            "a folded line of nothing": get("X: a\r\n "),
            "a folded line that is a field": get("X: a\r\n Y: b"),
            "a folded first line": head("GET / HTTP/1.1", " X: a", "Host: localhost"),
            "a tab before the first field": head("GET / HTTP/1.1", "\tHost: localhost"),
            "a folded Host": head("GET / HTTP/1.1", "Host: local", " host"),
            "a folded request line": head("GET /", " HTTP/1.1", "Host: localhost"),
        },
    ),
]

_CONTROLS = [byte for byte in (*range(32), 127) if chr(byte) not in "\t\r\n"]

CHARACTERS = [
    *[refused(f"0x{byte:02x} in a value", get(f"X: a{chr(byte)}b")) for byte in _CONTROLS],
    *[refused(f"{mark!r} in a name", get(f"X{mark}Y: a")) for mark in '"(),/;<=>?@[\\]{} \t'],
    *refusals(
        400,
        {
            "NUL for a value": get("X: \x00"),
            "NUL behind a value": get("X: a\x00"),
            "NUL in a name": get("X\x00Y: a"),
            "DEL in a name": get("X\x7fY: a"),
            "a high byte in a name": get("X\xe9: a"),
            "a high byte for a name": get("\xff: a"),
            "a control in a name": get("X\x01: a"),
            "a space before a colon": get("X : a"),
            "a tab before a colon": get("X\t: a"),
            "an empty name": get(": a"),
            "a name of a space": get(" : a"),
            "a line without a colon": get("X"),
            "a line without a colon before Host": head("GET / HTTP/1.1", "X", "Host: localhost"),
            "a colon alone": get(":"),
        },
    ),
    accepted("every character of a token in a name", get("!#$%&'*+-.^_`|~09azAZ: 1")),
    accepted("high bytes in a value", get("X: \x80\x85\xa0\xe9\xff")),
    accepted("a tab in a value", get("X: a\tb")),
    accepted("blanks around a value", get("X: \t a \t ")),
    accepted("an empty value", get("X:")),
    accepted("colons in a value", get("X: : a:b")),
    accepted("no blank behind a colon", get("X:a")),
    accepted("a field many times", get(*["X: 1"] * 100)),
    accepted("names in odd cases", get("x: 1", "HOsT2: 2", "CONTENT-type: a/b")),
]


def _line_of(size: int, method: str = "GET") -> bytes:
    """A request whose line has so many bytes, its CRLF apart."""
    return get(method=method, target="/" + "a" * (size - len(method) - len(" / HTTP/1.1")))


def _head_of(size: int, *fields: str) -> bytes:
    """A request of so many bytes, in fields of about 600."""
    raw = get(*fields)[:-2]
    while size - len(raw) > 1300:
        raw += b"X: %b\r\n" % (b"v" * 600)
    return raw + b"Y: %b\r\n\r\n" % (b"v" * (size - len(raw) - 7))


def _url_of(size: int) -> str:
    return "/" + "a" * (size - len("GET / HTTP/1.1"))


SIZES = [
    accepted("a request line of 16 KiB", _line_of(LINE_LIMIT), Saw(url=_url_of(LINE_LIMIT))),
    accepted(
        "a request line of 16 KiB in HTTP/1.0",
        head(f"GET {_url_of(LINE_LIMIT)} HTTP/1.0"),
        Saw(url=_url_of(LINE_LIMIT), host=None),
        closes=True,
    ),
    accepted("a head of 64 KiB", _head_of(HEAD_LIMIT)),
    accepted("a head of 64 KiB in one field", get("X: " + "v" * (HEAD_LIMIT - len(get()) - 5))),
    accepted(
        "a head of 64 KiB and a body",
        _head_of(HEAD_LIMIT, "Content-Length: 5") + b"hello",
        Saw(body=b"hello"),
    ),
    accepted("256 fields", get(*[f"X{number}: 1" for number in range(255)])),
    accepted("256 fields without values", get(*["X:"] * 255)),
    *refusals(
        414,
        {
            "a request line over 16 KiB": _line_of(LINE_LIMIT + 1),
            "a HEAD line over 16 KiB": _line_of(LINE_LIMIT + 1, "HEAD"),
            "a request line of 100 KB": _line_of(100_000),
            "a request line over 16 KiB without end": _line_of(LINE_LIMIT + 2)[: LINE_LIMIT + 1],
            "a request line without a version over 16 KiB": b"GET /" + b"a" * LINE_LIMIT + b"\r\n",
            "an absolute form over 16 KiB": get(target="http://localhost/" + "a" * LINE_LIMIT),
            "a query over 16 KiB": get(target="/?" + "a" * LINE_LIMIT),
            "an unknown method and a line over 16 KiB": _line_of(LINE_LIMIT + 1, "FROB"),
            "HTTP/2.0 and a line over 16 KiB": _line_of(LINE_LIMIT + 1).replace(
                b"HTTP/1.1", b"HTTP/2.0"
            ),
        },
    ),
    *refusals(
        431,
        {
            "a head over 64 KiB": _head_of(HEAD_LIMIT + 1),
            "a HEAD's head over 64 KiB": _head_of(HEAD_LIMIT + 1).replace(b"GET", b"HEAD", 1),
            "a head over 64 KiB in one field": get("X: " + "v" * HEAD_LIMIT),
            "a head over 64 KiB without end": _head_of(HEAD_LIMIT + 100)[: HEAD_LIMIT + 1],
            "a name over 64 KiB": get("X" * HEAD_LIMIT + ": v"),
            "a name over 64 KiB without end": get()[:-2] + b"X" * HEAD_LIMIT,
            "blanks over 64 KiB before a value": get("X:" + " " * HEAD_LIMIT + "v"),
            "257 fields": get(*[f"X{number}: 1" for number in range(256)]),
            "257 fields of one name": get(*["X: 1"] * 256),
            "257 fields and a body": post(*["X: 1"] * 255, "Content-Length: 5"),
            "10,000 empty fields": get(*["X:"] * 10_000),
        },
    ),
]

CASES: list[Case] = [
    *METHODS,
    *VERSIONS,
    *SHAPES,
    *EMPTY_LINES,
    *LINE_ENDS,
    *CHARACTERS,
    *SIZES,
]
