"""The reconnection: does the stream go on where it was left?"""

from __future__ import annotations

import re

import pytest
from doctor_servers import HEAD, Talk, chunk, misbehaving

from bunpy.doctor.observation import Observation
from bunpy.doctor.question import Question
from bunpy.doctor.resumption import resumption, retry
from bunpy.testing.head import Head


def first(*ids: str, fields: bytes = b"") -> Observation:
    """What the first connection has seen: events with these ids."""
    observation = Observation(0.0)
    observation.begin(Head("1.1", 200, "OK", (), {}), 0.0)
    observation.add(fields + b"".join(b"id: %s\ndata: x\n\n" % id_.encode() for id_ in ids), 1.0)
    observation.finish(2.0)
    return observation


def events(*ids: str) -> bytes:
    return b"".join(chunk(b"id: %s\ndata: x\n\n" % id_.encode()) for id_ in ids)


@pytest.mark.parametrize(
    ("before", "after", "asked", "level", "says"),
    [
        (("1", "2", "3", "4", "5", "6"), events("4"), "3", "ok", "with Last-Event-ID 3 it went on with 4"),
        (("a", "c", "b"), events("c"), "a", "ok", "it went on with c"),
        (("1", "2", "3"), events("1"), "1", "problem", "1 came again: it counts as seen"),
        (("1", "2", "3", "4", "5"), events("1"), "2", "problem", "it began anew with 1"),
        (("1", "2", "3", "4", "5"), events("6"), "2", "problem", "went on with 6 and not 3: what lies between is lost"),
        (("1", "2", "3", "4", "5"), chunk(b"event: gap\ndata: x\n\n") + events("9"), "2", "problem", "said itself"),
        (("7",), events("8"), "7", "ok", "whether anything lies between cannot be told"),
        (("7",), events("7"), "7", "problem", "came again"),
        (("7",), b"", "7", "unknown", "nothing came"),
        (("7", "8"), b"", "7", "problem", "though 1 later event is known"),
        (("7", "8"), chunk(b"data: without\n\n"), "7", "problem", "nothing with an id came"),
    ],
)  # fmt: skip
def test_it_asks_for_what_it_has_seen(
    before: tuple[str, ...], after: bytes, asked: str, level: str, says: str
) -> None:
    requests: list[str] = []

    def script(talk: Talk) -> None:
        requests.append(talk.request)
        talk.send(HEAD + after)
        talk.pause(20)

    with misbehaving(script) as url:
        found = resumption(Question(url, seconds=0.5), first(*before), ("nginx",))
    assert (found.name, found.level, says in found.seen) == ("resumption", level, True), found
    assert re.findall(r"(?i)^last-event-id: (.*)\r$", requests[0], re.MULTILINE) == [asked]
    assert ("nginx" in found.advice) == (level == "problem")


@pytest.mark.parametrize(
    ("status", "level", "says"),
    [
        (b"204 No Content", "ok", "it answers 204: an EventSource stops"),
        (b"400 Bad Request", "problem", "it answers 400 Bad Request"),
    ],
)
def test_another_status(status: bytes, level: str, says: str) -> None:
    answer = b"HTTP/1.1 " + status + b"\r\n\r\n"
    with misbehaving(lambda talk: talk.send(answer)) as url:
        found = resumption(Question(url, seconds=0.5), first("1", "2"), ())
    assert (found.level, says in found.seen) == (level, True), found


def test_nobody_is_asked_in_vain() -> None:
    question = Question("http://127.0.0.1:9/")  # where nobody listens
    post = Question("http://127.0.0.1:9/", method="POST", body=b"{}")
    assert resumption(post, first("1", "2"), ()).level == "unknown"
    assert resumption(question, first(), ()).level == "unknown"
    found = resumption(question, first(fields=b"data: x\n\n"), ())
    assert (found.level, "have no id" in found.seen) == ("warning", True)
    assert "last_event_id" in found.advice["bunpy"]


def test_behind_a_buffer_nothing_can_be_said() -> None:
    with misbehaving(lambda talk: talk.pause(20)) as url:
        question = Question(url, seconds=0.5)
        found = resumption(question, first("7", "8"), (), is_buffered=True)
        assert (found.level, "mend the buffering first" in found.seen) == ("unknown", True)
        assert resumption(question, first("7", "8"), ()).level == "problem"


@pytest.mark.parametrize(
    ("fields", "level", "says"),
    [
        (b"", "ok", "none"),
        (b"retry: 2500\n\n", "ok", "2500 ms"),
        (b"retry: 0\n\n", "warning", "all of them at once"),
        (b"retry: 60001\n\n", "warning", "60001 ms"),
    ],
)
def test_retry(fields: bytes, level: str, says: str) -> None:
    found = retry(first("1", fields=fields))
    assert (found.name, found.level, says in found.seen) == ("retry", level, True)
    assert bool(found.advice) == (level == "warning")
