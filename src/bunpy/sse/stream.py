"""One response's stream, from its first step to its last: policy over the pump. It knows no request and no socket."""

from __future__ import annotations

import asyncio
import inspect
import logging
import random
import time
from asyncio import Task, TimerHandle
from collections.abc import AsyncIterator, Callable
from functools import partial
from types import AsyncGeneratorType
from typing import TYPE_CHECKING, Any, Final

from bunpy._speedups import Pump
from bunpy.sse.abandonment import is_abandoned
from bunpy.sse.reason import EndReason

if TYPE_CHECKING:
    from bunpy._speedups import EventBuffer, Outlet
    from bunpy.http.flow import Flow
    from bunpy.http.service import Service

__all__ = ["Stream"]

_log = logging.getLogger("bunpy")

#: Milliseconds: clients whose stream the server ends are told to come back after a random time up to this.
RETURN_TIME: Final = 2000

_NEVER: Final = float("inf")
_ON_CLOSE: Final = "on_close"


class Stream:
    """A source on its way to one client. ``run`` is its one task's: it iterates, is cancelled and closes there.

    ``outlet.head`` is the response head, which leaves with the first event or after ``head_delay`` (the
    deferred commit): until then an error can still become a status. ``heartbeat`` is what may be sent at any time
    and means nothing to the client, b"" if there is no such thing; ``name``, as text, and ``request_id`` say
    in the log which request this is; ``on_close`` is told the end's reason.
    """

    __slots__ = (
        "_buffer", "_bytes_before", "_counted_bytes", "_counted_events", "_end_time", "_failure", "_flow",
        "_heartbeat", "_on_close", "_outlet", "_pump", "_service", "_source", "_task", "_timer", "_what", "error",
        "is_over", "name", "reason", "request_id",
    )  # fmt: skip

    def __init__(
        self,
        source: AsyncIterator[Any],
        buffer: EventBuffer,
        outlet: Outlet,
        flow: Flow,
        service: Service,
        heartbeat: bytes,
        name: object,
        on_close: Callable[[EndReason], Any] | None = None,
        request_id: str | None = None,
    ) -> None:
        self._source: AsyncIterator[Any] | None = source
        self._buffer = buffer
        self._outlet = outlet
        self._flow = flow
        self._service = service
        lifetime = service.config.stream_lifetime if heartbeat else None
        # Streams that began together do not end together.
        self._end_time = (
            _NEVER if lifetime is None else time.monotonic() + lifetime * random.uniform(0.9, 1)
        )
        self._heartbeat = heartbeat
        self._bytes_before = self._counted_bytes = outlet.bytes_sent
        self._counted_events = 0
        self._on_close = on_close
        self._pump = Pump(source, buffer, outlet)
        self._task: Task[Any] | None = None
        #: Whether there is nothing left to do for it.
        self.is_over = False
        self._timer: TimerHandle | None = None
        self._what = "the generator"  # that is given up when its time is over
        self._failure = "the generator failed to end"  # what the log is told that it has done
        self.name = name
        self.request_id = request_id
        #: Why it ended, or is ending; None while it runs.
        self.reason: EndReason | None = None
        #: What the source raised, if that ended it.
        self.error: BaseException | None = None

    @property
    def is_committed(self) -> bool:
        """Whether the response head has left."""
        return self._outlet.head is None

    @property
    def is_complete(self) -> bool:
        """Whether its response may end like one that is whole: an event stream may wherever it is ended, a body not."""
        reason = self.reason
        if reason == "finished":
            return True
        return (reason == "shutdown" or reason == "lifetime") and bool(self._heartbeat)

    @property
    def events(self) -> int:
        """How many events, or pieces, had been sent at the last ``count``."""
        return self._counted_events

    @property
    def first_sent(self) -> float:
        """When the first of them was, in seconds of ``time.monotonic``; 0.0 before."""
        return self._pump.first_sent

    @property
    def bytes_sent(self) -> int:
        """How many bytes have been handed over, the head and framing included."""
        return self._outlet.bytes_sent - self._bytes_before

    def count(self) -> None:
        """Let the service's counters know what has been sent since the last time."""
        sent = self._outlet.bytes_sent
        if sent != self._counted_bytes:
            counters, events = self._service.counters, self._pump.events
            counters.events += events - self._counted_events
            counters.bytes_sent += sent - self._counted_bytes
            self._counted_events = events
            self._counted_bytes = sent

    def tick(self, now: float) -> None:
        """Look at the time, ``now`` in seconds of ``time.monotonic``: has it come for the end, or for a heartbeat?"""
        self.count()
        if now >= self._end_time:
            self.end("lifetime")
        elif (
            self._outlet.last_sent + self._service.config.heartbeat <= now
            and not self._outlet.is_paused
        ):
            self.comment()

    def comment(self) -> None:
        """Send the heartbeat, once the head has left."""
        if self._heartbeat and self.is_committed and self.reason is None:
            self._outlet.write(self._heartbeat)

    async def run(self) -> None:
        """Send all that the source yields, then close it; ``reason`` and ``error`` tell the end.

        Raises ``GeneratorExit`` alone, which whoever runs the task gives to ``fail``, and runs this again: it goes on
        with what is left to do.
        """
        if self.reason is None:
            self._task = asyncio.current_task()
            self._service.loop.call_soon(self._defer_head)
            try:
                while await self._pump:
                    await self._flow.drained()
                if self.reason is None:
                    self.reason = "finished"
                    self._outlet.flush(self._buffer, last=True)
                else:
                    self._outlet.flush(self._buffer)
            except GeneratorExit:
                raise
            except BaseException as exc:  # whatever it is, it ends this stream and not the loop
                if self.reason is None and self._is_cancelled_with_server(exc):
                    self.reason = "shutdown"
                elif not (self.reason is not None and isinstance(exc, asyncio.CancelledError)):
                    self._blame(exc)
        source, self._source = self._source, None
        if source is not None:
            if self.reason != "finished" and self.is_complete:
                self._say_goodbye()
            self._pump.close()
            if not (isinstance(source, AsyncGeneratorType) and source.ag_frame is None):
                await self._close_source(source)
        if self._on_close is not None:
            await self._tell_end()
        self._stop_timer()
        self._task = None
        self.is_over = True

    def fail(self, exc: GeneratorExit) -> None:
        """What the source awaited has raised this, or the program's ``on_close``; if not, the loop has gone: it is
        raised again.
        """
        if is_abandoned(self._task):
            raise exc
        self._blame(exc)

    def _blame(self, exc: BaseException) -> None:
        """The source has raised what ends the stream; or, if that was ending, what is logged."""
        if self.reason is None:
            self.reason = "error"
            self.error = exc
        else:
            self._log_error(self._failure, exc)

    def end(self, reason: EndReason) -> None:
        """End the stream from outside: cancel what the source waits for, and close it. Further calls do nothing."""
        if self.reason is not None:
            return
        self.reason = reason
        self._pump.is_stopped = True
        if self._task is not None:
            self._stop_timer()
            self._task.cancel()
            # Nearly all have ended by then: when thousands leave at once, a timer for each would be their largest cost.
            self._service.loop.call_soon(self._limit_end)

    def _is_cancelled_with_server(self, exc: BaseException) -> bool:
        """Whether all tasks of the loop are cancelled, as ``asyncio.run`` does at its end; not by the source itself."""
        return isinstance(exc, asyncio.CancelledError) and self._service.is_cancelled

    def _say_goodbye(self) -> None:
        """End the response cleanly, and let clients whose streams end together not come back together."""
        self._buffer.append({"retry": random.randrange(RETURN_TIME)})
        self._outlet.flush(self._buffer, last=True)

    def _defer_head(self) -> None:
        """The source has been stepped once and waits; if nothing has left by now, the head may not wait for long."""
        if self.reason is None and self._outlet.head is not None:
            self._start_timer(self._service.config.head_delay, self._commit)

    def _limit_end(self) -> None:
        """What has not ended in a turn of the loop may take ``close_timeout`` for it."""
        if self._task is not None and self._timer is None:
            self._start_timer(self._service.config.close_timeout, self._give_up)

    def _start_timer(self, delay: float, call: Callable[[], None]) -> None:
        """The one timer: first for the head, then for the end."""
        self._stop_timer()
        self._timer = self._service.loop.call_later(delay, call)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _commit(self) -> None:
        self._timer = None
        if self.reason is None:
            self._outlet.write(b"")

    async def _close_source(self, source: AsyncIterator[Any]) -> None:
        """Close a source that has not run to its end, in bounded time."""
        close = getattr(source, "aclose", None)
        if close is not None:
            self._what = "the generator"
            await self._finish(close, "the generator failed to close")

    async def _tell_end(self) -> None:
        """Tell the program why the stream has ended, once; an async function is awaited, in bounded time."""
        on_close, reason, self._on_close = self._on_close, self.reason, None
        assert on_close is not None
        assert reason is not None
        self._what = _ON_CLOSE
        await self._finish(partial(on_close, reason), "on_close raised")

    async def _finish(self, last: Callable[[], Any], failure: str) -> None:
        """Do, and await, what is left when the stream has ended; whatever it raises is logged as a ``failure``."""
        self._failure = failure
        if self._timer is None or self.reason in ("finished", "error"):
            # In the other cases the time has been running since ``end``.
            self._task = asyncio.current_task()
            self._start_timer(self._service.config.close_timeout, self._give_up)
        try:
            result = last()
            if inspect.isawaitable(result):
                await result
        except GeneratorExit:
            raise
        except BaseException as exc:
            # A cancellation is that of _give_up, which has said so, or the loop's, which ends; or on_close's own.
            is_own = self._timer is not None and self._what == _ON_CLOSE
            if is_own or not isinstance(exc, asyncio.CancelledError):
                self._blame(exc)

    def _log_error(self, what: str, exc: BaseException | None = None) -> None:
        about = {"request_id": self.request_id}
        _log.error("%s: %s", self.name, what, exc_info=exc, extra=about)

    def _give_up(self) -> None:
        self._timer = None
        if self._task is not None:
            self._log_error(
                f"{self._what} still runs {self._service.config.close_timeout:g} s after its stream has ended:"
                " it swallows its cancellation, or its finally takes too long"
            )
            self._task.cancel()
