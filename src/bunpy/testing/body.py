"""The three ways in which an answer's body ends (RFC 9112 section 6.3): bytes in, content out."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable

from bunpy.testing.errors import IncompleteAnswer, InvalidAnswer
from bunpy.testing.head import Head

__all__ = ["Body", "body_for"]

_LENGTH = re.compile("[0-9]+")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]+)(?:[\t ]*;[\t\x20-\x7e\x80-\xff]*)?")
_TRAILER = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*")
_LONGEST_LINE = 16 * 1024


class Body(ABC):
    """A body while it is read.

    Attributes: ``is_complete``; ``lasts_until_close``, whether the end of the connection is the
    end of the body; ``unused``, the bytes fed that lie behind the body's end.
    """

    lasts_until_close = False

    def __init__(self, *, is_complete: bool = False) -> None:
        self.is_complete = is_complete
        self.unused = b""

    @abstractmethod
    def feed(self, data: bytes) -> bytes:
        """Take the next bytes of the connection; return the content in them."""

    @abstractmethod
    def missing(self) -> str:
        """What has not come yet, in words, for an error message."""

    def close(self) -> None:
        """The connection was closed before the body was complete: ``IncompleteAnswer``."""
        raise IncompleteAnswer(f"the connection ended before the body did: {self.missing()}")


class CountedBody(Body):
    """A body of ``length`` bytes, which may be none."""

    def __init__(self, length: int) -> None:
        super().__init__(is_complete=length == 0)
        self._remaining = length

    def feed(self, data: bytes) -> bytes:
        content = data[: self._remaining]
        self._remaining -= len(content)
        self.is_complete = self._remaining == 0
        self.unused += data[len(content) :]
        return content

    def missing(self) -> str:
        return f"{self._remaining} bytes of its Content-Length are missing"


class CloseDelimitedBody(Body):
    """A body that lasts until the server closes the connection, and is not cut by that."""

    lasts_until_close = True

    def feed(self, data: bytes) -> bytes:
        return data

    def close(self) -> None:
        self.is_complete = True

    def missing(self) -> str:
        return "it lasts until the connection is closed"


class ChunkedBody(Body):
    """A chunked body (RFC 9112 section 7.1). Extensions and trailers are checked and dropped."""

    def __init__(self) -> None:
        super().__init__()
        self._buf = bytearray()
        self._content = bytearray()
        self._remaining = 0
        self._step: Callable[[], bool] = self._size

    def feed(self, data: bytes) -> bytes:
        self._buf += data
        while not self.is_complete and self._step():
            pass
        if self.is_complete:
            self.unused += self._buf
            self._buf.clear()
        content = bytes(self._content)
        self._content.clear()
        return content

    def missing(self) -> str:
        if self._remaining:
            return f"{self._remaining} bytes of a chunk, and the last chunk, are missing"
        return "the last chunk is missing"

    # Each step takes one thing off the buffer, and returns False when it is not all there yet.

    def _size(self) -> bool:
        line = self._line()
        if line is None:
            return False
        matched = _CHUNK_SIZE.fullmatch(line)
        if matched is None:
            raise InvalidAnswer(f"not a chunk size: {line[:200]!r}")
        self._remaining = int(matched[1], 16)
        self._step = self._data if self._remaining else self._trailer
        return True

    def _data(self) -> bool:
        part = self._buf[: self._remaining]
        self._content += part
        del self._buf[: len(part)]
        self._remaining -= len(part)
        if self._remaining:
            return False
        self._step = self._data_end
        return True

    def _data_end(self) -> bool:
        if len(self._buf) < 2:
            return False
        if not self._buf.startswith(b"\r\n"):
            raise InvalidAnswer(f"no CRLF after a chunk, but {bytes(self._buf[:200])!r}")
        del self._buf[:2]
        self._step = self._size
        return True

    def _trailer(self) -> bool:
        line = self._line()
        if line is None:
            return False
        if not line:
            self.is_complete = True
        elif _TRAILER.fullmatch(line) is None:
            raise InvalidAnswer(f"not a trailer field: {line[:200]!r}")
        return True

    def _line(self) -> bytes | None:
        end = self._buf.find(b"\r\n")
        if end > _LONGEST_LINE or (end < 0 and len(self._buf) > _LONGEST_LINE):
            raise InvalidAnswer(f"no CRLF in {_LONGEST_LINE} bytes: {bytes(self._buf[:200])!r}")
        if end < 0:
            return None
        line = bytes(self._buf[:end])
        del self._buf[: end + 2]
        return line


def body_for(head: Head, method: str) -> Body:
    """The body that ``head`` announces as the answer to ``method`` (RFC 9112 section 6.3).

    Raises ``InvalidAnswer`` for framing that a server must not send: Transfer-Encoding with
    Content-Length, in HTTP/1.0, or other than one "chunked"; either of them in 1xx and 204;
    a Content-Length that is repeated or not decimal.
    """
    coding, length = head.headers.get("transfer-encoding"), head.headers.get("content-length")
    if head.is_interim or head.status == 204:
        if coding is not None or length is not None:
            raise InvalidAnswer(f"{head.status} with a body's framing: {head.headers}")
        return CountedBody(0)
    if coding is not None and (
        coding.lower() != "chunked" or length is not None or head.version != "1.1"
    ):
        raise InvalidAnswer(f"HTTP/{head.version} with framing it must not have: {head.headers}")
    if length is not None and not _LENGTH.fullmatch(length):
        raise InvalidAnswer(f"not one Content-Length in decimal: {length!r}")
    if method == "HEAD" or head.status == 304:
        return CountedBody(0)
    if coding is not None:
        return ChunkedBody()
    if length is not None:
        return CountedBody(int(length))
    return CloseDelimitedBody()
