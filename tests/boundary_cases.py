"""What a case of the boundary's table is, and what raw requests are built with. The cases are in ``boundary_*.py``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

__all__ = [
    "BODY_LIMIT",
    "GOOD",
    "H2C",
    "HEAD_LIMIT",
    "HELLO",
    "LAST",
    "LINE_LIMIT",
    "SAW_GOOD",
    "SAW_LAST",
    "SMUGGLED",
    "Case",
    "Saw",
    "accepted",
    "chunk",
    "chunked",
    "get",
    "head",
    "post",
    "refused",
    "refusals",
]

LINE_LIMIT: Final = 16 * 1024
HEAD_LIMIT: Final = 64 * 1024
BODY_LIMIT: Final = 10 * 1024 * 1024


class Saw(NamedTuple):
    """A request as the handler saw it."""

    method: str = "GET"
    url: str = "/"
    body: bytes = b""
    host: str | None = "localhost"


@dataclass(frozen=True, slots=True)
class Case:
    """Raw bytes on a connection of their own, and all that may come of them.

    ``statuses`` are those of the final answers; ``closes`` says whether the last of them closes the connection;
    ``saw`` is what the handler saw, so it is empty for what is refused. ``takes_100`` says whether a 100 comes first
    when the body comes later than the head. ``headers`` are fields of the last answer (None: it must not be there,
    "": whatever its value), ``body`` is its body. ``site`` is what the server answers for: the hosts that it is told,
    or the loopback names because it is bound to a loopback address. ``why`` is the reason for what is debatable.
    """

    name: str
    raw: bytes
    statuses: tuple[int, ...]
    closes: bool
    saw: tuple[Saw, ...] = ()
    takes_100: bool = False
    headers: Mapping[str, str | None] = field(default_factory=dict)
    body: bytes | None = None
    site: Literal["listed", "loopback"] = "listed"
    why: str = ""

    @property
    def methods(self) -> list[str]:
        """The methods of the requests, as far as an answer's framing depends on them (RFC 9112 section 6.3)."""
        if self.saw:
            return [saw.method for saw in self.saw]
        return ["HEAD"] if self.raw.startswith(b"HEAD ") else ["GET"]


def accepted(
    name: str,
    raw: bytes,
    *saw: Saw,
    status: int = 200,
    closes: bool = False,
    takes_100: bool = False,
    headers: Mapping[str, str | None] | None = None,
    body: bytes | None = None,
    site: Literal["listed", "loopback"] = "listed",
    why: str = "",
) -> Case:
    """Requests that handlers saw, one GET / of localhost unless told, the last of them answered with ``status``."""
    seen = saw or (Saw(),)
    statuses = (*[200] * (len(seen) - 1), status)
    return Case(
        name, raw, statuses, closes, seen, takes_100, headers or {}, body, site=site, why=why
    )


def refused(
    name: str,
    raw: bytes,
    status: int = 400,
    *,
    closes: bool = True,
    takes_100: bool = False,
    headers: Mapping[str, str | None] | None = None,
    site: Literal["listed", "loopback"] = "listed",
    why: str = "",
) -> Case:
    """A request that no handler sees."""
    return Case(
        name,
        raw,
        (status,),
        closes,
        takes_100=takes_100,
        headers=headers or {},
        site=site,
        why=why,
    )


def refusals(status: int, table: Mapping[str, bytes]) -> list[Case]:
    """Many of them that are answered alike."""
    return [refused(name, raw, status) for name, raw in table.items()]


def head(*lines: str) -> bytes:
    """Lines and the empty line, each with CRLF."""
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode("latin-1")


def get(
    *fields: str,
    target: str = "/",
    host: str = "localhost",
    method: str = "GET",
    version: str = "HTTP/1.1",
) -> bytes:
    return head(f"{method} {target} {version}", f"Host: {host}", *fields)


def post(*fields: str, body: bytes = b"hello", version: str = "HTTP/1.1") -> bytes:
    return get(*fields, method="POST", version=version) + body


def chunk(data: bytes, extension: bytes = b"") -> bytes:
    return b"%x%b\r\n%b\r\n" % (len(data), extension, data)


def chunked(body: bytes, *fields: str) -> bytes:
    return post("Transfer-Encoding: chunked", *fields, body=body)


GOOD: Final = get(target="/good")
SAW_GOOD: Final = Saw(url="/good")
LAST: Final = get("Connection: close", target="/last")
SAW_LAST: Final = Saw(url="/last")
#: What must not be taken for a request of its own.
SMUGGLED: Final = get(target="/smuggled")
HELLO: Final = b"5\r\nhello\r\n0\r\n\r\n"
#: What Java's HttpClient and ``curl --http2`` send with a request over plain HTTP.
H2C: Final = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQ")
