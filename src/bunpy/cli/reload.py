"""``--reload``: a process that holds the socket, watches the files, and has another one serve.

No connection is refused between two of those: the socket stays, and what connects waits for the next one to accept.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from types import FrameType
from typing import Final

from bunpy.cli import terminal
from bunpy.cli.settings import Settings, arguments_of
from bunpy.errors import ConfigError
from bunpy.server.config import Config
from bunpy.server.listeners import Listeners
from bunpy.server.sockets import bind

if sys.platform != "win32":
    import fcntl

__all__ = ["Supervisor"]

#: Seconds that a process gets to drain before the next one, unless --grace says; and then until it is killed.
_GRACE: Final = 2.0
_LAST_TIME: Final = 2.0
#: Milliseconds between looks at what the system has reported; a change is told when one look saw nothing new.
_STEP: Final = 50
#: The least number of the descriptor by which a child learns of its parent's end.
_ABOVE: Final = 100
#: How many changed files are told by name.
_MOST_NAMES: Final = 3

#: Options that the process which serves does not get, or gets from here.
_OURS: Final = frozenset({"reload", "reload_dir", "hostname", "port", "unix", "drain", "grace"})


class Supervisor:
    """Runs the program of these settings, again after each change. Signals are its own from ``run`` on."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._grace: float = settings.options.get("grace", _GRACE)
        self._is_stopping = threading.Event()
        self._child: subprocess.Popen[bytes] | None = None
        self._life: int | None = None  # the pipe whose end tells the child that its parent is gone

    def run(self) -> int:
        """Serve until SIGINT or SIGTERM; the exit status.

        ``ConfigError`` without watchfiles, for a directory that is none, and where descriptors cannot be handed down;
        ``OSError`` if the socket cannot be had.
        """
        if sys.platform == "win32":
            raise ConfigError(
                "--reload cannot hand a socket to another process on Windows: run without"
            )
        try:
            import watchfiles
        except ImportError:
            raise ConfigError(
                "--reload needs watchfiles, which is not installed: pip install 'bunpy[reload]'"
            ) from None
        for directory in self._settings.reload_dirs:
            if not os.path.isdir(directory):
                raise ConfigError(f"--reload-dir is {directory!r}, and there is no such directory")
        config = Config(**self._settings.options)
        listeners = bind(
            self._settings.hostname, self._settings.port, config.backlog, config.unix_mode
        )
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._stop)
        try:
            for changes in watchfiles.watch(
                *self._settings.reload_dirs,
                watch_filter=watchfiles.PythonFilter(),
                step=_STEP,
                rust_timeout=2 * _STEP,
                yield_on_timeout=True,  # the first one says that the system watches from now on
                stop_event=self._is_stopping,
                raise_interrupt=False,
            ):
                files = sorted({path for _, path in changes})
                if files:
                    terminal.tell(f"{_told(files)} changed: restarting")
                    self._end_child()
                    _forget(files)
                    self._start_child(listeners)
                elif self._life is None:
                    where = ", ".join(map(os.path.abspath, self._settings.reload_dirs))
                    terminal.tell(f"watching {where} for changes")
                    self._start_child(listeners)
                else:
                    self._look()
        finally:
            self._end_child()
            listeners.close()
        return 0

    def _stop(self, number: int, frame: FrameType | None) -> None:
        """The first signal ends the child in good order, the second at once, as one without a parent does."""
        if self._is_stopping.is_set() and self._child is not None:
            self._child.terminate()
        self._is_stopping.set()

    def _start_child(self, listeners: Listeners) -> None:
        pipe, self._life = os.pipe()
        # Above whatever the sockets' numbers are, which the child moves down.
        reading = fcntl.fcntl(pipe, fcntl.F_DUPFD_CLOEXEC, _ABOVE)
        os.close(pipe)
        descriptors = [listener.fileno() for listener in listeners.sockets]
        flags = {name: text for name, text in self._settings.flags.items() if name not in _OURS}
        try:
            self._child = subprocess.Popen(
                [
                    *(sys.executable, "-m", "bunpy.cli.child", str(reading)),
                    ",".join(map(str, descriptors)),
                    self._settings.target,
                    *arguments_of(flags),
                    *("--host=systemd", "--drain=close", f"--grace={self._grace:g}"),
                ],
                env={
                    name: value
                    for name, value in os.environ.items()
                    if not name.startswith("BUNPY_RELOAD")
                },
                pass_fds=[reading, *descriptors],
            )
        finally:
            os.close(reading)

    def _look(self) -> None:
        """Say so, once, if the child has ended by itself: it has told why."""
        child = self._child
        if child is not None and child.poll() is not None:
            self._child = None
            how = (
                f"status {child.returncode}"
                if child.returncode >= 0
                else signal.Signals(-child.returncode).name
            )
            terminal.tell(f"the program has ended ({how}): it starts again when a file changes")

    def _end_child(self) -> None:
        child, life = self._child, self._life
        if child is not None:
            child.terminate()
            try:
                child.wait(self._grace + _LAST_TIME)
            except subprocess.TimeoutExpired:
                terminal.tell("the program does not end: it is killed")
                child.kill()
                child.wait()
            self._child = None
        if life is not None:
            os.close(life)
            self._life = None


def _told(files: list[str]) -> str:
    names = [os.path.relpath(path) for path in files]
    if len(names) <= _MOST_NAMES:
        return ", ".join(names)
    return f"{names[0]} and {len(names) - 1} more files"


def _forget(files: Iterable[str]) -> None:
    """Remove what is cached of changed sources.

    Python takes a cached file for the source's if both have the same second and the same size: a digit that is changed
    within a second of the start would not be seen.
    """
    for path in files:
        with contextlib.suppress(OSError, NotImplementedError):
            Path(importlib.util.cache_from_source(path)).unlink()
