"""Who holds the loop: a thread that looks at the loop's thread, and names in a warning what does not let it turn.

What to do about it is the program's; nothing is interrupted here.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import time
from asyncio import AbstractEventLoop
from collections.abc import Callable
from types import FrameType
from typing import Final

from bunpy.server.blame import Blame, Place, is_programs

__all__ = ["Watchdog"]

_log = logging.getLogger("bunpy")

#: Seconds between two looks, at the least and at the most, and as a part of what is allowed: a block is surely named
#: when it has lasted for both. A look takes 1 to 5 µs, 50 with 500 threads; the thread's waking takes 110 µs (a virtual
#: machine with 2 cores, CPython 3.11). Twenty-five a second are 0.3 % of a processor.
_PERIOD_MIN: Final = 0.04
_PERIOD_MAX: Final = 0.25
_PERIOD: Final = 0.4
#: Seconds of lateness that mean nothing; and where the loop's thread is at work for most of the time: it gives the
#: interpreter's lock away 5 ms after it was asked to.
_PUNCTUAL: Final = 0.001
_PUNCTUAL_AT_WORK: Final = 0.0075
_AT_WORK: Final = 0.7
#: How often a callback waits for what a look waits for once: each of its system calls gives the lock away.
_CALLS: Final = 3
#: Seconds of processor time that are no matter of measurement.
_SURE: Final = 0.02
#: Seconds for which none of the program's frames may be at work until that is named: there is less to be done about it.
_OWN: Final = 1.0
#: Seconds in which the same place is named once, and how many places are remembered.
_SILENCE: Final = 60.0
_PLACES: Final = 100
#: How many places of one function are named in that time; after that only what it calls and has not been named. One
#: that computes is at another line at each look.
_LINES: Final = 5

_ADVICE: Final = (
    "nothing else is served meanwhile; make it async, await it, or run it with asyncio.to_thread"
    " (a plain generator runs in a thread by itself)"
)


class Watchdog:
    """Names whatever holds ``loop`` for over ``threshold`` seconds, from ``start`` to ``stop``.

    A look that finds the loop's thread at work posts a beat. If that has not been run when ``threshold`` has passed,
    and one and the same call has been at work all the time, that call is named. A thread that waits for events has
    just the frames below it that a beat has, which is how it is known: an idle loop is never woken (a beat at every
    look would cost an idle server half as much again), and a busy one runs six empty calls more a second.

    The root of the stack is kept from a look to the beat, and let go by the beat, on the loop's thread: it lives no
    longer than the turn of the loop that it is part of, and nothing of the program's is destroyed in another thread.
    """

    def __init__(self, loop: AbstractEventLoop, threshold: float) -> None:
        self._loop = loop
        self._threshold = threshold
        self._period = min(_PERIOD_MAX, max(_PERIOD_MIN, threshold * _PERIOD))
        self._stopped = threading.Lock()  # released to stop; an Event's wait takes a fourth more
        self._stopped.acquire()
        self._ident = 0
        self._cpu: Callable[[], float] = time.process_time
        self._told: dict[Place, float] = {}
        # The turn that is looked at
        self._base: int | None = None  # how many frames there are below a callback's
        self._has_asked = False  # whether a beat has been posted
        self._is_waiting = False  # whether it is still on its way
        self._root: FrameType | None = None  # the frame of the callback that was at work
        self._since = 0.0  # since when it surely has been
        self._is_named = False

    def start(self) -> None:
        """Begin to watch, on the loop's thread."""
        self._ident = threading.get_ident()
        self._cpu = _cpu_clock()
        self._loop.call_soon(self._beat)
        threading.Thread(target=self._run, name="bunpy-watchdog", daemon=True).start()

    def stop(self) -> None:
        """Watch no more; from any thread, without waiting for the watchdog's, which ends by itself."""
        with contextlib.suppress(RuntimeError):  # stopped already
            self._stopped.release()

    def _beat(self) -> None:
        """The loop turns: called on it."""
        self._base = len(_stack(sys._getframe(1)))
        self._is_waiting = False
        self._root = None

    def _run(self) -> None:
        try:
            self._watch()
        except (
            RuntimeError,
            OSError,
        ):  # of a loop that has closed, and of a clock whose thread has gone
            if not self._loop.is_closed() and self._ident in sys._current_frames():
                raise
        self._root = None

    def _watch(self) -> None:
        timeout = self._period
        woke, used = time.monotonic(), self._cpu()
        while not self._stopped.acquire(timeout=timeout) and not self._loop.is_closed():
            last, due, used_before = woke, woke + timeout, used
            woke, used = time.monotonic(), self._cpu()
            late, work, began = woke - due, used - used_before, woke
            excess = late - (_PUNCTUAL_AT_WORK if work > _AT_WORK * timeout else _PUNCTUAL)
            if excess > 0:
                if work > timeout + _SURE:
                    # More than there was before: the loop's thread held the interpreter's lock, in a long call of C,
                    # and is now where it was then. For what it has not worked it waited, or was stopped as well.
                    excess = max(0.0, timeout + late - work)
                    began = min(due + excess, woke)
                else:
                    # Other threads held it, or the process had no processor, or was stopped. Callbacks wait for that
                    # as this thread did; it is nobody's fault, and does not count.
                    excess *= _CALLS
                last += excess
                self._since = min(self._since + excess, woke)
            timeout = self._look(woke, began, last)

    def _look(self, now: float, began: float, last: float) -> float:
        """Look what the loop's thread does, and has surely done since ``began``; the seconds until the next look.

        If it did nothing at the last look, that was at ``last``.
        """
        if self._has_asked and not self._is_waiting:
            self._has_asked = False
            if now - last < self._period * 0.75:  # a look that was only for the beat
                return self._period
        frames = _stack(sys._current_frames().get(self._ident))
        if self._base is None or len(frames) == self._base:
            return self._period
        root = frames[-1 - self._base] if len(frames) > self._base else None
        if not self._has_asked:
            self._hold(root, began)
            self._is_waiting = self._has_asked = True
            self._loop.call_soon_threadsafe(self._beat)
        elif root is not self._root:
            self._hold(root, began)
            if not self._is_waiting:  # the beat came in between, and will not come again
                self._root = None
        if root is None or self._is_named:
            return self._period
        end = self._since + self._threshold
        if now < end:
            return min(self._period, max(0.005, min(self._threshold / 4, end - now)))
        above = frames[: len(frames) - self._base]
        if now - self._since < _OWN and not any(map(is_programs, above)):
            return self._period
        if self._is_waiting and self._loop.is_running():
            self._is_named = True
            blame = Blame.of(above)
            # A log handler may take its time, and who is named may have ended by then: let go of it first.
            del above, frames, root
            self._warn(blame, now)
        return self._period

    def _hold(self, root: FrameType | None, began: float) -> None:
        self._root = root
        self._since = began
        self._is_named = False

    def _warn(self, blame: Blame, now: float) -> None:
        if self._is_told(blame.place, now):
            return
        if len(self._told) >= _PLACES:
            del self._told[min(self._told, key=lambda place: self._told[place])]
        self._told[blame.place] = now
        _log.warning(
            "the loop has stood still for %.2f s, held by %s: %s",
            now - self._since,
            blame.words,
            _ADVICE,
        )

    def _is_told(self, place: Place, now: float) -> bool:
        """Whether enough has been said of a place, or of the function that it is in."""
        told = [
            other
            for other, when in self._told.items()
            if other.function == place.function and now - when < _SILENCE
        ]
        if len(told) < _LINES:
            return place in told
        return any(other.inner == place.inner for other in told)


def _stack(frame: FrameType | None) -> list[FrameType]:
    """A frame and those below it, the innermost first."""
    frames = []
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    return frames


def _cpu_clock() -> Callable[[], float]:
    """The processor time of the calling thread, readable from others; where that is not to be had the process's."""
    get_clock = getattr(time, "pthread_getcpuclockid", None)
    if get_clock is None:
        return time.process_time
    clock: int = get_clock(threading.get_ident())
    return lambda: time.clock_gettime(clock)
