"""The pump, in Python: the specification of ``pump_c``. It steps a source and decides when its events leave.

It knows no request, no heartbeat and no end reason; those are policy, in ``bunpy.sse.stream``.
"""

from __future__ import annotations

import time
import types
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Coroutine, Generator
from typing import TYPE_CHECKING, Any, ClassVar, Final

from bunpy.errors import InvalidEvent, InvalidResponse

if TYPE_CHECKING:
    from bunpy._speedups.encoder_py import EventBuffer
    from bunpy._speedups.outlet_py import Outlet

__all__ = [
    "FEW_EVENTS",
    "FLUSH_SIZE",
    "LEAST_TURN",
    "LONG_TURN",
    "MOST_ALONE",
    "STEP_TIME",
    "TURN_TIME",
    "Pump",
]

#: Bytes: a buffer that has grown past this is sent.
FLUSH_SIZE: Final = 64 * 1024
#: Seconds: for each that a step took without suspending (it blocked), one event leaves alone, its own first. What has
#: blocked may block again: of two tokens that came in one packet, the second must not wait for the third. A flush takes
#: a tenth of this.
STEP_TIME: Final = 50e-6
#: How many that are at the most.
MOST_ALONE: Final = 8
#: Events since a step last took so long, or since the start, after which it is only one: a client that blocks does so
#: again and again, and a step also takes long where the process had to wait for a processor.
FEW_EVENTS: Final = 16
#: Seconds: for so long a source that never suspends may hold the loop.
TURN_TIME: Final = 5e-3
#: Seconds: those that wait for their next turn share the time that one would have, down to this much each.
LEAST_TURN: Final = 20e-6
#: Seconds: a turn that took longer counts as one that took this. The process was stopped, or one step blocked: what
#: every turn of every source is going to take is not learned from that.
LONG_TURN: Final = 20e-3
#: Multiples of the golden ratio's fraction: wherever the sequence is cut, its members lie evenly in 0 to 1.
_EVENLY: Final = (5**0.5 - 1) / 2

_PAUSED: Final = object()
_TURN: Final = object()


class Pump:
    """Moves a source's events into an outlet: an awaitable, one task's, awaited until it gives False.

    ``await pump`` gives True when the outlet is paused (await its draining, then the pump again) and False when the
    source has ended; what it left in the buffer then is for ``Outlet.flush(buffer, last=True)``, at once, since the
    buffer is every stream's. Whatever the source raises comes out of it. What is flushed when:

    1. the first event after the start or a suspension at once; those that follow without a suspension together;
    2. all that is buffered before the source's suspension reaches the loop;
    3. the buffer, when it passes ``FLUSH_SIZE``;
    4. an event whose making took over ``STEP_TIME``, before the next step; where that happens every few events, so
       those just after it: as many as it took times that, ``MOST_ALONE`` in all.

    A refused item is thrown into the source at its own ``yield`` where it has ``athrow``, as async generators have.
    """

    __slots__ = (
        "_alone",
        "_began",
        "_blocked_at",
        "_buffer",
        "_is_fresh",
        "_is_over",
        "_outlet",
        "_source",
        "_steps",
        "_turn",
        "events",
        "first_sent",
        "is_stopped",
    )

    #: How many of all pumps wait for their next turn.
    _waiting: ClassVar[int] = 0
    #: Seconds that a turn of one has taken lately: what has to be done at the least may be more than its share.
    _usual_turn: ClassVar[float] = 0.0
    _spread: ClassVar[float] = 0.0

    def __init__(self, source: AsyncIterator[Any], buffer: EventBuffer, outlet: Outlet) -> None:
        self._source = source
        self._buffer = buffer
        self._outlet = outlet
        self._is_fresh = True
        self._is_over = False
        self._alone = 0  # events that leave one by one
        self._began = 0.0  # when the step did, or went on
        self._blocked_at = 0  # how many events it had moved after a step that took long
        self._turn = 0.0
        self._steps: Coroutine[Any, None, None] | None = None
        #: How many events it has moved.
        self.events = 0
        #: When the first of them was handed over, in seconds of ``time.monotonic``; 0.0 before.
        self.first_sent = 0.0
        #: Set to end the pump at the next event, whatever the source makes of its cancellation.
        self.is_stopped = False

    def __await__(self) -> Generator[Any, Any, bool]:
        if self._is_over:
            return False
        if self._steps is None:
            self._steps = self._run()
        steps = self._steps
        resume: Any = steps.send
        value: Any = None
        while True:
            began = self._began = time.monotonic()
            self._turn = began + max(TURN_TIME / (1 + Pump._waiting), LEAST_TURN)
            try:
                yielded = resume(value)
            except StopIteration:
                self._is_over = True
                return False
            except BaseException:
                self._is_over = True
                # Its traceback holds this frame, and what was awaited last, or thrown, may hold it.
                yielded = value = None
                self._outlet.flush(self._buffer)
                raise
            if yielded is _PAUSED:
                return True
            self._outlet.flush(self._buffer)
            self._is_fresh = True
            is_turn = yielded is _TURN
            Pump._waiting += is_turn
            left_out = self._turns_left_out(began) if is_turn else 0
            try:
                value = yield None if is_turn else yielded
                while left_out:
                    left_out -= 1
                    yield None
                resume = steps.send
            except GeneratorExit:
                self.close()
                raise
            except BaseException as exc:
                value = exc
                resume = steps.throw
            finally:
                Pump._waiting -= is_turn

    def _turns_left_out(self, began: float) -> int:
        """How many turns of the loop it leaves to others, so that all that wait take ``TURN_TIME`` of each.

        1,000 sources that never suspend take 90 us each if all that they do in a turn is to fill one buffer: a new
        client would wait ten such turns, a second. One alone leaves out none. ``began`` is when the turn that is over
        began.
        """
        Pump._usual_turn += (min(time.monotonic() - began, LONG_TURN) - Pump._usual_turn) / 8
        Pump._spread = (Pump._spread + _EVENLY) % 1.0
        most = 2 * (Pump._waiting * Pump._usual_turn / TURN_TIME - 1)
        return int(most * Pump._spread + 0.5) if Pump._waiting > 1 and most > 0 else 0

    def close(self) -> None:
        """Step the source no more; a step that waits is closed."""
        self._is_over = True
        if self._steps is not None:
            self._steps.close()

    async def _run(self) -> None:
        source, append, outlet = self._source, self._buffer.append, self._outlet
        waiting = (
            self._buffer._bytes
        )  # len() of the buffer itself is a call of Python's: a twelfth of an event
        steps = source if isinstance(source, types.AsyncGeneratorType) else _Steps(source)
        async for item in steps:
            while True:
                try:
                    self.events += append(item)
                    break
                except (InvalidEvent, InvalidResponse) as exc:
                    throw = getattr(source, "athrow", None)
                    if throw is None:
                        raise
                    refused = exc
                if time.monotonic() > self._turn:
                    await _suspend(_TURN)
                    if getattr(source, "ag_frame", source) is None:
                        return  # closed by someone else in the meantime: athrow would give None, for ever
                try:
                    item = await throw(refused)
                except StopAsyncIteration:
                    return
                finally:
                    del refused  # its traceback holds this frame, which would hold it
            now = time.monotonic()
            if now - self._began > STEP_TIME:
                blocked = int((now - self._began) / STEP_TIME)
                most = MOST_ALONE if self.events - self._blocked_at <= FEW_EVENTS else 1
                self._alone = max(self._alone, min(blocked, most))
                self._blocked_at = self.events
            if self._is_fresh or self._alone or len(waiting) >= FLUSH_SIZE:
                outlet.flush(self._buffer)
                self._is_fresh = False
                self._alone = max(self._alone - 1, 0)
                if not self.first_sent:
                    self.first_sent = outlet.last_sent
                if self.is_stopped:
                    return
                if outlet.is_paused:
                    await _suspend(_PAUSED)
                now = time.monotonic()
            if now > self._turn:
                await _suspend(_TURN)
                now = time.monotonic()
            self._began = now


class _Steps:
    """An async iterator that is only stepped: it need not be iterable itself."""

    __slots__ = ("_source",)

    def __init__(self, source: AsyncIterator[Any]) -> None:
        self._source = source

    def __aiter__(self) -> _Steps:
        return self

    def __anext__(self) -> Awaitable[Any]:
        return anext(self._source)


@types.coroutine
def _suspend(value: object) -> Generator[object, None, None]:
    """Hand ``value`` to whoever steps the coroutine."""
    yield value


async def awaited(awaitable: Awaitable[Any]) -> Any:
    """Whatever may be awaited as a coroutine, which ``pump_c`` can step."""
    return await awaitable


async def yield_once(value: object) -> AsyncGenerator[object, None]:
    """An async generator of one item, by which ``pump_c`` learns how the interpreter hands items over."""
    yield value
