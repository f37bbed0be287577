"""The demo's handler: which request is which scene, and what a request must look like. The scenes are elsewhere."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

from bunpy.demo.journal import Journal
from bunpy.demo.market import SYMBOLS, Market
from bunpy.demo.page import page
from bunpy.demo.prose import tokens
from bunpy.demo.scenes import COUNT, counter, feed
from bunpy.demo.tape import Tape
from bunpy.serve import HTTPError, Request, Response, SSEResponse

__all__ = ["App"]

PROMPT_LIMIT = 2000  # characters
LINE_LIMIT = 200

#: The name that a page gives itself, at random: who knows it may cut the page's connection.
_CLIENT = re.compile(r"[0-9a-f-]{16,64}")


class App:
    """The handler of the demo, with what its scenes share. ``log`` is where its log file may be made."""

    def __init__(self, log: Path) -> None:
        self.journal = Journal(log)
        self._market = Market()
        self._tape = Tape()
        self._page = page()
        self._routes: dict[str, dict[str, Callable[[Request], Any]]] = {
            "/": {"GET": lambda request: self._page},
            "/counter": {"GET": self._counter},
            "/feed": {"GET": self._feed},
            "/resume": {"GET": self._resume},
            "/resume/cut": {"POST": self._cut},
            "/stocks": {"GET": self._stocks},
            "/tokens": {"POST": self._tokens},
            "/log": {"GET": self._log, "POST": self._append},
        }

    def __call__(self, request: Request) -> Any:
        """Answer ``request``: 404 for an unknown path, 405 for a method that its path does not have."""
        methods = self._routes.get(request.path)
        if methods is None:
            raise HTTPError(404, "There is nothing here; the demo is at /")
        method = "GET" if request.method == "HEAD" else request.method
        if method not in methods:
            allowed = ", ".join(methods)
            raise HTTPError(405, f"{request.path} answers {allowed} only", {"Allow": allowed})
        return methods[method](request)

    def _counter(self, request: Request) -> SSEResponse | None:
        last = request.last_event_id or "0"
        after = int(last) if re.fullmatch("[0-9]{1,3}", last) else 0
        if after >= COUNT:
            return None  # 204: an EventSource that has all of it stops coming back
        return self._stream("counter", counter(after))

    def _feed(self, request: Request) -> SSEResponse:
        return self._stream("feed", feed())

    def _resume(self, request: Request) -> SSEResponse:
        return self._stream("resume", self._tape.play(_client(request), _place(request)))

    def _cut(self, request: Request) -> Response:
        if not self._tape.cut(_client(request)):
            raise HTTPError(404, "No stream of that client is open")
        return Response(None, 204)

    def _stocks(self, request: Request) -> SSEResponse:
        names = request.query.get("symbols", ",".join(SYMBOLS)).split(",")
        symbols = [symbol for symbol in SYMBOLS if symbol in names]
        if not symbols:
            raise HTTPError(400, f"symbols is a list of {', '.join(SYMBOLS)}")
        return self._stream("stocks", self._market.ticks(symbols))

    def _tokens(self, request: Request) -> SSEResponse:
        return self._stream("tokens", tokens(_text(request, "prompt", PROMPT_LIMIT)))

    def _log(self, request: Request) -> SSEResponse:
        return self._stream("log", self.journal.tail(_place(request)))

    def _append(self, request: Request) -> Response:
        line = _text(request, "line", LINE_LIMIT)
        if not line.isprintable():
            raise HTTPError(400, "A line of the log has no control characters and no line ends")
        self.journal.note("you", line)
        return Response(None, 204)

    def _stream(self, name: str, events: AsyncGenerator[Any, None]) -> SSEResponse:
        return SSEResponse(self._told(name, events))

    async def _told(
        self, name: str, events: AsyncGenerator[Any, None]
    ) -> AsyncGenerator[Any, None]:
        """The events, with a line in the log when the stream opens, and one when it has ended or its client left."""
        self.journal.note("server", f"{name}: opened")
        count = 0
        try:
            async with aclosing(events):
                async for event in events:
                    count += len(event) if isinstance(event, list) else 1
                    yield event
        finally:
            self.journal.note("server", f"{name}: closed after {count} events")


def _client(request: Request) -> str:
    client = request.query.get("client", "")
    if not _CLIENT.fullmatch(client):
        raise HTTPError(400, "client is a random name of 16 to 64 hexadecimal digits or hyphens")
    return client


def _place(request: Request) -> str | None:
    """Where to go on: what EventSource sends when it reconnects, or what the page says when it makes a new one."""
    return request.last_event_id or request.query.get("after")


def _text(request: Request, name: str, limit: int) -> str:
    """The string ``name`` of a JSON body. Only JSON: a page of another origin can send a form, but not that."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise HTTPError(415, "The body must be application/json")
    body = request.json()
    text = body.get(name) if isinstance(body, dict) else None
    if not isinstance(text, str) or not text.strip() or len(text) > limit:
        raise HTTPError(400, f"The body must be an object with {name}, 1 to {limit} characters")
    return text.strip()
