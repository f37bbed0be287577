"""Requests out of bytes: what httptools reads, what it leaves to us, and the limits. Knows no socket and no clock.

httptools (llhttp) is strict where its leniencies stay off, and refuses most of what RFC 9112 forbids. It hands on
as accepted: HTTP/0.9, RTSP and HTTP/2 request lines; a missing, repeated or senseless Host; targets in any form;
anything of any size; trailing blanks of a value. And it stops at an upgrade, which would make the body the next
request. So it gets one head at a time, cut at the empty line; the rest is decided here, and the body is read by its
framing alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import httptools

from bunpy.errors import RequestRefused
from bunpy.http.body import Body, body_of
from bunpy.http.field_name import field_name
from bunpy.http.known_heads import KnownHeads
from bunpy.http.request import Request
from bunpy.http.request_line import (
    check_method,
    check_partial_line,
    method_and_version,
    unknown_method,
)
from bunpy.http.target import origin_form

if TYPE_CHECKING:
    from bunpy.http.host import HostList
    from bunpy.http.limits import Limits

__all__ = ["RequestReader"]

#: A body is read in pieces of this size, so that what is pipelined behind a short one is not copied with it.
_WINDOW: Final = 16 * 1024
#: Fields that say more than a handler wants to know: how the body is framed, what becomes of the connection.
_FRAMING: Final = frozenset(
    {"connection", "content-length", "expect", "proxy-connection", "transfer-encoding", "upgrade"}
)
_ALLOW: Final = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"


class RequestReader:
    """One connection's requests: ``feed`` it what comes, then ask for ``next_request`` until that gives None.

    Sizes are in bytes and counted on what is fed, not on what is parsed. A ``RequestRefused`` from ``next_request``
    is the last thing that it has to say, unless that says that it does not close.
    """

    __slots__ = (
        "_at",
        "_body",
        "_data",
        "_fed",
        "_fields",
        "_headers",
        "_hosts",
        "_is_complete",
        "_is_simple",
        "_known",
        "_limits",
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
        limits: Limits,
        hosts: HostList,
        known: KnownHeads | None = None,
    ) -> None:
        self._limits = limits
        self._hosts = hosts
        self._known = KnownHeads() if known is None else known
        self._parser: httptools.HttpRequestParser | None = None
        self._data = b""
        self._at = 0  # where in it the next request begins
        self._fed = 0  # bytes of the present head that the parser has got; 0 before its request line is complete
        self._tail = b""  # the last three of them
        self._body: Body | None = None
        self._request: Request | None = None  # the one whose body is being read
        self._refusal: RequestRefused | None = None
        self._headers: dict[str, str] = {}
        self._url = b""
        self._method = ""
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
        """The method of the request that is being read or was given last; empty while it is not known."""
        return self._method

    @property
    def origin(self) -> str:
        """The Origin of the request that is being read; empty if it has none, or its head is not complete."""
        return self._headers.get("origin", "") if self._is_complete else ""

    @property
    def unread(self) -> int:
        """Bytes that have come and belong to no request yet."""
        return len(self._data) - self._at

    def feed(self, data: bytes) -> None:
        """Take bytes as they come from the peer."""
        if self._data:
            data = self._data[self._at :] + data
            self._at = 0
        self._data = data

    def release(self) -> None:
        """Give the parser's memory back: the connection will be busy for long with an answer."""
        self._parser = None

    def next_request(self) -> Request | None:
        """The next complete request, None while more is wanted; ``RequestRefused`` says what to answer instead."""
        if self._body is not None:
            return self._read_body()
        data = self._data
        if not data:
            return None
        if self._fed:
            return self._read_rest_of_head()
        known = None if self._at else self._known.get(data)
        if known is not None:
            self._data = b""
            self._method = known.method
            self.keeps_alive = known.http_version == "1.1"
            return known.copy()
        self._method = ""
        self._is_complete = False
        if data[self._at] in b"\r\n" and not self._skip_empty_lines():
            return None
        at = self._at
        line_end = data.find(b"\n", at) + 1
        try:
            if not line_end:
                check_partial_line(data[at:], self._limits.request_line)
                return None
            self._method, self._version = method_and_version(
                data[at:line_end], self._limits.request_line
            )
        except RequestRefused:
            if data.startswith(b"HEAD ", at):  # to which a refusal has no body either
                self._method = "HEAD"
            raise
        end = data.find(b"\r\n\r\n", at) + 4
        if end < 4:
            return self._read_rest_of_head()
        if end - at > self._limits.head:
            raise self._head_too_large()
        whole = self._take(end)
        self._parse(whole)
        request = self._finish_head()
        if self._is_simple and request is not None and whole is data:
            self._known.learn(data, request)
        return request

    def _take(self, end: int) -> bytes:
        """What has come, up to ``end``; the rest is the next request's."""
        data, at = self._data, self._at
        if end < len(data):
            self._at = end
        else:
            self._data = b""
            self._at = 0
        return data[at:end]

    # The head

    def _skip_empty_lines(self) -> bool:
        """Let at most two empty lines pass before a request (RFC 9112 section 2.2); they stay until it begins."""
        start = self._data[self._at : self._at + 5]
        skipped = 4 if start.startswith(b"\r\n\r\n") else 2 if start.startswith(b"\r\n") else 0
        rest = start[skipped:]
        if rest in (b"", b"\r") and len(start) < 5:
            return False
        if rest[0] in b"\r\n":
            raise RequestRefused(400, "There are stray line ends before the request line")
        self._at += skipped
        return True

    def _read_rest_of_head(self) -> Request | None:
        """Feed a head that comes in pieces as it comes: what is wrong with it is answered at once."""
        data, at = self._data, self._at
        seam = (self._tail + data[at : at + 3]).find(b"\r\n\r\n") if self._tail else -1
        end = at + seam + 4 - len(self._tail) if seam >= 0 else data.find(b"\r\n\r\n", at) + 4
        is_complete = seam >= 0 or end > 3
        piece = self._take(end if is_complete else len(data))
        if self._fed + len(piece) > self._limits.head:
            raise self._head_too_large()
        self._parse(piece)
        if not is_complete:
            self._fed += len(piece)
            self._tail = (self._tail + piece)[-3:]
            return None
        self._fed = 0
        self._tail = b""
        return self._finish_head()

    def _head_too_large(self) -> RequestRefused:
        return RequestRefused(431, f"The head is over the limit of {self._limits.head} bytes")

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
            raise unknown_method() from exc
        except httptools.HttpParserError as exc:
            raise RequestRefused(400, f"The head is malformed: {exc} (RFC 9112)") from exc
        if self._refusal is not None:
            raise self._refusal
        if self._fields > self._limits.fields:
            raise RequestRefused(431, f"The head has more than {self._limits.fields} fields")

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
        method = self._method
        if method in ("CONNECT", "TRACE"):
            raise RequestRefused(405, f"{method} is not for this server", {"Allow": _ALLOW})
        url = self._url.decode("ascii")
        if url[0] != "/" or "#" in url:
            url = origin_form(url, method, self._version, headers, self._hosts)
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
        self._parser = (
            None  # its opinion of a body, an upgrade or the connection's end is not asked for
        )
        if "connection" in headers:
            options = [option.strip(" \t").lower() for option in headers["connection"].split(",")]
            self.keeps_alive = "close" not in options and (is_current or "keep-alive" in options)
        self._body = body_of(headers, self._version, self._limits)
        self._check_expectation(headers)
        if self._body is None:
            return request
        self._request = request
        return self._read_body()

    def _check_expectation(self, headers: dict[str, str]) -> None:
        expectation = headers.get("expect")
        if expectation is None or self._version != "1.1":
            return
        if expectation.lower() != "100-continue":
            raise RequestRefused(
                417,
                "The only expectation that is met is 100-continue",
                closes=self._body is not None or not self.keeps_alive,
            )
        self.wants_continue = self._body is not None and not self._data

    def _read_body(self) -> Request | None:
        body, request = self._body, self._request
        assert body is not None
        assert request is not None
        while self._data:
            piece = self._take(min(self._at + _WINDOW, len(self._data)))
            rest = body.feed(piece)
            if rest is not None:
                if rest:
                    self._push_back(rest)
                self._body = self._request = None
                self.wants_continue = False
                request.body = body.content()
                return request
        return None

    def _push_back(self, rest: bytes) -> None:
        """The body ended before its piece did."""
        if self._data:
            self._at -= len(rest)
        else:
            self._data = rest
