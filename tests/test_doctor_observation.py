"""What is seen of one answer while it arrives."""

from __future__ import annotations

from bunpy.doctor.observation import Burst, Observation
from bunpy.testing.head import Head

HEAD = Head("1.1", 200, "OK", (), {})


def begun() -> Observation:
    observation = Observation(50.0)
    observation.begin(HEAD, 50.5)
    return observation


def test_nothing_has_come() -> None:
    observation = Observation(50.0)
    observation.finish(53.0)
    assert (observation.head, observation.watched, observation.silence) == (None, 3.0, 3.0)
    assert (observation.events, observation.comments, observation.size) == (0, 0, 0)
    assert (observation.first_event_time, observation.retry, observation.end) == (None, None, None)


def test_it_counts() -> None:
    observation = begun()
    observation.add(b": a\n\nretry: 700\ndata: 1\n\n", 51.0)
    observation.add(b"data: 2\n\n:\n\n", 52.0)
    observation.finish(56.0, "clean")
    assert (observation.events, observation.comments, observation.retry) == (2, 2, 700)
    assert observation.size == len(b": a\n\nretry: 700\ndata: 1\n\n" + b"data: 2\n\n:\n\n")
    assert (observation.head_time, observation.first_event_time) == (0.5, 1.0)
    assert (observation.watched, observation.silence) == (6.0, 4.0)
    assert (observation.longest_silence, observation.end) == (4.0, "clean")


def test_what_follows_at_once_belongs_to_one_burst() -> None:
    observation = begun()
    observation.add(b"data: 1\n\nda", 51.5)
    observation.add(b"ta: 2\n\n:\n\n", 51.51)
    observation.add(b"data: 3\n\n", 51.6)  # after too short a silence to be kept
    observation.add(b"data: 4\n\n", 53.0)
    first, second = observation.bursts
    assert first == Burst(1.0, events=2, comments=1)
    assert (second.events, second.comments, round(second.silence, 6)) == (1, 0, 1.4)


def test_a_stall_is_one_in_the_midst_of_a_line() -> None:
    observation = begun()
    for moment, data in [
        (51.0, b"retry: 5\n"),  # a line is complete
        (52.0, b"data: 1\r"),
        (53.0, b"\ndata: 1"),
        (53.1, b"2"),  # soon enough
        (54.0, b"3\n\n"),
    ]:
        observation.add(data, moment)
    assert (observation.stalls, observation.events) == (1, 1)


def test_ids_are_the_first_and_last_that_differ() -> None:
    observation = begun()
    observation.add(b"data: without\n\n", 51.0)
    for number in range(10):
        observation.add(b"id: %d\ndata: x\n\ndata: y\n\n" % number, 52.0)
    assert observation.first_ids == ["0", "1", "2", "3"]
    assert list(observation.last_ids) == ["6", "7", "8", "9"]
    assert observation.types == ["message"] * 4


def test_the_probe_tells_the_longest_lag() -> None:
    observation = begun()
    observation.add(
        b'event: bunpy-doctor\ndata: {"at":0,"request":{"version":"1.0"}}\n\n'
        b'event: bunpy-doctor\ndata: {"at":750}\n\n',
        51.0,
    )
    assert observation.probed is not None
    assert observation.probed.lag == 1.0
    assert observation.probed.request == {"version": "1.0"}


def test_what_is_opaque_is_not_decoded() -> None:
    observation = begun()
    observation.is_opaque = True
    observation.add(b"data: 1\n\n", 51.0)
    assert (observation.events, observation.size) == (0, 9)
