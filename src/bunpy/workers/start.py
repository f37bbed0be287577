"""How a worker process comes about: forked, or made anew where there is no fork. When, the supervisor decides."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import pickle
import signal
import socket
import subprocess
import sys
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, NoReturn

from bunpy.errors import ConfigError
from bunpy.workers.link import Link
from bunpy.workers.process import WorkerProcess
from bunpy.workers.worker import Task, work

if TYPE_CHECKING:
    from bunpy.http.service import Handler

__all__ = [
    "CAN_FORK",
    "check_spawn",
    "fork",
    "name_of",
    "start_by_fork",
    "start_by_spawn",
    "status_of",
]

CAN_FORK: Final = hasattr(os, "fork")
_HELD: Final = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]


def fork(child: Callable[[], int]) -> int:
    """Fork; the process number of the child, which calls ``child``, and ends with the status that this returns.

    The child has no signal handlers of the servers that its parent has, no loop, and nothing to do at its exit but
    what it registers itself.
    """
    assert sys.platform != "win32"
    _flush()  # or what waits to be written is written twice
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _HELD)
    try:
        with warnings.catch_warnings():
            # From 3.12 on, where there are other threads. The child begins with none, and takes nothing of theirs.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            _become(child, before)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return pid


def _become(child: Callable[[], int], mask: Any) -> NoReturn:
    """Be the child."""
    assert sys.platform != "win32"
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        for number in _HELD:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        asyncio._set_running_loop(None)
        atexit._clear()
        status = child()
    except BaseException:
        # Nobody is left to raise to.
        with contextlib.suppress(Exception):
            sys.excepthook(*sys.exc_info())
    finally:
        with contextlib.suppress(BaseException):
            _flush()
        os._exit(status)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()


def start_by_fork(
    task: Task, link: Link, number: int, let_go: Callable[[Task], None]
) -> WorkerProcess:
    """Start a worker as a copy of this process; ``let_go`` closes in it what is the supervisor's."""

    def child() -> int:
        Link.keep_only(task.link)
        let_go(task)
        return work(task)

    pid = fork(child)
    task.link.close()
    return WorkerProcess(pid, link, lambda: status_of(pid), number, task.row)


def status_of(pid: int) -> int | None:
    """The exit status of a child, or less the number of a signal; None while it runs; 0 if nobody can know."""
    try:
        found, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return 0  # the program lets the kernel reap its children, or somebody else has
    return os.waitstatus_to_exitcode(status) if found else None


# Without fork


def name_of(handler: Handler | str) -> str:
    """The name by which another process finds a handler; ``ConfigError`` if there is none."""
    if isinstance(handler, str):
        return handler
    module, name = getattr(handler, "__module__", None), getattr(handler, "__qualname__", None)
    if not module or not name or module == "__main__":
        raise ConfigError(_no_name(handler))
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    if found is not handler:
        raise ConfigError(_no_name(handler))
    return f"{module}:{name}"


def _no_name(handler: object) -> str:
    what = getattr(handler, "__qualname__", None) or repr(handler)
    return (
        f"other processes cannot find the handler {what} by a name: make it a function at the top of a module that is"
        ' not the main script, or give its name, as "app:handler"'
    )


def start_by_spawn(
    task: Task, link: Link, number: int, options: Mapping[str, Any]
) -> WorkerProcess:
    """Start a worker as a new process, which imports what it needs; ``options`` are those of ``serve``."""
    sockets = [*task.sockets, task.link.socket]
    passing: dict[str, Any] = {}
    if sys.platform != "win32":
        fds = [sock.fileno() for sock in sockets]
        passing["pass_fds"] = [*fds, task.board.place] if task.board.place is not None else fds
    process = subprocess.Popen(
        [sys.executable, "-m", "bunpy.workers.worker"], stdin=subprocess.PIPE, **passing
    )
    known = {
        "handler": name_of(task.handler),
        "hostname": task.hostname,
        "bound_name": task.bound_name,
        "options": dict(options),
        "sockets": [_passed(sock, process.pid) for sock in sockets],
        "board": (task.board.rows, task.board.place),
        "row": task.row,
    }
    stdin = process.stdin
    assert stdin is not None
    with contextlib.suppress(OSError), stdin:  # it may have died already
        stdin.write(pickle.dumps((sys.path, pickle.dumps(known))))
    task.link.close()
    return WorkerProcess(process.pid, link, process.poll, number, task.row)


def check_spawn(handler: Handler | str, options: Mapping[str, Any]) -> None:
    """``ConfigError`` if other processes cannot be told what they need."""
    name_of(handler)
    try:
        pickle.dumps(dict(options))
    except Exception as exc:
        raise ConfigError(
            f"the options cannot be told to other processes ({exc}): use functions of modules, and paths for tls"
        ) from exc


def _passed(sock: socket.socket, pid: int) -> int | bytes:
    """How the process ``pid`` can have a socket: by its descriptor, or on Windows by what describes it."""
    if sys.platform == "win32":
        return sock.share(pid)
    return sock.fileno()
