"""Requests out of bytes: what httptools reads, what it leaves to us, and the limits. Knows no socket and no clock.

httptools (llhttp) is strict where its leniencies stay off, and refuses most of what RFC 9112 forbids. It hands on
as accepted: HTTP/0.9, RTSP and HTTP/2 request lines; a missing, repeated or senseless Host; targets in any form;
anything of any size; trailing blanks of a value. And it stops at an upgrade, which would make the body the next
request. So it gets one head at a time, cut at the empty line; the rest is decided here, and the body is read by its
framing alone.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import httptools

from bunpy.errors import RequestRefused
from bunpy.http.body import Body, body_of
from bunpy.http.field_name import field_name
from bunpy.http.known_heads import KnownHeads
from bunpy.http.request import Request
from bunpy.http.request_line import check_method, check_partial_line, method_and_version

if TYPE_CHECKING:
    from bunpy.http.host import HostList

__all__ = ["FIELD_LIMIT", "RequestReader"]

FIELD_LIMIT: Final = 256
_ABSOLUTE = re.compile(r"https?://([^/?]*)(.*)", re.IGNORECASE)
#: Fields that say more than a handler wants to know: how the body is framed, what becomes of the connection.
_FRAMING: Final = frozenset({"connection", "content-length", "expect", "transfer-encoding"})
_ALLOW: Final = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
_METHODS: Final = {
    b"GET": "GET",
    b"POST": "POST",
    b"HEAD": "HEAD",
    b"OPTIONS": "OPTIONS",
    b"PUT": "PUT",
}


class RequestReader:
    """One connection's requests: ``feed`` it what comes, then ask for ``next_request`` until that gives None.

    Sizes are in bytes and counted on what is fed, not on what is parsed. A ``RequestRefused`` from ``next_request``
    is the last thing that it has to say.
    """

    __slots__ = (
        "_body",
        "_body_limit",
        "_data",
        "_fed",
        "_fields",
        "_head_limit",
        "_headers",
        "_hosts",
        "_is_complete",
        "_is_simple",
        "_known",
        "_line_limit",
        "_method",
        "_parser",
        "_refusal",
        "_request",
        "_tail",
        "_url",
        "_version",
        "keeps_alive",
        "wants_continue",
    )  # fmt: skip

    def __init__(
        self,
        *,
        line_limit: int,
        head_limit: int,
        body_limit: int,
        hosts: HostList,
        known: KnownHeads | None = None,
    ) -> None:
        self._line_limit = line_limit
        self._head_limit = head_limit
        self._body_limit = body_limit
        self._hosts = hosts
        self._known = KnownHeads() if known is None else known
        self._parser: httptools.HttpRequestParser | None = None
        self._data = b""
        self._fed = 0  # bytes of the present head that the parser has got; 0 before its request line is complete
        self._tail = b""  # the last three of them
        self._body: Body | None = None
        self._request: Request | None = None  # the one whose body is being read
        self._refusal: RequestRefused | None = None
        self._headers: dict[str, str] = {}
        self._url = b""
        self._method = b""
        self._version = "1.1"
        self._fields = 0
        self._is_complete = False
        self._is_simple = True  # none of _FRAMING has come
        #: Whether the connection may go on after the request that was given last (RFC 9112 section 9.3).
        self.keeps_alive = True
        #: Whether the client waits for a 100 before it sends its body (RFC 9110 section 10.1.1).
        self.wants_continue = False

    @property
    def is_between(self) -> bool:
        """Whether nothing of a next request has come."""
        return not self._data and not self._fed and self._body is None

    @property
    def is_in_body(self) -> bool:
        """Whether a request's head is complete and its body is not."""
        return self._body is not None

    @property
    def method(self) -> str:
        """The method of the request that came last, as far as it is known."""
        return self._method.decode("latin-1")

    @property
    def unread(self) -> int:
        """Bytes that have come and belong to no request yet."""
        return len(self._data)

    def feed(self, data: bytes) -> None:
        """Take bytes as they come from the peer."""
        self._data = self._data + data if self._data else data

    def release(self) -> None:
        """Give the parser's memory back: the connection will be busy for long with an answer."""
        self._parser = None

    def next_request(self) -> Request | None:
        """The next complete request, None while more is wanted; ``RequestRefused`` says what to answer instead."""
        if self._body is not None:
            return self._read_body()
        data = self._data
        known = self._known.get(data)
        if known is not None and not self._fed:
            self._data = b""
            self.keeps_alive = known.http_version == "1.1"
            return known.copy()
        if not data:
            return None
        if self._fed:
            return self._read_rest_of_head()
        if data[0] in b"\r\n":
            data = self._skip_empty_lines()
            if not data:
                return None
        end = data.find(b"\r\n\r\n") + 4
        if end > 3:
            line_end = data.find(b"\n") + 1
            self._method, self._version = method_and_version(data, line_end, self._line_limit)
            if end > self._head_limit:
                self._refuse_head()
            self._data = data[end:]
            if self._data:
                self._parse(data[:end])
                return self._finish_head()
            self._parse(data)
            request = self._finish_head()
            if self._is_simple and request is not None:
                self._known.learn(data, request)
            return request
        line_end = data.find(b"\n") + 1
        if not line_end:
            check_partial_line(data, self._line_limit)
            return None
        self._method, self._version = method_and_version(data, line_end, self._line_limit)
        return self._read_rest_of_head()

    # The head

    def _skip_empty_lines(self) -> bytes:
        """Let at most two empty lines pass before a request (RFC 9112 section 2.2); they stay until it begins."""
        data = self._data
        start = 4 if data.startswith(b"\r\n\r\n") else 2 if data.startswith(b"\r\n") else 0
        rest = data[start:]
        if rest in (b"", b"\r") and len(data) < 5:
            return b""
        if rest[0] in b"\r\n":
            raise RequestRefused(400, "There are stray line ends before the request line")
        self._data = rest
        return rest

    def _read_rest_of_head(self) -> Request | None:
        """Feed a head that comes in pieces as it comes: what is wrong with it is answered at once."""
        data, self._data = self._data, b""
        end = (self._tail + data).find(b"\r\n\r\n")
        is_complete = end >= 0
        if is_complete:
            end += 4 - len(self._tail)
            self._data = data[end:]
            data = data[:end]
        if self._fed + len(data) > self._head_limit:
            self._refuse_head()
        self._parse(data)
        if not is_complete:
            self._fed += len(data)
            self._tail = (self._tail + data)[-3:]
            return None
        self._fed = 0
        self._tail = b""
        return self._finish_head()

    def _refuse_head(self) -> None:
        raise RequestRefused(431, f"The head is over the limit of {self._head_limit} bytes")

    def _parse(self, data: bytes) -> None:
        parser = self._parser
        if parser is None:
            parser = self._parser = httptools.HttpRequestParser(self)
        if not self._fed:
            self._headers = {}
            self._url = b""
            self._fields = 0
            self._is_complete = False
            self._is_simple = True
        try:
            parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._parser = None
        except httptools.HttpParserInvalidMethodError as exc:
            if self._fed:
                raise RequestRefused(400, "The head is malformed (RFC 9112)") from exc
            check_method(data)  # 400 unless it is one, only unknown
            raise RequestRefused(501, "This server does not know the request's method") from exc
        except httptools.HttpParserError as exc:
            raise RequestRefused(400, f"The head is malformed: {exc} (RFC 9112)") from exc
        if self._refusal is not None:
            raise self._refusal
        if self._fields > FIELD_LIMIT:
            raise RequestRefused(431, f"The head has more than {FIELD_LIMIT} fields")

    # httptools calls these

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        key = field_name(name)
        text = value.decode("latin-1").rstrip(" \t")
        headers = self._headers
        if key in _FRAMING:
            self._is_simple = False
        if key not in headers:
            headers[key] = text
        elif key == "host":
            self._refusal = RequestRefused(400, "The request has more than one Host")
        else:
            headers[key] += f"; {text}" if key == "cookie" else f", {text}"
        self._fields += 1

    def on_headers_complete(self) -> None:
        self._is_complete = True

    # What follows the head

    def _finish_head(self) -> Request | None:
        """Decide what the head means: the target, the host, how the body is framed, whether the connection stays."""
        if not self._is_complete:
            raise RequestRefused(400, "The head is malformed (RFC 9112)")
        headers = self._headers
        method = _METHODS.get(self._method) or self._method.decode("ascii")
        if method in ("CONNECT", "TRACE"):
            raise RequestRefused(405, f"{method} is not for this server", {"Allow": _ALLOW})
        url = self._url.decode("ascii")
        if url[0] != "/" or "#" in url:
            url = self._origin_form(url, method, headers)
        is_current = self._version == "1.1"
        host = headers.get("host")
        if host is not None:
            if self._hosts.status(host):
                self._hosts.check(host)
        elif is_current:
            raise RequestRefused(400, "The request has no Host (RFC 9112 section 3.2)")
        self.keeps_alive = is_current
        request = Request(method, url, headers, b"", None, self._version)
        if self._is_simple:
            return request
        if "connection" in headers:
            options = [option.strip().lower() for option in headers["connection"].split(",")]
            self.keeps_alive = "close" not in options and (is_current or "keep-alive" in options)
        self._body = body_of(headers, self._version, self._body_limit)
        self._check_expectation(headers)
        if self._body is None:
            return request
        self._request = request
        self._parser = None
        return self._read_body()

    def _origin_form(self, url: str, method: str, headers: dict[str, str]) -> str:
        """The target as path and query (RFC 9112 section 3.2); absolute form gives up its host to the headers."""
        if "#" in url:
            raise RequestRefused(400, "The request target has a fragment (RFC 9112 section 3.2)")
        if url == "*" and method == "OPTIONS":
            return url
        match = _ABSOLUTE.fullmatch(url)
        if match is None:
            raise RequestRefused(
                400, 'The request target is a path from "/" on, an http URL, or * for OPTIONS'
            )
        if "host" in headers:
            self._hosts.check(headers["host"])
        elif self._version == "1.1":
            raise RequestRefused(400, "The request has no Host (RFC 9112 section 3.2)")
        headers["host"], rest = match.groups()
        return rest if rest.startswith("/") else f"/{rest}"

    def _check_expectation(self, headers: dict[str, str]) -> None:
        expectation = headers.get("expect")
        if expectation is None or self._version != "1.1":
            return
        if expectation.lower() != "100-continue":
            raise RequestRefused(417, "The only expectation that is met is 100-continue")
        self.wants_continue = self._body is not None and not self._data

    def _read_body(self) -> Request | None:
        body, request, data = self._body, self._request, self._data
        assert body is not None
        assert request is not None
        self._data = b""
        if not data:
            return None
        rest = body.feed(data)
        if rest is None:
            return None
        self._data = rest
        self._body = self._request = None
        self.wants_continue = False
        request.body = body.content()
        return request
