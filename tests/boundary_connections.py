"""Cases of the boundary's table: what becomes of the connection, pipelines, and expectations."""

from __future__ import annotations

from boundary_cases import (
    BODY_LIMIT,
    GOOD,
    HELLO,
    SAW_GOOD,
    SMUGGLED,
    Case,
    Saw,
    accepted,
    chunked,
    get,
    head,
    post,
    refusals,
    refused,
)

__all__ = ["CASES"]


def stays(name: str, raw: bytes, *saw: Saw, closes: bool = False, why: str = "") -> Case:
    return accepted(name, raw, *saw, closes=closes, why=why)


CONNECTIONS = [
    stays("Connection: close", get("Connection: close"), closes=True),
    stays("Connection: Close", get("Connection: Close"), closes=True),
    stays("connection:close", get("connection:close"), closes=True),
    stays("close among options", get("Connection: x,\tclose ,y"), closes=True),
    stays("close among empty options", get("Connection: ,,close,"), closes=True),
    stays(
        "close in a second field", get("Connection: keep-alive", "Connection: close"), closes=True
    ),
    stays("keep-alive and close", get("Connection: keep-alive, close"), closes=True),
    stays("Connection: keep-alive", get("Connection: keep-alive")),
    stays("Connection: closed", get("Connection: closed")),
    stays("Connection: close in quotes", get('Connection: "close"')),
    stays("an empty Connection", get("Connection:")),
    stays(
        "Connection: Content-Length",
        post("Connection: Content-Length", "Content-Length: 5"),
        Saw("POST", body=b"hello"),
        why="a server is the last hop; framing is not taken back",
    ),
    stays("Connection: Host", get("Connection: Host")),
    stays(
        "Proxy-Connection: close",
        get("Proxy-Connection: close"),
        why="it is no field of any standard",
    ),
    stays("Keep-Alive without Connection", get("Keep-Alive: timeout=5, max=1")),
    stays(
        "close and a body",
        post("Connection: close", "Content-Length: 5"),
        Saw("POST", body=b"hello"),
        closes=True,
    ),
    stays(
        "close and chunks",
        chunked(HELLO, "Connection: close"),
        Saw("POST", body=b"hello"),
        closes=True,
    ),
    stays("a request behind close", get("Connection: close") + SMUGGLED, closes=True),
    stays("nonsense behind close", get("Connection: close") + b"\0\0\0\r\n\r\n", closes=True),
    accepted(
        "HTTP/1.0 with keep-alive",
        get("Connection: keep-alive", version="HTTP/1.0"),
        headers={"connection": "keep-alive"},
    ),
    accepted(
        "HTTP/1.0 with Keep-Alive",
        get("Connection: Keep-Alive", version="HTTP/1.0"),
        headers={"connection": "keep-alive"},
    ),
    stays(
        "HTTP/1.0 with keep-alive and close",
        get("Connection: keep-alive, close", version="HTTP/1.0"),
        closes=True,
    ),
    stays(
        "HTTP/1.0 with Keep-Alive alone", get("Keep-Alive: 300", version="HTTP/1.0"), closes=True
    ),
    stays(
        "HTTP/1.0 with a body",
        post("Content-Length: 5", version="HTTP/1.0"),
        Saw("POST", body=b"hello"),
        closes=True,
    ),
    accepted(
        "HTTP/1.0 with keep-alive and a body",
        post("Connection: keep-alive", "Content-Length: 5", version="HTTP/1.0"),
        Saw("POST", body=b"hello"),
        headers={"connection": "keep-alive"},
    ),
    stays("HTTP/1.0 and a request", get(version="HTTP/1.0") + SMUGGLED, closes=True),
    stays("HTTP/1.1 and then HTTP/1.0", get() + get(version="HTTP/1.0"), Saw(), Saw(), closes=True),
    # Pipelines
    stays("pipelined GETs", get() + GOOD, Saw(), SAW_GOOD),
    stays("40 pipelined requests", get() * 40, *[Saw()] * 40),
    stays(
        "pipelined requests of all kinds",
        post("Content-Length: 5")
        + get(method="HEAD")
        + chunked(HELLO)
        + GOOD
        + b"\r\n"
        + post("Content-Length: 0", body=b"")
        + GOOD,
        Saw("POST", body=b"hello"),
        Saw("HEAD"),
        Saw("POST", body=b"hello"),
        SAW_GOOD,
        Saw("POST"),
        SAW_GOOD,
    ),
    stays(
        "answers that take time keep their order",
        get(target="/later") + get(target="/stream") + get(target="/plain") + GOOD,
        Saw(url="/later"),
        Saw(url="/stream"),
        Saw(url="/plain"),
        SAW_GOOD,
    ),
    Case(
        "20 good requests and a bad one",
        GOOD * 20 + get("X: \x00"),
        (*[200] * 20, 400),
        True,
        (SAW_GOOD,) * 20,
    ),
    Case(
        "a good request, a slow one and a bad one",
        GOOD + get(target="/later") + head("GET / HTTP/1.1") + GOOD,
        (200, 200, 400),
        True,
        (SAW_GOOD, Saw(url="/later")),
    ),
]

EXPECT = "Expect: 100-continue"

EXPECTATIONS = [
    accepted(
        "Expect: 100-continue",
        post(EXPECT, "Content-Length: 5"),
        Saw("POST", body=b"hello"),
        takes_100=True,
    ),
    accepted(
        "Expect: 100-Continue",
        post("Expect: 100-Continue", "Content-Length: 5"),
        Saw("POST", body=b"hello"),
        takes_100=True,
    ),
    accepted(
        "Expect: 100-continue with chunks",
        chunked(HELLO, EXPECT),
        Saw("POST", body=b"hello"),
        takes_100=True,
    ),
    accepted(
        "Expect: 100-continue and close",
        post(EXPECT, "Content-Length: 5", "Connection: close"),
        Saw("POST", body=b"hello"),
        takes_100=True,
        closes=True,
    ),
    accepted("Expect: 100-continue without a body", get(EXPECT)),
    accepted(
        "Expect: 100-continue with an empty body",
        post(EXPECT, "Content-Length: 0", body=b""),
        Saw("POST"),
    ),
    accepted(
        "Expect: 100-continue in HTTP/1.0",
        post(EXPECT, "Content-Length: 5", version="HTTP/1.0"),
        Saw("POST", body=b"hello"),
        closes=True,
    ),
    accepted(
        "another expectation in HTTP/1.0",
        get("Expect: a miracle", version="HTTP/1.0"),
        closes=True,
        why="HTTP/1.0 has no Expect",
    ),
    *[
        refused(
            name,
            get(*fields),
            417,
            closes=False,
            why="the row says 417 and not 417x, and nothing follows that could be misread",
        )
        for name, fields in {
            "another expectation": ("Expect: 200-ok",),
            "an empty expectation": ("Expect:",),
            "an expectation with a parameter": ("Expect: 100-continue;a=b",),
            "two expectations": ("Expect: 100-continue, 200-ok",),
            "one expectation twice": (EXPECT, EXPECT),
            "100-continue in quotes": ('Expect: "100-continue"',),
            "another expectation and an empty body": ("Expect: 200-ok", "Content-Length: 0"),
        }.items()
    ],
    *[
        refused(
            name,
            raw,
            417,
            why="whether the client sends the body now is its choice (RFC 9110 section 10.1.1): only a close is safe",
        )
        for name, raw in {
            "another expectation and a body": post("Expect: 200-ok", "Content-Length: 5"),
            "another expectation and chunks": chunked(HELLO, "Expect: 200-ok"),
            "another expectation and a body that is a request": post(
                "Expect: 200-ok", f"Content-Length: {len(SMUGGLED)}", body=SMUGGLED
            ),
        }.items()
    ],
    refused(
        "Expect and a chunk over the limit",
        chunked(b"%x\r\n" % (BODY_LIMIT + 1), EXPECT),
        413,
        takes_100=True,
        why="only the body tells",
    ),
    *refusals(
        413,
        {
            "Expect and a length over the limit": post(
                EXPECT, f"Content-Length: {BODY_LIMIT + 1}", body=b""
            ),
        },
    ),
    *refusals(
        400,
        {
            "Expect and CL.TE": post(
                EXPECT, "Content-Length: 5", "Transfer-Encoding: chunked", body=b""
            ),
            "Expect and a list of lengths": post(EXPECT, "Content-Length: 5, 5", body=b""),
            "Expect and a Host twice": post(
                EXPECT, "Content-Length: 5", "Host: localhost", body=b""
            ),
        },
    ),
]

CASES: list[Case] = [*CONNECTIONS, *EXPECTATIONS]
