"""The hooks: when they are called, with what, in which context, and that none does harm."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from watching import Log, until

from bunpy.errors import ConfigError
from bunpy.http.access_log import LOGGER
from bunpy.http.ending import Ending
from bunpy.serve import HTTPError, Request, Response, SSEResponse
from bunpy.testing import EventClient, exchange, request, serving

HOOKS = ("on_request", "on_stream_start", "on_stream_end")

number: contextvars.ContextVar[int] = contextvars.ContextVar("number")


async def events(path: str = "") -> AsyncIterator[str]:
    yield f"{number.get(0)}"
    if path == "/raises":
        raise RuntimeError("on purpose")
    if path == "/endless":
        await asyncio.sleep(60)


def plain_events(path: str = "") -> Iterator[str]:
    yield f"{number.get(0)}"


def handler(req: Request) -> Any:
    if req.path == "/plain":
        return "hello"
    if req.path == "/nowhere":
        raise HTTPError(404)
    if req.path == "/pieces":
        return Response(events())
    if req.path == "/threaded":
        return SSEResponse(plain_events())
    return SSEResponse(events(req.path))


class Calls(list[tuple[str, str]]):
    """Hooks that keep what they are called with, by path."""

    def __init__(self) -> None:
        super().__init__()
        self.endings: list[Ending] = []

    def options(self) -> dict[str, Any]:
        return {
            "on_request": lambda req: self.append(("request", req.path)),
            "on_stream_start": lambda req: self.append(("start", req.path)),
            "on_stream_end": self.end,
        }

    def end(self, ending: Ending) -> None:
        self.endings.append(ending)
        self.append(("end", ending.request.path))


@pytest.mark.parametrize("path", ["/events", "/pieces", "/threaded"])
def test_a_stream(path: str) -> None:
    calls = Calls()
    with serving(handler, **calls.options()) as server:
        answer = request(server, "GET", path, {"X-Request-Id": "seven"})
        until(lambda: len(calls) == 3)
    assert answer.status == 200
    assert calls == [("request", path), ("start", path), ("end", path)]
    (ending,) = calls.endings
    assert (ending.status, ending.reason, ending.events, ending.is_stream) == (
        *(200, "finished", 1),
        True,
    )
    assert ending.request.id == "seven"
    assert ending.first_event is not None
    assert 0 < ending.first_event <= ending.duration


@pytest.mark.parametrize(
    ("path", "method"), [("/plain", "GET"), ("/nowhere", "GET"), ("/", "HEAD")]
)
def test_what_is_no_stream(path: str, method: str) -> None:
    calls = Calls()
    with serving(handler, **calls.options()) as server:
        request(server, method, path)
        request(server, "GET", "/plain")
    assert calls == [("request", path), ("request", "/plain")]


@pytest.mark.parametrize(
    ("path", "reason"), [("/raises", "error"), ("/endless", "client"), ("/", "finished")]
)
def test_the_reason_of_the_end(path: str, reason: str, log: Log) -> None:
    calls = Calls()
    with serving(handler, **calls.options()) as server:
        with EventClient(server, path) as client:
            client.read(1)
        until(lambda: len(calls) == 3)
    assert calls.endings[0].reason == reason
    if path == "/raises":
        log.take_error()


@pytest.mark.parametrize("path", ["/events", "/threaded", "/plain"])
def test_they_share_the_context_of_their_request(path: str) -> None:
    """What on_request sets, the handler sees, the generator and the other hooks, and no other request."""
    seen: list[tuple[str, int]] = []
    count = 0

    def on_request(req: Request) -> None:
        nonlocal count
        assert number.get(0) == 0
        count += 1
        number.set(count)

    def handle(req: Request) -> Any:
        seen.append(("handler", number.get(0)))
        return handler(req)

    with serving(
        handle,
        on_request=on_request,
        on_stream_start=lambda req: seen.append(("start", number.get(0))),
        on_stream_end=lambda ending: seen.append(("end", number.get(0))),
    ) as server:
        for turn in (1, 2):
            if path == "/plain":
                request(server, "GET", path)
                assert seen == [("handler", turn)]
            else:
                with EventClient(server, path) as client:
                    assert [event.data for event in client.read_all()] == [str(turn)]
                until(lambda: len(seen) == 3)
                assert seen == [("handler", turn), ("start", turn), ("end", turn)]
            seen.clear()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, asyncio.CancelledError])
@pytest.mark.parametrize("name", HOOKS)
def test_one_that_raises_harms_nobody(name: str, error: type[BaseException], log: Log) -> None:
    def raising(what: Any) -> None:
        raise error("on purpose")

    hook: dict[str, Any] = {name: raising}
    with serving(handler, **hook) as server:
        with EventClient(server, "/events") as client:
            assert [event.data for event in client.read_all()] == ["0"]
        record = log.records[0] if log.records else log.take()
        assert name in record.getMessage()
        assert "<Request GET /events" in record.getMessage()
        request_id = vars(record)["request_id"]
        assert request_id in record.getMessage() or len(request_id) == 32
        assert record.exc_info is not None
        assert isinstance(record.exc_info[1], error)
        log.records.clear()
        assert request(server, "GET", "/events").status == 200
        until(lambda: len(log.records) == 1)
        log.records.clear()


@pytest.mark.parametrize("name", HOOKS)
@pytest.mark.parametrize("value", ["hook", 7, "async"])
def test_what_is_no_hook(name: str, value: Any) -> None:
    async def hook(what: Any) -> None:
        """Nobody would await it."""

    if value == "async":
        value = hook
    with pytest.raises(ConfigError, match=f"{name} is .*: it is a plain function"):
        serving(handler, **{name: value}).__enter__()


def test_lines_are_written_in_the_context_of_their_request() -> None:
    """Also that of an error; what is refused has no request, and not the context of the one before."""
    seen: list[tuple[str | None, int]] = []

    def look(record: logging.LogRecord) -> bool:
        seen.append((vars(record)["path"], number.get(0)))
        return False

    def get(path: str) -> bytes:
        return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()

    access = logging.getLogger(LOGGER)
    access.addFilter(look)
    try:
        with serving(
            handler, access_log=True, on_request=lambda req: number.set(int(req.query["n"]))
        ) as server:
            exchange(
                server, get("/nowhere?n=1") + get("/plain?n=2") + get("/events?n=3") + b"?\r\n\r\n"
            )
        assert seen == [("/nowhere", 1), ("/plain", 2), ("/events", 3), (None, 0)]
    finally:
        access.removeFilter(look)


def test_hooks_of_refused_requests() -> None:
    """There is no request that they could be told of."""
    calls = Calls()
    with serving(handler, **calls.options()) as server:
        assert request(server, "GET", "/", {"Host": "evil.example"}).status == 421
        assert request(server, "GET", "/plain").status == 200
    assert calls == [("request", "/plain")]
