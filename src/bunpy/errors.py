"""Every exception that bunpy raises, in one tree. No logic lives here.

BunpyError
├── InvalidEvent (ValueError)      a yielded event that cannot be framed as it was meant
├── InvalidResponse (ValueError)   a handler's answer that cannot be sent as it was meant
│   └── InvalidHeader              a header of it that would forge others, or is none
├── ConfigError (ValueError)       an option of ``serve`` that makes no sense
│   └── ImportFailed               a handler's name that leads to none
└── HTTPError                      an answer with an error status: raise it in a handler or a generator
    ├── InvalidBody (ValueError)   a request's body that is not what the handler asked for: 400
    └── RequestRefused             bunpy's own refusal of a request, before any handler has seen it
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

__all__ = [
    "BunpyError",
    "ConfigError",
    "HTTPError",
    "ImportFailed",
    "InvalidBody",
    "InvalidEvent",
    "InvalidHeader",
    "InvalidResponse",
    "RequestRefused",
]


class BunpyError(Exception):
    """The root of the tree: ``except BunpyError`` catches whatever bunpy raises on purpose."""


class InvalidEvent(BunpyError, ValueError):
    """An event that is not one; raised in the generator at the ``yield`` that gave it (WHATWG HTML 9.2.6)."""


class InvalidResponse(BunpyError, ValueError):
    """A status, header or body that must not go on the wire (RFC 9110 section 5.5); the client gets 500."""


class InvalidHeader(InvalidResponse):
    """A header field whose name is no token or whose value has a control character (RFC 9110 section 5.5).

    The client gets 500 and the connection is closed: it may be the client's own words that the handler let through.
    """


class ConfigError(BunpyError, ValueError):
    """An option of ``serve`` with a value that it cannot have; the message says which and what it can."""


class ImportFailed(ConfigError):
    """A handler that was named, as "app:handler", and cannot be had; the message says why, in one sentence.

    What its module raised, if it did, is the ``__cause__``.
    """


class HTTPError(BunpyError):
    """Answer the request with an error status.

    Raise it in a handler, or in a generator before its first event; after that the status has been
    sent, and it ends the stream as any other exception does.

    ``status`` is 400 to 599 (``ValueError`` otherwise), ``message`` the text of the body (by default the
    status's reason phrase, RFC 9110 section 15), ``headers`` go into the response.
    """

    def __init__(
        self, status: int, message: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        if not isinstance(status, int) or not 400 <= status <= 599:
            raise ValueError(f"the status of an HTTPError is 400 to 599, not {status!r}")
        if message is None:
            try:
                message = HTTPStatus(status).phrase
            except ValueError:
                message = "Error"
        super().__init__(status, message)
        self.status = status
        self.message = message
        self.headers: dict[str, str] = dict(headers or {})

    def __str__(self) -> str:
        return f"{self.status} {self.message}"


class InvalidBody(HTTPError, ValueError):
    """A request's body that is not the JSON, text or form that the handler asked for: 400 if let through."""

    def __init__(self, message: str) -> None:
        super().__init__(400, message)


class RequestRefused(HTTPError):
    """A request that breaks RFC 9112 or a limit of the server; answered, then the connection is closed.

    ``closes`` is False where the message's end is known, so that the connection can go on.
    """

    def __init__(
        self,
        status: int,
        message: str,
        headers: Mapping[str, str] | None = None,
        *,
        closes: bool = True,
    ) -> None:
        super().__init__(status, message, headers)
        self.closes = closes
