"""What is said on a connection: how an input is fed, and what came of it. The server is not here."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from fakes import FakeTransport

from bunpy.http.protocol import HTTPProtocol
from bunpy.testing import Answer, IncompleteAnswer, InvalidAnswer
from bunpy.testing.answer import AnswerParser

from .finding import Finding
from .reference import Asked

__all__ = ["Conversation", "Plan", "Transport", "are_alike", "pieces_of"]

#: Statuses of what is over a limit; less of the request has been looked at when it comes in one piece.
_LIMITS: Final = frozenset({413, 414, 431})


class _NoSocket:
    """A socket that is none, so that everything goes through the transport."""

    def fileno(self) -> int:
        return -1


_EXTRA: Final = {"sslcontext": True, "peername": ("192.0.2.7", 7), "socket": _NoSocket()}


class Plan(NamedTuple):
    """How an input is fed. ``end`` is "eof" (the peer's FIN), "lost" (a reset) or "time" (it stays silent)."""

    pieces: Sequence[bytes]
    waits: bool  # whether an answer is awaited before the next piece
    end: str


@dataclass
class Conversation:
    """What came of an input."""

    seen: list[Asked] = field(default_factory=list)
    sent: bytes = b""
    answers: list[Answer] = field(default_factory=list)

    @property
    def is_close_delimited(self) -> bool:
        """Whether the last answer's body ends where the connection does (RFC 9112 section 6.3)."""
        framing = {"content-length", "transfer-encoding"}
        return bool(self.answers) and not framing & set(self.answers[-1].headers)

    @property
    def finals(self) -> list[Answer]:
        return [answer for answer in self.answers if answer.status >= 200]


def pieces_of(data: bytes, rng: random.Random) -> list[bytes]:
    """``data`` cut anywhere; a short one often after each byte."""
    if len(data) < 300 and rng.random() < 0.1:
        return [data[i : i + 1] for i in range(len(data))]
    cuts = sorted(rng.randrange(len(data) + 1) for _ in range(rng.choice((1, 1, 2, 3, 8))))
    starts = [0, *cuts]
    return [data[a:b] for a, b in zip(starts, [*cuts, len(data)], strict=True) if a < b]


def are_alike(some: list[Answer], others: list[Answer]) -> bool:
    """Whether they are the same, but for which of several faults of the last request was met first."""
    if some == others:
        return True
    if not some or len(some) != len(others) or some[:-1] != others[:-1]:
        return False
    last = (some[-1], others[-1])
    return all(answer.status >= 400 and answer.closes for answer in last) and (
        last[0].status == last[1].status or any(answer.status in _LIMITS for answer in last)
    )


class Transport(FakeTransport):
    """A connection's memory; it notes the method of the request that each write belongs to."""

    def __init__(self, connection: HTTPProtocol) -> None:
        super().__init__(connection, _EXTRA)
        self._connection = connection
        self._methods: list[str] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._methods.append(self._connection._reader.method)
        super().write(data)

    def answers(self) -> list[Answer]:
        """What was written, as answers, each of which begins with a write; ``Finding`` where it is none."""
        answers: list[Answer] = []
        parser: AnswerParser | None = None
        try:
            for method, data in zip(self._methods, self.writes, strict=True):
                parser = parser or AnswerParser([method])
                answers += parser.feed(data)
                if parser.finals:
                    answers += parser.close()
                    parser = None
            if parser is not None:
                answers += parser.close()
        except (IncompleteAnswer, InvalidAnswer) as exc:
            raise Finding("malformed answer", f"{exc}: {self.sent!r}") from exc
        return answers
