"""The request line (RFC 9112 section 3), as far as httptools is not strict enough, or not clear enough, about it."""

from __future__ import annotations

import re
from typing import Final

from bunpy.errors import RequestRefused

__all__ = ["check_method", "check_partial_line", "method_and_version"]

_METHOD_LIMIT: Final = 32

_METHOD = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]*")
_LINE = re.compile(rb"[^ ]+ [^ ]+ (?:HTTP/(\d)\.(\d)|(HTTP/\d+\.\d+|RTSP/\d\.\d|ICE/\d\.\d))\r\n")


def method_and_version(data: bytes, end: int, limit: int) -> tuple[bytes, str]:
    """The method and "1.1" or "1.0" of the complete request line ``data[:end]``.

    ``RequestRefused`` for a line of more than ``limit`` bytes (414), another protocol (505), or none at all (400).
    """
    if end > limit + 2:
        raise _too_long(limit)
    version = data[end - 11 : end]
    if version in (b" HTTP/1.1\r\n", b" HTTP/1.0\r\n") and data[end - 12 : end - 11] != b" ":
        return data[: data.find(b" ")], "1.1" if version[8] == 49 else "1.0"
    check_method(data)
    match = _LINE.fullmatch(data, 0, end)
    if match and (match[3] or match[1] not in b"01"):
        raise RequestRefused(505, "This server speaks HTTP/1.1")
    raise RequestRefused(
        400, "The request line is not method, target and HTTP/1.1, with one space between them"
    )


def check_partial_line(data: bytes, limit: int) -> None:
    """Refuse the beginning of a line that can become no request line, so that a stray protocol is told at once."""
    if len(data) > limit:
        raise _too_long(limit)
    check_method(data)


def check_method(data: bytes) -> None:
    """Refuse what does not begin with a method of at most 32 bytes, as far as it has come."""
    match = _METHOD.match(data)
    size = match.end() if match else 0
    if not 0 < size <= _METHOD_LIMIT or data[size : size + 1] not in (b"", b" "):
        raise RequestRefused(400, "The request line begins with no method (RFC 9112 section 3)")


def _too_long(limit: int) -> RequestRefused:
    return RequestRefused(414, f"The request line is over the limit of {limit} bytes")
