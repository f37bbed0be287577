"""How the events of a stream arrive: buffering, silence and its end, judged by what was seen. No I/O here."""

from __future__ import annotations

from typing import Final

from bunpy.doctor.finding import Finding, Level, count
from bunpy.doctor.observation import Observation
from bunpy.doctor.settings import Fault, advice, known_limits

__all__ = ["buffering", "cut_off", "heartbeat"]

#: Seconds that an event of the probe may take, and a head or a burst may be late, on a bad line and a busy machine.
_LATE: Final = 1.0
#: Events at once after a silence that are more than a server is likely to make together.
_MANY: Final = 3
#: Events at once, with a late head, that no server is likely to make together.
_PLENTY: Final = 10
#: Seconds of silence that most proxies stand; the warning is for streams that are silent for longer.
_LONG_SILENCE: Final = 30.0
#: Seconds after which a heartbeat may be expected: bunpy's comes after 15 s.
_DUE: Final = 16.0


def buffering(observation: Observation, proxies: tuple[str, ...]) -> Finding:
    """Whether events come as they are made: exact for the probe's, by what gives a buffer away for others."""
    if observation.is_opaque:
        return Finding(
            "buffering", "unknown", "the events are compressed in a way that is not known here"
        )
    fault: Level = "problem"
    if observation.probed is not None:
        lag = observation.probed.lag
        if lag < _LATE:
            seen = f"{observation.events} events came within {1000 * lag:.0f} ms of being made"
            return Finding("buffering", "ok", seen)
        seen = f"events came up to {lag:.2f} s after they were made"
    elif evidence := _evidence(observation):
        seen = evidence
    elif suspicion := _suspicion(observation):
        fault, seen = "warning", suspicion
    elif observation.events + observation.comments < 2:
        seen = (
            f"{count(observation.events, 'event')} and {count(observation.comments, 'comment')} in"
            f" {observation.watched:.1f} s are too few to tell: watch for longer (--seconds), or mount doctor.probe"
        )
        return Finding("buffering", "unknown", seen)
    else:
        seen = f"{count(observation.events, 'event')} came one by one as far as can be told"
        return Finding("buffering", "ok", seen)
    return Finding("buffering", fault, seen, advice("buffering", proxies))


def heartbeat(observation: Observation) -> Finding:
    """Whether something is sent in long silences."""
    silence, comments = observation.longest_silence, observation.comments
    seen = f"the longest silence was {silence:.1f} s, with {count(comments, 'comment')} in {observation.watched:.1f} s"
    if silence > _LONG_SILENCE:
        return Finding("heartbeat", "warning", seen, advice("heartbeat"))
    if not comments and silence >= _DUE:
        return Finding("heartbeat", "warning", f"{seen}: no heartbeat came", advice("heartbeat"))
    if not comments and observation.silence >= observation.watched / 2 and observation.end is None:
        more = f"too short to say: watch for longer (--seconds {2 * _DUE:.0f})"
        return Finding("heartbeat", "unknown", f"{seen}: {more}")
    return Finding("heartbeat", "ok", seen)


def cut_off(observation: Observation, proxies: tuple[str, ...]) -> Finding:
    """Whether the stream was cut: in a silence, or after so long in all."""
    watched, silence = observation.watched, observation.silence
    if observation.end is None:
        seen = f"the stream was still open after {watched:.1f} s, and {observation.longest_silence:.1f} s of silence"
        return Finding("cut_off", "ok", seen)
    head = observation.head
    is_framed = head is not None and "transfer-encoding" in head.headers
    if observation.end == "clean" and (is_framed or silence < _LATE):
        seen = f"the stream ended by itself after {watched:.1f} s; an EventSource comes back, unless it gets 204 then"
        return Finding("cut_off", "ok", seen)
    fault: Fault
    how = {"clean": "closed", "truncated": "closed without TLS's close_notify"}.get(
        observation.end, observation.end
    )
    if silence >= _LATE:
        seen = f"the connection was {how} after {silence:.1f} s of silence"
        whose = known_limits(silence, "idle")
        fault = "idle"
    else:
        seen = (
            f"the connection was {how} after {watched:.1f} s in all, while events came: a limit on a whole"
            " response, or the server broke off"
        )
        whose = known_limits(watched, "lifetime")
        fault = "lifetime"
    if whose:
        seen += f", which is {whose}"
    return Finding("cut_off", "problem", seen, advice(fault, proxies))


def _evidence(observation: Observation) -> str:
    """What only a buffer can be the cause of; "" if there is no such thing."""
    bursts = observation.bursts
    if bunched := [burst for burst in bursts if burst.comments > 1 and burst.silence >= _LATE]:
        most = max(burst.comments for burst in bunched)
        return f"{most} comments came at once after {bunched[0].silence:.1f} s: heartbeats are made one by one"
    if observation.stalls:
        return f"{count(observation.stalls, 'time')} an event stopped in the midst of a line: a buffer was full there"
    if (late := _late_events(observation)) and (
        late >= _PLENTY or (observation.end is not None and late == observation.events)
    ):
        return f"the first {late} events came at once, with a head that was {observation.head_time:.1f} s late"
    return ""


def _late_events(observation: Observation) -> int:
    """How many events came at once with a late head, if there are enough of them to be conspicuous; 0 otherwise."""
    first = observation.bursts[0] if observation.bursts else None
    if first is None or observation.head_time < _LATE or first.events < _MANY:
        return 0
    return first.events


def _suspicion(observation: Observation) -> str:
    """What a server may do by itself, but not often does."""
    if late := _late_events(observation):
        return (
            f"the first {late} events came at once, with a head that was {observation.head_time:.1f} s late: a"
            " buffer, unless the server makes them so; doctor.probe tells"
        )
    bursts = observation.bursts
    full = [burst for burst in bursts if burst.events >= _MANY and burst.silence >= _LATE]
    if len(full) < 2:
        return ""
    events = sum(burst.events for burst in full)
    return (
        f"{events} events came in {len(full)} bursts with {full[-1].silence:.1f} s between: a buffer, unless the"
        " server makes them so; doctor.probe tells"
    )
