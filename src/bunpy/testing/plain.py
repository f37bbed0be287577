"""Plain requests: one question and one answer over a fresh connection."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Mapping

from bunpy.testing.address import ServerLike
from bunpy.testing.answer import Answer
from bunpy.testing.connection import Connection
from bunpy.testing.deadline import Deadline
from bunpy.testing.head import request_bytes
from bunpy.testing.incoming import IncomingAnswer

__all__ = ["request"]


def request(
    server: ServerLike | str,
    method: str = "GET",
    path: str | None = None,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    timeout: float = 5.0,
    tls: ssl.SSLContext | None = None,
) -> Answer:
    """Send one request to ``server`` (a URL or a server object) and return its whole answer.

    ``path`` is by default that of the URL, else "/". ``headers`` replace Host and Content-Length
    where they name them. ``tls`` is the context for a server that speaks TLS; see ``Connection``.
    Interim answers (1xx) are passed over. All within ``timeout`` seconds, else ``TimeoutError``.
    Raises ``OSError`` when no connection is to be had, ``IncompleteAnswer`` and ``InvalidAnswer``
    for an answer that is not one.
    """
    deadline = Deadline(timeout)
    with Connection(server, timeout, tls=tls) as connection:
        address = connection.address
        target = address.target if path is None else path
        data = request_bytes(method, target, address.authority, headers, body)
        with contextlib.suppress(ConnectionError):  # a refusal may come before all was sent
            connection.send(data, timeout=deadline)
        answer = IncomingAnswer(connection, method, deadline)
        content = bytearray()
        while (piece := answer.receive(deadline)) is not None:
            content += piece
        answer.check_end()
        return Answer.of(answer.head, answer.body, bytes(content))
