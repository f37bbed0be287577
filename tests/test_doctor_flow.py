"""How the events of a stream arrive, judged: observations made by hand, without a clock."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from bunpy.doctor.finding import Finding
from bunpy.doctor.flow import buffering, cut_off, heartbeat
from bunpy.doctor.observation import Observation, Outcome
from bunpy.testing.head import Head

NOBODY: tuple[str, ...] = ()


def observed(
    pieces: Iterable[tuple[float, bytes]],
    watched: float = 20.0,
    end: Outcome | None = None,
    head_time: float = 0.01,
    **fields: str,
) -> Observation:
    """What is seen of a stream whose pieces come at these times."""
    headers = fields or {"transfer-encoding": "chunked"}
    observation = Observation(100.0)
    observation.begin(Head("1.1", 200, "OK", (), headers), 100.0 + head_time)
    for moment, data in pieces:
        observation.add(data, 100.0 + moment)
    observation.finish(100.0 + watched, end)
    return observation


def events(count: int) -> bytes:
    return b"data: x\n\n" * count


def probe(at: float) -> bytes:
    return b'event: bunpy-doctor\ndata: {"at":%d}\n\n' % (at * 1000)


# Buffering


@pytest.mark.parametrize(
    ("pieces", "head_time", "level", "says"),
    [
        ([(i, events(1)) for i in range(5)], 0.01, "ok", "5 events came one by one"),
        ([(i, b":\n\n") for i in (1, 16)], 0.01, "ok", "0 events came one by one"),
        ([(0.1, events(1))], 0.01, "unknown", "1 event and 0 comments in 20.0 s are too few"),
        ([], 0.01, "unknown", "0 events and 0 comments"),
        # bursts: a server may make them, once in a while
        ([(0.1, events(5))], 0.01, "ok", "5 events"),
        ([(0.1, events(5)), (4, events(5))], 0.01, "ok", "10 events"),
        ([(i * 4 + 2, events(5)) for i in range(3)], 0.01, "warning", "15 events came in 3 bursts"),
        ([(i * 4 + 2, events(2)) for i in range(3)], 0.01, "ok", "6 events"),
        ([(i / 2, events(5)) for i in range(9)], 0.01, "ok", "45 events"),
        # what only a buffer does
        ([(1, events(1)), (18, b":\n\n:\n\n")], 0.01, "problem", "2 comments came at once after 17.0 s"),
        ([(1, events(9) + b"data: x"), (4, events(9))], 0.01, "problem", "1 time an event stopped"),
        ([(2, events(9) + b"da"), (4, events(9) + b"da"), (6, b"")], 0.01, "problem", "2 times"),
        ([(1, events(9) + b"data: x"), (1.1, events(9))], 0.01, "ok", "18 events"),
        # a late head
        ([(5, events(10))], 5, "problem", "the first 10 events came at once, with a head that was 5.0 s"),
        ([(5, events(4))], 5, "warning", "the first 4 events came at once"),
        ([(5, events(2)), (6, events(1))], 5, "ok", "3 events"),
        ([(5, events(10)), (6, events(1))], 0.01, "ok", "11 events"),
    ],
)  # fmt: skip
def test_buffering(
    pieces: list[tuple[float, bytes]], head_time: float, level: str, says: str
) -> None:
    found = buffering(observed(pieces, head_time=head_time), NOBODY)
    assert (found.name, found.level) == ("buffering", level)
    assert says in found.seen
    assert ("nginx" in found.advice) == (level in ("warning", "problem"))


def test_a_whole_stream_at_its_end_was_held_back() -> None:
    observation = observed([(9, events(4))], watched=9, end="clean", head_time=9)
    assert buffering(observation, NOBODY).level == "problem"


@pytest.mark.parametrize(
    ("pieces", "level", "says"),
    [
        ([(0.01 + i / 4, probe(i / 4)) for i in range(9)], "ok", "9 events came within 10 ms"),
        ([(2, b"".join(probe(i / 4) for i in range(9)))], "problem", "up to 2.00 s"),
        ([(0.9 + i, probe(i)) for i in range(9)], "ok", "within 900 ms"),
        ([(1.1 + i, probe(i)) for i in range(9)], "problem", "up to 1.10 s"),
    ],
)
def test_buffering_of_the_probe(pieces: list[tuple[float, bytes]], level: str, says: str) -> None:
    found = buffering(observed(pieces), ("caddy",))
    assert (found.level, says in found.seen) == (level, True), found
    assert next(iter(found.advice), "caddy") == "caddy"


@pytest.mark.parametrize("data", ["[]", "7", "x", '{"at":"x"}', '{"at":1,"request":[]}', "{}"])
def test_what_only_calls_itself_a_probe(data: str) -> None:
    piece = f"event: bunpy-doctor\ndata: {data}\n\n".encode()
    observation = observed([(1, piece), (2, piece)])
    assert observation.probed is None
    assert "one by one" in buffering(observation, NOBODY).seen


def test_what_cannot_be_read_is_not_judged() -> None:
    observation = observed([])
    observation.is_opaque = True
    assert buffering(observation, NOBODY).level == "unknown"


# Silence


@pytest.mark.parametrize(
    ("pieces", "watched", "level", "says"),
    [
        ([(i, events(1)) for i in range(20)], 20, "ok", "1.0 s, with 0 comments in 20.0 s"),
        ([(15, b":\n\n")], 20, "ok", "15.0 s, with 1 comment in"),
        ([(0, events(1))], 20, "warning", "no heartbeat came"),
        ([(0, events(1)), (17, events(1))], 20, "warning", "no heartbeat came"),
        ([(0, events(1)), (31, b":\n\n"), (32, b":\n\n")], 33, "warning", "31.0 s, with 2 comments"),
        ([(0, events(1))], 5, "unknown", "--seconds 32"),
    ],
)  # fmt: skip
def test_heartbeat(
    pieces: list[tuple[float, bytes]], watched: float, level: str, says: str
) -> None:
    found = heartbeat(observed(pieces, watched))
    assert (found.name, found.level) == ("heartbeat", level)
    assert says in found.seen
    assert ("bunpy" in found.advice) == (level == "warning")


# The end

CLOSED_WITHOUT_CHUNKS = {"connection": "close"}


def cut(
    watched: float, end: Outcome | None, silence: float = 0.0, **fields: str
) -> tuple[Finding, str]:
    found = cut_off(
        observed([(watched - silence, events(1))], watched, end, 0.01, **fields), ("aws_alb",)
    )
    return found, found.seen


@pytest.mark.parametrize(
    ("watched", "end", "silence", "fields", "level", "says"),
    [
        (20, None, 5, {}, "ok", "still open after 20.0 s, and 15.0 s of silence"),
        (9, "clean", 0, {}, "ok", "ended by itself after 9.0 s"),
        (9, "clean", 5, {}, "ok", "ended by itself"),
        (9, "clean", 0, CLOSED_WITHOUT_CHUNKS, "ok", "ended by itself"),
        (90, "clean", 60, CLOSED_WITHOUT_CHUNKS, "problem", "closed after 60.0 s of silence, which is nginx's"),
        (61, "closed", 60.2, {}, "problem", "nginx's proxy_read_timeout, Apache's"),
        (9, "closed", 2, {}, "problem", "closed after 2.0 s of silence"),
        (130, "reset", 100, {}, "problem", "reset after 100.0 s of silence, which is Cloudflare's"),
        (9, "truncated", 2, {}, "problem", "closed without TLS's close_notify after 2.0 s"),
        (30, "closed", 0.2, {}, "problem", "30.0 s in all, while events came"),
        (30, "closed", 0.2, {}, "problem", "which is Google Cloud's"),
    ],
)  # fmt: skip
def test_cut_off(
    watched: float,
    end: Outcome | None,
    silence: float,
    fields: dict[str, str],
    level: str,
    says: str,
) -> None:
    found, seen = cut(watched, end, silence, **fields)
    assert (found.name, found.level) == ("cut_off", level)
    assert says in seen
    assert next(iter(found.advice), "aws_alb") == "aws_alb"


def test_who_is_known_to_cut() -> None:
    assert cut(9, "closed", 2)[1].endswith("after 2.0 s of silence")
    assert "which is" not in cut(17, "closed", 0.2)[1]
