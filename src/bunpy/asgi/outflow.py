"""From an outlet's bytes to ASGI messages: what is collected is sent, in order and by one sender at a time.

When it is sent is said twice here: whenever the pump has flushed, and before anything that the stream waits for.
"""

from __future__ import annotations

import asyncio
import types
from asyncio import AbstractEventLoop, Transport
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Final

from bunpy._speedups import Outlet
from bunpy.asgi.base import Message, Send
from bunpy.http.flow import Flow

__all__ = ["Outflow"]

#: What the outlet takes for the response's head. It never leaves: the head is a message of its own.
_HEAD: Final = b"\0"


def _do_nothing() -> None:
    pass


def _ignore(exc: Exception) -> None:
    pass


class _Collector(Transport):
    """The outlet's transport: it keeps what is written, and tells that something was."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[bytes] = []
        self.on_write: Callable[[], None] = _do_nothing
        self._has_begun = False

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        if not self._has_begun:
            self._has_begun = True
            data = data[len(_HEAD) :]
        self.pieces.append(bytes(data))
        self.on_write()

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return sum(map(len, self.pieces))


class Outflow(Flow):
    """One response's way out: ``outlet`` is what a stream writes to, ``drained`` what it awaits when it has written.

    ``start`` is the message that begins the response, ``separator`` how lines end. ``on_late`` is called when the
    outlet is written to from outside of what is ``driven``: ``drained`` is to be awaited in a task. A send that fails
    calls ``on_failed`` with what it raised, and nothing is sent from then on.
    """

    __slots__ = (
        "_collector", "_has_started", "_is_stepping", "_lock", "_on_failed", "_on_late", "_send", "_separator",
        "_start", "is_cut", "outlet", "sending_since",
    )  # fmt: skip

    def __init__(
        self,
        loop: AbstractEventLoop,
        send: Send,
        start: Message,
        separator: bytes,
        on_late: Callable[[], None],
        on_failed: Callable[[Exception], None],
    ) -> None:
        self._collector = _Collector()
        self._collector.on_write = self._note
        self.outlet = Outlet(self._collector, -1)
        self.outlet.head = _HEAD
        super().__init__(loop, self.outlet)
        self._send = send
        self._start = start
        self._separator = separator
        self._on_late = on_late
        self._on_failed = on_failed
        self._lock = asyncio.Lock()
        self._is_stepping = False
        self._has_started = False
        #: When the send began that has not come back, in seconds of the loop's time; None if there is none.
        self.sending_since: float | None = None
        #: Whether nothing is sent any more.
        self.is_cut = False

    @property
    def is_sending(self) -> bool:
        """Whether something is being sent; what is written meanwhile will be sent after it."""
        return self._lock.locked()

    async def drained(self) -> None:
        """Send all that waits, and let the loop turn.

        A server's send need not suspend, and then a client's leaving would never be seen; and what uvloop is given to
        write leaves when it turns, which must be before a source that blocks.
        """
        async with self._lock:
            while self._collector.pieces:
                await self._send_pieces(more_body=True)
        await asyncio.sleep(0)

    async def finish(self) -> None:
        """Send all that waits, and the end of the response."""
        async with self._lock:
            await self._send_pieces(more_body=False)

    @types.coroutine
    def driven(self, steps: Coroutine[Any, Any, None]) -> Generator[Any, Any, None]:
        """Run ``steps``; whatever they wait for, what they have written is sent before."""
        resume: Callable[[Any], Any] = steps.send
        value: Any = None
        try:
            while True:
                self._is_stepping = True
                try:
                    yielded = resume(value)
                except StopIteration:
                    return
                finally:
                    self._is_stepping = False
                try:
                    if self._collector.pieces and not self._lock.locked():
                        yield from self.drained().__await__()
                except asyncio.CancelledError as exc:
                    # This was to cancel what the steps wait for, as the loop would have done had it been told.
                    if not (asyncio.isfuture(yielded) and yielded.cancel()):
                        value, resume = exc, steps.throw
                        continue
                try:
                    value, resume = (yield yielded), steps.send
                except GeneratorExit:
                    raise
                except BaseException as exc:
                    value, resume = exc, steps.throw
        finally:
            steps.close()

    def close(self) -> None:
        """Nothing is written any more."""
        self.outlet.close()
        self._collector.on_write = self._on_late = _do_nothing
        self._on_failed = _ignore

    def _note(self) -> None:
        """Something has been written: a pump that goes on comes to ``drained`` first."""
        self.outlet.is_paused = True
        if not self._is_stepping and not self._lock.locked():
            self._on_late()

    async def _send_pieces(self, more_body: bool) -> None:
        pieces = self._collector.pieces
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        self.outlet.is_paused = False
        if self._separator != b"\n":
            body = body.replace(b"\n", self._separator)  # the encoder leaves no other line ends
        if not self._has_started:
            self._has_started = True
            await self._put(self._start)
        await self._put({"type": "http.response.body", "body": body, "more_body": more_body})

    async def _put(self, message: Message) -> None:
        if self.is_cut:
            return
        self.sending_since = self._loop.time()
        try:
            await self._send(message)
        except Exception as exc:
            self.is_cut = True
            self._on_failed(exc)
        finally:
            self.sending_since = None
