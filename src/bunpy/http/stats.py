"""What a server tells of itself, as numbers at one moment. They are counted elsewhere."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bunpy.sse.reason import EndReason

__all__ = ["Histogram", "Stats"]


@dataclass(frozen=True, slots=True)
class Histogram:
    """Durations in seconds: ``counts[i]`` were at most ``bounds[i]``; ``count`` is of all, ``total`` the sum."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    count: int
    total: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """A server's numbers, summed over its workers. What changes all the time is up to half a second old.

    Now: ``connections``, ``streams``, ``buffered`` (bytes that wait in memory for slow clients), ``loop_lag`` (seconds
    by which the event loop was late lately; of several workers the most), ``workers``. Since the start:
    ``connections_total``, ``streams_total``, ``events`` (and pieces of plain bodies), ``bytes_sent``, ``responses``
    that have ended by the first digit of their status ("2xx"), ``ends`` of streams by reason, ``turned_away``
    (requests for which there was no room), ``restarts`` (workers that died and were replaced). ``first_event`` is how
    long streams waited for their first event, ``stream_duration`` how long they lasted, ``answer_duration`` how long
    plain answers took. Where there are neither ``metrics`` nor an ``access_log`` nor hooks, answers are not measured,
    and streams from when their handler has given them.
    """

    connections: int = 0
    streams: int = 0
    buffered: int = 0
    loop_lag: float = 0.0
    workers: int = 1
    connections_total: int = 0
    streams_total: int = 0
    events: int = 0
    bytes_sent: int = 0
    turned_away: int = 0
    restarts: int = 0
    responses: dict[str, int] = field(default_factory=dict)
    ends: dict[EndReason, int] = field(default_factory=dict)
    first_event: Histogram
    stream_duration: Histogram
    answer_duration: Histogram
