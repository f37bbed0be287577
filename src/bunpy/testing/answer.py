"""Whole answers: the bytes of a connection in, answers out. No I/O here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bunpy.testing.body import Body, body_for
from bunpy.testing.errors import IncompleteAnswer
from bunpy.testing.head import HEAD_END, Head, parse_head

__all__ = ["Answer", "AnswerParser", "parse_answers"]


@dataclass(frozen=True, slots=True)
class Answer:
    """One whole answer.

    ``fields`` are names and values as they came and in that order, ``headers`` the same by
    lower-case name, repeated ones joined with ", ". ``body`` is without its framing. ``closes``
    says whether the connection ends with this answer, as the answer tells (RFC 9112 section 9.3).
    """

    status: int
    reason: str
    headers: dict[str, str]
    body: bytes
    closes: bool
    version: str
    fields: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, head: Head, body: Body, content: bytes) -> Answer:
        """Put it together from what was read."""
        options = head.connection_options
        persists = head.version == "1.1" or "keep-alive" in options
        return cls(
            status=head.status,
            reason=head.reason,
            headers=head.headers,
            body=content,
            closes="close" in options or not persists or body.lasts_until_close,
            version=head.version,
            fields=head.fields,
        )

    def text(self) -> str:
        """The body decoded as UTF-8; ``UnicodeDecodeError`` when it is not."""
        return self.body.decode()

    def json(self) -> Any:
        """The body parsed as JSON; ``ValueError`` when it is not."""
        return json.loads(self.body)


class AnswerParser:
    """Read the answers of one connection, fed in pieces of any size.

    ``methods`` are those of the requests in their order, because an answer to HEAD has no body
    whatever its head says; requests beyond them are taken for GET. ``finals`` counts the complete
    answers that were not interim (1xx).
    """

    def __init__(self, methods: Sequence[str] = ()) -> None:
        self.finals = 0
        self._methods = list(methods)
        self._buf = b""
        self._begun: tuple[Head, Body] | None = None
        self._content = bytearray()

    def feed(self, data: bytes) -> list[Answer]:
        """Take the next bytes; return the answers that they complete, interim ones too.

        Raises ``InvalidAnswer`` when they are not answers.
        """
        answers = []
        self._buf += data
        while (answer := self._next()) is not None:
            answers.append(answer)
        return answers

    def close(self) -> list[Answer]:
        """The connection was closed: an answer that lasts until then is complete.

        Raises ``IncompleteAnswer`` when one has begun that is not.
        """
        if self._begun is None:
            if self._buf:
                raise IncompleteAnswer(
                    f"the connection ended in the head of an answer: {self._buf[:200]!r}"
                )
            return []
        head, body = self._begun
        body.close()
        return [self._finished(head, body)]

    def _next(self) -> Answer | None:
        if self._begun is None:
            end = self._buf.find(HEAD_END)
            if end < 0:
                return None
            end += len(HEAD_END)
            head = parse_head(self._buf[:end])
            self._buf = self._buf[end:]
            method = self._methods[self.finals] if self.finals < len(self._methods) else "GET"
            self._begun = head, body_for(head, method)
        head, body = self._begun
        self._content += body.feed(self._buf)
        self._buf = b""
        return self._finished(head, body) if body.is_complete else None

    def _finished(self, head: Head, body: Body) -> Answer:
        answer = Answer.of(head, body, bytes(self._content))
        self.finals += not head.is_interim
        self._buf = body.unused
        self._begun = None
        self._content.clear()
        return answer


def parse_answers(data: bytes, methods: Sequence[str] = ()) -> list[Answer]:
    """All answers, interim (1xx) ones too, that a server sent before it closed the connection.

    ``methods`` are the methods of the requests in their order (GET beyond them). Raises
    ``InvalidAnswer`` for bytes that are not answers, ``IncompleteAnswer`` when the last one is cut.
    """
    parser = AnswerParser(methods)
    return [*parser.feed(data), *parser.close()]
