"""The end of a process that a signal has stopped: a thread that goes on must not keep it up. Servers end elsewhere."""

from __future__ import annotations

import asyncio
import concurrent.futures.thread
import logging
import os
import sys
import threading
from types import CodeType
from typing import Final

from bunpy.server.leaving import finish

__all__ = ["forbid_overtime"]

_log = logging.getLogger("bunpy")

#: Seconds between two looks, and for what the program has registered to be run at exit.
_STEP: Final = 0.05
_LAST_TIME: Final = 1.0


def _codes() -> frozenset[CodeType]:
    """What a main thread runs that has nothing left to do but to wait for the threads of executors.

    From CPython 3.11 on also ``asyncio.run`` at its end, when its tasks have been cancelled.
    """
    functions = [concurrent.futures.thread._python_exit]
    runner = getattr(asyncio, "Runner", None)
    if runner is not None:
        functions.append(runner.close)
    return frozenset(function.__code__ for function in functions)


_WAITS: Final = _codes()


def forbid_overtime(grace: float) -> None:
    """End the process when ``grace`` seconds have passed and its main thread only waits for the threads of executors.

    What runs in one (``asyncio.to_thread``) cannot be cancelled, and Python waits for it without end. Functions at exit
    are run, standard output is flushed, and the exit status is 0.
    """
    threading.Thread(target=_watch, args=(grace,), name="bunpy-overtime", daemon=True).start()


def _watch(grace: float) -> None:
    never = threading.Event()
    never.wait(grace)
    while not _is_waiting():
        never.wait(_STEP)
    _log.error(
        "a thread that was given to an executor (asyncio.to_thread) still runs %g s after the signal: it ends with the"
        " process",
        grace,
    )
    last = threading.Thread(target=finish, daemon=True)
    last.start()
    last.join(_LAST_TIME)
    os._exit(0)


def _is_waiting() -> bool:
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    while frame is not None:
        if frame.f_code in _WAITS:
            return True
        frame = frame.f_back
    return False
