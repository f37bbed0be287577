"""A server's ``Stats`` as Prometheus reads them. They are counted elsewhere; the text is prometheus_client's work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

    from bunpy.http.stats import Histogram, Stats

__all__ = ["StatsCollector", "exposition", "load"]

#: By name: what it is, and how ``Stats`` calls it. No gauge may be named as a counter is without _total (OpenMetrics).
_GAUGES: Final = {
    "bunpy_open_connections": ("Connections that are open.", "connections"),
    "bunpy_open_streams": ("Streams that are open.", "streams"),
    "bunpy_buffered_bytes": ("Bytes that wait in memory for slow clients.", "buffered"),
    "bunpy_loop_lag_seconds": (
        "By how much the event loop was late lately; of several workers the most.",
        "loop_lag",
    ),
    "bunpy_workers": ("Processes that serve.", "workers"),
}
_COUNTERS: Final = {
    "bunpy_connections_total": ("Connections since the start.", "connections_total"),
    "bunpy_streams_total": ("Streams that have begun.", "streams_total"),
    "bunpy_events_total": ("Events, and pieces of plain bodies, that were sent.", "events"),
    "bunpy_sent_bytes_total": ("Bytes of responses, heads and framing included.", "bytes_sent"),
    "bunpy_turned_away_total": ("Requests for which there was no room.", "turned_away"),
    "bunpy_worker_restarts_total": ("Workers that died and were replaced.", "restarts"),
}
_COUNTERS_BY: Final = {
    "bunpy_responses_total": ("Responses that have ended.", "status", "responses"),
    "bunpy_stream_ends_total": ("Streams that have ended, by why.", "reason", "ends"),
}
_HISTOGRAMS: Final = {
    "bunpy_time_to_first_event_seconds": (
        "From a request's last byte to its stream's first event.",
        "first_event",
    ),
    "bunpy_stream_duration_seconds": ("How long streams lasted.", "stream_duration"),
    "bunpy_answer_duration_seconds": (
        "From a request's last byte to its plain answer's.",
        "answer_duration",
    ),
}


class StatsCollector:
    """Gives Prometheus's registry what ``stats`` gives: ``registry.register(StatsCollector(server.stats))``."""

    def __init__(self, stats: Callable[[], Stats]) -> None:
        self._stats = stats

    def describe(self) -> Iterator[Metric]:
        """Nothing: what there is does not change, and registering need not count it."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Every metric as it is now."""
        # Not at the top: it is an extra.
        from prometheus_client.core import (
            CounterMetricFamily,
            GaugeMetricFamily,
            HistogramMetricFamily,
        )

        stats = self._stats()
        for name, (text, field) in _GAUGES.items():
            yield GaugeMetricFamily(name, text, value=getattr(stats, field))
        for name, (text, field) in _COUNTERS.items():
            yield CounterMetricFamily(name, text, value=getattr(stats, field))
        for name, (text, label, field) in _COUNTERS_BY.items():
            family = CounterMetricFamily(name, text, labels=[label])
            for key, value in getattr(stats, field).items():
                family.add_metric([key], value)
            yield family
        for name, (text, field) in _HISTOGRAMS.items():
            histogram: Histogram = getattr(stats, field)
            yield HistogramMetricFamily(
                name, text, buckets=_buckets(histogram), sum_value=histogram.total
            )


def load() -> None:
    """Import prometheus_client, which takes 40 ms: at the start and not, with the loop, at the first scrape."""
    import prometheus_client.core
    import prometheus_client.exposition  # noqa: F401


def exposition(stats: Stats, accept: str) -> tuple[bytes, str]:
    """The text for a scraper that accepts ``accept``, Prometheus's or OpenMetrics, and its media type."""
    from prometheus_client.exposition import choose_encoder

    encode: Any  # until 0.22 typed for a whole registry, of which it asks for collect() alone
    encode, kind = choose_encoder(accept)
    return encode(StatsCollector(lambda: stats)), kind


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    pairs = zip(histogram.bounds, histogram.counts, strict=True)
    return [*((str(bound), float(count)) for bound, count in pairs), ("+Inf", histogram.count)]
