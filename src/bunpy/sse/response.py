"""The response that is an event stream. Running it is the stream's."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Iterator
from typing import Any

from bunpy.errors import InvalidResponse
from bunpy.http.response import STREAMED, Response
from bunpy.http.wire import Fields, Headers
from bunpy.shown import shown
from bunpy.sse.reason import EndReason

__all__ = ["SSEResponse"]


class SSEResponse(Response):
    """Answer with an event stream (WHATWG HTML 9.2): whatever ``source`` yields, as it is yielded.

    ``source`` is an async generator (or another async iterable) or a plain generator, which is run in a thread of
    its own so that it may block. It yields events: dicts, str, ``Event``, or a list of them to be sent together. An
    event that cannot be framed raises ``InvalidEvent`` in the generator, at its ``yield``. When the client leaves,
    the generator is cancelled and closed, so that its ``finally`` runs, once.

    ``headers`` replace the defaults (Content-Type, Cache-Control: no-store, X-Accel-Buffering: no) whatever their
    case. ``on_close`` is a plain or async function that is called with the reason of the end, one of
    ``bunpy.sse.reason.EndReason``, exactly once for each time that the response is the answer to a request, after the
    source has been closed and also if it was never begun. Raises ``InvalidResponse`` if ``source`` is not iterable
    so, as a generator function that was not called, and if ``on_close`` is no function.
    """

    __slots__ = ("on_close",)

    stream_defaults = Fields(
        ("content-type", b"Content-Type: text/event-stream; charset=utf-8\r\n"),
        ("cache-control", b"Cache-Control: no-store\r\n"),
        ("x-accel-buffering", b"X-Accel-Buffering: no\r\n"),
    )

    def __init__(
        self,
        source: AsyncIterable[Any] | Iterator[Any],
        headers: Headers | None = None,
        *,
        status: int = 200,
        on_close: Callable[[EndReason], Any] | None = None,
    ) -> None:
        if not isinstance(source, STREAMED):
            hint = "; call it" if callable(source) else ""
            raise InvalidResponse(
                "the source of an event stream is a generator, async or plain, not"
                f" {shown(source)}{hint}"
            )
        if on_close is not None and not callable(on_close):
            raise InvalidResponse(
                f"on_close is a function of the reason that a stream ended for, not {shown(on_close)}"
            )
        super().__init__(source, status, headers)
        self.on_close = on_close

    def content(self) -> None:
        """None: an event stream has no content but what it streams."""
        return
