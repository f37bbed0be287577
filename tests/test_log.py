"""Who hears bunpy's log lines, for every way in which a program may have set logging up, or not."""

from __future__ import annotations

import io
import logging
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from script import Scripts

from bunpy.server.log import ensure_handler


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
    assert lines[:2] == ["bunpy: it failed", "Traceback (most recent call last):"]
    assert lines[-1] == "ValueError: no good"


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
