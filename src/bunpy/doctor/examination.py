"""The order in which things are looked at, and what has been found by the end, or by the interruption."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Final

from bunpy.doctor.answer import answer_findings, content_coding
from bunpy.doctor.finding import Finding
from bunpy.doctor.flow import buffering, cut_off, heartbeat
from bunpy.doctor.handshake import Handshake, shake_hands
from bunpy.doctor.observation import Observation
from bunpy.doctor.proxies import guess
from bunpy.doctor.question import Question
from bunpy.doctor.resumption import resumption, retry
from bunpy.doctor.watch import watch
from bunpy.testing.errors import IncompleteAnswer, InvalidAnswer

__all__ = ["Examination"]

#: Seconds for the answer to a HEAD.
_HEAD_WAIT: Final = 2.0


@dataclass(slots=True)
class Examination:
    """What is found about the answer to ``question``.

    ``proxies`` are those that have left a mark, the nearest first; ``is_interrupted`` says that the user did not
    wait for the end.
    """

    question: Question
    observation: Observation = field(default_factory=lambda: Observation(0.0))
    handshake: Handshake | None = None
    findings: list[Finding] = field(default_factory=list)
    proxies: tuple[str, ...] = ()
    is_interrupted: bool = False

    def run(self) -> None:
        """Look at all of it; Ctrl-C ends the watching, not the report. Raises ``OSError`` if there is no connection."""
        try:
            if self.question.address.is_secure:
                self.handshake = shake_hands(self.question)
                self.findings.append(self.handshake.finding())
                if self.handshake.fault and not self.question.is_insecure:
                    return
            self._watch()
        except KeyboardInterrupt:
            self.is_interrupted = True
        except (IncompleteAnswer, InvalidAnswer, ValueError) as exc:
            self.findings.append(Finding("answer", "problem", f"this is no HTTP answer: {exc}"))
            return
        self._judge()

    @property
    def seen(self) -> dict[str, Any]:
        """The numbers behind the findings: seconds, bytes and counts; None for what was not seen."""
        observation, head = self.observation, self.observation.head
        return {
            "status": head and head.status,
            "content_type": head and head.headers.get("content-type"),
            "server": head and head.headers.get("server"),
            "http_version": head and head.version,
            "http2": self.handshake and self.handshake.protocol == "h2",
            "tls": self.handshake and self.handshake.version,
            "content_encoding": head and (content_coding(head) or None),
            "head_seconds": head and round(observation.head_time, 3),
            "first_event_seconds": observation.first_event_time
            and round(observation.first_event_time, 3),
            "watched_seconds": round(observation.watched, 3),
            "longest_silence_seconds": round(observation.longest_silence, 3),
            "lag_seconds": observation.probed and round(observation.probed.lag, 3),
            "events": observation.events,
            "comments": observation.comments,
            "bytes": observation.size,
            "retry_milliseconds": observation.retry,
            "end": observation.end,
        }

    def _watch(self) -> None:
        """Ask as a browser does; once more, without compression, if it is one that cannot be undone."""
        seconds = self.question.seconds
        with self.question.connect() as connection:
            watch(self.question, connection, self.observation, seconds, lambda seen: seen.is_opaque)
        if self.observation.is_opaque:
            head, self.observation = self.observation.head, Observation(0.0)
            with self.question.connect() as connection:
                watch(
                    self.question, connection, self.observation, seconds, accept_encoding="identity"
                )
            self.observation.head = head

    def _judge(self) -> None:
        observation, head = self.observation, self.observation.head
        if head is not None:
            self.proxies = guess(head.headers)
        elif self.is_interrupted:
            seen = f"nothing came in {observation.watched:.1f} s"
            self.findings.append(Finding("answer", "unknown", seen))
            return
        else:
            self.proxies = self._nearest()
        found = answer_findings(self.question, observation, self.handshake, self.proxies)
        self.findings += found
        if len(found) > 1:
            flow = buffering(observation, self.proxies)
            self.findings += [
                flow,
                heartbeat(observation),
                cut_off(observation, self.proxies),
                retry(observation),
                self._resumption(is_buffered=flow.level == "problem"),
            ]

    def _nearest(self) -> tuple[str, ...]:
        """Who lies between, when the stream's own head does not come: HEAD has an answer that nobody holds back."""
        plain = Observation(0.0)
        wait = min(_HEAD_WAIT, self.question.seconds)
        try:
            with self.question.connect() as connection:
                watch(replace(self.question, method="HEAD", body=None), connection, plain, wait)
        except (OSError, ValueError):
            return ()
        return () if plain.head is None else guess(plain.head.headers)

    def _resumption(self, *, is_buffered: bool) -> Finding:
        if self.is_interrupted:
            return Finding("resumption", "unknown", "not tried: interrupted")
        try:
            return resumption(
                self.question, self.observation, self.proxies, is_buffered=is_buffered
            )
        except KeyboardInterrupt:
            self.is_interrupted = True
            return Finding("resumption", "unknown", "not tried to the end: interrupted")
        except (OSError, ValueError) as exc:
            return Finding("resumption", "problem", f"the reconnection failed: {exc}")
