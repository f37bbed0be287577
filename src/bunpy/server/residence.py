"""Where a server lives in its process: the loop's thread, the wait at the interpreter's end, and the signals.

``serve`` returns, and the process stays: when the main script has ended, the interpreter waits for its servers,
before it takes the thread pools down that handlers may use. A script that ended by an exception has failed, and its
servers are stopped; so are those of a console, a notebook or a test run, which nobody means to keep up.
"""

from __future__ import annotations

import asyncio
import concurrent.futures.thread  # noqa: F401 -- its own hook at exit must be registered before ours
import dis
import inspect
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future as ThreadFuture
from pathlib import Path
from types import CodeType, FrameType
from typing import Final

from bunpy.server.server import Server
from bunpy.server.signals import Signals

__all__ = ["live_here", "live_in_loop", "live_in_thread", "must_block"]

_Hook = Callable[[Callable[[], None]], None]

_register_at_exit: Final[_Hook | None] = getattr(threading, "_register_atexit", None)

#: Programs that end when they have run what they were given, whatever that left running.
_RUNNERS: Final = frozenset({"pytest", "py.test", "unittest"})


def new_loop() -> asyncio.AbstractEventLoop:
    """A loop of uvloop's, or of asyncio's where uvloop is not to be had (Windows, PyPy)."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def must_block(caller: FrameType | None) -> bool:
    """Whether ``serve`` cannot return, because the process would not stay up, or not work, once the script has
    ended.

    CPython 3.12.0 and 3.12.1 refuse new threads from then on (gh-113964); other implementations may lack the hook.
    """
    is_script = caller is not None and caller.f_globals.get("__name__") == "__main__"
    is_main = threading.current_thread() is threading.main_thread()
    is_broken = sys.version_info[:2] == (3, 12) and sys.version_info[2] < 2
    return (
        (is_broken or _register_at_exit is None) and is_script and is_main and not _is_unattended()
    )


def live_in_loop(server: Server) -> None:
    """Serve on the running loop."""
    opened: ThreadFuture[None] = ThreadFuture()
    task = asyncio.get_running_loop().create_task(server.run(opened))
    _residents.add(task)
    task.add_done_callback(_residents.discard)


def live_here(server: Server) -> None:
    """Serve on a new loop in this thread until the server has stopped."""
    _signals.watch(server)
    server.waiters += 1
    _run(server, ThreadFuture())


def live_in_thread(server: Server, caller: FrameType | None) -> None:
    """Serve on a new loop in a new thread; return once clients can connect."""
    global _is_hooked
    if not _is_hooked and _register_at_exit is not None:
        _register_at_exit(_wait_at_exit)
        _is_hooked = True
    opened: ThreadFuture[None] = ThreadFuture()
    thread = threading.Thread(
        target=_run, args=(server, opened), name=f"bunpy-{server.port}", daemon=True
    )
    _callers[server] = caller
    _signals.watch(server)
    thread.start()
    opened.result()


_is_hooked = False
_callers: dict[Server, FrameType | None] = {}
_residents: set[asyncio.Task[None]] = set()
_signals: Final = Signals()


def _run(server: Server, opened: ThreadFuture[None]) -> None:
    loop = new_loop()
    try:
        loop.run_until_complete(server.run(opened))
    finally:
        _callers.pop(server, None)
        _close(loop)


def _close(loop: asyncio.AbstractEventLoop) -> None:
    """Close a loop that nobody serves on any more; tasks that will not end are left behind, and have been named."""
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
        task._log_destroy_pending = False  # type: ignore[attr-defined]
    if tasks:
        _, tasks = loop.run_until_complete(asyncio.wait(tasks, timeout=0.1))
    if not tasks:
        loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


# The end of the interpreter


def _wait_at_exit() -> None:
    for server, caller in list(_callers.items()):
        if _is_unattended() or (caller is not None and _has_raised(caller)):
            server.stop()
            continue
        try:
            server.wait()
        except KeyboardInterrupt:  # the program has its own handler of SIGINT, and that raised
            server.stop()


def _is_unattended() -> bool:
    """Whether this process is a console or a test run, whose end is not a server's to delay."""
    if hasattr(sys, "ps1") or sys.flags.interactive:
        return True
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    name = (
        spec.name.partition(".")[0]
        if spec is not None
        else Path(getattr(main, "__file__", "") or "").name
    )
    return name in _RUNNERS


def _has_raised(frame: FrameType) -> bool:
    """Whether the finished call that ``frame`` was ended by an exception, SystemExit included, and not by a return.

    A frame keeps the index of the last instruction that it ran: one that returned ran a RETURN.
    """
    code: CodeType = frame.f_code
    is_call = not code.co_flags & (
        inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
    )
    index = frame.f_lasti
    if not is_call or not 0 <= index < len(code.co_code) or frame in sys._current_frames().values():
        return False
    return not dis.opname[code.co_code[index]].startswith(("RETURN", "INSTRUMENTED_RETURN"))
