"""The end of a process that a signal has stopped: a thread that goes on must not keep it up. Servers end elsewhere."""

from __future__ import annotations

import asyncio
import concurrent.futures.thread
import logging
import os
import sys
import threading
import time
from types import CodeType, FrameType
from typing import Final

from bunpy.server.leaving import finish

__all__ = ["forbid_overtime"]

_log = logging.getLogger("bunpy")

#: Seconds between two looks; for which a main thread has done nothing else when it is taken to wait, and not to be
#: about to go on; and for what the program has registered to be run at exit.
_STEP: Final = 0.05
_WAIT_TIME: Final = 0.25
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


def forbid_overtime(grace: float) -> threading.Event:
    """End the process when ``grace`` seconds have passed and its main thread only waits for the threads of executors.

    What runs in one (``asyncio.to_thread``) cannot be cancelled, and Python waits for it without end. Functions at exit
    are run, standard output is flushed, and the exit status is 0. Set the event that this returns to let it be.
    """
    called_off = threading.Event()
    threading.Thread(
        target=_watch, args=(grace, called_off), name="bunpy-overtime", daemon=True
    ).start()
    return called_off


def _watch(grace: float, called_off: threading.Event) -> None:
    called_off.wait(max(0.0, grace - _WAIT_TIME))
    waits: FrameType | None = None  # the frame that the main thread waits in
    since = 0.0
    while not called_off.is_set():
        frame, now = _waiting(), time.monotonic()
        if frame is None or frame is not waits:
            waits, since = frame, now
        elif now - since >= _WAIT_TIME:
            _end(grace)
        called_off.wait(_STEP)


def _end(grace: float) -> None:
    _log.error(
        "a thread that was given to an executor (asyncio.to_thread) still runs %g s after the signal: it ends with the"
        " process",
        grace,
    )
    last = threading.Thread(target=finish, daemon=True)
    last.start()
    last.join(_LAST_TIME)
    os._exit(0)


def _waiting() -> FrameType | None:
    """The frame that the main thread waits in; None while it does something else."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    while frame is not None and frame.f_code not in _WAITS:
        frame = frame.f_back
    return frame
