"""What is told of a request when it has been answered. Who is told is elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bunpy.http.request import Request
    from bunpy.sse.reason import EndReason

__all__ = ["Ending"]


@dataclass(slots=True)
class Ending:
    """The end of one request: of its plain answer, or of its stream.

    ``status`` is what the client was told, None if it left before. ``reason`` is why it ended; a plain answer ends by
    "finished", "client" (which left before), "error" (an exception that was answered with 5xx) or "limit".
    ``bytes_sent`` counts what was handed to the connection, heads and framing included; ``events`` is how many a
    stream has sent (pieces, of a plain body).
    ``duration`` is in seconds from the request's last byte; ``first_event`` from there to the first event, None if
    there was none.

    Of what was refused before it was a request, ``request`` has the client, and the method as far as that is known;
    its ``url`` is "", its ``duration`` 0.
    """

    request: Request
    status: int | None
    reason: EndReason
    bytes_sent: int
    duration: float
    is_stream: bool = False
    events: int = 0
    first_event: float | None = None
