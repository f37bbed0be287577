"""The event stream decoder: bytes of a body in, events out (WHATWG HTML 9.2.6).

It is written from the standard alone and shares nothing with bunpy's encoder, so that it can judge
it. No HTTP and no sockets here.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass

__all__ = ["DecodedEvent", "Decoder"]

_LINE_END = re.compile("\r\n|\r|\n")
_ASCII_DIGITS = re.compile("[0-9]+")
_BYTE_ORDER_MARK = "\ufeff"


@dataclass(frozen=True, slots=True)
class DecodedEvent:
    """An event as a browser would dispatch it.

    ``event`` is its type ("message" where the stream named none), ``data`` its data lines joined
    with LF, ``id`` the last event ID string at that moment: an event without an ``id`` field has
    the one of the event before it.
    """

    event: str
    data: str
    id: str


class Decoder:
    """Interpret one event stream (WHATWG HTML 9.2.6), fed in pieces of any size.

    ``last_event_id`` is what an earlier connection ended with. The standard starts each stream
    with an empty last event ID buffer, yet says that an event without an ``id`` has the last one
    that the event source saw; browsers carry it over, and so does this.

    Attributes, all of them as of the bytes fed so far:

    - ``last_event_id``: the last event ID string, which a reconnecting client would send;
    - ``retry``: the reconnection time in milliseconds, None until the stream has set one;
    - ``comments``: how many comment lines there were.
    """

    def __init__(self, last_event_id: str = "") -> None:
        self.last_event_id = last_event_id
        self.retry: int | None = None
        self.comments = 0

        self._decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
        self._is_at_start = True
        self._line_feed_belongs_to_last_line = False
        self._line: list[str] = []

        self._data_buffer: list[str] = []
        self._event_type_buffer = ""
        self._last_event_id_buffer = last_event_id

    def feed(self, data: bytes) -> list[DecodedEvent]:
        """Take the next bytes of the stream; return the events that they complete.

        There is nothing to call at the end of the stream: what is pending then is discarded, as
        the standard asks.
        """
        events = []
        *line_ends, rest = _LINE_END.split(self._text(data))
        for line in line_ends:
            self._line.append(line)
            event = self._process_line("".join(self._line))
            self._line.clear()
            if event is not None:
                events.append(event)
        self._line.append(rest)
        return events

    def _text(self, data: bytes) -> str:
        """UTF-8 decode, without a byte order mark at the start or a line feed already counted."""
        text = self._decode(data)
        if not text:  # nothing, or part of a character: the marks below wait for a whole one
            return text
        first, ended_with_return = text[0], text[-1] == "\r"
        is_mark = self._is_at_start and first == _BYTE_ORDER_MARK
        # A CR ends its line at once, at the end of a piece too: waiting for a possible LF would
        # hold back an event that is complete. The LF is dropped if it comes.
        is_counted = self._line_feed_belongs_to_last_line and first == "\n"
        self._is_at_start = False
        self._line_feed_belongs_to_last_line = ended_with_return
        return text[1:] if is_mark or is_counted else text

    def _process_line(self, line: str) -> DecodedEvent | None:
        if not line:
            return self._dispatch()
        field, colon, value = line.partition(":")
        if colon and not field:
            self.comments += 1
        else:
            self._process_field(field, value.removeprefix(" "))
        return None

    def _process_field(self, field: str, value: str) -> None:
        """Names are compared literally, without case folding; an unknown one is ignored."""
        if field == "data":
            self._data_buffer.append(value)
        elif field == "event":
            self._event_type_buffer = value
        elif field == "id":
            if "\0" not in value:
                self._last_event_id_buffer = value
        elif field == "retry" and _ASCII_DIGITS.fullmatch(value):
            self.retry = int(value)

    def _dispatch(self) -> DecodedEvent | None:
        """The steps "dispatch the event", 1 to 7."""
        self.last_event_id = self._last_event_id_buffer
        data, event_type = self._data_buffer, self._event_type_buffer
        self._data_buffer, self._event_type_buffer = [], ""
        # The standard's data buffer is the lines, each with LF after it: it is an empty string when
        # there was no data line at all, and one empty data line makes an event with empty data.
        if not data:
            return None
        return DecodedEvent(event_type or "message", "\n".join(data), self.last_event_id)
