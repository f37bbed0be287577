"""What an answer's head tells."""

from __future__ import annotations

import pytest

from bunpy.doctor.answer import answer_findings, content_coding
from bunpy.doctor.finding import Finding
from bunpy.doctor.handshake import Handshake
from bunpy.doctor.observation import Observation, Probed
from bunpy.doctor.question import Question
from bunpy.testing.head import Head

GOOD = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-store",
    "x-accel-buffering": "no",
    "transfer-encoding": "chunked",
}


def found(
    status: int = 200,
    *,
    url: str = "http://h/",
    version: str = "1.1",
    handshake: Handshake | None = None,
    proxies: tuple[str, ...] = (),
    request: dict[str, str] | None = None,
    origin: str | None = None,
    **fields: str | None,
) -> dict[str, Finding]:
    """The findings for a good answer with these fields, by name; None takes one out."""
    changed = {**GOOD, **{name.replace("_", "-"): value for name, value in fields.items()}}
    headers = {name: value for name, value in changed.items() if value is not None}
    observation = Observation(0.0)
    observation.begin(Head(version, status, "Reason", (), headers), 0.002)
    if request is not None:
        observation.probed = Probed(0.0, request)
    question = Question(url, origin=origin)
    findings = answer_findings(question, observation, handshake, proxies)
    assert len({finding.name for finding in findings}) == len(findings)
    return {finding.name: finding for finding in findings}


def test_a_good_answer() -> None:
    findings = found(url="https://h/", handshake=Handshake("TLSv1.3", "h2", 90))
    assert {finding.level for finding in findings.values()} == {"ok"}
    assert [*findings] == ["answer", "http_version", "framing", "compression", "caching"]
    assert (
        findings["answer"].seen == "200, text/event-stream; charset=utf-8, 2 ms after the request"
    )


@pytest.mark.parametrize(
    ("status", "fields", "says", "advised"),
    [
        (204, {}, "204 Reason: which tells an EventSource to stop", None),
        (301, {"location": "/x"}, "301 Reason to /x", None),
        (307, {}, "307 Reason to nowhere", None),
        (401, {}, "--header 'Authorization", None),
        (404, {}, "nothing at this path", None),
        (418, {}, "an EventSource takes 200 only", None),
        (421, {}, "allowed_hosts", "bunpy"),
        (502, {}, "not where the proxy looks", "nginx"),
        (200, {"content_type": "text/html"}, "the Content-Type is text/html", "bunpy"),
        (200, {"content_type": None}, "the Content-Type is missing", "bunpy"),
        (200, {"content_type": "text/event-streams"}, "text/event-streams", "bunpy"),
    ],
)  # fmt: skip
def test_no_event_stream_is_one_problem(
    status: int, fields: dict[str, str | None], says: str, advised: str | None
) -> None:
    (finding,) = found(status, **fields).values()  # type: ignore[arg-type]
    assert (finding.name, finding.level) == ("answer", "problem")
    assert says in finding.seen
    assert (advised in finding.advice) if advised else not finding.advice


def test_no_head_is_a_problem_of_buffers() -> None:
    observation = Observation(0.0)
    observation.finish(3.0)
    (finding,) = answer_findings(Question("http://h/"), observation, None, ("nginx",))
    assert (finding.name, finding.level) == ("buffering", "problem")
    assert "not one byte of an answer in 3.0 s" in finding.seen
    assert "proxy_buffering off;" in finding.advice["nginx"]


@pytest.mark.parametrize(
    ("name", "fields", "level", "says"),
    [
        ("answer", {"content_type": "text/event-stream"}, "ok", "200"),
        ("answer", {"content_type": "Text/Event-Stream; Charset=UTF-8"}, "ok", "200"),
        ("answer", {"content_type": 'text/event-stream; charset="latin-1"; x=y'}, "warning", "not as latin-1"),
        ("framing", {"transfer_encoding": None}, "warning", "without chunks"),
        ("framing", {"transfer_encoding": None, "content_length": "71"}, "problem", "Content-Length: 71"),
        ("compression", {"content_encoding": "gzip"}, "warning", "(gzip)"),
        ("compression", {"content_encoding": "Identity"}, "ok", "none"),
        ("caching", {"cache_control": "max-age=1, No-Cache"}, "ok", "No-Cache"),
        ("caching", {"cache_control": None}, "warning", "missing"),
        ("caching", {"cache_control": "public"}, "warning", "public"),
        ("caching", {"x_cache": "HIT"}, "problem", "X-Cache: HIT"),
        ("caching", {"cf_cache_status": "HIT"}, "problem", "from a cache"),
        ("caching", {"age": "7"}, "problem", "Age: 7"),
        ("caching", {"age": "0"}, "ok", "no-store"),
        ("caching", {"age": "x", "x_cache": "MISS"}, "ok", "no-store"),
        ("accelerator", {"x_accel_buffering": None}, "warning", "missing"),
        ("accelerator", {"x_accel_buffering": "yes"}, "warning", "is yes"),
    ],
)  # fmt: skip
def test_a_field(name: str, fields: dict[str, str | None], level: str, says: str) -> None:
    finding = found(**fields)[name]  # type: ignore[arg-type]
    assert finding.level == level
    assert says in finding.seen
    assert bool(finding.advice) == (level != "ok")


def test_who_keeps_x_accel_buffering_to_itself_is_not_blamed() -> None:
    assert "accelerator" not in found(proxies=("nginx",), x_accel_buffering=None)


@pytest.mark.parametrize(
    ("url", "handshake", "fields", "level", "says"),
    [
        ("http://h/", None, {}, "warning", "HTTP/1.1 without TLS, no HTTP/2: a browser opens 6 connections"),
        ("https://h/", Handshake("TLSv1.3", None), {}, "warning", "HTTP/1.1, no HTTP/2"),
        ("https://h/", Handshake("TLSv1.3", "http/1.1"), {"alt_svc": 'h3=":443"'}, "warning", "HTTP/3"),
        ("https://h/", Handshake("TLSv1.3", "h2"), {"alt_svc": 'h3=":443"'}, "ok", "HTTP/2 is offered; HTTP/3"),
    ],
)  # fmt: skip
def test_http_version(
    url: str, handshake: Handshake | None, fields: dict[str, str], level: str, says: str
) -> None:
    finding = found(url=url, handshake=handshake, proxies=("caddy",), **fields)["http_version"]  # type: ignore[arg-type]
    assert finding.level == level
    assert says in finding.seen
    assert next(iter(finding.advice), "caddy") == "caddy"


def test_what_reached_the_server() -> None:
    assert found(request={"version": "1.1"})["upstream"].level == "ok"
    finding = found(request={"version": "1.0"})["upstream"]
    assert finding.level == "warning"
    assert "proxy_http_version 1.1;" in finding.advice["nginx"]
    assert "upstream" not in found(request={})


@pytest.mark.parametrize(
    ("allowed", "credentials", "level", "says"),
    [
        ("https://a.example", "true", "ok", "pages of https://a.example may read it"),
        ("https://a.example", None, "ok", "not with cookies"),
        ("*", "true", "ok", "not with cookies"),
        (None, None, "problem", "missing"),
        ("https://b.example", "true", "problem", "is https://b.example"),
        ("*, https://a.example", "true", "problem", "is *, https://a.example"),
    ],
)
def test_cors(allowed: str | None, credentials: str | None, level: str, says: str) -> None:
    finding = found(
        origin="https://a.example",
        access_control_allow_origin=allowed,
        access_control_allow_credentials=credentials,
    )["cors"]
    assert (finding.level, says in finding.seen) == (level, True), finding


def test_content_coding() -> None:
    assert content_coding(Head("1.1", 200, "", (), {"content-encoding": " BR "})) == "br"
    assert content_coding(Head("1.1", 200, "", (), {})) == ""
