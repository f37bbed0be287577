"""One client connection with deadlines: bytes out, bytes in, and how it ended. No HTTP here.

Over TLS the bytes are those inside it; pieces become records of their own.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import ssl
import struct
import sys
import time
from dataclasses import replace
from types import TracebackType
from typing import Literal

from bunpy.testing.address import Address, ServerLike
from bunpy.testing.deadline import Deadline
from bunpy.testing.errors import IncompleteAnswer, InvalidAnswer
from bunpy.testing.pieces import Pieces, cut
from bunpy.testing.tunnel import Tunnel

__all__ = ["Connection", "End", "Pieces", "cut"]

#: How a connection ended: with the server's FIN (over TLS its close_notify), its RST, or, over TLS,
#: with FIN and no close_notify, so that what was to come may have been cut off.
End = Literal["closed", "reset", "truncated"]
_RECEIVE_SIZE = 64 * 1024
# SO_LINGER: on, for no time at all. Windows has shorts where POSIX has ints.
_RESET_ON_CLOSE = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)


class Connection:
    """A connection to ``server`` (a URL, a "unix:" path or a server object), made at once.

    ``timeout`` (seconds) is a deadline for each call in all, not for each system call, and may be
    given anew with each call. ``receive_buffer`` (bytes) sets SO_RCVBUF before connecting, for a
    client that is to be slow. ``tls`` is a client's context: with it, or with an https URL, TLS is
    spoken; ``ssl.create_default_context()`` if it is None. A context manager: it closes at the end.
    Not for several threads.

    Raises ``OSError`` when there is no connection, and no TLS (``ssl.SSLError``); ``ValueError``
    for ``tls`` with an http URL.

    Attributes: ``socket`` (what has been received but not returned is in ``pending``, not in it),
    ``address``, ``tls``: over TLS the ``ssl.SSLObject``, which knows the server's certificate; and
    ``end``: None while bytes may still come, then how it ended (see ``End``).
    """

    def __init__(
        self,
        server: ServerLike | str,
        timeout: float = 5.0,
        *,
        receive_buffer: int | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.timeout = timeout
        self.address = Address.of(server)
        if tls is not None:
            if isinstance(server, str) and server.startswith("http:"):
                raise ValueError(f"tls is for a server that speaks it, and {server!r} does not")
            self.address = replace(self.address, is_secure=True)
        elif self.address.is_secure:
            tls = ssl.create_default_context()
        deadline = Deadline(timeout)
        self.socket = self.address.connect(deadline, receive_buffer)
        self.pending = bytearray()
        self.end: End | None = None
        # The kernel tells of an RST once, to send or recv; what had come before can still be read.
        self._was_reset = False
        self._tunnel: Tunnel | None = None
        self.tls: ssl.SSLObject | None = None
        if tls is not None:
            try:
                self._secure(tls, deadline)
            except BaseException:
                self.socket.close()
                raise

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.drop()

    def deadline(self, timeout: float | Deadline | None) -> Deadline:
        """A call's deadline: its own, or the connection's ``timeout`` from now."""
        if isinstance(timeout, Deadline):
            return timeout
        return Deadline(self.timeout if timeout is None else timeout)

    def send(
        self,
        data: bytes,
        *,
        pieces: Pieces = "whole",
        pause: float = 0.0,
        timeout: float | Deadline | None = None,
    ) -> None:
        """Send all of ``data``, in one ``send`` a piece (see ``cut``).

        The kernel may join pieces that follow each other closely; ``pause`` (seconds) between
        them makes that unlikely. While the server does not read, what it sends is taken in, so
        that an early answer to a long request cannot make both sides wait for each other.
        Raises ``TimeoutError``, and ``ConnectionError`` when the server takes no more; what it
        has answered can be received even then.
        """
        deadline = self.deadline(timeout)
        for count, piece in enumerate(cut(data, pieces)):
            if pause and count:
                time.sleep(min(pause, deadline.remaining()))
            self._send_piece(piece if self._tunnel is None else self._tunnel.seal(piece), deadline)

    def receive(self, timeout: float | Deadline | None = None) -> bytes:
        """The next bytes, as many as there are; b"" when there will be no more (see ``end``)."""
        deadline = self.deadline(timeout)
        while not self.pending and self.end is None:
            self.socket.settimeout(deadline.remaining())
            self._take()
        data = bytes(self.pending)
        self.pending.clear()
        return data

    def receive_exactly(self, count: int, timeout: float | Deadline | None = None) -> bytes:
        """The next ``count`` bytes; ``IncompleteAnswer`` when the connection ends before."""
        deadline = self.deadline(timeout)
        while len(self.pending) < count:
            self._receive_more(f"{count} bytes", deadline)
        return self._cut_off(count)

    def receive_until(
        self, mark: bytes, timeout: float | Deadline | None = None, *, limit: int = 1 << 20
    ) -> bytes:
        """Everything up to and including ``mark``; ``IncompleteAnswer`` when it does not come.

        Raises ``InvalidAnswer`` when more than ``limit`` bytes have come without it.
        """
        deadline = self.deadline(timeout)
        searched = 0
        while (found := self.pending.find(mark, searched)) < 0:
            if len(self.pending) > limit:
                raise InvalidAnswer(f"no {mark!r} in {len(self.pending)} bytes: {self._excerpt()}")
            searched = max(0, len(self.pending) - len(mark) + 1)
            self._receive_more(repr(mark), deadline)
        return self._cut_off(found + len(mark))

    def receive_to_end(self, timeout: float | Deadline | None = None) -> bytes:
        """Everything until the server closes or resets the connection (see ``end``)."""
        deadline = self.deadline(timeout)
        try:
            while self.end is None:
                self.socket.settimeout(deadline.remaining())
                self._take()
        except TimeoutError:
            raise TimeoutError(
                f"the server has not closed the connection within {deadline.seconds:g} s; "
                f"it sent {self._excerpt()}"
            ) from None
        return self._cut_off(len(self.pending))

    def half_close(self) -> None:
        """Send FIN, over TLS close_notify: nothing more will be sent, but the answer is still wanted.

        A server that has gone gets none.
        """
        with contextlib.suppress(OSError):
            if self._tunnel is None:
                self.socket.shutdown(socket.SHUT_WR)
            else:
                self._send_now(self._tunnel.shut())

    def drop(self, reset: bool = False) -> None:
        """Close the connection now: with FIN (over TLS close_notify before it), or with RST if ``reset``.

        Again: nothing happens.

        FIN goes out first even when bytes lie unread; the kernel would send RST alone. (It sends
        RST after the FIN then, as for any client that leaves in the middle of an answer.) A Unix
        socket knows no RST: there, closing with bytes unread is what the server sees as one.
        """
        if self.socket.fileno() < 0:
            return
        try:
            if reset:
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            else:
                if self._tunnel is not None:
                    self._send_now(self._tunnel.shut())
                self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the server was first: there is no connection to end any more
        finally:
            self.socket.close()

    def _secure(self, context: ssl.SSLContext, deadline: Deadline) -> None:
        host = "localhost" if self.address.port is None else self.address.host
        self._tunnel = tunnel = Tunnel(context, host)
        self.tls = tunnel.tls
        try:
            is_done = tunnel.shake_hands()
            while True:
                self._send_piece(tunnel.records(), deadline)
                if is_done:
                    return
                self.socket.settimeout(deadline.remaining())
                received = self.socket.recv(_RECEIVE_SIZE)
                if not received:
                    raise ConnectionAbortedError(f"{self.address} closed in the TLS handshake")
                is_done = tunnel.shake_hands(received)
        except TimeoutError:
            raise TimeoutError(
                f"no TLS handshake with {self.address} within {deadline.seconds:g} s"
            ) from None
        except ssl.SSLError:
            with contextlib.suppress(OSError):
                self._send_now(tunnel.records())  # the alert that says why
            raise

    def _send_now(self, data: bytes) -> None:
        """Send what the kernel takes at once: a last word, for which nobody waits."""
        self.socket.setblocking(False)
        self.socket.send(data)

    def _send_piece(self, data: bytes, deadline: Deadline) -> None:
        view = memoryview(data)
        while view:
            remaining = deadline.remaining()
            self.socket.setblocking(False)
            try:
                view = view[self.socket.send(view) :]
            except BlockingIOError:
                self._wait_until_writable(remaining)
            except ConnectionResetError:
                self._was_reset = True
                raise

    def _wait_until_writable(self, remaining: float) -> None:
        wanted = selectors.EVENT_WRITE
        if self.end is None:
            wanted |= selectors.EVENT_READ
        with selectors.DefaultSelector() as selector:
            selector.register(self.socket, wanted)
            for _, ready in selector.select(remaining):
                if ready & selectors.EVENT_READ:
                    self._take()

    def _take(self) -> None:
        """One ``recv``, as the socket's timeout says, into ``pending``."""
        try:
            data = self.socket.recv(_RECEIVE_SIZE)
        except ConnectionResetError:
            self.end = "reset"
            return
        if not data:
            fin: End = "closed" if self._tunnel is None else "truncated"
            self.end = "reset" if self._was_reset else fin
        elif self._tunnel is None:
            self.pending += data
        else:
            self.pending += self._tunnel.open(data)
            if self._tunnel.has_ended:  # the server waits for the same from here
                self.end = "closed"
                self.half_close()

    def _receive_more(self, wanted: str, deadline: Deadline) -> None:
        if self.end is not None:
            raise IncompleteAnswer(
                f"the connection was {self.end} before {wanted} came, after {self._excerpt()}"
            )
        try:
            self.socket.settimeout(deadline.remaining())
            self._take()
        except TimeoutError:
            raise TimeoutError(
                f"{wanted} not received within {deadline.seconds:g} s, but {self._excerpt()}"
            ) from None

    def _cut_off(self, count: int) -> bytes:
        data = bytes(self.pending[:count])
        del self.pending[:count]
        return data

    def _excerpt(self) -> str:
        count = len(self.pending)
        return f"{count} bytes: {bytes(self.pending[:200])!r}" if count else "nothing"
