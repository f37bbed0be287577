"""Records as text: plain lines, sentences at a terminal, and nothing in them that a client could steer it with."""

from __future__ import annotations

import io
import logging
import re
from typing import Any

import pytest

from bunpy.http.printable import printable
from bunpy.server.lines import LineFormatter, SentenceFormatter, has_colours

FIELDS: dict[str, Any] = {
    "client": "192.0.2.7",
    "method": "GET",
    "path": "/events",
    "status": 200,
    "bytes": 2310,
    "events": 12,
    "first_event": 0.0042,
    "duration": 12.3456,
    "reason": "client",
    "request_id": "seven",
}


def record(
    message: str = "hello",
    level: int = logging.INFO,
    name: str = "bunpy",
    error: BaseException | None = None,
    **fields: Any,
) -> logging.LogRecord:
    info = None if error is None else (type(error), error, error.__traceback__)
    made = logging.LogRecord(name, level, "", 0, message, (), info)
    vars(made).update(fields)
    return made


def access(**fields: Any) -> logging.LogRecord:
    made = record("192.0.2.7 GET /events ...", name="bunpy.access", **{**FIELDS, **fields})
    made.created = 1_700_000_000.5
    return made


def sentence(**fields: Any) -> str:
    text = SentenceFormatter(is_coloured=False).format(access(**fields))
    assert text.startswith("bunpy: ")
    return text.removeprefix("bunpy: ")


# Plain


def test_a_line() -> None:
    assert LineFormatter().format(record("serving")) == "bunpy: serving"


def test_an_access_line_tells_the_time() -> None:
    assert LineFormatter().format(access()) == (
        "bunpy: 2023-11-14T22:13:20.500Z 192.0.2.7 GET /events ..."
    )


@pytest.mark.parametrize("formatter", [LineFormatter(), SentenceFormatter(is_coloured=False)])
def test_a_traceback_forges_no_line(formatter: logging.Formatter) -> None:
    try:
        raise ValueError("no\nbunpy: forged\r\x1b[2J\x0bx\u2028y")
    except ValueError as exc:
        text = formatter.format(record("it\nfailed", logging.ERROR, error=exc))
    lines = text.split("\n")
    assert lines[0] == "bunpy: it\\nfailed"
    assert lines[1] == "  Traceback (most recent call last):"
    assert lines[-2:] == ["  ValueError: no", "  bunpy: forged\\r\\x1b[2J\\x0bx\\u2028y"]
    assert all(line.startswith("  ") and line.isprintable() for line in lines[1:])


def test_a_stack() -> None:
    made = record()
    made.stack_info = "Stack (most recent call last):\n  there"
    assert LineFormatter().format(made).split("\n")[1:] == [
        "  Stack (most recent call last):",
        "    there",
    ]


def test_an_exception_that_has_come_through_a_queue() -> None:
    made = record()
    made.exc_text = "ValueError: no good"
    assert LineFormatter().format(made) == "bunpy: hello\n  ValueError: no good"


# Sentences


def test_a_stream() -> None:
    assert sentence() == (
        "GET /events 200: 12 events, 2.31 kB in 12.3 s to 192.0.2.7, the first after 4.2 ms;"
        " the client left (request seven)"
    )


def test_a_plain_answer() -> None:
    said = sentence(events=0, first_event=None, bytes=143, duration=0.00021, reason="finished")
    assert said == "GET /events 200: 143 bytes in 0.21 ms to 192.0.2.7"


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("client", "the client left"),
        ("half_open", "the client vanished"),
        ("slow", "the client took nothing"),
        ("shutdown", "the server stopped"),
        ("lifetime", "its time was over"),
        ("error", "there was an error"),
        ("limit", "there was no room"),
    ],
)
def test_why_it_ended(reason: str, words: str) -> None:
    assert sentence(reason=reason).endswith(f"; {words} (request seven)")


def test_what_is_not_known() -> None:
    said = sentence(
        **dict.fromkeys(("client", "method", "path", "first_event", "request_id")), status=400
    )
    assert said.startswith("what was no request 400: ")
    assert sentence(status=None, events=0).startswith("GET /events no answer: ")
    assert sentence(request_id=None).endswith("; the client left")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.000123, "0.123 ms"),
        (0.0421, "42.1 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1 s"),
        (59.94, "59.9 s"),
        (99.6, "2 min"),
        (3600.0, "60 min"),
        (7200.0, "2 h"),
        (86400.0, "24 h"),
    ],
)
def test_durations(seconds: float, words: str) -> None:
    assert f" in {words} to " in sentence(duration=seconds)


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (999, "999 bytes"),
        (1000, "1 kB"),
        (999_499, "999 kB"),
        (999_500, "1 MB"),
        (12_345_678, "12.3 MB"),
        (5_000_000_000, "5 GB"),
        (5_000_000_000_000, "5,000 GB"),
    ],
)
def test_sizes(count: int, words: str) -> None:
    assert f", {words} in " in sentence(bytes=count)


def test_one_and_many_events() -> None:
    assert ": 1 event, " in sentence(events=1)
    assert ": 1,234,567 events, " in sentence(events=1234567)


def test_nothing_steers_the_terminal() -> None:
    text = SentenceFormatter(is_coloured=False).format(
        access(client="\x1b[2J", method="\x1b]0;x\x07", path="/\n\x9b1m")
    )
    assert text.isprintable()


COLOUR = re.compile(r"\x1b\[(\d+)m(.*?)\x1b\[0m")


@pytest.mark.parametrize(
    ("level", "colour"),
    [(logging.INFO, "2"), (logging.WARNING, "33"), (logging.ERROR, "31"), (logging.CRITICAL, "31")],
)
def test_the_colour_of_a_level(level: int, colour: str) -> None:
    text = SentenceFormatter(is_coloured=True).format(record(level=level))
    assert COLOUR.findall(text) == [(colour, "bunpy:")]
    assert COLOUR.sub(r"\2", text) == "bunpy: hello"


@pytest.mark.parametrize(
    ("status", "colour"), [(200, "32"), (304, "32"), (404, "33"), (503, "31"), (None, "33")]
)
def test_the_colour_of_a_status(status: int | None, colour: str) -> None:
    text = SentenceFormatter(is_coloured=True).format(access(status=status))
    assert (colour, str(status or "no answer")) in COLOUR.findall(text)
    assert COLOUR.sub(r"\2", text) == SentenceFormatter(is_coloured=False).format(
        access(status=status)
    )


# Terminals


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("environment", "stream", "expected"),
    [
        ({}, Terminal(), True),
        ({}, io.StringIO(), False),
        ({"NO_COLOR": "1"}, Terminal(), False),
        ({"NO_COLOR": ""}, Terminal(), True),
        ({"TERM": "dumb"}, Terminal(), False),
    ],
)
def test_colours(
    environment: dict[str, str],
    stream: io.StringIO,
    expected: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert has_colours(stream) == expected


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("plain é 漢", "plain é 漢"),
        ("a\nb\r\t\x00", "a\\nb\\r\\t\\x00"),
        ("\x1b[31m\x7f\x9b", "\\x1b[31m\\x7f\\x9b"),
        ("\u2028\u202e\U000e0001", "\\u2028\\u202e\\U000e0001"),
        ("\udc80", "\\udc80"),
    ],
)
def test_printable(text: str, safe: str) -> None:
    assert printable(text) == safe
    assert printable(text).isprintable()
