"""Following a growing file: what to read next and what it means. When to look is the caller's."""

from __future__ import annotations

import os
from io import FileIO

from bunpy.file._lines import LineSplitter
from bunpy.file._regular import require_regular

CHUNK = 64 * 1024  # bytes a step reads at most


class Follower:
    """One file being followed. ``open()``, then ``step()`` again and again, then ``close()``.

    Blocking, and not safe for use by two threads at once. After a step, ``idle`` says whether
    everything has been read, so that the next step can wait ``poll_interval`` seconds.
    """

    def __init__(
        self, path: str | os.PathLike[str], from_line: int, encoding: str, poll_interval: float
    ) -> None:
        """Raises ``ValueError``, and ``LookupError`` for an unknown encoding. Opens nothing."""
        if from_line < 0:
            raise ValueError(f"from_line is {from_line!r}; lines are counted from 0")
        if not poll_interval > 0:
            raise ValueError(f"poll_interval is {poll_interval!r}; it is in seconds, above 0")
        # Absolute: the file stays the same one when the process changes its folder.
        self.path = os.path.abspath(os.fspath(path))
        self.idle = False
        self._splitter = LineSplitter(encoding)
        self._skip = from_line  # lines still to be dropped
        self._file: FileIO | None = None
        self._identity = (0, 0)  # device and inode; unique as long as the file is open
        self._offset = 0  # bytes read of this file
        self._leaving = False  # another file stands under the name: this is its last drain

    def open(self) -> None:
        """Open the file at its start. Raises ``FileNotFoundError`` and any other ``OSError``."""
        # Checked by name, before open(): opening a pipe would wait for a writer.
        require_regular(os.stat(self.path), self.path)
        file = FileIO(self.path)
        self.close()
        self._file = file
        status = os.fstat(file.fileno())
        self._identity = (status.st_dev, status.st_ino)
        self._offset = 0

    def close(self) -> None:
        """Close the file. May be called twice, and before ``open()``."""
        if self._file is not None:
            self._file.close()

    def read(self) -> bytes:
        """The next bytes, at most ``CHUNK``; fewer at the file's end."""
        assert self._file is not None, "open() comes first"
        data = self._file.read(CHUNK)
        self._offset += len(data)
        return data

    def step(self) -> list[str]:
        """Read at most ``CHUNK`` bytes and return the lines they complete; set ``idle``."""
        data = self.read()
        lines = self._splitter.feed(data)
        if self._skip:
            dropped = min(self._skip, len(lines))
            del lines[:dropped]
            self._skip -= dropped
        self.idle = False
        if len(data) == CHUNK:
            return lines
        if self._is_cut():
            self._restart()
        elif not self._is_replaced():
            self._leaving = False
            self.idle = True
        elif not self._leaving:
            # Bytes may have come between the read above and now: once more, then leave.
            self._leaving = True
        else:
            lines += self._switch()
        return lines

    def _is_cut(self) -> bool:
        assert self._file is not None
        return os.fstat(self._file.fileno()).st_size < self._offset

    def _restart(self) -> None:
        assert self._file is not None
        self._file.seek(0)
        self._offset = 0
        self._skip = 0
        self._splitter.reset()

    def _is_replaced(self) -> bool:
        try:
            status = os.stat(self.path)
        except FileNotFoundError:
            return False  # the old file may still grow
        # While the new file is empty, its writer may not have left the old one (logrotate makes the
        # new one first and signals the writer later), and there is nothing to read in it.
        return status.st_size > 0 and (status.st_dev, status.st_ino) != self._identity

    def _switch(self) -> list[str]:
        self._leaving = False
        try:
            self.open()
        except FileNotFoundError:  # gone again since the stat
            return []
        self._skip = 0
        return self._splitter.finish()
