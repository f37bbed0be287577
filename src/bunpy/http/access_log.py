"""A line in the log for each request and stream, when it has ended. How lines look elsewhere is the handlers'."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from bunpy.http.printable import printable

if TYPE_CHECKING:
    from bunpy.http.ending import Ending

__all__ = ["LOGGER", "AccessLog"]

#: The logger of these lines, for programs that want them elsewhere than the others.
LOGGER: Final = "bunpy.access"

_log = logging.getLogger(LOGGER)


class AccessLog:
    """Gives the logger ``bunpy.access`` a record of each ``Ending``, at level INFO.

    The record has what it tells as attributes of its own, so that every formatter can use them: ``client``, ``method``,
    ``path`` (as it was sent, without the query, which may hold a secret), ``status``, ``bytes``, ``events``,
    ``first_event``, ``duration``, ``reason`` and ``request_id``, each None where there is none.
    """

    __slots__ = ()

    def __call__(self, ending: Ending) -> None:
        """One request has ended."""
        if not _log.isEnabledFor(logging.INFO):
            return
        request = ending.request
        fields = {
            "client": None if request.client is None else request.client[0],
            "method": request.method or None,
            "path": request.url.partition("?")[0] or None,
            # Of an HTTPStatus, CPython 3.10 would say "HTTPStatus.OK".
            "status": None if ending.status is None else int(ending.status),
            "bytes": ending.bytes_sent,
            "events": ending.events,
            "first_event": _rounded(ending.first_event),
            "duration": _rounded(ending.duration),
            "reason": ending.reason,
            "request_id": request.id if request.has_id else None,
        }
        # Not by info(), which would look for the line of the program that calls it: 5 µs more, to name this one.
        record = logging.getLogRecordFactory()(
            LOGGER, logging.INFO, "", 0, _Line(fields), (), None, None, None
        )
        vars(record).update(fields)
        _log.handle(record)


class _Line:
    """The record's message, made when somebody wants it as text. Nothing that a client sent can end it or forge it."""

    __slots__ = ("_fields",)

    def __init__(self, fields: dict[str, Any]) -> None:
        self._fields = fields

    @property
    def brief(self) -> str:
        """What suffices where the fields stand beside it."""
        fields = self._fields
        return printable(
            f"{fields['method'] or '-'} {fields['path'] or '-'} {fields['status'] or '-'}"
        )

    def __str__(self) -> str:
        fields = self._fields
        return printable(
            f"{fields['client'] or '-'} {self.brief} bytes={fields['bytes']} events={fields['events']}"
            f" first_event={_seconds(fields['first_event'])} duration={_seconds(fields['duration'])}"
            f" reason={fields['reason']} request_id={fields['request_id'] or '-'}"
        )


def _rounded(seconds: float | None) -> float | None:
    """To microseconds: what is finer is noise."""
    return None if seconds is None else round(seconds, 6)


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.6f}"
