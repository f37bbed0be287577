"""The application that test_asgi.py serves on real ASGI servers: Starlette, and FastAPI under /fast."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

from fastapi import Depends, FastAPI
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from bunpy.asgi import EventSourceResponse, ServerSentEvent
from bunpy.errors import HTTPError

#: What happened, for /log: [path, what], in order.
LOG: list[tuple[str, str]] = []
MADE = {"/flood": 0}


def follow(pid: int) -> None:
    """End this session with the process that started it, however that ends."""
    while True:
        time.sleep(0.5)
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            os.killpg(0, signal.SIGKILL)


threading.Thread(target=follow, args=(int(os.environ["ASGI_APP_PID"]),), daemon=True).start()


async def events() -> AsyncIterator[Any]:
    yield {"id": "1", "event": "greeting", "data": "two\nlines\r\nthree"}
    await asyncio.sleep(0)
    yield ServerSentEvent({"näme": 1}, id="2", retry=3000)
    yield "text"
    yield [{"data": "both"}, {"comment": "nobody sees this"}, {"data": "together", "id": 3}]


async def burst() -> AsyncIterator[Any]:
    for number in range(5000):
        yield {"id": number, "data": "x" * 64}


async def waiting() -> AsyncIterator[Any]:
    task = asyncio.current_task()
    try:
        yield "first"
        yield "second"
        await asyncio.sleep(3600)
    finally:
        where = "its task" if asyncio.current_task() is task else "another task"
        LOG.append(("/waiting", f"finally in {where}"))


async def refusing() -> AsyncIterator[Any]:
    await asyncio.sleep(0)
    raise HTTPException(418, "a teapot")
    yield


async def busy() -> AsyncIterator[Any]:
    raise HTTPError(409, "busy", {"Retry-After": "7"})
    yield


async def failing() -> AsyncIterator[Any]:
    raise ValueError("before the first event")
    yield


async def breaking() -> AsyncIterator[Any]:
    for word in ("one", "two", "three"):
        yield word
    raise ValueError("after three events")


async def blocking(request: Request) -> Response:
    """Holds the loop until a file is there: what was yielded before must have left for that."""
    flag = Path(request.query_params["until"])

    async def events() -> AsyncIterator[str]:
        yield "first"
        time.sleep(0.01)  # noqa: ASYNC251 -- that is what it is about
        yield "second"
        deadline = time.monotonic() + 10
        while not flag.exists() and time.monotonic() < deadline:  # noqa: ASYNC240
            time.sleep(0.01)  # noqa: ASYNC251
        yield "third"

    return EventSourceResponse(events())


def plain() -> Iterator[Any]:
    try:
        for number in range(3):
            time.sleep(0.02)
            yield {"id": number, "data": threading.current_thread().name}
    finally:
        LOG.append(("/plain", f"closed in {threading.current_thread().name}"))


async def flood() -> AsyncIterator[Any]:
    try:
        while True:
            MADE["/flood"] += 1
            yield "x" * 1000
    finally:
        LOG.append(("/flood", "finally"))


def route(path: str, make: Callable[[], Any], **options: Any) -> Route:
    async def answer(request: Request) -> Response:
        def note(reason: str) -> None:
            LOG.append((request.url.path, reason))

        return EventSourceResponse(make(), on_close=note, **options)

    return Route(path, answer)


async def log(request: Request) -> Response:
    return JSONResponse({"log": LOG, "made": MADE})


fast = FastAPI()


def user(name: str = "nobody") -> str:
    return name


@fast.get("/events", response_class=EventSourceResponse)
async def fast_events(name: str = Depends(user)) -> EventSourceResponse:
    async def greet() -> AsyncIterator[Any]:
        yield {"data": {"hello": name}}

    response = EventSourceResponse(greet(), headers={"X-Custom": "yes"})
    response.set_cookie("seen", "1")
    response.headers["x-later"] = "also"
    return response


@fast.get("/plain")
def fast_plain() -> EventSourceResponse:
    return EventSourceResponse(iter(["a", "b"]), status_code=203)


class Passing(BaseHTTPMiddleware):
    """The middleware that sends a response from a task of its own, and cancels it by anyio's scopes."""

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        return await call_next(request)


app = Starlette(
    routes=[
        route("/events", events),
        route("/burst", burst),
        route("/waiting", waiting),
        route("/pinging", waiting, ping=0.1),
        route("/refusing", refusing),
        route("/busy", busy),
        route("/failing", failing),
        route("/breaking", breaking),
        route("/plain", plain),
        route("/flood", flood),
        Route("/blocking", blocking),
        Route("/log", log),
        Mount("/fast", fast),
        Mount(
            "/wrapped",
            routes=[
                route("/events", events),
                route("/waiting", waiting),
                route("/pinging", waiting, ping=0.1),
                route("/refusing", refusing),
            ],
            middleware=[Middleware(Passing), Middleware(GZipMiddleware)],
        ),
    ]
)
