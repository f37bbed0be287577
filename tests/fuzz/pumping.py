"""A generator through both pumps, stepped by hand: it misbehaves, its transport fails, its task is cancelled."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import AsyncGenerator, Callable, Hashable
from types import SimpleNamespace
from typing import Any, Final

from .choices import Choices
from .encoding import Outcome, outcome_of
from .failing import Sockets, Transport
from .finding import Finding
from .liars import error
from .objects import Objects
from .stepping import Iterator, suspend

__all__ = ["Pumps"]

_STEPS: Final = 100
#: How often twins are asked that differ: a step that took over 50 µs leaves alone, and then another call fails.
_ATTEMPTS: Final = 30
_HEADS: Final = (None, b"", b"HTTP/1.1 200 OK\r\n\r\n", b"h" * 494, b"h" * 495, b"h" * 5000)


class Scene:
    """One twin's pump, what it is fed from and what it feeds, as ``data`` has it; ``run`` gives what happened."""

    def __init__(self, twin: SimpleNamespace, data: bytes, sockets: Sockets) -> None:
        self._choices = choices = Choices(data)
        self._objects = Objects(choices)
        #: Whether something happened that only must not crash.
        self.is_abused = False
        self._is_cut_short = False
        self._trace: list[Any] = []
        self._transport = Transport(choices)
        self._fd, self._peer = sockets.pair(
            choices.pick(("", "", "", "open", "full", "gone", "bad"))
        )
        self._outlet = twin.Outlet(self._transport, self._fd)
        self._outlet.head = choices.pick(_HEADS)
        self._outlet.is_chunked = choices.below(2) == 1
        if choices.once_in(4):
            self._transport.on_full = self._pause
        kind = choices.below(5)
        self._buffer = (twin.BytesBuffer if choices.once_in(5) else twin.EventBuffer)()
        self._is_usual = (
            kind < 4
        )  # what an iterator that gives no awaitable is told is each twin's own
        self._source: Any = self._generate() if kind < 4 else Iterator(self._generate(), choices)
        self._pump = twin.Pump(self._source, self._buffer, self._outlet)

    @property
    def is_timed(self) -> bool:
        """Whether the clock decides what has left by then: something failed, or was ended, half-way."""
        return self._is_cut_short or self._transport.has_failed

    def _pause(self) -> None:
        self._outlet.is_paused = True

    def run(self) -> Hashable:
        steps: Any = None
        has_suspended = False  # the source itself: what else is given is the clock's
        for _ in range(_STEPS):
            steps = steps or self._pump.__await__()
            step = self._step if has_suspended else next
            outcome = outcome_of(lambda: step(steps))  # noqa: B023 -- called at once
            has_suspended = False
            if outcome.raised is StopIteration:
                steps = None
                self._outlet.is_paused = False
                if outcome.message == "False":  # True is a flush that paused it
                    self._trace.append("over")
                    break
            elif outcome.raised is not None:
                self._trace.append(self._short(outcome))
                if self._choices.below(3):
                    break
                steps = None
            elif outcome.given is not None:  # None is the loop's turn
                has_suspended = True
                self._trace.append(repr(outcome.given)[:80])
        last = self._choices.below(2) == 1
        self._trace.append(outcome_of(lambda: self._outlet.flush(self._buffer, last)).raised)
        self._pump.close()
        self._close_source()
        return self._result()

    def _short(self, outcome: Outcome) -> object:
        """What the twins must agree on about an exception."""
        if outcome.raised is StopAsyncIteration or "raised Stop" in outcome.message:
            return "a stop"  # of an event's data: Python itself turns some of them into another
        return outcome.raised, outcome.message if self._is_usual else ""

    def _step(self, steps: Any) -> Any:
        way = self._choices.below(12)
        if way == 9:
            thrown = error(self._choices)
            if isinstance(thrown, GeneratorExit):
                # What an await does with it; whether the source can be closed then is the interpreter's release's.
                self.is_abused = True
                steps.close()
                raise thrown
            return steps.throw(thrown)
        if way == 10:
            return steps.send(None)
        if way == 11:
            self.is_abused = True  # its awaiter is not there to be told
            self._pump.close()
        return next(steps)

    def _close_source(self) -> None:
        """As its stream would; what that raises is the stream's business."""
        with contextlib.suppress(BaseException):
            closing = self._source.aclose()
            for _ in range(5):
                closing.send(None)

    def _result(self) -> Hashable:
        sent = self._transport.sent
        if self._peer is not None:
            with contextlib.suppress(OSError):
                while piece := self._peer.recv(1 << 20):
                    sent = piece + sent
        if self._outlet.is_chunked:
            sent = (
                b""  # how it is cut is the clock's; what a chunk is made of is the outlet's tests'
            )
        return (
            tuple(map(repr, self._trace)),
            sent,
            self._pump.events,
            len(self._buffer),
            self._outlet.is_closed,
            self._transport.is_closed,
        )

    # The source

    async def _generate(self) -> AsyncGenerator[Any, None]:
        choices = self._choices
        for _ in range(choices.below(12)):
            way = choices.below(16)
            try:
                if way < 8:
                    yield self._item()
                elif way < 11:
                    await suspend(choices.below(100))
                elif way == 11:
                    raise error(choices)
                elif way == 12:
                    return
                else:
                    self._misbehave()
                    yield "after"
            except BaseException as exc:
                if isinstance(exc, GeneratorExit) and choices.below(4):
                    raise
                answer = choices.below(6)
                self._trace.append(type(exc))
                if answer < 2:
                    raise
                if answer == 2:
                    return
                if answer == 3:
                    yield "swallowed"
                elif answer == 4:
                    await suspend("cleaning up")
                elif not isinstance(exc, GeneratorExit):
                    raise error(choices) from exc

    def _item(self) -> Any:
        return self._objects.item() if self._choices.below(3) else {"data": "usual"}

    def _misbehave(self) -> None:
        """What no generator of a server's can do so directly; nothing but a crash is judged."""
        way = self._choices.below(8)
        if way < 2:
            self._is_cut_short = True
            if way:
                self._outlet.close()
            else:
                self._pump.is_stopped = True
            return
        self.is_abused = True
        calls: tuple[Callable[[], Any], ...] = (
            self._pump.close,
            lambda: next(self._pump.__await__()),
            lambda: self._pump.__await__().throw(ValueError("re-entered")),
            lambda: self._source.aclose().send(None),
            self._buffer.take,
            lambda: self._outlet.flush(self._buffer, True),
        )
        with contextlib.suppress(Exception, GeneratorExit):
            calls[way - 2]()


class Pumps:
    """The twins' pumps, side by side."""

    def __init__(self, twins: list[SimpleNamespace]) -> None:
        self._twins = twins
        self._sockets = Sockets()

    def check(self, data: bytes) -> Hashable:
        sys.set_asyncgen_hooks(None, None)  # the loop's would keep every generator that is dropped
        results: list[Any] = []
        for _ in range(_ATTEMPTS):
            is_only_tried = False  # nothing but a crash is judged
            results = []
            for twin in self._twins:
                try:
                    scene = Scene(twin, data, self._sockets)
                    results.append(scene.run())
                    is_only_tried |= scene.is_abused or scene.is_timed
                finally:
                    self._sockets.close()
            if is_only_tried or all(result == results[0] for result in results):
                return len(results[0][0]), results[0][0][-3:], results[0][3:]
        raise Finding("pump: twins differ", repr([_brief(result) for result in results]))

    def close(self) -> None:
        self._sockets.close()


def _brief(result: tuple[Any, ...]) -> tuple[Any, ...]:
    return (result[0], result[1][:1000], *result[2:])
