"""The response that a Starlette or FastAPI handler returns. Running its stream is the relay's."""

from __future__ import annotations

from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Mapping,
)
from typing import Any, ClassVar, Final, Protocol

from bunpy.asgi.base import Message, Receive, Response, Scope, Send
from bunpy.asgi.relay import Relay
from bunpy.errors import InvalidResponse
from bunpy.sse.reason import EndReason
from bunpy.sse.threaded import ThreadedSource

__all__ = ["EventSourceResponse"]

_SEPARATORS: Final = ("\n", "\r\n", "\r")


class _Settable(Protocol):
    def set(self) -> object: ...


class EventSourceResponse(Response):
    """An event stream (WHATWG HTML 9.2) as an ASGI response, with the arguments of sse-starlette's class of that name.

    ``content`` is an async generator or another async iterable, or a plain generator or iterable, which is run in a
    thread of its own so that it may block. It yields events: dicts, str, ``Event``, or lists of them. When the client
    leaves, it is cancelled and closed, so that its ``finally`` runs, once. An exception before its first event is
    raised out of the response, so that an ``HTTPException`` or an ``HTTPError`` becomes its status.

    Times are in seconds. ``ping``: after so long a silence a comment is sent, or what ``ping_message_factory`` makes;
    0: never. ``send_timeout``: a send that takes longer ends the stream with ``TimeoutError``; None: any time.
    ``cleanup_timeout``: how long the source may take to end when it is cancelled. ``sep`` ends lines.
    ``data_sender_callable`` is an async function that runs beside the stream and is cancelled with it.
    ``client_close_handler_callable`` is awaited with the server's message when the client has left, after the source
    has been closed; ``on_close`` is called at any end, with one of ``bunpy.sse.reason.EndReason``. When the server is
    known to stop, ``shutdown_event`` is set, and ``shutdown_grace_period`` later the stream is ended.

    Raises ``InvalidResponse`` (a ``ValueError``) for arguments that make no sense.
    """

    media_type = "text/event-stream"

    DEFAULT_PING_INTERVAL: ClassVar[float] = 15
    DEFAULT_SEPARATOR: ClassVar[str] = "\n"

    def __init__(
        self,
        content: AsyncIterable[Any] | Iterable[Any],
        status_code: int = 200,
        headers: Mapping[str, str] | None = None,
        media_type: str | None = None,
        background: Any = None,
        ping: float | None = None,
        sep: str | None = None,
        ping_message_factory: Callable[[], Any] | None = None,
        data_sender_callable: Callable[[], Coroutine[Any, Any, Any]] | None = None,
        send_timeout: float | None = 30.0,
        client_close_handler_callable: Callable[[Message], Awaitable[Any]] | None = None,
        shutdown_event: _Settable | None = None,
        shutdown_grace_period: float = 0,
        cleanup_timeout: float | None = 5.0,
        *,
        on_close: Callable[[EndReason], Any] | None = None,
    ) -> None:
        self.body_iterator = _source_of(content)
        self.status_code = status_code
        if media_type is not None:
            self.media_type = media_type
        self.background = background
        fields = {"cache-control": "no-store", "x-accel-buffering": "no"}
        fields.update((name.lower(), value) for name, value in (headers or {}).items())
        self.init_headers(fields)
        self.sep = self.DEFAULT_SEPARATOR if sep is None else sep
        if self.sep not in _SEPARATORS:
            raise InvalidResponse(f"sep is {sep!r}: lines end with one of {_SEPARATORS}")
        self.ping_interval = self.DEFAULT_PING_INTERVAL if ping is None else ping
        self.ping_message_factory = ping_message_factory
        self.data_sender_callable = data_sender_callable
        self.send_timeout = _time("send_timeout", send_timeout)
        self.client_close_handler_callable = client_close_handler_callable
        self.shutdown_event = shutdown_event
        self.shutdown_grace_period = _time("shutdown_grace_period", shutdown_grace_period) or 0
        self.cleanup_timeout = _time("cleanup_timeout", cleanup_timeout)
        self.on_close = on_close

    @property
    def ping_interval(self) -> float:
        """Seconds of silence after which a comment is sent; 0 for never."""
        return self._ping_interval

    @ping_interval.setter
    def ping_interval(self, value: float) -> None:
        self._ping_interval = _time("ping", value) or 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, as ASGI 3 has it. ``RuntimeError`` for anything but HTTP."""
        if scope["type"] != "http":
            raise RuntimeError(f"an event stream answers HTTP requests, not {scope['type']}")
        await Relay(self, scope, receive, send).run()
        if self.background is not None:
            await self.background()


def _source_of(content: object) -> AsyncIterator[Any]:
    if isinstance(content, AsyncIterable):
        return content.__aiter__()
    if isinstance(content, Iterable) and not isinstance(content, (str, bytes, Mapping)):
        return ThreadedSource(iter(content))
    hint = "; call it" if callable(content) else ""
    raise InvalidResponse(
        f"the content of an event stream is a generator, async or plain, not {content!r}{hint}"
    )


def _time(name: str, value: float | None) -> float | None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if value is None or (is_number and value >= 0):
        return value
    raise InvalidResponse(f"{name} is {value!r}: it is a number of seconds, 0 or more")
