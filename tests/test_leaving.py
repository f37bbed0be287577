"""What a process does last: in processes that end by ``os._exit``."""

from __future__ import annotations

import os
import subprocess
import sys

PROGRAM = """
import atexit, os, sys
from bunpy.server.leaving import finish, flush
atexit.register(print, "at exit")
atexit.register(lambda: 1 / 0)
sys.stdout.write("printed ")
{}
os._exit(0)
"""


def run(last: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM.format(last)],
        env={**os.environ, "PYTHONUNBUFFERED": ""},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_without() -> None:
    assert run("") == ""


def test_flush() -> None:
    assert run("flush()") == "printed "


def test_flush_where_there_is_nothing_to_write_to() -> None:
    assert run("out = sys.stdout; sys.stdout = None; flush(); out.flush()") == "printed "


def test_finish() -> None:
    """One of the program's functions that raises keeps no other from running."""
    assert run("finish()") == "printed at exit\n"
