"""The resume scene: numbers that count on whoever listens, and a way to cut a client's connection off."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from typing import Any

from bunpy.demo.bookmark import Bookmarks

__all__ = ["Cut", "Tape"]

#: Milliseconds that a client waits before it comes back: long enough to be seen, and for numbers to be missed.
RETRY = 1500


class Cut(Exception):
    """Raised in a stream to break it off: the response ends without its last chunk, as when a server dies."""


class Tape:
    """A number every ``interval`` seconds, from 1 on. The last ``history`` of them can be had again."""

    def __init__(self, interval: float = 0.2, history: int = 1000) -> None:
        self._interval = interval
        self._history = history
        self._start = time.monotonic()
        self._bookmarks = Bookmarks()
        self._cuts: dict[str, asyncio.Future[None]] = {}

    async def play(self, client: str, last_event_id: str | None) -> AsyncGenerator[Any, None]:
        """The numbers after the id, first those that were missed, at once; from now on without an id.

        ``restart`` tells a client that its id is of another run, ``gap`` which numbers are too old to be had. Raises
        ``Cut`` when ``cut(client)`` is called; a name that is used twice is the later stream's.
        """
        number = self._bookmarks.number(last_event_id)
        cut = self._cuts[client] = asyncio.get_running_loop().create_future()
        try:
            yield {"retry": RETRY}
            if number is None or number > self._latest:
                if last_event_id:
                    yield {"event": "restart", "data": "the server has been restarted"}
                number = self._latest
            elif number < self._latest - self._history:
                first, number = number + 1, self._latest - self._history
                yield {"event": "gap", "data": {"first": first, "last": number}}
            latest = self._latest
            if latest > number:
                yield [self._event(n, True) for n in range(number + 1, latest + 1)]
                number = latest
            while True:
                due = self._start + (number + 1) * self._interval
                await asyncio.wait([cut], timeout=max(0.001, due - time.monotonic()))
                if cut.done():
                    raise Cut(client)
                latest = self._latest
                if latest > number:
                    yield [self._event(n, False) for n in range(number + 1, latest + 1)]
                    number = latest
        finally:
            if self._cuts.get(client) is cut:
                del self._cuts[client]

    def cut(self, client: str) -> bool:
        """Cut the stream of ``client`` off; False if there is none."""
        cut = self._cuts.get(client)
        if cut is None:
            return False
        if not cut.done():
            cut.set_result(None)
        return True

    @property
    def _latest(self) -> int:
        return int((time.monotonic() - self._start) / self._interval)

    def _event(self, number: int, is_replayed: bool) -> dict[str, Any]:
        data = {"number": number, "replayed": is_replayed}
        return {"id": self._bookmarks.id(number), "data": data}
