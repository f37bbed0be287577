"""Access lines as records: their fields, their text, and who hears of them. Their values: test_account.py."""

from __future__ import annotations

import logging
import logging.handlers
import pickle
import queue
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

import pytest
from seen import FIELDS, access_lines
from watching import until

from bunpy.http.access_log import AccessLog
from bunpy.http.ending import Ending
from bunpy.http.request import Request
from bunpy.serve import Response
from bunpy.testing import request, serving

LOG = logging.getLogger("bunpy.access")


@pytest.fixture(autouse=True)
def level() -> Iterator[None]:
    """As ``serve`` has it."""
    bunpy = logging.getLogger("bunpy")
    before = bunpy.level
    bunpy.setLevel(logging.INFO)
    yield
    bunpy.setLevel(before)


def ending(**fields: Any) -> Ending:
    req = Request("GET", "/a?key=secret", {"x-request-id": "seven"}, client=("192.0.2.7", 1234))
    for name in ("method", "url", "client"):
        if name in fields:
            setattr(req, name, fields.pop(name))
    usual: dict[str, Any] = {
        "request": req,
        "status": 200,
        "reason": "finished",
        "bytes_sent": 2310,
        "duration": 12.3456789,
    }
    return Ending(**{**usual, **fields})


def record_of(told: Ending) -> logging.LogRecord:
    with access_lines() as lines:
        AccessLog()(told)
        (record,) = lines.records
        lines.records.clear()
    return record


def test_a_record() -> None:
    record = record_of(ending(is_stream=True, events=12, first_event=0.0123456789, reason="client"))
    assert (record.name, record.levelname) == ("bunpy.access", "INFO")
    assert {name: vars(record)[name] for name in FIELDS} == {
        "client": "192.0.2.7",
        "method": "GET",
        "path": "/a",
        "status": 200,
        "bytes": 2310,
        "events": 12,
        "first_event": 0.012346,
        "duration": 12.345679,
        "reason": "client",
        "request_id": "seven",
    }
    assert record.getMessage() == (
        "192.0.2.7 GET /a 200 bytes=2310 events=12 first_event=0.012346 duration=12.345679"
        " reason=client request_id=seven"
    )


def test_a_status_is_a_number() -> None:
    """Also one that was given as an HTTPStatus, which says its name in CPython 3.10."""
    assert type(vars(record_of(ending(status=HTTPStatus.OK)))["status"]) is int


def test_what_is_not_known() -> None:
    told = Ending(Request("", "", {}), None, "finished", 0, 0.0)
    record = record_of(told)
    assert {name: vars(record)[name] for name in FIELDS} == {
        **dict.fromkeys(("client", "method", "path", "status", "first_event", "request_id")),
        "bytes": 0,
        "events": 0,
        "duration": 0.0,
        "reason": "finished",
    }
    assert record.getMessage() == (
        "- - - - bytes=0 events=0 first_event=- duration=0.000000 reason=finished request_id=-"
    )


@pytest.mark.parametrize(
    "evil", ["\n", "\r\n", "\x1b[2J", "\x00", "\x7f", "\x85", "\u2028", "\u202e"]
)
@pytest.mark.parametrize("name", ["client", "method", "url"])
def test_nothing_ends_a_line_or_steers_a_terminal(name: str, evil: str) -> None:
    """Whatever checks it has passed before."""
    text = f"a{evil}bunpy: forged"
    message = record_of(ending(**{name: (text, 1) if name == "client" else text})).getMessage()
    assert message.isprintable()
    assert "forged" in message


def test_a_line_has_a_place_for_each_field() -> None:
    """Whatever is in them: what a client chooses has no blanks, but for ones that are escaped or refused."""
    message = record_of(ending(url="/a%20b%0Ac")).getMessage()
    assert message.split(" ")[:4] == ["192.0.2.7", "GET", "/a%20b%0Ac", "200"]
    assert len(message.split(" ")) == 10


def test_a_formatter_of_the_program() -> None:
    """The fields are attributes of the record."""
    formatter = logging.Formatter("%(status)s %(path)s %(duration).1f %(reason)s")
    assert formatter.format(record_of(ending())) == "200 /a 12.3 finished"


def test_through_a_queue() -> None:
    """As a program has it whose log may be slow: the line is made before, and the fields come along."""
    record = record_of(ending())
    text = record.getMessage()
    records: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
    logging.handlers.QueueHandler(records).handle(record)
    passed = records.get(timeout=5)
    assert passed.getMessage() == text
    assert (vars(passed)["status"], vars(passed)["path"]) == (200, "/a")


def test_over_a_socket() -> None:
    sent: list[bytes] = []
    handler = logging.handlers.SocketHandler("localhost", 9)
    handler.send = sent.append  # type: ignore[method-assign, assignment]
    record = record_of(ending())
    handler.emit(record)
    handler.close()
    attributes = pickle.loads(sent[0][4:])
    assert (attributes["msg"], attributes["status"]) == (record.getMessage(), 200)


def test_a_record_factory_of_the_program() -> None:
    usual = logging.getLogRecordFactory()

    def make(*arguments: Any, **options: Any) -> logging.LogRecord:
        record = usual(*arguments, **options)
        vars(record)["host"] = "web-1"
        return record

    logging.setLogRecordFactory(make)
    try:
        assert vars(record_of(ending()))["host"] == "web-1"
    finally:
        logging.setLogRecordFactory(usual)


def test_a_level_above() -> None:
    """Set for this logger alone, it silences these lines and no others."""
    LOG.setLevel(logging.WARNING)
    try:
        with access_lines():
            AccessLog()(ending())
    finally:
        LOG.setLevel(logging.NOTSET)


def test_a_line_for_each_request() -> None:
    with access_lines() as lines, serving(lambda req: Response("hello"), access_log=True) as server:
        request(server, "GET", "/one?two=three", {"X-Request-Id": "seven"})
        until(lambda: bool(lines.records))
        record = lines.records.pop()
        assert record.getMessage().startswith("127.0.0.1 GET /one 200 bytes=")
        assert record.getMessage().endswith(" reason=finished request_id=seven")


def test_no_line_unless_asked_for() -> None:
    with access_lines() as lines:
        with serving(lambda req: "hello") as server:
            assert request(server, "GET", "/").status == 200
        assert lines.records == []
