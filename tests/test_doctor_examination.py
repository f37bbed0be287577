"""The order in which things are looked at."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import pytest
from certificates import Pair
from doctor_servers import HEAD, Talk, chunk, misbehaving

from bunpy.doctor import examination
from bunpy.doctor.examination import Examination
from bunpy.doctor.finding import Finding
from bunpy.doctor.question import Question
from bunpy.doctor.watch import watch
from bunpy.serve import SSEResponse
from bunpy.testing import serving

END = b"0\r\n\r\n"


def examined(url: str, seconds: float = 5.0, **options: object) -> Examination:
    found = Examination(Question(url, seconds=seconds, **options))  # type: ignore[arg-type]
    found.run()
    return found


def findings(found: Examination) -> dict[str, Finding]:
    return {finding.name: finding for finding in found.findings}


def test_a_good_stream() -> None:
    def script(talk: Talk) -> None:
        start = 3 if "Last-Event-Id: 2" in talk.request else 1
        for number in range(start, 6):
            talk.send((HEAD if number == start else b"") + chunk(b"id: %d\ndata: x\n\n" % number))
            talk.pause(0.05)
        talk.send(END)

    with misbehaving(script) as url:
        found = examined(url)
    levels = {finding.name: finding.level for finding in found.findings}
    assert levels == {
        "answer": "ok",
        "http_version": "warning",
        "framing": "ok",
        "compression": "ok",
        "caching": "ok",
        "buffering": "ok",
        "heartbeat": "ok",
        "cut_off": "ok",
        "retry": "ok",
        "resumption": "ok",
    }
    seen = found.seen
    assert (seen["status"], seen["events"], seen["end"], seen["http2"]) == (200, 5, "clean", None)
    assert seen["content_type"] == "text/event-stream"
    assert (found.proxies, found.is_interrupted) == ((), False)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "404 Not Found"),
        (b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 0\r\n\r\n", "text/html"),
        (b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", "302 Found to /x"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", "204 No Content"),
        (b"", "no HTTP answer"),
        (b"SSH-2.0\r\n\r\n", "no HTTP answer"),
    ],
)
def test_no_stream_is_one_problem(data: bytes, says: str) -> None:
    with misbehaving(lambda talk: talk.send(data)) as url:
        (finding,) = examined(url).findings
    assert (finding.name, finding.level, says in finding.seen) == ("answer", "problem", True)


def test_framing_that_breaks_later_is_a_problem() -> None:
    with misbehaving(lambda talk: talk.send(HEAD + chunk(b"data: 1\n\n") + b"xyz\r\n")) as url:
        found = findings(examined(url))
    assert found["answer"].level == "problem"
    assert "not a chunk size" in found["answer"].seen


def test_no_head_and_who_holds_it_back() -> None:
    def script(talk: Talk) -> None:
        if talk.request.startswith("HEAD "):
            talk.send(b"HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nConnection: close\r\n\r\n")
        else:
            talk.pause(20)

    with misbehaving(script) as url:
        found = examined(url, 2.0)
    (finding,) = found.findings
    assert (finding.name, finding.level, found.proxies) == ("buffering", "problem", ("nginx",))
    assert next(iter(finding.advice)) == "nginx"


def test_a_whole_stream_held_back_and_compressed() -> None:
    """As by a gzip that flushes at the end: what a browser sees of it comes late and at once."""
    events = b"".join(b"id: %d\ndata: x\n\n" % number for number in range(20))
    head = HEAD[:-2] + b"Content-Encoding: gzip\r\n\r\n"

    def script(talk: Talk) -> None:
        talk.pause(1.1)
        talk.send(head + chunk(gzip.compress(events)) + END)

    with misbehaving(script) as url:
        found = findings(examined(url))
    assert found["compression"].level == "warning"
    assert found["buffering"].level == "problem"
    assert "20 events came at once" in found["buffering"].seen


def test_a_compressed_stream_that_is_flushed_is_not_buffered() -> None:
    compressor = zlib.compressobj(wbits=31)
    head = HEAD[:-2] + b"Content-Encoding: gzip\r\n\r\n"

    def script(talk: Talk) -> None:
        talk.send(head)
        for number in range(3):
            event = compressor.compress(b"data: %d\n\n" % number)
            talk.send(chunk(event + compressor.flush(zlib.Z_SYNC_FLUSH)))
            talk.pause(0.1)
        talk.send(END)

    with misbehaving(script) as url:
        found = findings(examined(url))
    assert (found["compression"].level, found["buffering"].level) == ("warning", "ok")


def test_what_cannot_be_read_is_asked_for_without_compression() -> None:
    def script(talk: Talk) -> None:
        if "Accept-Encoding: identity" in talk.request:
            talk.send(HEAD + chunk(b"data: 1\n\n") + chunk(b"data: 2\n\n") + END)
        else:
            talk.send(HEAD[:-2] + b"Content-Encoding: br\r\n\r\n" + chunk(b"\x0b\x80") + END)

    with misbehaving(script) as url:
        found = examined(url)
    assert findings(found)["compression"].level == "warning"
    assert (found.seen["content_encoding"], found.seen["events"]) == ("br", 2)


def test_a_silent_stream_that_is_cut() -> None:
    def script(talk: Talk) -> None:
        talk.send(HEAD + chunk(b"id: 1\ndata: x\n\n"))
        talk.pause(2.5)

    with misbehaving(script) as url:
        found = findings(examined(url))
    assert found["cut_off"].level == "problem"
    assert "of silence" in found["cut_off"].seen
    assert "proxy_read_timeout" in found["cut_off"].advice["nginx"]


def test_heartbeats_of_bunpy_in_a_silence() -> None:
    async def silent() -> object:
        import asyncio

        yield {"id": 1, "data": "x", "retry": 100}
        await asyncio.sleep(20)

    with serving(lambda req: SSEResponse(silent()), heartbeat=0.05) as server:  # type: ignore[arg-type]
        found = examined(server.url, 2.0)
    assert found.seen["comments"] >= 2
    named = findings(found)
    assert (named["heartbeat"].level, named["buffering"].level) == ("ok", "ok")
    assert named["retry"].seen == "a client comes back after 100 ms"


def test_a_certificate_ends_it_unless_told_otherwise(tmp_path: Path) -> None:
    pair = Pair.made_in(tmp_path / "pair")

    async def events() -> object:
        yield {"id": 1, "data": "x"}

    with serving(lambda req: SSEResponse(events()), tls=pair.option) as server:  # type: ignore[arg-type]
        (finding,) = examined(server.url).findings
        assert (finding.name, finding.level) == ("tls", "problem")
        found = examined(server.url, is_insecure=True)
    assert found.seen["tls"] == "TLSv1.3"
    assert [finding.name for finding in found.findings][:2] == ["tls", "answer"]
    assert findings(found)["http_version"].level == "warning"


def test_nobody_listens() -> None:
    with misbehaving(lambda talk: None) as url:
        pass
    with pytest.raises(ConnectionRefusedError, match="no connection to"):
        examined(url)


def test_an_interruption_reports_what_there_was(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(question: Question, *arguments: object, **options: object) -> None:
        watch(question, *arguments, **options)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    monkeypatch.setattr(examination, "watch", interrupted)
    with misbehaving(lambda talk: talk.send(HEAD + chunk(b"id: 1\ndata: x\n\n") * 2)) as url:
        found = examined(url)
    assert (found.is_interrupted, found.seen["events"]) == (True, 2)
    assert findings(found)["resumption"].seen == "not tried: interrupted"


def test_an_interruption_before_anything_was_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(examination, "watch", interrupted)
    with misbehaving(lambda talk: None) as url:
        found = examined(url)
    (finding,) = found.findings
    assert (found.is_interrupted, finding.name, finding.level) == (True, "answer", "unknown")


def test_a_server_that_does_not_come_back() -> None:
    def script(talk: Talk) -> None:
        talk.send(HEAD + chunk(b"id: 1\ndata: x\n\n" * 2) + END)

    with misbehaving(script, lambda talk: talk.send(b"")) as url:
        found = findings(examined(url))
    assert found["resumption"].level == "problem"
    assert "the reconnection failed" in found["resumption"].seen


def test_the_page_of_an_origin() -> None:
    with misbehaving(lambda talk: talk.send(HEAD + END)) as url:
        found = findings(examined(url, origin="https://a.example"))
    assert found["cors"].level == "problem"
