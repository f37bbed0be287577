"""Records as JSON: one object a line, whatever is in them."""

from __future__ import annotations

import io
import json
import logging
import logging.handlers
import queue
import re
from typing import Any

import pytest

from bunpy.http.access_log import AccessLog
from bunpy.http.ending import Ending
from bunpy.http.request import Request
from bunpy.logging import JSONFormatter, utc_time


def logger(formatter: logging.Formatter) -> tuple[logging.Logger, io.StringIO]:
    """One that nobody else hears, and what it writes."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    log = logging.Logger("orders", logging.DEBUG)  # noqa: LOG001 -- one of its own
    log.addHandler(handler)
    return log, stream


@pytest.fixture
def log() -> tuple[logging.Logger, io.StringIO]:
    return logger(JSONFormatter())


def said(log: tuple[logging.Logger, io.StringIO]) -> dict[str, Any]:
    """What the one line says."""
    text = log[1].getvalue()
    assert text.endswith("\n")
    assert text.count("\n") == 1
    assert text.isascii()
    assert text[:-1].isprintable()
    found: dict[str, Any] = json.loads(text)
    return found


def test_a_line(log: tuple[logging.Logger, io.StringIO]) -> None:
    log[0].warning("%d orders of %s", 3, "Zoë")
    fields = said(log)
    assert list(fields) == ["time", "level", "logger", "message"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", fields.pop("time"))
    assert fields == {"level": "WARNING", "logger": "orders", "message": "3 orders of Zoë"}


@pytest.mark.parametrize(
    ("created", "text"),
    [
        (0.0, "1970-01-01T00:00:00.000Z"),
        (1_700_000_000.5, "2023-11-14T22:13:20.500Z"),
        (1_700_000_000.9999, "2023-11-14T22:13:20.999Z"),
        (1_709_251_199.0, "2024-02-29T23:59:59.000Z"),
    ],
)
def test_the_time(created: float, text: str) -> None:
    assert utc_time(created) == text


def test_what_the_program_adds(log: tuple[logging.Logger, io.StringIO]) -> None:
    log[0].info("sold", extra={"order": 7, "tags": ["a"], "what": b"\xff", "level": "mine"})
    fields = said(log)
    # JSON has no bytes; and what the record is comes before what it is told.
    assert (fields["order"], fields["tags"], fields["what"]) == (7, ["a"], "b'\\xff'")
    assert fields["level"] == "INFO"


def test_an_exception(log: tuple[logging.Logger, io.StringIO]) -> None:
    try:
        raise ValueError("no\ngood \x1b[2J")
    except ValueError:
        log[0].exception("it failed", extra={"request_id": "seven"})
    fields = said(log)
    assert (fields["message"], fields["request_id"]) == ("it failed", "seven")
    assert fields["exception"].startswith("Traceback (most recent call last):\n")
    assert fields["exception"].endswith("ValueError: no\ngood \x1b[2J")


def test_a_stack(log: tuple[logging.Logger, io.StringIO]) -> None:
    log[0].info("here", stack_info=True)
    assert "test_a_stack" in said(log)["stack"]


def test_an_exception_that_has_come_through_a_queue() -> None:
    records: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
    sender = logging.Logger("orders")  # noqa: LOG001
    sender.addHandler(logging.handlers.QueueHandler(records))
    try:
        raise ValueError("no good")
    except ValueError:
        sender.exception("it failed")
    fields = json.loads(JSONFormatter().format(records.get(timeout=5)))
    assert "ValueError: no good" in fields.get("exception", fields["message"])


def test_an_access_line() -> None:
    """Its message does not say again what the fields say."""
    records: list[logging.LogRecord] = []

    def keep(record: logging.LogRecord) -> bool:
        records.append(record)
        return False

    access = logging.getLogger("bunpy.access")
    access.addFilter(keep)
    access.setLevel(logging.INFO)
    try:
        req = Request("GET", '/a"b\\?c', {"x-request-id": "seven"}, client=("192.0.2.7", 1))
        AccessLog()(Ending(req, 200, "client", 2310, 12.5, True, 12, 0.25))
    finally:
        access.removeFilter(keep)
        access.setLevel(logging.NOTSET)
    fields = json.loads(JSONFormatter().format(records[0]))
    assert fields.pop("time")
    assert fields == {
        "level": "INFO",
        "logger": "bunpy.access",
        "message": 'GET /a"b\\ 200',
        "client": "192.0.2.7",
        "method": "GET",
        "path": '/a"b\\',
        "status": 200,
        "bytes": 2310,
        "events": 12,
        "first_event": 0.25,
        "duration": 12.5,
        "reason": "client",
        "request_id": "seven",
    }
