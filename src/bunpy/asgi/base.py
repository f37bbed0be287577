"""Starlette's side of a response: its class and its HTTP exception where it is installed, the least of them where not.

bunpy does not need Starlette. FastAPI sends a returned object as it is only if it is one of Starlette's responses.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

from bunpy.errors import HTTPError

__all__ = ["Message", "Receive", "Response", "Scope", "Send", "answer_error"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class PlainResponse:
    """What there is of a response without Starlette: ``status_code``, ``raw_headers`` and ``background``."""

    media_type: str | None = None
    charset = "utf-8"
    status_code: int
    background: Any
    raw_headers: list[tuple[bytes, bytes]]

    def init_headers(self, headers: Mapping[str, str] | None = None) -> None:
        """Make ``raw_headers`` of these and the media type."""
        fields = {name.lower(): value for name, value in (headers or {}).items()}
        if self.media_type is not None:
            fields.setdefault("content-type", f"{self.media_type}; charset={self.charset}")
        self.raw_headers = [
            (name.encode("latin-1"), value.encode("latin-1")) for name, value in fields.items()
        ]


if TYPE_CHECKING:
    from starlette.responses import Response
else:
    try:
        from starlette.responses import Response
    except ImportError:
        Response = PlainResponse


async def answer_error(error: HTTPError, scope: Scope, send: Send) -> None:
    """Answer a request with an error status: raise Starlette's exception where its handlers are, or send it."""
    if "starlette.exception_handlers" in scope:
        from starlette.exceptions import HTTPException

        raise HTTPException(error.status, error.message, error.headers or None) from error
    body = error.message.encode()
    headers = {"content-type": "text/plain; charset=utf-8", "content-length": str(len(body))}
    headers.update((name.lower(), value) for name, value in error.headers.items())
    raw_headers = [
        (name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()
    ]
    await send({"type": "http.response.start", "status": error.status, "headers": raw_headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
