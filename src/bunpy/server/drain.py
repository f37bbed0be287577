"""How a server stops: in order, so that nothing that was on its way is lost. When it does is the server's to say."""

from __future__ import annotations

import asyncio
import logging
from asyncio import Future
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from bunpy.http.service import Service
    from bunpy.server.acceptor import Acceptor
    from bunpy.server.config import StreamsEnd
    from bunpy.server.listeners import Listeners

__all__ = ["Drain"]

_log = logging.getLogger("bunpy")

#: Seconds over which the ends of very many streams are spread, and the steps in which they are.
_SPREAD_TIME: Final = 2.0
_SPREAD_STEP: Final = 0.01
#: Streams that end in one step at the least: up to 2,000 a second nothing is gained by waiting.
_SPREAD_MIN: Final = 20
#: Seconds for generators to see that they are cancelled, once the grace is over.
_LAST_TIME: Final = 0.2
#: Seconds in which whoever has a connection to a retiring server may use it once more, and learn that it was the last
#: time; and for a connection that was just accepted to become one.
_PATIENCE: Final = 1.0
_MOMENT: Final = 0.1


class Drain:
    """The end of what ``service`` does; made on its loop when the server begins.

    ``hasten`` says that the grace is over, before ``run`` or while it waits.
    """

    def __init__(self, service: Service, acceptor: Acceptor, listeners: Listeners) -> None:
        self._service = service
        self._acceptor = acceptor
        self._listeners = listeners
        self._hurry: Future[None] = service.loop.create_future()

    def hasten(self) -> None:
        """What has not ended yet is cut off. Again: nothing happens."""
        _settle(self._hurry)

    async def run(self, streams: StreamsEnd, *, is_retiring: bool) -> None:
        """Stop in order. Another server accepts from the same sockets where this one ``is_retiring``."""
        service, hurry = self._service, self._hurry
        # 1. Nobody new; and from now on, each answer says that it is its connection's last.
        service.is_retiring = is_retiring
        service.is_stopping = True
        service.lets_finish = streams == "finish"
        self._acceptor.close()
        self._listeners.close()
        await asyncio.sleep(0)  # those that were accepted just now get to be connections
        if is_retiring:
            await self._be_patient()
        await self._acceptor.abort_handshakes()
        # 2. Whoever waits for nothing goes; whoever waits for an answer gets it, and is the last to.
        idle = self._when_idle()
        # 3. Streams end, a few at a time if they are many, so that their clients do not all come back at once.
        await self._end_streams(is_spread=streams == "spread")
        # 4. They have until the grace is over.
        await asyncio.wait([idle, hurry], return_when=asyncio.FIRST_COMPLETED)
        # 5. Streams that were to come to their own end have not: they end now.
        if service.lets_finish and not idle.done():
            service.lets_finish = False
            await self._end_streams(is_spread=False)
            await asyncio.wait([idle], timeout=_LAST_TIME)
        # 6. What is left is cut off, and its generators have one more moment.
        if not idle.done():
            for connection in list(service.connections):
                connection.cut_off("shutdown")
            await asyncio.wait([idle], timeout=_LAST_TIME)
        if not idle.done():
            _log.error(
                "stopped with %d connections whose handlers or generators did not end",
                len(service.connections),
            )

    async def _be_patient(self) -> None:
        """Let whoever has a connection use it once more: who closes it may cross a request on its way (RFC 9112 9.6).

        Where handshakes may be going on, all the time is given.
        """
        service, hurry = self._service, self._hurry
        moment = _MOMENT if service.config.tls is None else _PATIENCE
        await asyncio.wait([hurry], timeout=moment)
        if hurry.done():
            return
        await asyncio.wait(
            [self._when_idle(), hurry],
            timeout=_PATIENCE - moment,
            return_when=asyncio.FIRST_COMPLETED,
        )

    async def _end_streams(self, *, is_spread: bool) -> None:
        """Tell every connection that the server stops."""
        connections, hurry = list(self._service.connections), self._hurry
        turn = len(connections)
        if is_spread:
            turn = max(_SPREAD_MIN, int(turn / _SPREAD_TIME * _SPREAD_STEP))
        for start in range(0, len(connections), turn or 1):
            for connection in connections[start : start + turn]:
                connection.stop()
            if start + turn < len(connections):
                await asyncio.wait([hurry], timeout=0 if hurry.done() else _SPREAD_STEP)

    def _when_idle(self) -> Future[None]:
        """Is done when there are no connections."""
        service = self._service
        idle: Future[None] = service.loop.create_future()
        service.on_idle = lambda: _settle(idle)
        if not service.connections:
            service.on_idle()
        return idle


def _settle(future: Future[None]) -> None:
    if not future.done():
        future.set_result(None)
