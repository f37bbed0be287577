"""Who hears bunpy's log lines, for every way in which a program may have set logging up, or not."""

from __future__ import annotations

import io
import json
import logging
import os
import select
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import pytest
from script import TIMEOUT, Scripts

from bunpy.server.log import ensure_handler
from bunpy.testing import request


class Root(logging.RootLogger):
    """A root logger that pytest does not listen to."""

    def addHandler(self, hdlr: logging.Handler) -> None:  # noqa: N802 -- logging's name for it
        if not type(hdlr).__module__.startswith("_pytest."):
            super().addHandler(hdlr)


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> logging.Logger:
    """The ``bunpy`` logger as a new process has it."""
    root = Root(logging.WARNING)
    monkeypatch.setattr(logging, "root", root)
    monkeypatch.setattr(logging.Logger, "root", root)
    monkeypatch.setattr(logging.Logger, "manager", logging.Manager(root))
    return logging.getLogger("bunpy")


@pytest.fixture
def stderr(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What is written to stderr. (pytest sets ``sys.stderr`` itself, after the fixtures: so not that name.)"""
    stream = io.StringIO()
    monkeypatch.setattr("bunpy.server.log.sys", SimpleNamespace(stderr=stream))
    return stream


def test_nothing_is_set_up(log: logging.Logger, stderr: io.StringIO) -> None:
    ensure_handler()
    log.debug("debug")
    log.info("info")
    log.error("error %d", 1)
    assert stderr.getvalue() == "bunpy: info\nbunpy: error 1\n"


def test_it_is_set_up_once(log: logging.Logger, stderr: io.StringIO) -> None:
    ensure_handler()
    ensure_handler()
    log.info("info")
    assert stderr.getvalue() == "bunpy: info\n"


def test_tracebacks(log: logging.Logger, stderr: io.StringIO) -> None:
    ensure_handler()
    try:
        raise ValueError("no good")
    except ValueError as exc:
        log.error("it failed", exc_info=exc)
    lines = stderr.getvalue().splitlines()
    assert lines[:2] == ["bunpy: it failed", "  Traceback (most recent call last):"]
    assert lines[-1] == "  ValueError: no good"


def test_a_handler_of_the_root_logger(log: logging.Logger, stderr: io.StringIO) -> None:
    """The program's own, and so the only one; whether it came before ``serve`` or after."""
    ours = io.StringIO()
    ensure_handler()
    logging.getLogger().addHandler(logging.StreamHandler(ours))
    log.info("info")
    ensure_handler()
    log.info("again")
    assert ours.getvalue() == "info\nagain\n"
    assert stderr.getvalue() == ""


def test_a_level_of_the_program(log: logging.Logger, stderr: io.StringIO) -> None:
    log.setLevel(logging.ERROR)
    ensure_handler()
    log.info("info")
    log.error("error")
    assert stderr.getvalue() == "bunpy: error\n"


def test_a_level_that_is_set_later(log: logging.Logger, stderr: io.StringIO) -> None:
    ensure_handler()
    log.setLevel(logging.CRITICAL)
    ensure_handler()
    log.error("error")
    assert stderr.getvalue() == ""


def test_a_handler_of_the_program(log: logging.Logger, stderr: io.StringIO) -> None:
    ours = io.StringIO()
    log.addHandler(logging.StreamHandler(ours))
    ensure_handler()
    log.info("info")
    assert ours.getvalue() == "info\n"
    assert stderr.getvalue() == ""


def test_stderr_is_looked_up_each_time(
    log: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be replaced, by a notebook or by pytest."""
    ensure_handler()
    for text in ("one", "two"):
        stream = io.StringIO()
        monkeypatch.setattr(sys, "stderr", stream)  # in the test, which is after pytest's
        log.info(text)
        assert stream.getvalue() == f"bunpy: {text}\n"


def test_there_is_no_stderr(log: logging.Logger, monkeypatch: pytest.MonkeyPatch) -> None:
    """As under pythonw."""
    ensure_handler()
    monkeypatch.setattr(sys, "stderr", None)
    log.info("info")


def test_stderr_does_not_take_it(log: logging.Logger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Full, or closed: what serves must not fail for it."""

    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError("No space left on device")

    ensure_handler()
    monkeypatch.setattr(sys, "stderr", Full())
    monkeypatch.setattr(logging, "raiseExceptions", False)
    log.info("info")


def test_json(log: logging.Logger, stderr: io.StringIO) -> None:
    """Once asked for, by whatever server of the process."""
    ensure_handler(is_json=True)
    ensure_handler()
    log.info("info")
    logging.getLogger("bunpy.access").info("access")
    lines = [json.loads(line) for line in stderr.getvalue().splitlines()]
    assert [(line["logger"], line["message"]) for line in lines] == [
        ("bunpy", "info"),
        ("bunpy.access", "access"),
    ]


def test_json_and_a_handler_of_the_program(log: logging.Logger, stderr: io.StringIO) -> None:
    """It says itself how its lines look."""
    ours = io.StringIO()
    log.addHandler(logging.StreamHandler(ours))
    ensure_handler(is_json=True)
    log.info("info")
    assert (ours.getvalue(), stderr.getvalue()) == ("info\n", "")


def test_a_terminal(log: logging.Logger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it is one is asked of each stream, also where stderr is replaced."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    ensure_handler()
    for stream, line in (
        (Terminal(), "\x1b[31mbunpy:\x1b[0m error\n"),
        (io.StringIO(), "bunpy: error\n"),
        (Terminal(), "\x1b[31mbunpy:\x1b[0m error\n"),
    ):
        monkeypatch.setattr(sys, "stderr", stream)
        log.error("error")
        assert stream.getvalue() == line
    monkeypatch.setenv("NO_COLOR", "1")
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    log.error("error")
    assert stream.getvalue() == "bunpy: error\n"


# --- as a program sees it ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setup", "lines"),
    [
        ("", ["bunpy: serving on URL"]),
        ("logging.basicConfig(level=logging.INFO)", ["INFO:bunpy:serving on URL"]),
        ("logging.basicConfig(format='%(message)s')", ["serving on URL"]),
        ("logging.getLogger('bunpy').setLevel(logging.WARNING)", []),
        ("logging.getLogger('bunpy').addHandler(logging.NullHandler())", []),
        ("logging.disable()", []),
    ],
)
def test_the_start_line(tmp_path: Path, setup: str, lines: list[str]) -> None:
    """Once, on stderr, as the program has its lines."""
    with Scripts(tmp_path) as scripts:
        script = scripts.module(f"""
            import logging
            {setup}
            server = serve(handler, port=0)
            say(server.url)
            server.stop()
        """)
        assert script.end() == 0
        url = script.out.strip()
        seen = [line.partition(" (")[0].replace(url, "URL") for line in script.said.splitlines()]
    assert seen == lines


def test_the_start_line_goes_to_stderr_alone(tmp_path: Path) -> None:
    with Scripts(tmp_path) as scripts:
        script = scripts.module("serve(handler, port=0).stop()")
        assert script.end() == 0
        assert script.out == ""
        assert len(script.urls) == 1


LOGGING = """
    def handle(req):
        if req.path == "/fails":
            raise ValueError("no\\nbunpy: good \\x1b[2J")
        return "hello"

    server = serve(handle, port=0, access_log=True{options})
    say(server.url)
"""


def test_all_lines_are_json(tmp_path: Path) -> None:
    """That of the start, access lines, and errors with their traceback: one object a line."""
    with Scripts(tmp_path) as scripts:
        script = scripts.run(LOGGING.replace("{options}", ", log_json=True, block=False"))
        script.wait_until(lambda: script.out.endswith("\n"))
        url = script.out.strip()
        request(url, "GET", "/one", timeout=TIMEOUT)
        failed = request(url, "GET", "/fails", {"X-Request-Id": "seven"}, timeout=TIMEOUT)
        script.wait_until(lambda: script.said.count("\n") == 4)
        lines = [json.loads(line) for line in script.said.splitlines()]
    assert failed.headers["x-request-id"] == "seven"
    assert [line["level"] for line in lines] == ["INFO", "INFO", "ERROR", "INFO"]
    assert lines[0]["message"].startswith("serving on http://")
    assert (lines[1]["path"], lines[1]["status"], lines[1]["reason"]) == ("/one", 200, "finished")
    assert lines[2]["request_id"] == lines[3]["request_id"] == "seven"
    assert lines[2]["exception"].endswith("\nValueError: no\nbunpy: good \x1b[2J")
    assert (lines[3]["path"], lines[3]["status"], lines[3]["reason"]) == ("/fails", 500, "error")


def test_all_lines_are_plain(tmp_path: Path) -> None:
    with Scripts(tmp_path) as scripts:
        script = scripts.run(LOGGING.replace("{options}", ", block=False"))
        script.wait_until(lambda: script.out.endswith("\n"))
        request(script.out.strip(), "GET", "/fails", timeout=TIMEOUT)
        script.wait_until(lambda: "reason=error" in script.said)
        lines = script.said.splitlines()
    assert lines[0].startswith("bunpy: serving on ")
    assert lines[1].startswith("bunpy: <Request GET /fails id=")
    assert lines[2] == "  Traceback (most recent call last):"
    assert lines[-2] == "  bunpy: good \\x1b[2J"
    assert " 127.0.0.1 GET /fails 500 bytes=" in lines[-1]
    assert [line for line in lines if not line.startswith(("bunpy: ", "  "))] == []


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="it is about terminals")
def test_sentences_at_a_terminal(tmp_path: Path) -> None:
    """A real one: the program's stderr is its end."""
    ours, its = os.openpty()
    try:
        with Scripts(tmp_path) as scripts:
            source = LOGGING.replace("{options}", ", quiet=True, block=False")
            script = scripts.run(
                f"os.dup2(os.open({os.ttyname(its)!r}, os.O_WRONLY | os.O_NOCTTY), 2)\n{textwrap.dedent(source)}",
                TERM="xterm",
                NO_COLOR="",
            )
            script.wait_until(lambda: script.out.endswith("\n"))
            request(script.out.strip(), "GET", "/one", timeout=TIMEOUT)
            text = b""
            while b"\n" not in text:
                assert select.select([ours], [], [], TIMEOUT)[0]
                text += os.read(ours, 1000)
        assert text.startswith(b"\x1b[2mbunpy:\x1b[0m GET /one \x1b[32m200\x1b[0m: ")
        assert b" bytes in " in text
    finally:
        os.close(ours)
        os.close(its)
