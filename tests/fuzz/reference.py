"""What some bytes ask, by RFC 9112 and bunpy's limits: a second opinion, which shares no code with ``bunpy.http``.

It is slow, reads whole inputs only, and says nothing of what it is not sure of.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, NamedTuple

__all__ = ["BODY_LIMIT", "HEAD_LIMIT", "LINE_LIMIT", "Asked", "Asking", "Limits", "read_all"]

#: Smaller than a server's, so that what a fuzzer makes goes past them.
LINE_LIMIT: Final = 1024
HEAD_LIMIT: Final = 4096
BODY_LIMIT: Final = 4096
_FIELD_LIMIT: Final = 256
_METHOD_LIMIT: Final = 32
_EXTENSION_LIMIT: Final = 4 * 1024
_EXTENSIONS_LIMIT: Final = 16 * 1024
_TRAILER_LIMIT: Final = 8 * 1024
_HOST_LIMIT: Final = 253  # RFC 1035
#: So near a limit it is not sure: what exactly counts is the server's to decide.
_NEAR: Final = 8

_TOKEN: Final = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_REQUEST_LINE = re.compile(rb"(%b) ([\x21-\x7e]+) HTTP/([0-9])\.([0-9])" % _TOKEN)
_FIELD_LINE = re.compile(rb"(%b):[ \t]*([\t\x20-\x7e\x80-\xff]*)" % _TOKEN)
_PATH = re.compile(r"/(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*")
_ABSOLUTE = re.compile(r"http://([a-z0-9.-]+(?::[0-9]{1,4})?)(/.*)?")
_HOST = re.compile(r"[a-z0-9.-]+(?::[0-9]{1,4})?")
_NO_HOST = re.compile(r"[^A-Za-z0-9._~!$&'()*+,;=:%\[\]-]")
_DIGITS = re.compile(r"[0-9]+")
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})((?:;%b(?:=%b)?)*)" % (_TOKEN, _TOKEN))
_LAX_CHUNK_LINE = re.compile(rb"[0-9A-Fa-f]{1,16}[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?")

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_NEVER_METHODS: Final = frozenset({"CONNECT", "TRACE"})
_NEVER_TRAILERS: Final = frozenset({"authorization", "content-length", "host", "transfer-encoding"})


class Asked(NamedTuple):
    """A request as a handler must see it: ``headers`` by lower-case name, repeated ones joined."""

    method: str
    url: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Asking:
    """The requests that are certain, and what is behind them.

    ``end`` is "refused" (no handler may see what follows), "incomplete" (the same, and it may not be an error),
    "closed" (the last request ended the connection), "nothing" or "unknown".
    """

    requests: tuple[Asked, ...]
    end: str


class _Refused(Exception):
    pass


class _Unknown(Exception):
    pass


class _Incomplete(Exception):
    pass


class Limits(NamedTuple):
    """In bytes, but for ``fields``."""

    line: int = LINE_LIMIT
    head: int = HEAD_LIMIT
    body: int = BODY_LIMIT


def read_all(data: bytes, limits: Limits = Limits()) -> Asking:  # noqa: B008 -- a tuple of ints
    """What a connection asks on which ``data`` comes, and then its end."""
    requests: list[Asked] = []
    position = 0
    end = "nothing"
    try:
        while position < len(data):
            asked, position, stays = _read(data, position, limits)
            requests.append(asked)
            if not stays:
                end = "closed"
                break
    except _Refused:
        end = "refused"
    except _Incomplete:
        end = "incomplete"
    except _Unknown:
        end = "unknown"
    return Asking(tuple(requests), end)


def _within(size: int, limit: int) -> None:
    if size > limit + _NEAR:
        raise _Refused
    if size > limit - _NEAR:
        raise _Unknown


def _read(data: bytes, position: int, limits: Limits) -> tuple[Asked, int, bool]:
    for _ in range(2):
        if data.startswith(b"\r\n", position):
            position += 2
    if data[position : position + 1] in (b"", b"\r", b"\n"):
        if data[position:] in (b"", b"\r"):
            raise _Incomplete
        raise _Refused
    end = data.find(b"\r\n\r\n", position)
    if end < 0:
        raise _Incomplete  # a head whose lines end in LF alone is none that may be answered
    line, *lines = data[position:end].split(b"\r\n")
    match = _REQUEST_LINE.fullmatch(line)
    if match is None or match[3] != b"1" or match[4] not in b"01":
        raise _Refused
    _within(len(line), limits.line)
    _within(end + 4 - position, limits.head)
    headers, repeated = _headers(lines)
    method, version = match[1].decode(), f"1.{match[4].decode()}"
    if len(method) > _METHOD_LIMIT or method in _NEVER_METHODS:
        raise _Refused
    url = _target(match[2].decode(), method, version, headers, repeated)
    options = [option.strip(" \t").lower() for option in headers.get("connection", "").split(",")]
    stays = "close" not in options and (version == "1.1" or "keep-alive" in options)
    body, position = _body(data, end + 4, version, headers, repeated, limits)
    if version == "1.1" and headers.get("expect", "100-continue").lower() != "100-continue":
        raise _Unknown
    if method not in _METHODS:
        raise _Unknown
    return Asked(method, url, headers, body), position, stays


def _headers(lines: list[bytes]) -> tuple[dict[str, str], frozenset[str]]:
    headers: dict[str, str] = {}
    repeated = set()
    for line in lines:
        match = _FIELD_LINE.fullmatch(line)
        if match is None:
            raise _Refused
        name = match[1].decode().lower()
        if name == "transfer-encoding" and b"\t" in match[2]:
            raise _Unknown  # llhttp refuses a tab behind "chunked", which is valid and which nobody sends
        value = match[2].decode("latin-1").rstrip(" \t")
        if name in headers:
            repeated.add(name)
            value = headers[name] + ("; " if name == "cookie" else ", ") + value
        headers[name] = value
    if len(lines) > _FIELD_LIMIT:
        raise _Refused
    return headers, frozenset(repeated)


def _target(
    target: str, method: str, version: str, headers: dict[str, str], repeated: frozenset[str]
) -> str:
    host = headers.get("host")
    if "host" in repeated or (host is None and version == "1.1"):
        raise _Refused
    if host is not None and _NO_HOST.search(host):
        raise _Refused
    if "#" in target:
        raise _Refused
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is not None:
        target = absolute[2] or "/"
    elif target == "*":
        if method != "OPTIONS":
            raise _Refused
    elif not target.startswith("/"):
        raise _Unknown if ":" in target else _Refused
    if target != "*" and not _PATH.fullmatch(target):
        raise _Unknown
    authority = None if absolute is None else absolute[1]
    for name in (host, authority):
        if name is not None and (len(name) > _HOST_LIMIT or not _HOST.fullmatch(name)):
            raise _Unknown
    if authority is not None:
        headers["host"] = authority
    return target


def _body(
    data: bytes,
    position: int,
    version: str,
    headers: dict[str, str],
    repeated: frozenset[str],
    limits: Limits,
) -> tuple[bytes, int]:
    coding, length = headers.get("transfer-encoding"), headers.get("content-length")
    if coding is not None:
        if length is not None or version != "1.1" or coding.lower() != "chunked":
            raise _Refused
        return _chunks(data, position, limits)
    if length is None:
        return b"", position
    if "content-length" in repeated or not _DIGITS.fullmatch(length) or not length.isascii():
        raise _Refused
    digits = length.lstrip("0") or "0"
    if len(digits) > 18 or int(digits) > limits.body:
        raise _Refused
    end = position + int(digits)
    if end > len(data):
        raise _Incomplete
    return data[position:end], end


def _chunks(data: bytes, position: int, limits: Limits) -> tuple[bytes, int]:
    content = b""
    extensions = 0
    while True:
        line, position = _line(data, position)
        match = _CHUNK_LINE.fullmatch(line)
        if match is None:
            raise _Unknown if _LAX_CHUNK_LINE.fullmatch(line) else _Refused
        _within(len(match[2]), _EXTENSION_LIMIT)
        extensions += len(match[2])
        _within(extensions, _EXTENSIONS_LIMIT)
        size = int(match[1], 16)
        if len(content) + size > limits.body:
            raise _Refused
        if not size:
            break
        content += data[position : position + size]
        position += size
        if position >= len(data):
            raise _Incomplete
        if not b"\r\n".startswith(data[position : position + 2]):
            raise _Refused
        position += 2
    began = position
    while True:
        line, position = _line(data, position)
        _within(position - began, _TRAILER_LIMIT)
        if not line:
            return content, position
        trailer = _FIELD_LINE.fullmatch(line)
        if trailer is None or trailer[1].decode().lower() in _NEVER_TRAILERS:
            raise _Refused
        if not trailer[1].lower().startswith(b"x-"):
            raise _Unknown


def _line(data: bytes, position: int) -> tuple[bytes, int]:
    end = data.find(b"\r\n", position)
    if end < 0:
        raise _Incomplete
    line = data[position:end]
    if b"\r" in line or b"\n" in line:
        raise _Refused
    return line, end + 2
