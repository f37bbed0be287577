"""What the clients raise when a server's answer is not what was asked for. No logic lives here.

BunpyError
├── StreamEnded (ConnectionError)       a stream that ended before the events that were asked for
├── IncompleteAnswer (ConnectionError)  a connection that ended in the middle of an answer
└── InvalidAnswer (ValueError)          bytes that are not an HTTP/1.1 answer (RFC 9112)

A deadline that passes is the built-in ``TimeoutError``, everywhere.
"""

from __future__ import annotations

from bunpy.errors import BunpyError

__all__ = ["IncompleteAnswer", "InvalidAnswer", "StreamEnded"]


class StreamEnded(BunpyError, ConnectionError):
    """The stream ended, cleanly or not, before as many events had come as were asked for."""


class IncompleteAnswer(BunpyError, ConnectionError):
    """The connection ended before the answer did: its last chunk or last byte never came."""


class InvalidAnswer(BunpyError, ValueError):
    """Bytes that RFC 9112 does not let a server send; the message quotes them."""
