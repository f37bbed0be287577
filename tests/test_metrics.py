"""The metrics as text: their names, and the value of each. What they count is seen in test_account.py."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse
from script import TIMEOUT, Scripts
from seen import Metrics
from watching import until

from bunpy.errors import ConfigError
from bunpy.http.metrics import StatsCollector, exposition
from bunpy.http.stats import Histogram, Stats
from bunpy.server import config
from bunpy.sse.reason import END_REASONS
from bunpy.testing import EventClient, request, serving

HISTOGRAM = Histogram(bounds=(0.5, 10.0), counts=(3, 5), count=6, total=50.5)
STATS = Stats(
    connections=1,
    streams=2,
    buffered=3,
    loop_lag=0.25,
    workers=4,
    connections_total=5,
    streams_total=6,
    events=7,
    bytes_sent=8,
    turned_away=9,
    restarts=10,
    responses={"2xx": 11, "5xx": 12},
    ends=dict(zip(END_REASONS, range(21, 29), strict=True)),
    first_event=HISTOGRAM,
    stream_duration=dataclasses.replace(HISTOGRAM, total=51.5),
    answer_duration=dataclasses.replace(HISTOGRAM, total=52.5),
)


def values(name: str, total: float) -> dict[str, float]:
    return {
        f'{name}_bucket{{le="0.5"}}': 3,
        f'{name}_bucket{{le="10.0"}}': 5,
        f'{name}_bucket{{le="+Inf"}}': 6,
        f"{name}_count": 6,
        f"{name}_sum": total,
    }


SAMPLES: dict[str, float] = {
    "bunpy_open_connections": 1,
    "bunpy_open_streams": 2,
    "bunpy_buffered_bytes": 3,
    "bunpy_loop_lag_seconds": 0.25,
    "bunpy_workers": 4,
    "bunpy_connections_total": 5,
    "bunpy_streams_total": 6,
    "bunpy_events_total": 7,
    "bunpy_sent_bytes_total": 8,
    "bunpy_turned_away_total": 9,
    "bunpy_worker_restarts_total": 10,
    'bunpy_responses_total{status="2xx"}': 11,
    'bunpy_responses_total{status="5xx"}': 12,
    **{
        f'bunpy_stream_ends_total{{reason="{reason}"}}': number
        for number, reason in enumerate(END_REASONS, 21)
    },
    **values("bunpy_time_to_first_event_seconds", 50.5),
    **values("bunpy_stream_duration_seconds", 51.5),
    **values("bunpy_answer_duration_seconds", 52.5),
}


def test_every_value() -> None:
    text, kind = exposition(STATS, "")
    lines = [line for line in text.decode().splitlines() if not line.startswith("#")]
    assert {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines} == SAMPLES
    assert kind.startswith("text/plain; version=0.0.4")


@pytest.mark.parametrize(
    ("accept", "kind", "parser"),
    [
        ("*/*", "text/plain", parse),
        ("text/plain;version=0.0.4;q=0.5,*/*;q=0.1", "text/plain", parse),
        ("application/openmetrics-text", "application/openmetrics-text", parse_openmetrics),
        (
            "application/openmetrics-text;version=1.0.0;q=0.75,text/plain;version=0.0.4;q=0.5",
            "application/openmetrics-text",
            parse_openmetrics,
        ),
    ],
)
def test_what_a_scraper_accepts(accept: str, kind: str, parser: Any) -> None:
    with serving(lambda req: "hello", metrics="/metrics") as server:
        answer = request(server, "GET", "/metrics", {"Accept": accept})
    assert answer.status == 200
    assert answer.headers["content-type"].startswith(f"{kind}; version=")
    assert answer.headers["cache-control"] == "no-store"
    families = {family.name: family for family in parser(answer.text())}
    names = {
        re.sub("_(total|count|sum|bucket)$", "", sample.partition("{")[0]) for sample in SAMPLES
    }
    assert {re.sub("_total$", "", name) for name in families} == names
    assert all(family.documentation.endswith(".") for family in families.values())


def test_names_are_as_prometheus_wants_them() -> None:
    """Of one application, in base units, and a counter says that it is one (prometheus.io/docs/practices/naming)."""
    for metric in StatsCollector(lambda: STATS).collect():
        assert re.fullmatch(r"bunpy(_[a-z]+)+", metric.name)
        for sample in metric.samples:
            assert sample.name.endswith("_total") == (metric.type == "counter")
        assert not re.search("milli|micro|kilo|_ms|percent", metric.name)


def test_of_every_number() -> None:
    """What ``stats`` tells, the metrics tell: each changes something when it changes."""
    text = exposition(STATS, "")[0]
    for field in dataclasses.fields(Stats):
        value = getattr(STATS, field.name)
        changed: Any
        if isinstance(value, Histogram):
            changed = dataclasses.replace(value, total=99.0)
        elif isinstance(value, dict):
            changed = {key: count + 100 for key, count in value.items()}
        else:
            changed = value + 100
        assert exposition(dataclasses.replace(STATS, **{field.name: changed}), "")[0] != text


def test_beside_those_of_the_program() -> None:
    registry = CollectorRegistry()
    Counter("orders", "Orders.", registry=registry).inc()
    with serving(lambda req: "hello") as server:
        registry.register(StatsCollector(server.stats))
        text = generate_latest(registry).decode()
    assert "\norders_total 1.0\n" in text
    assert "\nbunpy_workers 1.0\n" in text


def test_at_a_path_of_ones_own() -> None:
    with serving(lambda req: "hello", metrics="/-/numbers") as server:
        assert "bunpy_workers 1.0" in request(server, "GET", "/-/numbers?x=1").text()
        assert request(server, "GET", "/metrics").text() == "hello"


def test_the_head_alone() -> None:
    with serving(lambda req: "hello", metrics="/metrics") as server:
        answer = request(server, "HEAD", "/metrics")
        assert (answer.status, answer.body) == (200, b"")
        assert int(answer.headers["content-length"]) > 1000


def test_a_scrape_is_as_fresh_as_can_be() -> None:
    with serving(lambda req: "hello", metrics="/metrics") as server:
        for count in range(3):
            assert Metrics.of(server)['bunpy_responses_total{status="2xx"}'] == count


def test_without_prometheus_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=re.escape("pip install 'bunpy[metrics]'")):
        serving(lambda req: "hello", metrics="/metrics").__enter__()
    with serving(lambda req: "hello") as server:
        assert request(server, "GET", "/").text() == "hello"


def test_sums_over_workers(tmp_path: Path) -> None:
    """Whichever of them answers, the numbers are those of all."""
    with Scripts(tmp_path) as scripts:
        script = scripts.run("serve(handler, port=0, workers=2, metrics='/metrics')")
        url = script.url
        before = Metrics.of(url)
        for _ in range(40):
            request(url, "GET", "/", timeout=TIMEOUT)
        with EventClient(url, "/events", timeout=TIMEOUT) as client:
            client.read(1)
            until(lambda: Metrics.of(url)["bunpy_open_streams"] == 1)
        answered = 'bunpy_responses_total{status="2xx"}'
        ended = 'bunpy_stream_ends_total{reason="client"}'

        def has_all() -> bool:
            """What the other worker has counted is up to half a second old."""
            metrics = Metrics.of(url)
            return metrics[answered] >= before[answered] + 41 and metrics[ended] == 1

        until(has_all, TIMEOUT)
        for _ in range(8):
            metrics = Metrics.of(url)
            assert metrics["bunpy_workers"] == 2
            assert metrics["bunpy_open_streams"] == 0
            assert metrics["bunpy_streams_total"] == metrics["bunpy_events_total"] == 1
            assert metrics[answered] >= before[answered] + 41
            assert metrics[ended] == 1
