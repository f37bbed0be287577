"""One connection that is watched, and what is noted of it."""

from __future__ import annotations

import gzip

import pytest
from doctor_servers import HEAD, Talk, chunk, misbehaving

from bunpy.doctor.observation import Observation
from bunpy.doctor.question import Question
from bunpy.doctor.watch import watch
from bunpy.testing.errors import IncompleteAnswer, InvalidAnswer

SOON = 5.0


def watched(url: str, seconds: float = SOON, method: str = "GET", **headers: str) -> Observation:
    observation = Observation(0.0)
    question = Question(url, method=method)
    with question.connect() as connection:
        watch(question, connection, observation, seconds, lambda _: False, **headers)
    return observation


def test_a_stream_to_its_end() -> None:
    def script(talk: Talk) -> None:
        talk.send(HEAD + chunk(b"data: 1\n\n"))
        talk.pause(0.6)
        talk.send(chunk(b"data: 2\n\n") + b"0\r\n\r\n")

    with misbehaving(script) as url:
        seen = watched(url)
    assert (seen.events, seen.end) == (2, "clean")
    assert 0.5 < seen.longest_silence <= seen.watched < SOON


def test_a_stream_that_goes_on() -> None:
    def script(talk: Talk) -> None:
        talk.send(HEAD + chunk(b"data: 1\n\n"))
        talk.pause(20)

    with misbehaving(script) as url:
        seen = watched(url, 0.3)
    assert (seen.events, seen.end) == (1, None)
    assert 0.3 <= seen.watched < SOON


def test_a_stream_that_is_cut() -> None:
    with misbehaving(lambda talk: talk.send(HEAD + chunk(b"data: 1\n\n"))) as url:
        seen = watched(url)
    assert (seen.events, seen.end) == (1, "closed")


def test_headers_of_this_time() -> None:
    asked: list[str] = []

    def script(talk: Talk) -> None:
        asked.append(talk.request)
        talk.send(HEAD + b"0\r\n\r\n")

    with misbehaving(script) as url:
        watched(url, last_event_id="9")
    assert "\r\nLast-Event-Id: 9\r\n" in asked[0]


def test_it_ends_when_enough_was_seen() -> None:
    def script(talk: Talk) -> None:
        talk.send(HEAD + chunk(b"id: 1\ndata: 1\n\n"))
        talk.pause(20)

    with misbehaving(script) as url:
        question, seen = Question(url), Observation(0.0)
        with question.connect() as connection:
            watch(question, connection, seen, 20, lambda seen: bool(seen.first_ids))
    assert seen.watched < SOON


def test_no_head_comes() -> None:
    with misbehaving(lambda talk: talk.pause(20)) as url:
        seen = watched(url, 0.3)
    assert (seen.head, seen.end) == (None, None)
    assert 0.3 <= seen.watched < SOON


def test_what_is_no_stream_is_not_read() -> None:
    def script(talk: Talk) -> None:
        talk.send(b"HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\n")
        talk.pause(20)

    with misbehaving(script) as url:
        seen = watched(url, 20)
    assert seen.head is not None
    assert seen.head.status == 404
    assert seen.watched < SOON


def test_a_compressed_stream_is_read() -> None:
    content = gzip.compress(b"data: 1\n\ndata: 2\n\n")
    head = HEAD.replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\n\r\n")
    with misbehaving(lambda talk: talk.send(head + chunk(content) + b"0\r\n\r\n")) as url:
        seen = watched(url)
    assert (seen.events, seen.is_opaque) == (2, False)


def test_one_that_cannot_be_read_is_opaque() -> None:
    head = HEAD.replace(b"\r\n\r\n", b"\r\nContent-Encoding: br\r\n\r\n")
    with misbehaving(lambda talk: talk.send(head + chunk(b"data: 1\n\n") + b"0\r\n\r\n")) as url:
        seen = watched(url)
    assert (seen.events, seen.is_opaque) == (0, True)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", IncompleteAnswer),
        (b"HTTP/1.1 200", IncompleteAnswer),
        (b"SSH-2.0-x\r\n\r\n", InvalidAnswer),
        (HEAD + b"xyz\r\n", InvalidAnswer),
        (HEAD[:-2] + b"Content-Encoding: gzip\r\n\r\n" + chunk(b"data: 1\n\n"), ValueError),
    ],
)
def test_what_is_no_answer(data: bytes, error: type[Exception]) -> None:
    with misbehaving(lambda talk: talk.send(data)) as url, pytest.raises(error):
        watched(url)
