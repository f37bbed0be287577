"""The request as a handler sees it. Reading it off the wire is the reader's; nothing here touches a socket."""

from __future__ import annotations

import codecs
import json
from collections.abc import Mapping
from typing import Any, Final, NoReturn
from urllib.parse import parse_qs, unquote

from bunpy.errors import HTTPError, InvalidBody
from bunpy.http.request_id import REQUEST_ID, request_id

__all__ = ["Request"]


#: Codecs of Python's that no sender of text means; some take quadratic time.
_NO_CHARSETS: Final = frozenset(
    {
        "idna",
        "mbcs",
        "oem",
        "palmos",
        "punycode",
        "raw-unicode-escape",
        "undefined",
        "unicode-escape",
    }
)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


class Request:
    """An HTTP request whose body has been read (RFC 9110, RFC 9112). Handlers get it; they do not make it.

    ``method`` is as sent ("GET"); ``url`` the target in origin form ("/log?file=app.log"); ``headers`` a mapping
    with lower-case names, repeated fields joined with ", "; ``body`` the bytes of the body, decoded from its
    framing only; ``client`` the peer's (host, port), or None on a Unix socket; ``http_version`` "1.1" or "1.0";
    ``scheme`` "https" over TLS, otherwise "http". ``client`` and ``scheme`` are what a trusted proxy says they are.
    """

    __slots__ = (
        "_id",
        "_path",
        "_queries",
        "body",
        "client",
        "has_id",
        "headers",
        "http_version",
        "method",
        "scheme",
        "url",
    )

    def __init__(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes = b"",
        client: tuple[str, int] | None = None,
        http_version: str = "1.1",
        scheme: str = "http",
    ) -> None:
        self.method = method
        self.url = url
        self.headers = headers
        self.body = body
        self.client = client
        self.http_version = http_version
        self.scheme = scheme
        self._id: str | None = None
        #: Whether its id matters to somebody: the client sent one, or it has been asked for.
        self.has_id = REQUEST_ID in headers
        self._path: str | None = None
        self._queries: dict[str, list[str]] | None = None

    def copy(self) -> Request:
        """The same request with headers of its own, and without what was made of it."""
        return Request(
            self.method,
            self.url,
            dict(self.headers),
            self.body,
            self.client,
            self.http_version,
            self.scheme,
        )

    def __repr__(self) -> str:
        about = f" id={self.id}" if self.has_id else ""
        return f"<Request {self.method} {self.url}{about}>"

    @property
    def id(self) -> str:
        """The X-Request-Id that came with it, or a new one. It is in the log, and in the answer's X-Request-Id."""
        if self._id is None:
            self._id = request_id(self.headers.get(REQUEST_ID))
            self.has_id = True
        return self._id

    @property
    def path(self) -> str:
        """The path of the target, percent-decoded as UTF-8."""
        if self._path is None:
            self._path = unquote(self.url.partition("?")[0])
        return self._path

    @property
    def query_all(self) -> dict[str, list[str]]:
        """The query's fields, every value of each key in order (application/x-www-form-urlencoded)."""
        if self._queries is None:
            text = self.url.partition("?")[2]
            self._queries = parse_qs(text, keep_blank_values=True) if text else {}
        return self._queries

    @property
    def query(self) -> dict[str, str]:
        """The query's fields, the first value of each key."""
        return {key: values[0] for key, values in self.query_all.items()}

    @property
    def cookies(self) -> dict[str, str]:
        """The cookies that the client sent, the first of each name, quotes removed (RFC 6265 section 5.4)."""
        cookies: dict[str, str] = {}
        for pair in self.headers.get("cookie", "").split(";"):
            name, separator, value = pair.strip().partition("=")
            if separator:
                is_quoted = len(value) > 1 and value[0] == value[-1] == '"'
                cookies.setdefault(name, value[1:-1] if is_quoted else value)
        return cookies

    @property
    def last_event_id(self) -> str | None:
        """The Last-Event-ID that a reconnecting EventSource sends (WHATWG HTML 9.2.4), or None."""
        value = self.headers.get("last-event-id")
        return None if value is None else value.encode("latin-1").decode("utf-8", "replace")

    def text(self) -> str:
        """The body as text, by the charset of Content-Type, UTF-8 by default; ``InvalidBody`` (400) if it is not."""
        charset = "utf-8"
        for parameter in self.headers.get("content-type", "").split(";")[1:]:
            name, _, value = parameter.partition("=")
            if name.strip().lower() == "charset":
                charset = value.strip().strip('"') or charset
        try:
            if codecs.lookup(charset).name in _NO_CHARSETS:
                raise LookupError(f"{charset} is a codec, but no charset")
            return self.body.decode(charset)
        except (LookupError, UnicodeError) as exc:
            raise InvalidBody(f"The body is not text in {charset}: {exc}") from exc

    def json(self) -> Any:
        """The body as JSON (RFC 8259). ``InvalidBody``, a ValueError, if it is not: let through, it answers 400."""
        try:
            return json.loads(self.body, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as exc:
            raise InvalidBody(f"The body is not JSON: {exc}") from exc

    def form(self) -> dict[str, str]:
        """The fields of an HTML form, the first value of each name. ``HTTPError`` (415) unless it is urlencoded."""
        kind = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/x-www-form-urlencoded":
            raise HTTPError(
                415,
                f"The body is {kind or 'of no declared type'}, not application/x-www-form-urlencoded",
            )
        try:
            fields = parse_qs(self.body.decode("utf-8"), keep_blank_values=True)
        except ValueError as exc:
            raise InvalidBody(f"The body is no form: {exc}") from exc
        return {name: values[0] for name, values in fields.items()}
