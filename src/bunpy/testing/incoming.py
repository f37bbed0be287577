"""One answer while it arrives on a connection: its head at once, its content piece by piece."""

from __future__ import annotations

from bunpy.testing.body import body_for
from bunpy.testing.connection import Connection
from bunpy.testing.deadline import Deadline
from bunpy.testing.errors import IncompleteAnswer, InvalidAnswer
from bunpy.testing.head import HEAD_END, parse_head

__all__ = ["IncomingAnswer"]


class IncomingAnswer:
    """The answer to the one request, of ``method``, that was sent on ``connection``.

    Made when the head is there (interim answers are passed over). Attributes: ``head``; ``body``,
    its framing; ``ended_cleanly``: None while content may still come, then whether it ended as
    its head said: with the last chunk, the last byte of the Content-Length, or, when it lasts
    until the close, with FIN and not RST (over TLS with close_notify).
    """

    def __init__(self, connection: Connection, method: str, deadline: Deadline) -> None:
        self._connection = connection
        self.ended_cleanly: bool | None = None
        head = parse_head(connection.receive_until(HEAD_END, deadline))
        while head.is_interim:
            head = parse_head(connection.receive_until(HEAD_END, deadline))
        self.head = head
        self.body = body_for(head, method)
        if self.body.is_complete:
            self._take_in(b"")

    def receive(self, deadline: Deadline) -> bytes | None:
        """The next content, which may be b"" for a while; None when there will be no more.

        Raises ``InvalidAnswer`` for broken framing, and for bytes behind the answer's end: nobody
        has asked for another.
        """
        if self.ended_cleanly is not None:
            return None
        return self._take_in(self._connection.receive(deadline))

    def check_end(self) -> None:
        """``IncompleteAnswer`` when the content ended otherwise than cleanly."""
        if self.ended_cleanly is False:
            raise IncompleteAnswer(
                f"the connection was {self._connection.end} before the answer's body ended: "
                f"{self.body.missing()}"
            )

    def _take_in(self, data: bytes) -> bytes:
        connection = self._connection
        try:
            content = self.body.feed(data)
            if self.body.is_complete and (self.body.unused or connection.pending):
                behind = self.body.unused + connection.pending
                raise InvalidAnswer(
                    f"{len(behind)} bytes after the end of the answer: {behind[:200]!r}"
                )
        except InvalidAnswer:
            self.ended_cleanly = False
            raise
        if self.body.is_complete:
            self.ended_cleanly = True
        elif connection.end is not None and not data:
            self.ended_cleanly = self.body.lasts_until_close and connection.end == "closed"
        return content
