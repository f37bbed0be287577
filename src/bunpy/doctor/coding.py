"""The content codings that a browser offers, undone piece by piece as far as the standard library can."""

from __future__ import annotations

import zlib
from typing import Final

__all__ = ["OFFERED", "Coding", "coding_for"]

#: What browsers send as Accept-Encoding, for event streams as well.
OFFERED: Final = "gzip, deflate, br, zstd"

#: zlib's window size, plus 32 to take the header of gzip or zlib, whichever comes (zlib.h, inflateInit2).
_GZIP_OR_ZLIB: Final = 15 + 32


class Coding:
    """Content as it is sent in, what it means out. This one changes nothing."""

    def decode(self, data: bytes) -> bytes:
        """What the next bytes tell, b"" while that is nothing; ``ValueError`` if they are not of this coding."""
        return data


class Deflated(Coding):
    """gzip, and deflate as RFC 9110 section 8.4.1.2 means it."""

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(_GZIP_OR_ZLIB)

    def decode(self, data: bytes) -> bytes:
        try:
            return self._zlib.decompress(data)
        except zlib.error as exc:
            raise ValueError(
                f"the content is not compressed as its Content-Encoding says: {exc}"
            ) from exc


def coding_for(name: str) -> Coding | None:
    """Undo what a Content-Encoding names; None for one that the standard library does not know."""
    name = name.strip().lower()
    if name in ("", "identity"):
        return Coding()
    return Deflated() if name in ("gzip", "x-gzip", "deflate") else None
