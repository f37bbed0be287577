"""A log record as a line of text: for a file, and for somebody at a terminal. Where lines go is decided elsewhere."""

from __future__ import annotations

import logging
import os
from typing import IO, Final

from bunpy.http.access_log import LOGGER
from bunpy.http.printable import printable
from bunpy.logging import utc_time

__all__ = ["LineFormatter", "SentenceFormatter", "has_colours"]

_RED, _GREEN, _YELLOW, _DIM = "31", "32", "33", "2"
_COLOURS: Final = ((logging.ERROR, _RED), (logging.WARNING, _YELLOW), (0, _DIM))
_STATUS_COLOURS: Final = {"2": _GREEN, "3": _GREEN, "4": _YELLOW, "5": _RED}
_WHY: Final = {
    "client": "the client left",
    "half_open": "the client vanished",
    "slow": "the client took nothing",
    "shutdown": "the server stopped",
    "lifetime": "its time was over",
    "error": "there was an error",
    "limit": "there was no room",
}


def has_colours(stream: IO[str]) -> bool:
    """Whether it is a terminal, and nobody asked for no colour (no-color.org)."""
    is_wanted = not os.environ.get("NO_COLOR") and os.environ.get("TERM", "") != "dumb"
    return is_wanted and stream.isatty()


class LineFormatter(logging.Formatter):
    """A record as a line that begins with "bunpy: "; below it, indented, the traceback if it has one.

    What a client sent can forge no line and tell a terminal nothing, in the traceback either: what is not printable is
    escaped. Access lines tell the time; of the others that is left to who collects them.
    """

    name = "bunpy:"

    def format(self, record: logging.LogRecord) -> str:
        """The record as text, without the last line end."""
        text = f"{self._name(record)} {self._said(record)}"
        below = []
        if record.exc_info:
            below.append(self.formatException(record.exc_info))
        elif record.exc_text:
            below.append(record.exc_text)
        if record.stack_info:
            below.append(self.formatStack(record.stack_info))
        for part in below:
            # Not by splitlines: a message may hold its other line ends.
            lines = (printable(line.expandtabs()) for line in part.split("\n"))
            text += "".join(f"\n  {line}" for line in lines)
        return text

    def _name(self, record: logging.LogRecord) -> str:
        return self.name

    def _said(self, record: logging.LogRecord) -> str:
        message = printable(record.getMessage())
        return f"{utc_time(record.created)} {message}" if record.name == LOGGER else message


class SentenceFormatter(LineFormatter):
    """The same for somebody who reads it as it comes: access lines are sentences, and there may be a little colour."""

    def __init__(self, *, is_coloured: bool) -> None:
        super().__init__()
        self._is_coloured = is_coloured

    def _name(self, record: logging.LogRecord) -> str:
        return self._in(
            next(colour for level, colour in _COLOURS if record.levelno >= level), self.name
        )

    def _said(self, record: logging.LogRecord) -> str:
        if record.name != LOGGER or not hasattr(record, "request_id"):
            return super()._said(record)
        return self._sentence(**{name: getattr(record, name) for name in _FIELDS})

    def _sentence(
        self,
        client: str | None,
        method: str | None,
        path: str | None,
        status: int | None,
        bytes: int,  # noqa: A002 -- the field's name
        events: int,
        first_event: float | None,
        duration: float,
        reason: str,
        request_id: str | None,
    ) -> str:
        """ "GET /events 200: 3 events, 1.2 kB in 12 s to 127.0.0.1, the first after 5 ms; the client left"."""
        what = " ".join(printable(part) for part in (method or "what was no request", path) if part)
        code = "no answer" if status is None else str(status)
        sent = f"{_plural(events, 'event')}, {_size(bytes)}" if events else _size(bytes)
        text = f"{what} {self._in(_STATUS_COLOURS.get(code[0], _YELLOW), code)}: {sent} in {_time(duration)}"
        if client is not None:
            text += f" to {printable(client)}"
        if first_event is not None:
            text += f", the first after {_time(first_event)}"
        if reason in _WHY:
            text += f"; {_WHY[reason]}"
            if request_id is not None:
                text += self._in(_DIM, f" (request {request_id})")
        return text

    def _in(self, colour: str, text: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._is_coloured else text


_FIELDS: Final = (
    *("client", "method", "path", "status", "bytes", "events", "first_event", "duration"),
    *("reason", "request_id"),
)


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _size(count: int) -> str:
    if count < 1000:
        return _plural(count, "byte")
    for size, unit in ((10**3, "kB"), (10**6, "MB")):
        if count < 999.5 * size:
            return f"{count / size:.3g} {unit}"
    return f"{count / 10**9:,.3g} GB" if count < 999.5e9 else f"{count / 10**9:,.0f} GB"


def _time(seconds: float) -> str:
    if seconds < 0.9995:
        return f"{seconds * 1000:.3g} ms"
    if seconds < 99.5:
        return f"{seconds:.3g} s"
    minutes, hours = round(seconds / 60), round(seconds / 3600)
    return f"{minutes} min" if minutes < 100 else f"{hours} h"
