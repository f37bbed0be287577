"""``bunpy.file``'s names as coroutines, off the event loop; what each does is written there.

The work is done in the loop's default executor. ``read``, ``exists`` and ``stat``, when cancelled,
end at once. The others end when their thread has: no write lands after its caller was cancelled,
and no descriptor outlives its iterator.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from functools import partial
from typing import ParamSpec, TypeVar, overload

from bunpy import file
from bunpy.file._lines import batches
from bunpy.file._tail import Follower
from bunpy.file._watch import Watch

__all__ = ["append", "exists", "lines", "read", "stat", "tail", "write"]

# How many times longer a tail waits between two looks when watchfiles wakes it. 0.4 s by default:
# the promised half second holds where no event comes (network filesystems, links).
_WATCHED = 4

P = ParamSpec("P")
T = TypeVar("T")


@overload
async def read(path: str | os.PathLike[str], encoding: str = "utf-8") -> str: ...
@overload
async def read(path: str | os.PathLike[str], encoding: None) -> bytes: ...
async def read(path: str | os.PathLike[str], encoding: str | None = "utf-8") -> str | bytes:
    """The whole file, ``str``; ``bytes`` when ``encoding`` is None. See ``bunpy.file.read``."""
    return await asyncio.to_thread(file.read, path, encoding)


async def write(path: str | os.PathLike[str], data: str | bytes, encoding: str = "utf-8") -> None:
    """Make ``data`` the file's content, atomically. See ``bunpy.file.write``."""
    await _finished(file.write, path, data, encoding)


async def append(path: str | os.PathLike[str], data: str | bytes, encoding: str = "utf-8") -> None:
    """Add ``data`` at the file's end, in one write. See ``bunpy.file.append``."""
    await _finished(file.append, path, data, encoding)


async def exists(path: str | os.PathLike[str]) -> bool:
    """Whether something is there. See ``bunpy.file.exists``."""
    return await asyncio.to_thread(file.exists, path)


async def stat(path: str | os.PathLike[str]) -> os.stat_result:
    """``os.stat``. See ``bunpy.file.stat``."""
    return await asyncio.to_thread(file.stat, path)


async def lines(path: str | os.PathLike[str], encoding: str = "utf-8") -> AsyncGenerator[str, None]:
    """The file's lines without their ends. See ``bunpy.file.lines``.

    Read in batches of about 64 KiB. The file is closed at the end, or by ``aclose()``.
    """
    source = batches(path, encoding)
    try:
        while batch := await _finished(next, source, None):
            for line in batch:
                yield line
    finally:
        await _finished(source.close)


async def tail(
    path: str | os.PathLike[str],
    from_line: int = 0,
    *,
    encoding: str = "utf-8",
    poll_interval: float = 0.1,
) -> AsyncGenerator[str, None]:
    """The file's lines from number ``from_line`` on, then each new one as it is written, for ever.

    ``bunpy.file.tail`` tells what a line is, what truncation, rotation and loss of the file do, and
    what is raised. A new line arrives within half a second.

    With watchfiles installed (``bunpy[tail]``) changes wake the tail within about 0.1 s, and it
    looks for itself every four ``poll_interval`` only. Without, it looks every ``poll_interval``.

    Each look is a turn in a thread: measured, 100 idle tails take 6 % of a core polling, 200 of one
    folder 4 % with watchfiles. For many clients of one file, publish one tail to a channel.

    After ``aclose()`` or cancellation no thread, task or descriptor is left (watchfiles closes its
    own within some 20 ms); use ``contextlib.aclosing`` where you leave the loop early.
    """
    follower = Follower(path, from_line, encoding, poll_interval)
    loop = asyncio.get_running_loop()
    changed = asyncio.Event()
    watch = Watch(follower.path, partial(loop.call_soon_threadsafe, changed.set))
    try:
        await _finished(follower.open)
        await _finished(watch.start)
        while True:
            for line in await _finished(follower.step):
                yield line
            if follower.idle:
                pause = poll_interval * (_WATCHED if watch.alive else 1)
                timer = loop.call_later(pause, changed.set)
                try:
                    await changed.wait()
                finally:
                    timer.cancel()
                # Before the step, not after it: a change during the step is not lost.
                changed.clear()
    finally:
        await _finished(_close, follower, watch)


def _close(follower: Follower, watch: Watch) -> None:
    follower.close()
    watch.stop()


async def _finished(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What ``function`` returns, from a thread; when cancelled, the thread is waited for first."""
    call = partial(function, *args, **kwargs)
    future = asyncio.get_running_loop().run_in_executor(None, call)
    try:
        await asyncio.wait([future])
    except asyncio.CancelledError:
        while not future.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([future])
        future.exception()  # seen: asyncio would log it as never retrieved
        raise
    return future.result()
