"""Events under the names that sse-starlette gives them. They are bunpy's events: what is refused is refused there."""

from __future__ import annotations

import json
from typing import Any

from bunpy._speedups import encode
from bunpy.sse.event import Event

__all__ = ["JSONServerSentEvent", "ServerSentEvent", "frame_of"]


class ServerSentEvent(Event):
    """``Event`` with ``None`` for no data: ``data`` is text, or what is sent as JSON. Raises ``InvalidEvent``."""

    __slots__ = ()

    def __init__(
        self,
        data: Any = None,
        *,
        event: str | None = None,
        id: str | int | None = None,  # noqa: A002 -- the field's name
        retry: int | None = None,
        comment: str | None = None,
    ) -> None:
        if data is None:
            super().__init__(event=event, id=id, retry=retry, comment=comment)
        else:
            super().__init__(data, event=event, id=id, retry=retry, comment=comment)


class JSONServerSentEvent(ServerSentEvent):
    """The same with ``data`` sent as JSON even if it is a str; ``None`` is no data here as well."""

    __slots__ = ()

    def __init__(self, data: Any = None, **fields: Any) -> None:
        if isinstance(data, str):
            data = json.dumps(data, ensure_ascii=False)
        super().__init__(data, **fields)


def frame_of(event: Any) -> bytes:
    """An event's bytes; also those of an object of another library that has ``encode()``. Raises ``InvalidEvent``."""
    if not isinstance(event, (dict, str)):
        encoded = getattr(event, "encode", None)
        frame = event if encoded is None else encoded()
        if isinstance(frame, bytes):
            return frame
    return encode(event)
