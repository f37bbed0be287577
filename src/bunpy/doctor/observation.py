"""What is seen of one answer while it arrives: bytes and the clock in, numbers out. No I/O and no judgement here."""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass
from typing import Any, Final, Literal

from bunpy.doctor.endpoint import EVENT_TYPE
from bunpy.testing.connection import End
from bunpy.testing.decoder import DecodedEvent, Decoder
from bunpy.testing.head import Head

__all__ = ["Burst", "Observation", "Outcome", "Probed"]

#: How an answer ended: as its framing says, or as its connection did.
Outcome = Literal["clean"] | End

#: Seconds from its first byte in which all that comes is one burst: a proxy that lets go sends all at once.
_BURST: Final = 0.02
#: Seconds of silence before a burst that make it worth to be kept: a stream has at most two of them a second.
_LULL: Final = 0.5
_KEPT_IDS: Final = 4


@dataclass(slots=True)
class Burst:
    """What came together after ``silence`` seconds; for the first, since the head."""

    silence: float
    events: int = 0
    comments: int = 0


@dataclass(slots=True)
class Probed:
    """What the events of ``bunpy.doctor.probe`` tell.

    ``lag`` is the longest that one of them took, in seconds, from when the server made it, counted from the
    request, so that the clocks of both machines need not agree. ``request`` is what reached the server.
    """

    lag: float
    request: dict[str, Any]


class Observation:
    """One answer, from the request at ``asked`` (seconds of any clock) on. All other times are seconds since then.

    Attributes: ``head``, its delay ``head_time`` and that of the ``first_event_time``; ``events``, ``comments`` and
    ``size`` (bytes of content); ``bursts``, the first and those after half a second of silence or more; ``stalls``,
    how many times an event stopped in the midst of a line for as long; ``first_ids`` and ``last_ids``, up to four
    different ids each; ``types``, the first event types; ``longest_silence``, ``silence`` since the last byte and
    ``watched`` in all; ``retry``; ``probed``, for a stream of the probe; ``end``, how it ended ("clean" or as a
    ``Connection`` ends) or None. ``is_opaque`` is True while the content cannot be read, and events are not counted.
    """

    def __init__(self, asked: float) -> None:
        self.asked = asked
        self.head: Head | None = None
        self.head_time = 0.0
        self.first_event_time: float | None = None
        self.events = 0
        self.size = 0
        self.bursts: list[Burst] = []
        self.stalls = 0
        self.first_ids: list[str] = []
        self.last_ids: deque[str] = deque(maxlen=_KEPT_IDS)
        self.types: list[str] = []
        self.longest_silence = 0.0
        self.watched = 0.0
        self.probed: Probed | None = None
        self.end: Outcome | None = None
        self.is_opaque = False

        self._decoder = Decoder()
        self._last_time = 0.0
        self._burst: Burst | None = None
        self._burst_time = 0.0
        self._is_midway = False

    @property
    def comments(self) -> int:
        """How many comments there were; heartbeats are comments."""
        return self._decoder.comments

    @property
    def retry(self) -> int | None:
        """The reconnection time that the stream has set, in milliseconds."""
        return self._decoder.retry

    @property
    def silence(self) -> float:
        """Seconds from the last byte to the end of the watching."""
        return self.watched - self._last_time

    def begin(self, head: Head, now: float) -> None:
        """The head has come."""
        self.head = head
        self.head_time = self._last_time = self.watched = now - self.asked

    def add(self, content: bytes, now: float) -> None:
        """Some of the content has come, as it means."""
        moment = now - self.asked
        silence = moment - self._last_time
        self.longest_silence = max(self.longest_silence, silence)
        if self._burst is None or moment - self._burst_time > _BURST:
            self._stall_is_over(silence)
            self._start_burst(moment, silence)
        self._last_time = self.watched = moment
        self.size += len(content)
        self._is_midway = not content.endswith((b"\n", b"\r"))
        self._decode(content, moment)

    def finish(self, now: float, end: Outcome | None = None) -> None:
        """The watching is over; ``end`` says how the answer has ended, if it has."""
        self.watched = now - self.asked
        self.longest_silence = max(self.longest_silence, self.silence)
        self.end = end

    def _start_burst(self, moment: float, silence: float) -> None:
        is_first = self._burst is None
        self._burst_time = moment
        self._burst = Burst(silence)
        if is_first or silence >= _LULL:
            self.bursts.append(self._burst)

    def _stall_is_over(self, silence: float) -> None:
        if self._is_midway and silence >= _LULL:
            self.stalls += 1

    def _decode(self, content: bytes, moment: float) -> None:
        if self.is_opaque:
            return
        burst = self._burst
        assert burst is not None
        comments = self.comments
        events = self._decoder.feed(content)
        burst.comments += self.comments - comments
        burst.events += len(events)
        self.events += len(events)
        if events and self.first_event_time is None:
            self.first_event_time = moment
        for event in events:
            self._note(event, moment)

    def _note(self, event: DecodedEvent, moment: float) -> None:
        if len(self.types) < _KEPT_IDS:
            self.types.append(event.event)
        if event.id and (not self.last_ids or self.last_ids[-1] != event.id):
            self.last_ids.append(event.id)
            if len(self.first_ids) < _KEPT_IDS:
                self.first_ids.append(event.id)
        if event.event == EVENT_TYPE:
            self._compare(event.data, moment)

    def _compare(self, data: str, moment: float) -> None:
        """What a probe's event says about when it was made, which anyone may have written."""
        try:
            told = json.loads(data)
            lag = moment - told["at"] / 1000
            request = told.get("request", {})
            if not isinstance(request, dict):
                return
        except (ValueError, TypeError, KeyError, AttributeError):
            return
        if self.probed is None:
            self.probed = Probed(lag, request)
        self.probed.lag = max(self.probed.lag, lag)
