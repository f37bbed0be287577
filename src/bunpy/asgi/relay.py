"""One event stream over one ASGI call: its tasks, its timers, and what ends it. How it runs is ``sse.stream``'s."""

from __future__ import annotations

import asyncio
import math
import time
from asyncio import AbstractEventLoop, Task
from typing import TYPE_CHECKING, Final

from bunpy.asgi import servers, streams
from bunpy.asgi.base import Message, Receive, Scope, Send, answer_error
from bunpy.asgi.crew import Crew, settled
from bunpy.asgi.event import frame_of
from bunpy.asgi.outflow import Outflow
from bunpy.errors import HTTPError
from bunpy.sse.stream import Stream

if TYPE_CHECKING:
    from bunpy.asgi.response import EventSourceResponse
    from bunpy.sse.reason import EndReason

__all__ = ["Relay"]

_HEARTBEAT: Final = b":\n\n"
_DISCONNECT: Final = "http.disconnect"


class Relay:
    """Runs ``response``'s stream in a task of its own: whoever cancels that task means the stream."""

    __slots__ = (
        "_crew", "_failure", "_farewell", "_is_finishing", "_is_slow", "_outflow", "_patience", "_receive", "_response",
        "_scope", "_send", "_send_timeout", "_stream", "_task", "loop",
    )  # fmt: skip

    def __init__(
        self, response: EventSourceResponse, scope: Scope, receive: Receive, send: Send
    ) -> None:
        self.loop: AbstractEventLoop = asyncio.get_running_loop()
        self._response = response
        self._scope = scope
        self._receive = receive
        self._send = send
        self._outflow = Outflow(
            self.loop,
            send,
            {
                "type": "http.response.start",
                "status": response.status_code,
                "headers": response.raw_headers,
            },
            response.sep.encode(),
            self._send_late,
            self._fail_to_send,
        )
        self._send_timeout = response.send_timeout
        timeout = response.cleanup_timeout
        #: How long the source may take to end, in seconds.
        self._patience = math.inf if timeout is None else max(timeout, 0.001)
        service = streams.service_of(self.loop, self._patience)
        self._stream = Stream(
            response.body_iterator,
            service.events,
            self._outflow.outlet,
            self._outflow,
            service,
            _HEARTBEAT,
            f"{scope['method']} {scope['path']}",
            response.on_close,
        )
        self._task: Task[None] | None = None
        self._crew = Crew(self.loop, self._fail)
        self._farewell: Message = {"type": _DISCONNECT}
        self._failure: BaseException | None = None
        self._is_slow = False
        self._is_finishing = False

    async def run(self) -> None:
        """Stream until the end, and close the source. Raises what the source raised, or ``send`` did.

        ``TimeoutError`` if a send took longer than ``send_timeout``. A client that leaves is no error.
        """
        if self._scope["method"] == "HEAD":
            self._stream.end("finished")
        servers.watch(self.loop)
        streams.enter(self)
        self._task = self.loop.create_task(self._stream_all())
        # Behind the first step of that task: a stream that has ended by then needs nobody to watch it.
        self.loop.call_soon(self._begin_to_watch)
        cancelled: asyncio.CancelledError | None = None
        try:
            try:
                await asyncio.wait([self._task])
            except asyncio.CancelledError as exc:
                cancelled = exc
                self._cut("shutdown")
                await settled([self._task], 2 * self._patience)
            cancelled = await self._crew.dismiss(2 * self._patience) or cancelled
        finally:
            streams.leave(self)
            self._outflow.close()
        if cancelled is not None:
            try:
                raise cancelled  # the same: anyio knows its own by what they say
            finally:
                del cancelled  # its traceback holds this frame
        await self._answer()

    def shut_down(self) -> None:
        """The server stops: tell the source, if it wants to know, and end the stream when its time is over."""
        response = self._response
        if self._task is None or self._task.done():
            return
        if response.shutdown_event is not None:
            response.shutdown_event.set()
        if response.shutdown_grace_period > 0:
            self._crew.start_timer("end", response.shutdown_grace_period, self._end_with_server)
        else:
            self._end_with_server()

    # The stream's task

    async def _stream_all(self) -> None:
        outflow, stream = self._outflow, self._stream
        while not stream.is_over:
            try:
                await outflow.driven(stream.run())
            except GeneratorExit as exc:
                stream.fail(exc)
        self._is_finishing = True
        if outflow.is_cut:
            return
        if stream.is_complete and self._failure is None:
            await outflow.finish()
        elif stream.is_committed:
            await outflow.drained()  # what came before the error

    # What happens meanwhile

    def _begin_to_watch(self) -> None:
        assert self._task is not None
        response = self._response
        if self._task.done():
            return
        self._crew.add(self._listen())
        self._look_for_slowness()
        if self._stream.reason is not None:
            return
        if response.data_sender_callable is not None:
            self._crew.add(response.data_sender_callable())
        if response.ping_interval:
            self._crew.start_timer("ping", response.ping_interval, self._look_for_silence)
        if streams.is_stopping(self.loop):
            self.shut_down()

    async def _listen(self) -> None:
        """Wait for the client to leave; what is left of the request's body is dropped."""
        assert self._task is not None
        # Before CPython 3.11 an anyio scope in the server's or a middleware's ``receive`` may swallow a cancellation.
        while not self._task.done():
            message = await self._receive()
            if message["type"] == _DISCONNECT:
                self._farewell = message
                self._cut("client")
                return

    def _look_for_slowness(self) -> None:
        """Has a send taken too long? One timer for all: each of them would be set for nothing."""
        limit = self._send_timeout
        if limit is None:
            return
        since = self._outflow.sending_since
        left = limit if since is None else since + limit - self.loop.time()
        if left > 0:
            self._crew.start_timer("slow", left, self._look_for_slowness)
        else:
            self._is_slow = True
            self._cut("slow")

    def _look_for_silence(self) -> None:
        """Send a comment if there has been silence."""
        interval = self._response.ping_interval
        if self._stream.reason is not None:
            return
        left = self._outflow.outlet.last_sent + interval - time.monotonic()
        if left <= 0:
            left = interval
            if self._stream.is_committed and not self._outflow.is_sending:
                self._send_ping()
        self._crew.start_timer("ping", left, self._look_for_silence)

    def _send_ping(self) -> None:
        make = self._response.ping_message_factory
        try:
            frame = _HEARTBEAT if make is None else frame_of(make())
        except Exception as exc:
            self._fail(exc)
            return
        self._outflow.outlet.write(frame)

    def _send_late(self) -> None:
        """What a timer has written is sent: a ping, or the head that has waited for an event long enough."""
        self._crew.add(self._outflow.drained())

    # What ends it

    def _cut(self, reason: EndReason) -> None:
        """There is nobody to send to."""
        self._outflow.is_cut = True
        if self._is_finishing:
            assert self._task is not None
            self._task.cancel()
        self._stream.end(reason)

    def _fail(self, exc: BaseException) -> None:
        """The stream cannot go on, for a reason that is not its source's."""
        if self._failure is None:
            self._failure = exc
        self._stream.end("error")

    def _fail_to_send(self, exc: Exception) -> None:
        if isinstance(exc, OSError):  # the connection has gone (ASGI 2.4)
            self._cut("client")
        else:
            self._fail(exc)

    def _end_with_server(self) -> None:
        # A client that takes nothing may not keep the server from stopping.
        limit = self._send_timeout
        self._send_timeout = self._patience if limit is None else min(limit, self._patience)
        self._look_for_slowness()
        self._stream.end("shutdown")

    # The end

    async def _answer(self) -> None:
        """Tell the server how it ended, and who wants to know that the client has left."""
        assert self._task is not None
        if not self._task.cancelled():
            self._task.result()
        if self._is_slow and self._stream.reason != "shutdown":
            raise TimeoutError(
                f"{self._stream.name}: the client took nothing for {self._send_timeout:g} s (send_timeout)"
            )
        error = self._failure or self._stream.error
        if isinstance(error, asyncio.CancelledError):
            raise RuntimeError("the source of an event stream cancelled itself") from error
        if isinstance(error, HTTPError) and not self._stream.is_committed:
            await answer_error(error, self._scope, self._send)
        elif error is not None:
            raise error
        elif self._stream.reason == "client" and self._response.client_close_handler_callable:
            await self._response.client_close_handler_callable(self._farewell)
