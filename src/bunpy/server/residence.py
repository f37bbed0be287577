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
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future as ThreadFuture
from pathlib import Path
from types import CodeType, FrameType
from typing import Final

from bunpy.server.handle import Server
from bunpy.server.loops import close_loop, new_loop
from bunpy.server.server import LocalServer
from bunpy.server.signals import Signals
from bunpy.workers.fleet import Fleet

__all__ = [
    "fill_standard_streams",
    "live_here",
    "live_in_loop",
    "live_in_thread",
    "must_block",
    "new_loop",
]

_Hook = Callable[[Callable[[], None]], None]

_register_at_exit: Final[_Hook | None] = getattr(threading, "_register_atexit", None)

#: Programs that end when they have run what they were given, whatever that left running.
_RUNNERS: Final = frozenset({"pytest", "py.test", "unittest"})


def fill_standard_streams() -> None:
    """Open what of standard input, output and error is closed, on nothing: no socket may get their numbers.

    What a library prints would go to a client, and libuv aborts when it is to close one of them.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest that is free, which is this


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


def live_in_loop(server: LocalServer | Fleet) -> None:
    """Serve on the running loop, or in other processes beside it."""
    server.claim_thread()
    if isinstance(server, Fleet):
        server.start()
        _guests.add(server)
        server.when_closed(lambda: _guests.discard(server))
        _watch(server)
        return
    _watch(server)
    opened: ThreadFuture[None] = ThreadFuture()
    task = asyncio.get_running_loop().create_task(server.run(opened))
    _residents.add(task)
    task.add_done_callback(_residents.discard)


def live_here(server: LocalServer | Fleet, announce: Callable[[], None]) -> None:
    """Serve on a new loop in this thread, or supervise in it, until the server has stopped.

    ``announce`` is called when clients can connect.
    """
    server.claim_thread()
    _watch(server)
    server.main_waits += 1
    if isinstance(server, Fleet):
        server.run_here(announce)
        return
    announce()
    _run(server, ThreadFuture())


def live_in_thread(server: LocalServer | Fleet, caller: FrameType | None) -> None:
    """Serve on a new loop in a new thread, or in other processes; return once clients can connect."""
    if isinstance(server, Fleet):
        server.start()
        _callers[server] = _frames_of_script(caller)
        server.when_closed(lambda: _forget_caller(server))
        _watch(server)
        return
    opened: ThreadFuture[None] = ThreadFuture()
    thread = threading.Thread(
        target=_run, args=(server, opened), name=f"bunpy-{server.port}", daemon=True
    )
    _callers[server] = _frames_of_script(caller)
    try:
        thread.start()
        opened.result()
    except BaseException:
        _callers.pop(server, None)
        server.abandon()
        raise
    _watch(server)


def _watch(server: Server) -> None:
    if not _is_unattended():
        _signals.watch(server)


#: Frames whose end tells whether the script failed, each with the line that it was at when it called ``serve``.
_Frames = list[tuple[FrameType, int | None]]

_callers: dict[Server, _Frames] = {}
_residents: set[asyncio.Task[None]] = set()
#: Fleets that were started on a running loop, which do not end with it.
_guests: set[Fleet] = set()
_signals: Final = Signals()


def _forget() -> None:
    """A fork has the threads of its parent's servers no more."""
    _callers.clear()
    _guests.clear()
    _signals.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def _forget_caller(server: Server) -> None:
    _callers.pop(server, None)


def _run(server: LocalServer, opened: ThreadFuture[None]) -> None:
    try:
        loop = new_loop()
    except BaseException as exc:
        opened.set_exception(exc)
        return
    try:
        loop.run_until_complete(server.run(opened))
    except BaseException as exc:
        if not opened.done():
            opened.set_exception(exc)
        elif opened.exception() is not exc:
            raise
    finally:
        _callers.pop(server, None)
        close_loop(loop)


# The end of the interpreter


def _wait_at_exit() -> None:
    while _callers:  # servers that are started in the meantime are waited for as well
        for server, frames in list(_callers.items()):
            try:
                if _is_unattended() or _has_failed(frames):
                    server.stop()
                else:
                    server.wait()
            except BaseException:  # the program has a signal handler of its own, and that raised
                server.stop()
            _callers.pop(server, None)
    for guest in list(_guests):
        guest.release_thread()
        guest.stop()


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


def _frames_of_script(caller: FrameType | None) -> _Frames:
    """The frame that called ``serve``, and those of the main script that called it."""
    frames: _Frames = []
    frame = caller
    while frame is not None:
        if frame is caller:
            frames.append((frame, None))
        elif frame.f_globals.get("__name__") == "__main__":
            frames.append((frame, frame.f_lineno))
        frame = frame.f_back
    return frames


def _has_failed(frames: _Frames) -> bool:
    """Whether the script ended by an exception after it had called ``serve``.

    ``sys.exit(main())`` is no failure if ``main`` called ``serve`` and returned: a frame that raised at the very line
    that it called from has done nothing since.
    """
    return any(_has_raised(frame) and frame.f_lineno != line for frame, line in frames)


def _has_raised(frame: FrameType) -> bool:
    """Whether the finished call that ``frame`` was ended by an exception, SystemExit included, and not by a return.

    A frame keeps the index of the last instruction that it ran: one that returned ran a RETURN.
    """
    for running in sys._current_frames().values():
        above: FrameType | None = running
        while above is not None:
            if above is frame:
                return False
            above = above.f_back
    code: CodeType = frame.f_code
    is_call = not code.co_flags & (
        inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
    )
    if not is_call or not 0 <= frame.f_lasti < len(code.co_code):
        return False
    return not dis.opname[code.co_code[frame.f_lasti]].startswith(("RETURN", "INSTRUMENTED_RETURN"))


if _register_at_exit is not None:
    _register_at_exit(_wait_at_exit)
