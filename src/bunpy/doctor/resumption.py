"""The reconnection: as if the last events had been missed, does the stream go on after the one before them?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bunpy.doctor.finding import Finding, count
from bunpy.doctor.observation import Observation
from bunpy.doctor.question import Question
from bunpy.doctor.settings import advice
from bunpy.doctor.watch import watch

__all__ = ["resumption", "retry"]

#: Seconds in which events that a server has sent before are sent again.
_LONGEST_WAIT: Final = 5.0
#: Milliseconds; whoever waits for longer takes the page for dead.
_LONG_RETRY: Final = 60_000


@dataclass(frozen=True, slots=True)
class _Missed:
    """The ids that the stream had: the ``last`` that is told to the server, and those ``after`` it."""

    first: str
    last: str
    after: Sequence[str]


def retry(observation: Observation) -> Finding:
    """Whether the stream says when to come back."""
    value = observation.retry
    if value is None:
        return Finding("retry", "ok", "none: a browser comes back after 3 to 5 s of its own")
    seen = f"a client comes back after {value} ms"
    if value == 0:
        return Finding("retry", "warning", f"{seen}: all of them at once", advice("retry"))
    if value > _LONG_RETRY:
        return Finding("retry", "warning", seen, advice("retry"))
    return Finding("retry", "ok", seen)


def resumption(
    question: Question,
    observation: Observation,
    proxies: tuple[str, ...],
    *,
    is_buffered: bool = False,
) -> Finding:
    """Reconnect with a Last-Event-ID of up to three events before the last, and see what comes first.

    A stream that only goes on from now would pass with the last id itself. Where it ``is_buffered``, nothing that
    comes is no fault of the server's. Raises what ``watch`` and
    ``Question.connect`` raise.
    """
    if question.method != "GET":
        seen = f"not tried: a {question.method} is not repeated, and an EventSource sends none"
        return Finding("resumption", "unknown", seen)
    if not observation.events:
        return Finding("resumption", "unknown", "not tried: no event came")
    if not observation.last_ids:
        seen = "the events have no id: what is sent while a client is away is lost to it"
        return Finding("resumption", "warning", seen, advice("ids"))
    last, *after = observation.last_ids
    missed = _Missed(observation.first_ids[0], last, after)
    again = Observation(0.0)
    wait = min(_LONGEST_WAIT, question.seconds)
    with question.connect() as connection:
        watch(
            question,
            connection,
            again,
            wait,
            _has_id,
            last_event_id=last,
            accept_encoding="identity",
        )
    if is_buffered and not again.first_ids and (again.head is None or again.head.status == 200):
        seen = f"nothing came in {again.watched:.1f} s: the buffer holds it back; mend the buffering first"
        return Finding("resumption", "unknown", seen)
    return _judged(missed, again, proxies)


def _has_id(observation: Observation) -> bool:
    return bool(observation.first_ids)


def _judged(missed: _Missed, again: Observation, proxies: tuple[str, ...]) -> Finding:
    asked = f"with Last-Event-ID {missed.last}"
    if again.head is not None and again.head.status == 204:
        return Finding("resumption", "ok", f"{asked} it answers 204: an EventSource stops")
    if again.head is not None and again.head.status != 200:
        seen = f"{asked} it answers {again.head.status} {again.head.reason}".rstrip()
        return Finding("resumption", "problem", seen, advice("resumption", proxies))
    if not again.first_ids:
        what = "nothing with an id" if again.events else "nothing"
        seen = f"{asked} {what} came in {again.watched:.1f} s"
        if missed.after:
            later = count(len(missed.after), "later event")
            seen += f", though {later} {'is' if len(missed.after) == 1 else 'are'} known"
            return Finding("resumption", "problem", seen, advice("resumption", proxies))
        return Finding("resumption", "unknown", seen)
    found = again.first_ids[0]
    expected = missed.after[0] if missed.after else None
    if found == expected:
        return Finding("resumption", "ok", f"{asked} it went on with {found}")
    if found == missed.last:
        fault = f"{found} came again: it counts as seen"
    elif found == missed.first:
        fault = (
            f"it began anew with {found}: the field is not looked at, or does not reach the server"
        )
    elif expected is None:
        seen = f"{asked} it went on with {found}; whether anything lies between cannot be told"
        return Finding("resumption", "ok", seen)
    else:
        gap = ", and said itself that there is a gap" if "gap" in again.types else ""
        fault = f"it went on with {found} and not {expected}: what lies between is lost{gap}"
    return Finding("resumption", "problem", f"{asked} {fault}", advice("resumption", proxies))
