"""The stream that the doctor can look at exactly, because each event says when it was made. No client is here."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from bunpy.errors import HTTPError
from bunpy.sse.response import SSEResponse

if TYPE_CHECKING:
    from bunpy.http.request import Request

__all__ = ["EVENT_TYPE", "probe"]

#: The type of the probe's events, by which the doctor knows them.
EVENT_TYPE: Final = "bunpy-doctor"

_INTERVAL: Final = 0.25
_RETRY: Final = 2000
#: What the query may ask for, with its default and the most of it; anybody may ask.
_OPTIONS: Final[Mapping[str, tuple[float, float]]] = {
    "seconds": (10, 600),
    "idle": (0, 600),
    "size": (0, 64 * 1024),
}
#: What the server sees of a request tells what a proxy has made of it.
_TOLD: Final = ("via", "connection", "accept-encoding", "last-event-id")


def probe(req: Request) -> SSEResponse:
    """Answer with an event each 250 ms that says when it was made, for ``bunpy doctor`` to compare with its clock.

    The query may name ``seconds`` (10 by default, 600 at most), after which the stream ends, ``idle`` (0), seconds
    of silence in the middle of it, which only heartbeats break, and ``size`` (0), bytes that each event has in
    addition, 65536 at most. Raises ``HTTPError`` (400) for anything else.

    An event is of the type ``bunpy-doctor`` and has an id that counts on from Last-Event-ID. Its data is JSON: ``at``,
    the milliseconds since the stream began, and ``time``, those of the server's clock since 1970. The first has
    ``request`` too: the HTTP version and the fields Via, Connection, Accept-Encoding and Last-Event-ID as they
    reached the server.
    """
    for name in req.query:
        if name not in _OPTIONS:
            raise HTTPError(400, f"The probe has no option {name}; it has {', '.join(_OPTIONS)}.")
    seconds, idle, size = (_number(req, name) for name in _OPTIONS)
    told = {name: req.headers[name] for name in _TOLD if name in req.headers}
    last_id = req.last_event_id or ""
    first_id = int(last_id) + 1 if last_id.isascii() and last_id.isdecimal() else 1
    request = {"version": req.http_version, "headers": told}
    return SSEResponse(_events(first_id, request, seconds, idle, "x" * int(size)))


async def _events(
    first_id: int, request: dict[str, Any], seconds: float, idle: float, padding: str
) -> AsyncIterator[dict[str, Any]]:
    count = max(1, math.ceil(seconds / _INTERVAL))
    began = time.monotonic()
    for number in range(count):
        planned = began + number * _INTERVAL + (idle if number >= count / 2 else 0)
        if number:
            await asyncio.sleep(planned - time.monotonic())
        data: dict[str, Any] = {
            "at": round(1000 * (time.monotonic() - began)),
            "time": round(1000 * time.time()),
        }
        if padding:
            data["padding"] = padding
        event = {"event": EVENT_TYPE, "id": first_id + number, "data": data}
        if not number:
            data["request"] = request
            event["retry"] = _RETRY
        yield event


def _number(req: Request, name: str) -> float:
    default, most = _OPTIONS[name]
    text = req.query.get(name)
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= most:
        raise HTTPError(400, f"{name} is {text!r}: it is a number from 0 to {most:g}.")
    return value
