"""Heads: a request's as bytes, and an answer's as a strict client reads it (RFC 9112). No I/O here.

Strict on purpose: what a browser would forgive is a fault of the server that is being tested.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from bunpy.testing.errors import InvalidAnswer

__all__ = ["HEAD_END", "Head", "parse_head", "request_bytes"]

HEAD_END = b"\r\n\r\n"

_STATUS_LINE = re.compile(rb"HTTP/(1\.[01]) ([1-9][0-9]{2}) ([\t\x20-\x7e\x80-\xff]*)")
_FIELD_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[\t ]*([\t\x20-\x7e\x80-\xff]*?)[\t ]*")
_BREAKS_THE_HEAD = re.compile("[\0\r\n]")


@dataclass(frozen=True, slots=True)
class Head:
    """The status line and the fields of an answer.

    ``version`` is "1.1" or "1.0"; ``fields`` are names and values as they came and in that order,
    ``headers`` the same by lower-case name, repeated ones joined with ", ".
    """

    version: str
    status: int
    reason: str
    fields: tuple[tuple[str, str], ...]
    headers: dict[str, str]

    @property
    def is_interim(self) -> bool:
        """Whether the status is 1xx: another answer to the same request follows."""
        return self.status < 200

    @property
    def connection_options(self) -> set[str]:
        """The lower-case options of the Connection field (RFC 9110 section 7.6.1)."""
        options = self.headers.get("connection", "").lower().split(",")
        return {option.strip() for option in options} - {""}


def parse_head(data: bytes) -> Head:
    """Read a head, its empty line included; ``InvalidAnswer`` when it breaks RFC 9112."""
    status_line, *lines = data.removesuffix(HEAD_END).split(b"\r\n")
    matched = _STATUS_LINE.fullmatch(status_line)
    if matched is None:
        raise InvalidAnswer(f"not an HTTP/1.1 status line: {status_line[:200]!r}")
    version, status, reason = (part.decode("latin-1") for part in matched.groups())
    fields = []
    headers: dict[str, str] = {}
    for line in lines:
        matched = _FIELD_LINE.fullmatch(line)
        if matched is None:
            raise InvalidAnswer(f"not a field line: {line[:200]!r}")
        name, value = (part.decode("latin-1") for part in matched.groups())
        fields.append((name, value))
        name = name.lower()
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return Head(version, int(status), reason, tuple(fields), headers)


def request_bytes(
    method: str,
    target: str,
    authority: str,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
) -> bytes:
    """A whole HTTP/1.1 request, in UTF-8.

    Host and (with a body) Content-Length are added; ``headers`` replace them without regard to
    case. Raises ``ValueError`` for CR, LF or NUL in a part: a request that is wrong on purpose is
    written out and sent with ``exchange``.
    """
    fields = {"host": ("Host", authority)}
    if body is not None:
        fields["content-length"] = ("Content-Length", str(len(body)))
    for name, value in (headers or {}).items():
        fields[name.lower()] = (name, value)
    lines = [f"{method} {target} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in fields.values()]
    for line in lines:
        if _BREAKS_THE_HEAD.search(line):
            raise ValueError(f"CR, LF or NUL in {line!r}: send such bytes with exchange()")
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode() + (body or b"")
