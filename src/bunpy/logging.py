"""Log records as JSON, one object a line: for bunpy's lines and those of the program alike. Nothing is set up here.

As ``log_json=True`` writes them; for a program that has handlers of its own::

    handler = logging.StreamHandler()
    handler.setFormatter(bunpy.logging.JSONFormatter())
    logging.basicConfig(handlers=[handler], level=logging.INFO)
"""

from __future__ import annotations

import json
import logging
import time
from typing import Any, Final

__all__ = ["JSONFormatter", "utc_time"]

#: What every record has; whatever else it has was given as ``extra``.
_USUAL: Final = {
    *vars(logging.LogRecord("", 0, "", 0, "", (), None)),
    *("asctime", "message", "taskName"),
}


#: ``json.dumps`` would make an encoder for each line.
_encode: Final = json.JSONEncoder(default=str).encode


class JSONFormatter(logging.Formatter):
    """A record as one JSON object, in ASCII, without a line end.

    ``time`` (ISO 8601, UTC, milliseconds), ``level``, ``logger`` and ``message`` come first, then what the record was
    given as ``extra``, under its own names, and ``exception`` and ``stack`` as text if it has them. What JSON cannot
    say is said by its ``str``.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The record as a line."""
        # An access line's message is its fields, which stand beside it here.
        brief: str | None = getattr(record.msg, "brief", None)
        said: dict[str, Any] = {
            "time": utc_time(record.created),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage() if brief is None else brief,
        }
        for name, value in record.__dict__.items():
            if name not in _USUAL:
                said.setdefault(name, value)
        if record.exc_info:
            said["exception"] = self.formatException(record.exc_info)
        elif record.exc_text:  # of a record that has come through a queue
            said["exception"] = record.exc_text
        if record.stack_info:
            said["stack"] = self.formatStack(record.stack_info)
        return _encode(said)


def utc_time(created: float) -> str:
    """Seconds since 1970 as ISO 8601 has them: "2026-11-22T17:38:17.123Z"."""
    second, milliseconds = divmod(int(created * 1000), 1000)
    return f"{_second(second)}.{milliseconds:03d}Z"


_last: tuple[int, str] = (0, "1970-01-01T00:00:00")


def _second(second: int) -> str:
    """Made once a second, not once a line: it takes 1 µs."""
    global _last
    last = _last
    if last[0] != second:
        last = _last = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
    return last[1]
