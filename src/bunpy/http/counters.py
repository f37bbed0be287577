"""What one process counts as it serves, in cells that others may read as well; ``Stats`` are made of them here.

It counts in plain attributes and publishes at each tick: a cell costs three times as much to change.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

from bunpy.http.stats import Histogram, Stats
from bunpy.sse.reason import END_REASONS, EndReason

__all__ = ["Counters"]

#: What is left of a lag at the next look: a stall is seen for a while, so that a scrape every 15 s tells of it.
_LAG_DECAY: Final = 0.98

#: Seconds: upper bounds of what is counted together. An answer takes 50 µs; a stream may last for hours.
_QUICK: Final = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1),
    *(0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
)
_LONG: Final = (0.1, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0)

#: The single numbers, in the order of their cells: how it is now, then what has been counted since the start.
_NOW: Final = ("connections", "streams", "buffered", "loop_lag")
_SINCE: Final = ("connections_total", "streams_total", "events", "bytes_sent", "turned_away")
# After them come those of a set, a cell each.
_RESPONSES: Final = len(_NOW) + len(_SINCE)
_ENDS: Final = _RESPONSES + 5
_FIRST_EVENT: Final = _ENDS + len(END_REASONS)
_STREAM_DURATION: Final = _FIRST_EVENT + len(_QUICK) + 2
_ANSWER_DURATION: Final = _STREAM_DURATION + len(_LONG) + 2


class Counters:
    """One process's numbers, named as those of ``Stats``. ``cells`` are ``SIZE`` doubles ("d"), or its own.

    ``responses`` are by the first digit of their status, from 1; a histogram has a count for each bound, one for what
    is longer, and the sum.
    """

    SIZE: Final = _ANSWER_DURATION + len(_QUICK) + 2
    #: The cells that tell how it is now, and mean nothing when the process is gone.
    GAUGES: Final = tuple(range(len(_NOW)))
    #: Those of which not the sum but the maximum counts.
    MAXIMA: Final = (_NOW.index("loop_lag"),)

    __slots__ = (
        "answer_duration",
        "buffered",
        "bytes_sent",
        "cells",
        "connections",
        "connections_total",
        "ends",
        "events",
        "first_event",
        "loop_lag",
        "responses",
        "stream_duration",
        "streams",
        "streams_total",
        "turned_away",
    )

    def __init__(self, cells: memoryview[float] | None = None) -> None:
        self.cells = memoryview(bytearray(8 * self.SIZE)).cast("d") if cells is None else cells
        self.connections = 0
        self.streams = 0
        self.buffered = 0
        self.loop_lag = 0.0
        self.connections_total = 0
        self.streams_total = 0
        self.events = 0
        self.bytes_sent = 0
        self.turned_away = 0
        self.responses = [0] * 5
        self.ends: dict[EndReason, int] = dict.fromkeys(END_REASONS, 0)
        self.first_event = [0.0] * (len(_QUICK) + 2)
        self.stream_duration = [0.0] * (len(_LONG) + 2)
        self.answer_duration = [0.0] * (len(_QUICK) + 2)

    def add_response(self, status: int, size: int) -> None:
        """A response has ended, of which ``size`` bytes have not been counted yet."""
        self.responses[status // 100 - 1] += 1
        self.bytes_sent += size

    def observe_answer(self, duration: float) -> None:
        """A plain answer took so many seconds."""
        histogram = self.answer_duration
        histogram[bisect_left(_QUICK, duration)] += 1
        histogram[-1] += duration

    def observe_stream(self, duration: float, first_event: float | None) -> None:
        """A stream lasted for so many seconds, and its first event came after so many, if it came."""
        histogram = self.stream_duration
        histogram[bisect_left(_LONG, duration)] += 1
        histogram[-1] += duration
        if first_event is not None:
            histogram = self.first_event
            histogram[bisect_left(_QUICK, first_event)] += 1
            histogram[-1] += first_event

    def observe_lag(self, lag: float) -> None:
        """The loop is late by so many seconds; the most lately counts."""
        self.loop_lag = max(lag, self.loop_lag * _LAG_DECAY)

    def publish(self) -> None:
        """Put the numbers into the cells."""
        for place, number in enumerate(
            (
                *(getattr(self, name) for name in (*_NOW, *_SINCE)),
                *self.responses,
                *self.ends.values(),
                *self.first_event,
                *self.stream_duration,
                *self.answer_duration,
            )
        ):
            self.cells[place] = number

    @classmethod
    def stats(
        cls, all_cells: Sequence[Sequence[float]], workers: int = 1, restarts: int = 0
    ) -> Stats:
        """The sums over processes, of the cells of each."""
        cells = [
            (max if place in cls.MAXIMA else sum)(cells[place] for cells in all_cells)
            for place in range(cls.SIZE)
        ]
        connections, streams, buffered, loop_lag = cells[: len(_NOW)]
        return Stats(
            connections=int(connections),
            streams=int(streams),
            buffered=int(buffered),
            loop_lag=loop_lag,
            workers=workers,
            restarts=restarts,
            **{name: int(cells[len(_NOW) + place]) for place, name in enumerate(_SINCE)},
            responses={f"{n + 1}xx": int(cells[_RESPONSES + n]) for n in range(5)},
            ends={reason: int(cells[_ENDS + n]) for n, reason in enumerate(END_REASONS)},
            first_event=_histogram(cells, _FIRST_EVENT, _QUICK),
            stream_duration=_histogram(cells, _STREAM_DURATION, _LONG),
            answer_duration=_histogram(cells, _ANSWER_DURATION, _QUICK),
        )


def _histogram(cells: Sequence[float], start: int, bounds: tuple[float, ...]) -> Histogram:
    counts = []
    count = 0
    for cell in cells[start : start + len(bounds) + 1]:
        count += int(cell)
        counts.append(count)
    return Histogram(bounds, tuple(counts[:-1]), count, cells[start + len(bounds) + 1])
