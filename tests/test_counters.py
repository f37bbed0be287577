"""The numbers of one process, and their sums over several."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from bunpy.http.counters import Counters
from bunpy.http.stats import Histogram, Stats
from bunpy.sse.reason import END_REASONS

NUMBERS = (
    *("connections", "streams", "buffered", "loop_lag"),
    *("connections_total", "streams_total", "events", "bytes_sent", "turned_away"),
)


def stats_of(*all_counters: Counters) -> Stats:
    for counters in all_counters:
        counters.publish()
    return Counters.stats([counters.cells for counters in all_counters])


def test_nothing_yet() -> None:
    stats = stats_of(Counters())
    assert all(getattr(stats, name) == 0 for name in NUMBERS)
    assert (stats.workers, stats.restarts) == (1, 0)
    assert stats.responses == {"1xx": 0, "2xx": 0, "3xx": 0, "4xx": 0, "5xx": 0}
    assert stats.ends == dict.fromkeys(END_REASONS, 0)
    for histogram in (stats.first_event, stats.stream_duration, stats.answer_duration):
        assert (histogram.count, histogram.total, set(histogram.counts)) == (0, 0, {0})


def test_each_number_has_its_own_cell() -> None:
    """None is shown as another, and none is left out."""
    counters = Counters()
    for number, name in enumerate(NUMBERS, 1):
        setattr(counters, name, number)
    counters.responses[:] = range(11, 16)
    counters.ends.update(zip(END_REASONS, range(21, 29), strict=True))
    counters.observe_answer(0.004)
    counters.observe_stream(7.0, 0.02)
    stats = stats_of(counters)
    assert [getattr(stats, name) for name in NUMBERS] == [*range(1, 10)]
    assert [*stats.responses.values()] == [*range(11, 16)]
    assert [*stats.ends.values()] == [*range(21, 29)]
    assert [stats.answer_duration.total, stats.stream_duration.total, stats.first_event.total] == [
        *(0.004, 7.0, 0.02)
    ]
    told = {field.name for field in dataclasses.fields(Stats)}
    histograms = {"first_event", "stream_duration", "answer_duration"}
    assert told == {*NUMBERS, *histograms, "responses", "ends", "workers", "restarts"}


@pytest.mark.parametrize(
    ("status", "kind"), [(200, "2xx"), (304, "3xx"), (499, "4xx"), (500, "5xx")]
)
def test_responses(status: int, kind: str) -> None:
    counters = Counters()
    counters.add_response(status, 100)
    counters.add_response(status, 0)
    stats = stats_of(counters)
    assert {name: count for name, count in stats.responses.items() if count} == {kind: 2}
    assert stats.bytes_sent == 100


def test_sums_over_processes() -> None:
    """Of all but the lag: of that the most."""
    one, other = Counters(), Counters()
    for counters, factor in ((one, 1), (other, 10)):
        for number, name in enumerate(NUMBERS, 1):
            setattr(counters, name, number * factor)
        counters.ends["slow"] = factor
        counters.observe_stream(2.0 * factor, None)
    one.publish()
    other.publish()
    stats = Counters.stats([one.cells, other.cells], workers=2, restarts=3)
    expected: dict[str, Any] = {name: 11 * number for number, name in enumerate(NUMBERS, 1)}
    expected["loop_lag"] = 40
    assert {name: getattr(stats, name) for name in NUMBERS} == expected
    assert stats.ends["slow"] == 11
    assert (stats.workers, stats.restarts) == (2, 3)
    assert (stats.stream_duration.count, stats.stream_duration.total) == (2, 22.0)
    assert stats.first_event.count == 0


def test_cells_of_others() -> None:
    """They see what was published."""
    cells = memoryview(bytearray(8 * Counters.SIZE)).cast("d")
    counters = Counters(cells)
    counters.events = 5
    assert Counters.stats([cells]).events == 0
    counters.publish()
    assert Counters.stats([cells]).events == 5


def count_up_to(histogram: Histogram, bound: float) -> int:
    return histogram.counts[histogram.bounds.index(bound)]


def test_a_histogram() -> None:
    """Each bound counts what is as long at the most, as Prometheus wants it."""
    counters = Counters()
    for seconds in (0.0001, 0.0005, 0.00051, 0.3, 29.0, 31.0):
        counters.observe_answer(seconds)
    histogram = stats_of(counters).answer_duration
    assert count_up_to(histogram, 0.0005) == 2
    assert count_up_to(histogram, 0.001) == 3
    assert count_up_to(histogram, 0.25) == 3
    assert count_up_to(histogram, 0.5) == 4
    assert count_up_to(histogram, 30.0) == 5
    assert histogram.count == 6
    assert histogram.total == pytest.approx(60.30111)
    assert list(histogram.bounds) == sorted(histogram.bounds)


def test_a_stream_has_two_durations() -> None:
    """A day may lie between them: they are counted apart."""
    counters = Counters()
    counters.observe_stream(80_000.0, 0.003)
    counters.observe_stream(100_000.0, None)
    stats = stats_of(counters)
    assert (stats.first_event.count, stats.first_event.total) == (1, 0.003)
    assert (stats.stream_duration.count, stats.stream_duration.total) == (2, 180_000.0)
    assert count_up_to(stats.stream_duration, 14400.0) == 0
    assert count_up_to(stats.stream_duration, 86400.0) == 1


def test_a_lag_is_told_for_a_while() -> None:
    counters = Counters()
    counters.observe_lag(2.0)
    for _ in range(30):  # a scrape interval of 15 s, in ticks
        counters.observe_lag(0.0)
    assert 1.0 < counters.loop_lag < 1.2
    for _ in range(500):
        counters.observe_lag(0.001)
    assert counters.loop_lag == 0.001
    counters.observe_lag(3.0)
    assert counters.loop_lag == 3.0
