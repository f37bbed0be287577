"""Who is told of requests and streams as they begin and end: the program's hooks, the log. What they do is theirs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bunpy.http.ending import Ending
    from bunpy.http.request import Request
    from bunpy.server.config import Config

__all__ = ["Observer"]

_log = logging.getLogger("bunpy")


class Observer:
    """Tells the hooks of ``config``, and each of ``sinks`` every request's end. What one raises is logged.

    All of them are called on the loop, in the request's own context: what a hook sets there, the handler sees, its
    generator, and the hooks that come later.
    """

    __slots__ = ("_on_request", "_on_stream_end", "_on_stream_start", "_sinks")

    def __init__(self, config: Config, sinks: Sequence[Callable[[Ending], None]]) -> None:
        self._on_request = config.on_request
        self._on_stream_start = config.on_stream_start
        self._on_stream_end = config.on_stream_end
        self._sinks = sinks

    def see_request(self, request: Request) -> None:
        """A request has come, and its handler is about to be called."""
        if self._sinks:
            # Made here where none was sent: the answer carries what the log will say.
            _ = request.id
        if self._on_request is not None:
            _tell(self._on_request, request, "on_request", request)

    def see_stream(self, request: Request) -> None:
        """Its answer is a stream, which begins."""
        if self._on_stream_start is not None:
            _tell(self._on_stream_start, request, "on_stream_start", request)

    def see_end(self, ending: Ending) -> None:
        """It has been answered, or its client has left."""
        if ending.is_stream and self._on_stream_end is not None:
            _tell(self._on_stream_end, ending, "on_stream_end", ending.request)
        for sink in self._sinks:
            _tell(sink, ending, "the access log", ending.request)


def _tell(hook: Callable[[Any], Any], what: object, name: str, request: Request) -> None:
    try:
        hook(what)
    except BaseException as exc:  # whatever it is, it ends neither the request nor the loop
        _log.error("%r: %s raised", request, name, exc_info=exc, extra={"request_id": request.id})
