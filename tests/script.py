"""Python programs in processes of their own: started, watched line by line, signalled, awaited. Every wait has an end.

What they print on stdout and stderr is theirs to test; ``Script.url`` is read from bunpy's start line.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Final

from bunpy.testing import EventClient, request

__all__ = ["BLOCKS", "DRAINED", "TIMEOUT", "Script", "Scripts", "Stopwatch", "drain", "stat_inside"]

#: Whether ``serve`` called by a main script blocks: CPython 3.12.0 and 3.12.1 (gh-113964).
BLOCKS: Final = (3, 12, 0) <= sys.version_info[:3] < (3, 12, 2)

#: Seconds until a wait has failed: far more than anything takes, for machines with much else to do.
TIMEOUT: Final = 60.0

#: Seconds in which a process with nothing to wait for has drained and gone, the end of the interpreter included: less
#: than its grace.
DRAINED: Final = 8.0

_START = re.compile(r"bunpy: serving on (https?://\S+) \((?:cython|python)(?:, \d+ workers)?\)\n")

#: What scripts begin with. ``/`` says hello; ``/events`` gives one event and then waits for ever, with a ``finally``;
#: ``/stubborn`` does not let itself be cancelled; ``/go`` opens the gate that a script may wait at; ``/ended`` answers
#: once the main script has ended. ``say`` prints a line at once and whole.
PRELUDE: Final = """
import asyncio, atexit, os, signal, sys, threading, time
from concurrent.futures import ThreadPoolExecutor
from bunpy.serve import serve, SSEResponse

gate = threading.Event()

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

async def events():
    try:
        yield "first"
        await asyncio.sleep(3600)
    finally:
        say("generator closed")

async def stubborn():
    yield "first"
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            say("still here")

def main_call():
    frame = sys._current_frames()[threading.main_thread().ident]
    while frame.f_back is not None:
        frame = frame.f_back
    return frame.f_code.co_name

async def ended():
    while main_call() != "_shutdown":
        await asyncio.sleep(0.01)
    return "ended"

def handler(req):
    if req.path == "/events":
        return SSEResponse(events())
    if req.path == "/stubborn":
        return SSEResponse(stubborn())
    if req.path == "/ended":
        return ended()
    if req.path == "/go":
        gate.set()
    return "hello"
"""


class Stopwatch:
    """Seconds since it was made, or since ``start``."""

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        """Count from now on."""
        self._start = time.monotonic()

    @property
    def seconds(self) -> float:
        """How many have passed."""
        return time.monotonic() - self._start


class Script:
    """A program that runs. ``command`` goes to this Python; ``environment`` is laid over the present one."""

    def __init__(
        self,
        command: Sequence[str],
        folder: Path,
        *,
        input: str | None = None,  # noqa: A002 -- as subprocess.run names it
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._changed = threading.Condition()
        self._text = {"out": "", "err": ""}
        self._url: str | None = None
        self.process = subprocess.Popen(
            [sys.executable, *command],
            cwd=folder,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})},
            stdin=subprocess.DEVNULL if input is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._readers = [
            threading.Thread(target=self._read, args=(name, stream), daemon=True)
            for name, stream in (("out", self.process.stdout), ("err", self.process.stderr))
        ]
        for reader in self._readers:
            reader.start()
        if self.process.stdin is not None:
            with self.process.stdin as stdin:
                stdin.write((input or "").encode())

    @property
    def out(self) -> str:
        """What it has written on stdout by now."""
        return self._text["out"]

    @property
    def err(self) -> str:
        """What it has written on stderr by now, bunpy's start lines left out."""
        return _START.sub("", self._text["err"]).strip()

    @property
    def said(self) -> str:
        """All that it has written on stderr by now."""
        return self._text["err"]

    @property
    def urls(self) -> list[str]:
        """Where its servers are, in the order in which they started, as far as they have."""
        return [found[1] for found in _START.finditer(self._text["err"])]

    @property
    def url(self) -> str:
        """Where its first server is, which has answered once then."""
        if self._url is None:
            self.wait_until(lambda: bool(self.urls))
            request(self.urls[0], timeout=TIMEOUT)
            self._url = self.urls[0]
        return self._url

    def wait_until(self, condition: Callable[[], bool], timeout: float = TIMEOUT) -> None:
        """Wait until ``condition()``, asked when something was written; fails when that does not come."""
        with self._changed:
            assert self._changed.wait_for(condition, timeout), f"not within {timeout} s: {self!r}"

    def wait_for(self, line: str, timeout: float = TIMEOUT) -> None:
        """Wait until it has written ``line`` on stdout."""
        self.wait_until(lambda: line in self.out.splitlines(), timeout)

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, once its main thread sleeps, or never does.

        Python does not notice a signal that comes just before a system call, until that returns (and ``time.sleep``
        may take an hour): every Python program is like that, and the tests are not about it.
        """
        watch = Stopwatch()
        while watch.seconds < 0.2 and not self._is_asleep():
            os.sched_yield()
        self.process.send_signal(number)

    def _is_asleep(self) -> bool:
        """Whether its main thread sleeps in the kernel; yes, where that cannot be known."""
        try:
            stat = Path(f"/proc/{self.process.pid}/stat").read_text()
        except OSError:
            return True
        return stat.rpartition(") ")[2].startswith("S")

    def insist(self, number: signal.Signals, times: float = float("inf")) -> float:
        """Send it a signal every tenth of a second until it has ended, as people do; the seconds that this took.

        Not more often than ``times``: one that comes when the interpreter has given its signals back is its status.
        """
        watch = Stopwatch()
        sent = 0
        while watch.seconds < TIMEOUT:
            if sent < times:
                self.send(number)
                sent += 1
            try:
                self.process.wait(0.1)
            except subprocess.TimeoutExpired:
                continue
            break
        return watch.seconds

    def end(self, timeout: float = TIMEOUT) -> int:
        """Wait for its end; its exit status. It is killed, and the test fails, if that does not come in time."""
        try:
            status = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.close()
            raise AssertionError(f"it has not ended within {timeout} s: {self!r}") from None
        self._join()
        return status

    def close(self) -> None:
        """Kill it if it still runs."""
        self.process.kill()
        self.process.wait(TIMEOUT)
        self._join()

    def _join(self) -> None:
        for reader in self._readers:
            reader.join(TIMEOUT)

    def _read(self, name: str, stream: IO[bytes]) -> None:
        with stream:
            for line in stream:
                with self._changed:
                    self._text[name] += line.decode()
                    self._changed.notify_all()

    def __repr__(self) -> str:
        status = self.process.poll()
        return f"<Script {'running' if status is None else status} {self._text!r}>"


class Scripts:
    """Starts scripts in a folder; at the end of the ``with`` none of them runs any more."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._scripts: list[Script] = []

    def __enter__(self) -> Scripts:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for script in self._scripts:
            script.close()

    def write(self, source: str, name: str = "script.py", *, prelude: str = PRELUDE) -> Path:
        """Write a program into the folder, below the prelude."""
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(prelude + textwrap.dedent(source))
        return path

    def run(self, source: str, *arguments: str, **options: str) -> Script:
        """Run a program, ``arguments`` before its name, ``options`` its further environment."""
        path = self.write(source)
        return self.command(*arguments, str(path), environment=options)

    def module(self, source: str, **options: str) -> Script:
        """Run a program as an imported module: there ``serve`` never blocks, whatever the version."""
        self.write(source, "program.py")
        return self.command("-c", "import program", environment=options)

    def command(
        self,
        *command: str,
        input: str | None = None,  # noqa: A002
        environment: Mapping[str, str] | None = None,
    ) -> Script:
        """Run this Python with ``command`` in the folder, ``input`` on its stdin."""
        script = Script(command, self._folder, input=input, environment=environment)
        self._scripts.append(script)
        return script


def drain(script: Script, number: signal.Signals, streams: int = 1) -> list[str]:
    """Send a signal while each of its servers has so many streams, which must end cleanly, as must the process; the
    lines that it printed.
    """
    assert script.url
    clients = [
        EventClient(url, "/events", timeout=TIMEOUT) for url in script.urls for _ in range(streams)
    ]
    for client in clients:
        client.read(1)
    script.send(number)
    for client in clients:
        with client:
            assert client.read_all() == []
            assert client.retry is not None
    assert script.end(DRAINED) == 0
    assert script.err == ""
    return script.out.splitlines()


def stat_inside(outer: int, pid: int | str) -> Path:
    """What the kernel tells of the process ``pid`` in the PID namespace of ``outer``; it is gone with the process."""
    return Path(f"/proc/{outer}/root/proc/{pid}/stat")
