"""A plain generator as an async iterator: each is run in a thread of its own, so that it may block."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from asyncio import Future
from collections.abc import Callable, Iterator
from functools import partial
from queue import SimpleQueue
from typing import Any

__all__ = ["GeneratorThread", "ThreadedSource"]

_log = logging.getLogger("bunpy")

#: What a call gave, or raised. A future that raised it would throw a GeneratorExit into all that await it.
_Answer = tuple[Any, "BaseException | None"]
#: What to call, what its answer goes to, and whether the thread ends with it.
_Command = tuple[Callable[[], Any], "Future[_Answer]", bool]


class GeneratorThread(threading.Thread):
    """The thread of one generator: what waits there for its server to stop waits for itself."""


class ThreadedSource:
    """Steps ``iterator`` in one thread, always the same, only when it is asked to: it is never an item ahead.

    The thread is the iterator's own, so that one that blocks for ever stalls no other, and so that what may be used
    in one thread only (a SQLite connection) works. It begins with the first step and ends with the iterator.
    """

    def __init__(self, iterator: Iterator[Any]) -> None:
        self._iterator = iterator
        self._context = contextvars.copy_context()
        self._commands: SimpleQueue[_Command] | None = None
        self._is_over = False
        self._has_ended = False  # the thread has, or is about to
        self._lock = threading.Lock()

    def __aiter__(self) -> ThreadedSource:
        return self

    async def __anext__(self) -> Any:
        return await self._run(self._iterator.__next__)

    async def athrow(self, exc: BaseException) -> Any:
        """Raise ``exc`` in the generator at its ``yield``; raised here if it is an iterator of another kind."""
        throw = getattr(self._iterator, "throw", None)
        if throw is None:
            raise exc
        try:
            return await self._run(partial(throw, exc))
        finally:
            del exc  # its traceback holds this frame

    async def aclose(self) -> None:
        """Close the generator when it is next at a ``yield``, and wait for that; its thread ends."""
        close = getattr(self._iterator, "close", None)
        if self._commands is None:
            self._is_over = True
            if close is not None:
                close()
        elif not self._is_over:
            self._is_over = True
            _, error = await self._ask(close if close is not None else lambda: None, is_last=True)
            try:
                if error is not None and not isinstance(error, StopAsyncIteration):
                    raise error
            finally:
                del error  # its traceback holds this frame

    async def _run(self, step: Callable[[], Any]) -> Any:
        if self._is_over:
            raise StopAsyncIteration
        result, error = await self._ask(step)
        if error is not None:
            self._is_over = True
            try:
                raise error
            finally:
                del error, step  # its traceback holds this frame
        return result

    def _ask(self, call: Callable[[], Any], is_last: bool = False) -> Future[_Answer]:
        """Let the thread make a call, and with ``is_last`` end; the error is StopAsyncIteration if it has ended."""
        loop = asyncio.get_running_loop()
        answer: Future[_Answer] = loop.create_future()
        with self._lock:
            if self._commands is None:
                self._commands = SimpleQueue()
                GeneratorThread(
                    target=self._work,
                    args=(self._commands, loop),
                    name="bunpy-generator",
                    daemon=True,
                ).start()
            if self._has_ended:
                answer.set_result((None, StopAsyncIteration()))
            else:
                self._commands.put((call, answer, is_last))
        return answer

    def _work(self, commands: SimpleQueue[_Command], loop: asyncio.AbstractEventLoop) -> None:
        is_over = False
        while not is_over:
            call, answer, is_over = commands.get()
            result: Any = None
            error: BaseException | None = None
            try:
                result = self._context.run(call)
            except StopIteration:
                error = StopAsyncIteration()
            except StopAsyncIteration as exc:  # raised by the generator, where it means no end
                error = RuntimeError("generator raised StopAsyncIteration")
                error.__cause__ = exc
            except BaseException as exc:
                error = exc
            is_over = is_over or error is not None
            if is_over:
                self._end(commands, loop)
            is_told = _tell(loop, answer, result, error)
            del call, answer, result, error  # its traceback holds this frame
            if not is_told and not is_over:
                # The loop has closed, and nobody will ask for more; the generator is still to be closed.
                is_over = True
                close = getattr(self._iterator, "close", None)
                if close is not None:
                    self._context.run(close)

    def _end(self, commands: SimpleQueue[_Command], loop: asyncio.AbstractEventLoop) -> None:
        """Nothing is done for those who ask from now on, nor for those who have asked in the meantime."""
        with self._lock:
            self._has_ended = True
            while not commands.empty():
                _tell(loop, commands.get()[1], None, StopAsyncIteration())


def _tell(
    loop: asyncio.AbstractEventLoop,
    answer: Future[_Answer],
    result: Any,
    error: BaseException | None,
) -> bool:
    """Whether the loop could be told; not if it has closed."""
    try:
        loop.call_soon_threadsafe(_settle, answer, result, error)
    except RuntimeError:
        return False
    return True


def _settle(answer: Future[_Answer], result: Any, error: BaseException | None) -> None:
    if answer.done():  # the stream is over; what its generator still raised must not be lost
        if error is not None and not isinstance(error, StopAsyncIteration):
            _log.error("a generator raised after its stream had ended", exc_info=error)
        return
    answer.set_result((result, error))
