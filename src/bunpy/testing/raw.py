"""Raw exchanges: any bytes to a server, cut anywhere, and everything that comes back."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from bunpy.testing.address import ServerLike
from bunpy.testing.answer import Answer, AnswerParser, parse_answers
from bunpy.testing.connection import Connection, End
from bunpy.testing.deadline import Deadline
from bunpy.testing.pieces import Pieces

__all__ = ["Exchange", "exchange"]


@dataclass(frozen=True, slots=True)
class Exchange:
    """What came back: every byte, and how it ended.

    ``end`` is "closed" after the server's FIN, "reset" after its RST, "truncated" after FIN where TLS
    wants close_notify before it, "open" when as many answers had come as were asked for.
    """

    data: bytes
    end: End | Literal["open"]
    methods: tuple[str, ...]

    @property
    def answers(self) -> list[Answer]:
        """The answers in ``data``, interim ones too; raises what ``parse_answers`` raises."""
        return parse_answers(self.data, self.methods)

    @property
    def statuses(self) -> list[int]:
        """Their statuses: ``exchange(...).statuses == [100, 200]``."""
        return [answer.status for answer in self.answers]


def exchange(
    server: ServerLike | str,
    data: bytes,
    *,
    pieces: Pieces = "whole",
    pause: float = 0.0,
    methods: Sequence[str] = (),
    until: int | None = None,
    half_close: bool = False,
    timeout: float = 5.0,
    tls: ssl.SSLContext | None = None,
) -> Exchange:
    """Send ``data`` over a fresh connection; return all that comes back until the server closes.

    ``pieces`` and ``pause`` cut what is sent: "whole", "bytes" (one at a time), or offsets; see
    ``Connection.send``. A server that takes no more is not an error: its answers tell why.
    ``methods`` are the methods of the requests, for those that are not GET. ``tls`` is the context for
    a server that speaks TLS; see ``Connection``.

    A connection that is kept open never ends an exchange. Where that is right, end it in one of
    these ways, none of which waits for silence: let the last request say ``Connection: close``
    (it is answered if and only if the connection was kept), send FIN with ``half_close``, or
    return after ``until`` complete answers (1xx not counted; less come when the server closes).

    Raises ``TimeoutError`` after ``timeout`` seconds in all, with what had come by then.
    """
    deadline = Deadline(timeout)
    with Connection(server, timeout, tls=tls) as connection:
        with contextlib.suppress(ConnectionError):
            connection.send(data, pieces=pieces, pause=pause, timeout=deadline)
            if half_close:
                connection.half_close()
        if until is None:
            received = connection.receive_to_end(deadline)
        else:
            received = _receive_answers(connection, AnswerParser(methods), until, deadline)
        return Exchange(received, connection.end or "open", tuple(methods))


def _receive_answers(
    connection: Connection, parser: AnswerParser, count: int, deadline: Deadline
) -> bytes:
    received = bytearray()
    while parser.finals < count and connection.end is None:
        try:
            data = connection.receive(deadline)
        except TimeoutError:
            raise TimeoutError(
                f"{parser.finals} of {count} answers within {deadline.seconds:g} s, in "
                f"{len(received)} bytes: {bytes(received[:200])!r}"
            ) from None
        received += data
        parser.feed(data)
    return bytes(received)
