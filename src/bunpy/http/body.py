"""Request bodies out of bytes, by Content-Length or in chunks (RFC 9112 section 6), within limits.

httptools reads the head; it gives no account of chunk extensions, padded sizes or trailers, which is why chunks are
read here: one reader of the framing, so that no two can disagree.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Protocol

from bunpy.errors import RequestRefused
from bunpy.http.limits import Limits

__all__ = ["Body", "ChunkedBody", "SizedBody", "body_of"]

_SIZE_DIGITS: Final = 16

_CHUNK_SIZE = re.compile(rb"[0-9A-Fa-f]{1,16}")
_EXTENSION = re.compile(rb"(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?")
_TRAILER_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[\t\x20-\x7e\x80-\xff]*")

#: Fields that would change what has been decided from the head (RFC 9110 section 6.5.1).
_NOT_IN_TRAILERS: Final = frozenset(
    {
        b"authorization", b"connection", b"content-encoding", b"content-length", b"content-type", b"cookie",
        b"expect", b"host", b"proxy-authorization", b"te", b"trailer", b"transfer-encoding", b"upgrade",
    }
)  # fmt: skip


class Body(Protocol):
    """A body that is being read."""

    def feed(self, data: bytes) -> bytes | None:
        """Take what belongs to the body: what follows it when it is complete, None while more is wanted."""

    def content(self) -> bytes:
        """What has been read, framing removed."""


def body_of(headers: Mapping[str, str], version: str, limits: Limits) -> Body | None:
    """The body that follows a head with these fields, None if none does (RFC 9112 section 6.3).

    ``RequestRefused`` for framing of which there could be two opinions (400), and for a body of over
    ``limits.body`` bytes (413).
    """
    coding = headers.get("transfer-encoding")
    length = headers.get("content-length")
    if coding is not None:
        if length is not None or version != "1.1" or coding.lower() != "chunked":
            raise RequestRefused(
                400, "Transfer-Encoding is chunked, once, in HTTP/1.1 and without Content-Length"
            )
        return ChunkedBody(limits)
    if length is None:
        return None
    if not (length.isascii() and length.isdigit()):
        raise RequestRefused(400, "Content-Length is one decimal number (RFC 9112 section 6.3)")
    digits = length.lstrip("0")
    size = int(digits or "0") if len(digits) < 20 else limits.body + 1
    if size > limits.body:
        raise RequestRefused(413, f"The body is over the limit of {limits.body} bytes")
    return SizedBody(size) if size else None


class SizedBody:
    """A body of as many bytes as Content-Length says (RFC 9112 section 6.2)."""

    __slots__ = ("_content", "_missing")

    def __init__(self, size: int) -> None:
        self._missing = size
        self._content = bytearray()

    def feed(self, data: bytes) -> bytes | None:
        piece = data[: self._missing]
        self._content += piece
        self._missing -= len(piece)
        return None if self._missing else data[len(piece) :]

    def content(self) -> bytes:
        return bytes(self._content)


class ChunkedBody:
    """A chunked body (RFC 9112 section 7.1); ``RequestRefused`` if it breaks the rules or is over the limits."""

    __slots__ = ("_content", "_extensions", "_limits", "_line", "_missing", "_state", "_trailers")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._content = bytearray()
        self._line = b""  # the part of a line that has come
        self._state = ChunkedBody._read_size
        self._missing = 0  # bytes of the chunk's data
        self._extensions = 0
        self._trailers = 0

    def feed(self, data: bytes) -> bytes | None:
        position = 0
        while position >= 0:
            position, is_complete = self._state(self, data, position)
            if is_complete:
                return data[position:]
        return None

    def content(self) -> bytes:
        return bytes(self._content)

    def _read_line(self, data: bytes, position: int, limit: int) -> tuple[bytes | None, int]:
        """The line that ends in ``data``, without its CRLF, and where the next begins; None while it has not ended."""
        end = data.find(b"\n", position) + 1
        piece = data[position:end] if end else data[position:]
        if len(self._line) + len(piece) > limit + 2:
            raise RequestRefused(400, "A line of the chunked body is too long")
        line = self._line + piece
        carriage = line.find(b"\r")
        is_crlf = line.endswith(b"\r\n") and carriage == len(line) - 2
        if not (is_crlf if end else carriage in (-1, len(line) - 1)):
            raise RequestRefused(
                400, "A line of a chunked body ends in CR LF and has no other CR or LF"
            )
        if not end:
            self._line = line
            return None, -1
        self._line = b""
        return line[:-2], end

    def _read_size(self, data: bytes, position: int) -> tuple[int, bool]:
        line, position = self._read_line(data, position, _SIZE_DIGITS + self._limits.extension)
        known = self._line.rstrip(b"\r") if line is None else line
        digits = _CHUNK_SIZE.match(known)
        if digits is None and (known or line is not None):
            raise RequestRefused(
                400, "A chunk's size is 1 to 16 hexadecimal digits (RFC 9112 section 7.1)"
            )
        extension = 0 if digits is None else len(known) - digits.end()
        limits = self._limits
        if extension > limits.extension or self._extensions + extension > limits.extensions:
            raise RequestRefused(400, "The chunk extensions are too long")
        if line is None or digits is None:
            return position, False
        if not _EXTENSION.fullmatch(line, digits.end()):
            raise RequestRefused(
                400, "A chunk's size is followed by CR LF or an extension (RFC 9112 section 7.1.1)"
            )
        self._extensions += extension
        self._missing = int(digits[0], 16)
        if len(self._content) + self._missing > limits.body:
            raise RequestRefused(413, f"The body is over the limit of {limits.body} bytes")
        self._state = ChunkedBody._read_data if self._missing else ChunkedBody._read_trailer
        return position, False

    def _read_data(self, data: bytes, position: int) -> tuple[int, bool]:
        piece = data[position : position + self._missing]
        self._content += piece
        self._missing -= len(piece)
        if self._missing:
            return -1, False
        self._state = ChunkedBody._read_data_end
        return position + len(piece), False

    def _read_data_end(self, data: bytes, position: int) -> tuple[int, bool]:
        self._line += data[position : position + 2 - len(self._line)]
        if not b"\r\n".startswith(self._line):
            raise RequestRefused(
                400, "A chunk's data is longer than its size, or has no CR LF behind it"
            )
        if len(self._line) < 2:
            return -1, False
        position = data.index(b"\n", position) + 1
        self._line = b""
        self._state = ChunkedBody._read_size
        return position, False

    def _read_trailer(self, data: bytes, position: int) -> tuple[int, bool]:
        limit = self._limits.trailers
        left = limit - self._trailers
        end = data.find(b"\n", position)
        if len(self._line) + ((len(data) if end < 0 else end + 1) - position) > left:
            raise RequestRefused(431, f"The trailers are over the limit of {limit} bytes")
        line, position = self._read_line(data, position, left)
        if line is None:
            return position, False
        self._trailers += len(line) + 2
        if not line:
            return position, True
        match = _TRAILER_LINE.fullmatch(line)
        if match is None:
            raise RequestRefused(400, "A trailer is no field line (RFC 9112 section 5)")
        if match[1].lower() in _NOT_IN_TRAILERS:
            raise RequestRefused(
                400, f"{match[1].decode()} must not be in the trailers (RFC 9110 section 6.5.1)"
            )
        return position, False
