"""An examination in words and in JSON."""

from __future__ import annotations

import json

from bunpy.doctor.examination import Examination
from bunpy.doctor.finding import Finding
from bunpy.doctor.question import Question
from bunpy.doctor.report import as_json, as_text


def examination(*findings: Finding, proxies: tuple[str, ...] = ()) -> Examination:
    return Examination(Question("http://h/"), findings=[*findings], proxies=proxies)


GOOD = Finding("answer", "ok", "200")
BAD = Finding(
    "cut_off", "problem", "cut", {"nginx": "proxy_read_timeout 1h;", "caddy": "x", "bunpy": "y"}
)
LINES = [
    "http://h/",
    "watched for 0.0 s: 0 events, 0 comments, 0 bytes",
    "",
    "ok       answer   200",
    "problem  cut off  cut",
    "           nginx  proxy_read_timeout 1h;",
    "           Caddy  x",
    "           bunpy  y",
    "",
    "1 problem",
]  # fmt: skip


def test_a_line_for_each_finding() -> None:
    text = as_text(examination(GOOD, BAD), is_coloured=False, has_all=False)
    assert text.split("\n") == LINES


def test_who_lies_between_is_shown_alone() -> None:
    found = examination(GOOD, BAD, proxies=("nginx",))
    text = as_text(found, is_coloured=False, has_all=False)
    assert text.split("\n") == [
        LINES[0],
        f"through nginx, {LINES[1]}",
        *LINES[2:6],
        *LINES[7:9],
        "1 problem; --all shows the settings of other proxies",
    ]
    assert as_text(found, is_coloured=False, has_all=True).split("\n")[2:] == LINES[2:]


def test_the_sum() -> None:
    warning, unknown = Finding("a", "warning", ""), Finding("b", "unknown", "")
    found = examination(BAD, warning, warning, unknown)
    found.is_interrupted = True
    text = as_text(found, is_coloured=False, has_all=False)
    assert text.endswith("\n1 problem, 2 warnings, 1 unknown (interrupted)")
    assert as_text(examination(GOOD), is_coloured=False, has_all=False).endswith("nothing to mend")
    assert as_text(examination(), is_coloured=False, has_all=False).endswith("nothing to mend")


def test_colour() -> None:
    lines = as_text(examination(GOOD, BAD), is_coloured=True, has_all=False).split("\n")
    assert lines[3] == "\x1b[32mok     \x1b[0m  answer   200"
    assert lines[4] == "\x1b[31mproblem\x1b[0m  cut off  cut"


def test_what_a_server_says_does_not_steer_the_terminal() -> None:
    found = examination(Finding("answer", "problem", "404 \x1b]0;x\x07\u202ey: caf\xe9"))
    text = as_text(found, is_coloured=False, has_all=False)
    assert "404 \\x1b]0;x\\x07\\u202ey: caf\xe9" in text


def test_json() -> None:
    found = json.loads(as_json(examination(GOOD, BAD, proxies=("nginx",))))
    assert [*found] == ["url", "proxies", "is_interrupted", "seen", "findings"]
    assert (found["url"], found["proxies"], found["is_interrupted"]) == (
        "http://h/",
        ["nginx"],
        False,
    )
    assert (found["seen"]["events"], found["seen"]["status"]) == (0, None)
    assert found["findings"] == [
        {"name": "answer", "level": "ok", "seen": "200", "advice": {}},
        {"name": "cut_off", "level": "problem", "seen": "cut", "advice": BAD.advice},
    ]
