"""TLS connections that have begun and are not the protocol's yet: they are counted, timed, and can be cut off."""

from __future__ import annotations

import asyncio
import ssl
from asyncio import Future
from collections.abc import Callable

from bunpy.server.tls_transport import TLSTransport

__all__ = ["Handshakes"]


class Handshakes:
    """A server's connections that are not the protocol's yet, and the way in for new ones. All of it on the loop.

    ``factory`` makes the protocol of a connection that has come through; ``timeout`` is in seconds, for each;
    ``on_accepted`` is called with the descriptor of each when it begins.
    """

    def __init__(
        self,
        factory: Callable[[], asyncio.Protocol],
        context: ssl.SSLContext,
        *,
        timeout: float,
        on_accepted: Callable[[int], None] = lambda fd: None,
    ) -> None:
        self.factory = factory
        self.context = context
        self.timeout = timeout
        self.on_accepted = on_accepted
        self._running: set[TLSTransport] = set()
        self._is_empty: Future[None] | None = None

    def __len__(self) -> int:
        """How many there are."""
        return len(self._running)

    def new(self) -> TLSTransport:
        """What ``create_server``, without ``ssl``, makes for a connection."""
        return TLSTransport(self)

    def begin(self, transport: TLSTransport) -> None:
        """A connection has been accepted."""
        self._running.add(transport)

    def end(self, transport: TLSTransport) -> None:
        """It has come through, or is lost. Again: nothing happens."""
        self._running.discard(transport)
        if not self._running and self._is_empty is not None and not self._is_empty.done():
            self._is_empty.set_result(None)

    async def abort(self) -> None:
        """Cut them off; when this returns they are lost."""
        self._is_empty = asyncio.get_running_loop().create_future()
        for transport in list(self._running):
            transport.abort()
        if self._running:
            await self._is_empty
