"""The last phase of a connection: its client has had its last answer, and is left the time to take all of it."""

from __future__ import annotations

from asyncio import Transport
from typing import TYPE_CHECKING, Final

from bunpy.http.progress import waiting

if TYPE_CHECKING:
    from bunpy.http.service import Service

__all__ = ["Parting"]

#: Seconds that a server which stops leaves to a client that has taken its last answer, to close its side.
_LAST_TIME: Final = 0.1
_NEVER: Final = float("inf")


class Parting:
    """A connection that is closed in two steps: half now, the rest when its client has closed (RFC 9112 section 9.6).

    What the client sends meanwhile is read and dropped: who closes on it resets the connection, and with it the
    answer. It may send ``drain_limit`` bytes, and has ``drain_timeout`` seconds from when the answer has been taken.
    """

    __slots__ = ("_dropped", "_fd", "_service", "_transport")

    def __init__(self, service: Service, transport: Transport, fd: int) -> None:
        self._service = service
        self._transport = transport
        self._fd = fd
        self._dropped = 0

    def begin(self, now: float, is_left_time: bool) -> float:
        """Close our side; both, if the client is left no time, or where there are no halves.

        The time at which to call ``time_out``, in seconds of ``time.monotonic`` as ``now``; infinite where it need not
        be called, since the end comes by itself.
        """
        if not (is_left_time and self._transport.can_write_eof()):
            self._transport.close()
            return _NEVER
        try:
            self._transport.write_eof()
        except OSError:  # ENOTCONN, of asyncio's: the client has reset the connection
            self._transport.abort()
            return _NEVER
        if self._service.is_stopping:
            self.hasten()
            return _NEVER
        return now + self._service.config.drain_timeout

    def drop(self, size: int) -> None:
        """So many bytes have come from the client."""
        self._dropped += size
        if self._dropped > self._service.config.drain_limit:
            self._transport.abort()

    def time_out(self, now: float) -> float:
        """The time is over: cut off who has taken the answer. Who has not gets as much again; when that is over."""
        if waiting(self._transport, self._fd):
            return now + self._service.config.drain_timeout
        self._transport.abort()
        return _NEVER

    def hasten(self) -> None:
        """The server stops. The ticks are too far apart for what is left: it is the agenda's from now on."""
        self._service.agenda.call_later(_LAST_TIME, self._look)

    def _look(self) -> None:
        if self._transport.is_closing():
            return
        if waiting(self._transport, self._fd):
            self.hasten()
        else:
            self._transport.abort()
