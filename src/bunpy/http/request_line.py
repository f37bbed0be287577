"""The request line (RFC 9112 section 3), as far as httptools is not strict enough, or not clear enough, about it."""

from __future__ import annotations

import re
from typing import Final

from bunpy.errors import RequestRefused

__all__ = ["check_method", "check_partial_line", "method_and_version", "unknown_method"]

_METHOD_LIMIT: Final = 32
_VERSIONS: Final = {b" HTTP/1.1\r\n": "1.1", b" HTTP/1.0\r\n": "1.0"}
_METHODS: Final = {
    b"GET": "GET",
    b"POST": "POST",
    b"HEAD": "HEAD",
    b"OPTIONS": "OPTIONS",
    b"PUT": "PUT",
}
#: Methods that httptools knows from other protocols and then refuses as a malformed line.
_OTHERS: Final = frozenset(
    b"ANNOUNCE DESCRIBE FLUSH GET_PARAMETER PAUSE PLAY PRI RECORD REDIRECT SETUP SET_PARAMETER TEARDOWN".split()
)

_METHOD = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]*")
_LINE = re.compile(rb"[^ ]+ [^ ]+ (?:HTTP/(\d)\.(\d)|(HTTP/\d+\.\d+|RTSP/\d\.\d|ICE/\d\.\d))\r\n")


def method_and_version(line: bytes, limit: int) -> tuple[str, str]:
    """The method and "1.1" or "1.0" of a complete request line, its CRLF included.

    ``RequestRefused`` for a line of more than ``limit`` bytes (414), a method of another protocol (501), another
    protocol (505), or no request line at all (400).
    """
    if len(line) <= limit + 2:
        version = _VERSIONS.get(line[-11:])
        if version is not None and line.count(b" ") == 2:
            method = line[: line.index(b" ")]
            if method in _OTHERS:
                raise unknown_method()
            return _METHODS.get(method) or method.decode("latin-1"), version
    check_method(line)
    if len(line) > limit + 2:
        raise _too_long(limit)
    match = _LINE.fullmatch(line)
    if match and (match[3] or match[1] not in b"01"):
        raise RequestRefused(505, "This server speaks HTTP/1.1")
    raise RequestRefused(
        400, "The request line is not method, target and HTTP/1.1, with one space between them"
    )


def check_partial_line(line: bytes, limit: int) -> None:
    """Refuse the beginning of a line that can become no request line, so that a stray protocol is told at once."""
    check_method(line)
    if len(line) - line.endswith(b"\r") > limit:
        raise _too_long(limit)


def check_method(line: bytes) -> None:
    """Refuse what does not begin with a method of at most 32 bytes, as far as it has come."""
    match = _METHOD.match(line)
    size = match.end() if match else 0
    if not 0 < size <= _METHOD_LIMIT or line[size : size + 1] not in (b"", b" "):
        raise RequestRefused(400, "The request line begins with no method (RFC 9112 section 3)")


def unknown_method() -> RequestRefused:
    """The refusal of a method that this server does not implement (RFC 9110 section 15.6.2)."""
    return RequestRefused(501, "This server does not know the request's method")


def _too_long(limit: int) -> RequestRefused:
    return RequestRefused(414, f"The request line is over the limit of {limit} bytes")
