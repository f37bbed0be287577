"""The log scene: a log file that the demo writes, and its tail as events."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import bunpy.file.async_
from bunpy.demo.bookmark import Bookmarks

__all__ = ["Journal"]

#: How many of the lines that there are a client is sent at most.
_RECENT = 30

_LINE = re.compile(r"(\d{1,15}) (\d\d:\d\d:\d\d) (\w+) (.*)", re.ASCII)


class Journal:
    """A log file at ``path``, made anew. After ``limit`` lines it begins again, so that it cannot fill a disk.

    A line is its number, the time, who wrote it, and the text: "17 12:30:05 server feed: opened". The number counts
    on when the file begins again; so it tells what a client has had, whatever happens to the file.
    """

    def __init__(self, path: Path, limit: int = 1000) -> None:
        self._path = path
        self._limit = limit
        self._bookmarks = Bookmarks()
        self._last = 0  # the number of the last line
        self._lines = 0  # how many the file has
        self._waiting: list[str] = []
        self._writer: asyncio.Task[None] | None = None
        # A write in a worker thread may outlive the server's loop by a moment; it must not make the file again.
        self._lock = threading.Lock()
        self._is_closed = False
        bunpy.file.write(path, "")

    def note(self, author: str, text: str) -> None:
        """Add a line; it is written soon, off the loop. ``text`` is one line, ``author`` one word."""
        self._last += 1
        self._waiting.append(f"{self._last} {time.strftime('%H:%M:%S')} {author} {text}\n")
        if self._writer is None or self._writer.done():
            self._writer = asyncio.get_running_loop().create_task(self._write())

    async def tail(self, last_event_id: str | None) -> AsyncGenerator[dict[str, Any], None]:
        """The lines after the id, or the last few, then each new one, as ``line`` events."""
        seen = self._bookmarks.number(last_event_id) or 0
        if seen > self._last:
            seen = 0
        seen = max(seen, self._last - _RECENT)
        async with aclosing(bunpy.file.async_.tail(self._path)) as lines:
            async for line in lines:
                match = _LINE.fullmatch(line)
                if match is None or int(match[1]) <= seen:
                    continue
                seen = int(match[1])
                yield {
                    "event": "line",
                    "id": self._bookmarks.id(seen),
                    "data": {"time": match[2], "author": match[3], "text": match[4]},
                }

    def close(self) -> None:
        """Write no more, so that the file's folder can be removed. From any thread."""
        with self._lock:
            self._is_closed = True

    async def _write(self) -> None:
        while self._waiting:
            lines, self._waiting = self._waiting, []
            await asyncio.to_thread(self._store, lines)

    def _store(self, lines: list[str]) -> None:
        with self._lock:
            if self._is_closed:
                return
            if self._lines >= self._limit:
                # A new file under the name: a tail reads the old one to its end first.
                bunpy.file.write(self._path, "".join(lines))
                self._lines = 0
            else:
                bunpy.file.append(self._path, "".join(lines))
            self._lines += len(lines)
