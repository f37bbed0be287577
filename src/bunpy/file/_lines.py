r"""Text to lines, ended by ``\n`` and ``\r\n`` only: of a whole file, or of bytes as they come."""

from __future__ import annotations

import codecs
import os
from collections.abc import Generator

BATCH = 64 * 1024  # characters: what one step of ``batches`` holds, at least, before the file's end


def batches(path: str | os.PathLike[str], encoding: str) -> Generator[list[str], None, None]:
    """The file's lines without their ends, in lists of about ``BATCH`` characters."""
    with open(os.fspath(path), encoding=encoding, newline="\n") as file:
        while batch := file.readlines(BATCH):
            yield [
                line[:-2] if line.endswith("\r\n") else line.removesuffix("\n") for line in batch
            ]


class LineSplitter:
    """Bytes in, complete lines out; holds the line, and the character, that is not complete yet."""

    def __init__(self, encoding: str) -> None:
        """Raises ``LookupError`` for an unknown encoding. Malformed bytes become U+FFFD."""
        self._decoder = codecs.getincrementaldecoder(encoding)("replace")
        self._held: list[str] = []  # pieces: a long line that comes in bits stays linear

    def feed(self, data: bytes) -> list[str]:
        """The lines that ``data`` completes, without their ends."""
        *lines, rest = self._decoder.decode(data).split("\n")
        if lines:
            lines[0] = "".join(self._held) + lines[0]
            self._held.clear()
        if rest:
            self._held.append(rest)
        return [line.removesuffix("\r") for line in lines]

    def finish(self) -> list[str]:
        """The held line, if there is one, as it stands; then as new."""
        rest = "".join(self._held) + self._decoder.decode(b"", final=True)
        self.reset()
        return [rest] if rest else []

    def reset(self) -> None:
        """Forget what is held."""
        self._decoder.reset()
        self._held.clear()
