"""docs/observe.md, whose programs are run and whose tables are compared with what there is; and the dashboard."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

import pytest
from conftest import ROOT
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pages import blocks
from seen import FIELDS
from test_metrics import SAMPLES, STATS
from watching import until

import bunpy.serve
from bunpy.http.ending import Ending
from bunpy.http.metrics import StatsCollector
from bunpy.serve import Request, Server, SSEResponse
from bunpy.testing import EventClient, request

TEXT = (ROOT / "docs" / "observe.md").read_text(encoding="utf-8")
#: By heading.
PROGRAMS = {
    part.partition("\n")[0]: re.findall(r"^```python\n(.*?)^```$", part, re.DOTALL | re.MULTILINE)
    for part in re.split(r"^## ", TEXT, flags=re.MULTILINE)[1:]
}
PROGRAMS["Hooks"] = [
    blocks((ROOT / "README.md").read_text(encoding="utf-8"))["What is seen of it", "python"]
]
METRICS = {re.sub(r"_(bucket|sum|count)\b.*|\{.*", "", sample) for sample in SAMPLES}


def test_every_program_has_a_test() -> None:
    assert {heading: len(found) for heading, found in PROGRAMS.items() if found} == {
        "Logs": 1,
        "Metrics": 1,
        "Hooks": 1,  # the README's
    }


@contextmanager
def running(heading: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Run a program on a free port instead of its own."""
    servers: list[Server] = []
    serve = bunpy.serve.serve

    def on_free_port(handler: Callable[[Request], Any], port: int, **options: Any) -> Server:
        assert port == 3000
        servers.append(serve(handler, port=0, quiet=True, **options))
        return servers[0]

    monkeypatch.setattr(bunpy.serve, "serve", on_free_port)
    try:
        exec(compile(PROGRAMS[heading][0], f"observe.md: {heading}", "exec"), {})
        yield servers[0]
    finally:
        for server in servers:
            server.stop(grace=0)


# The programs


def test_logs(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    for handler in root.handlers[:]:
        root.removeHandler(handler)
    try:
        with running("Logs", monkeypatch) as server:
            request(server, "GET", "/", {"X-Request-Id": "seven"})
            said = ""

            def both() -> bool:
                nonlocal said
                said += capfd.readouterr().err
                return said.count("\n") == 2

            until(both)
    finally:
        root.handlers[:], root.level = before
    lines = [json.loads(line) for line in said.splitlines()]
    assert [(line["logger"], line["request_id"]) for line in lines] == [
        ("root", "seven"),
        ("bunpy.access", "seven"),
    ]


def test_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    import prometheus_client

    registry = prometheus_client.CollectorRegistry()
    monkeypatch.setattr(prometheus_client, "REGISTRY", registry)
    with running("Metrics", monkeypatch) as server:
        request(server, "GET", "/")
        counted = '\nbunpy_responses_total{status="2xx"} 1.0\n'
        until(lambda: counted in prometheus_client.generate_latest(registry).decode())


TRACE = "0af7651916cd43dd8448eb211c80319c"


def test_opentelemetry(monkeypatch: pytest.MonkeyPatch) -> None:
    """One span for a stream of 100 events, in the trace that the client began."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    parent = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
    with running("Hooks", monkeypatch) as server:
        with EventClient(server, "/count", headers=parent) as client:
            assert len(client.read_all()) == 100
        until(lambda: len(exporter.get_finished_spans()) == 1)
        with EventClient(server, "/other") as client:
            client.read_all()
        until(lambda: len(exporter.get_finished_spans()) == 2)
    first, second = exporter.get_finished_spans()
    assert first.name == "/count"
    assert first.kind is trace.SpanKind.SERVER
    assert first.attributes == {"events": 100, "reason": "finished"}
    assert first.context is not None
    assert f"{first.context.trace_id:032x}" == TRACE
    assert first.parent is not None
    assert f"{first.parent.span_id:016x}" == "b7ad6b7169203331"
    # The next has nothing of it.
    assert second.name == "/other"
    assert second.parent is None
    assert second.context is not None
    assert f"{second.context.trace_id:032x}" != TRACE


def test_the_span_is_current_in_the_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the generator's libraries record is below it."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    namespace: dict[str, Any] = {}
    monkeypatch.setattr(bunpy.serve, "serve", lambda *arguments, **options: None)
    exec(compile(PROGRAMS["Hooks"][0], "observe.md: Hooks", "exec"), namespace)
    monkeypatch.undo()

    async def count() -> Any:
        with provider.get_tracer("program").start_as_current_span("query"):
            yield 1

    async def late() -> SSEResponse:
        return SSEResponse(count())

    hooks = {"on_stream_start": namespace["start"], "on_stream_end": namespace["end"]}
    for turn, handler in enumerate((lambda req: SSEResponse(count()), lambda req: late()), 1):
        with bunpy.serve.serve(handler, port=0, quiet=True, **hooks) as server:
            with EventClient(server, "/count") as client:
                client.read_all()
            until(lambda turn=turn: len(exporter.get_finished_spans()) == 2 * turn)  # type: ignore[misc]
        inner, outer = exporter.get_finished_spans()[-2:]
        assert (inner.name, outer.name) == ("query", "/count")
        assert inner.parent is not None
        assert outer.context is not None
        assert inner.parent.span_id == outer.context.span_id


# The tables


def names_of_table(heading: str, first: str) -> list[str]:
    """The names in the first column of the table under a heading whose head begins with ``first``."""
    part = TEXT.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = part.partition(f"| {first} |")[2].splitlines()[2:]
    names: list[str] = []
    for line in lines:
        if not line.startswith("|"):
            break
        names += re.findall(r"`([^`]+)`", line.split("|")[1])
    return names


def test_every_field_of_the_log_is_told() -> None:
    assert names_of_table("Logs", "Field") == list(FIELDS)
    (example,) = re.findall(r"^```json\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
    assert list(json.loads(example)) == ["time", "level", "logger", "message", *FIELDS]


def test_every_metric_is_told_as_what_it_is() -> None:
    told = names_of_table("Metrics", "Metric")
    assert {name.partition("{")[0] for name in told} == METRICS
    for family in StatsCollector(lambda: STATS).collect():
        suffix = "_total" if family.type == "counter" else ""
        labels = sorted({key for sample in family.samples for key in sample.labels} - {"le"})
        name = f"{family.name}{suffix}" + (f"{{{','.join(labels)}}}" if labels else "")
        assert re.search(rf"^\| `{re.escape(name)}` \| {family.type} \|", TEXT, re.MULTILINE), name


def test_every_field_of_an_ending_is_told() -> None:
    told = names_of_table("Hooks", "`Ending`")
    assert sorted(told) == sorted(field.name for field in fields(Ending))


def test_examples_name_what_there_is() -> None:
    named = set(re.findall(r"\bbunpy_\w+", TEXT))
    assert named <= METRICS


# The dashboard

DASHBOARD: dict[str, Any] = json.loads(
    (ROOT / "deploy" / "grafana-dashboard.json").read_text(encoding="utf-8")
)
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
EXPRESSIONS = [target["expr"] for panel in PANELS for target in panel.get("targets", [])]


def test_the_dashboard_shows_every_metric_and_no_other() -> None:
    shown = set()
    for expression in EXPRESSIONS:
        shown |= set(re.findall(r"\bbunpy_\w+", expression))
        assert expression.count("(") == expression.count(")")
        assert expression.count("{") == expression.count("}")
    # Of a histogram the buckets; a counter only by its rate.
    assert {re.sub("_bucket$", "", name) for name in shown} == METRICS
    for name in shown:
        if name.endswith(("_total", "_bucket")):
            uses = [found for found in EXPRESSIONS if re.search(rf"\b{name}\b", found)]
            assert all(re.search(rf"(rate|increase)\({name}\b", found) for found in uses)


def test_the_dashboard_names_the_labels_that_there_are() -> None:
    labels = set()
    for expression in EXPRESSIONS:
        labels |= set(re.findall(r"(\w+)=~?\"", expression))
        for found in re.findall(r"by \(([^)]*)\)", expression):
            labels |= set(found.split(", "))
    assert labels == {"job", "instance", "le", "reason", "status"}
    reasons = re.findall(r'reason="(\w+)"', " ".join(EXPRESSIONS))
    assert all(f'bunpy_stream_ends_total{{reason="{reason}"}}' in SAMPLES for reason in reasons)


def test_no_panel_lies_on_another() -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in PANELS:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert (x, y) not in taken, f"{panel['title']} lies on {taken[x, y]}"
                taken[x, y] = panel["title"]
    identities = [panel["id"] for panel in PANELS]
    assert len(set(identities)) == len(identities)


def test_every_panel_says_what_it_shows() -> None:
    for panel in PANELS:
        if panel["type"] == "row":
            continue
        assert panel["title"]
        assert panel["description"].endswith(".")
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        references = [target["refId"] for target in panel["targets"]]
        assert len(set(references)) == len(references)


def test_the_dashboard_can_be_imported() -> None:
    """What Grafana 10 asks for, and nothing of the installation that it was made on."""
    assert DASHBOARD["schemaVersion"] >= 38
    assert DASHBOARD["title"]
    assert "id" not in DASHBOARD
    variables = [variable["name"] for variable in DASHBOARD["templating"]["list"]]
    assert variables == ["datasource", "job", "instance"]
    used = set(re.findall(r"\$(?!__)\{?(\w+)", json.dumps(DASHBOARD)))
    assert used == set(variables)
