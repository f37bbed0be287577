"""The ends of TLS connections in memory: a client's, and the protocol inside a server's. No sockets are here."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Coroutine
from typing import Any

from fakes import FakeTransport

from bunpy.server.handshakes import Handshakes

__all__ = ["NEVER", "SOON", "Client", "Inner", "Room", "run"]

SOON = 5.0  # seconds: what should come at once has surely come
NEVER = 60.0  # seconds: what is not waited for


class Inner(asyncio.Protocol):
    """The protocol inside: it keeps what it is told."""

    def __init__(self, *, keeps_open: bool = False) -> None:
        self.told: list[str] = []
        self.data = b""
        self.pieces = 0
        self.keeps_open = keeps_open
        self.lost_for: Exception | None = None
        self.on_data: Callable[[], object] = lambda: None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.told.append("made")

    def data_received(self, data: bytes) -> None:
        self.data += data
        self.pieces += 1
        self.on_data()

    def eof_received(self) -> bool:
        self.told.append("eof")
        return self.keeps_open

    def pause_writing(self) -> None:
        self.told.append("pause")

    def resume_writing(self) -> None:
        self.told.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.told.append("lost")
        self.lost_for = exc


class Client:
    """A client's end, and the wire between: ``exchange`` carries what there is, in both directions."""

    def __init__(self, handshakes: Handshakes, context: ssl.SSLContext, *, piece: int = 1 << 20):
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")
        self.server = handshakes.new()
        self.plain = FakeTransport(self.server, {"peername": ("192.0.2.1", 5)})
        self.piece = piece
        self.data = b""
        self.has_eof = False
        self.server.connection_made(self.plain)

    def exchange(self) -> None:
        sent = self.outgoing.read()
        for start in range(0, len(sent), self.piece):
            if not self.plain.is_closed:
                self.server.data_received(sent[start : start + self.piece])
        self.incoming.write(self.plain.sent)
        self.plain.clear()

    def shake_hands(self) -> Client:
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                self.exchange()
            else:
                break
        self.exchange()
        return self

    def send(self, data: bytes) -> None:
        self.tls.write(data)
        self.exchange()

    def receive(self) -> bytes:
        """What has come since the last time; ``has_eof`` after the server's close_notify."""
        self.exchange()
        data = b""
        with contextlib.suppress(ssl.SSLWantReadError):
            try:
                while piece := self.tls.read(65536):
                    data += piece
            except ssl.SSLZeroReturnError:
                pass
            self.has_eof = True
        return data

    def shut(self) -> None:
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.unwrap()


class Room:
    """One server's handshakes, and the protocols that came of them."""

    def __init__(self, context: ssl.SSLContext, **options: Any) -> None:
        self.inner = Inner()
        self.accepted: list[int] = []
        options = {"timeout": NEVER, "on_accepted": self.accepted.append, **options}
        self.handshakes = Handshakes(lambda: self.inner, context, **options)


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), SOON))
