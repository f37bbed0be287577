"""Clients that vanish, over real sockets: at every stage, in every way, on both loops. Nothing is left of them."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future
from typing import Any

import pytest
from heads import head
from watching import connections, in_one_of_five, local, on_time, until

from bunpy.http import protocol
from bunpy.http.protocol import HTTPProtocol
from bunpy.serve import Request, Response, Server, SSEResponse
from bunpy.server import residence
from bunpy.server.config import Config
from bunpy.testing import Connection, request, serving

pytestmark = pytest.mark.usefixtures("few_objects", "log")

SOON = 5.0  # seconds: what should come at once has surely come
PROMISE = 0.5  # seconds from a client's end to its generator's
NEVER = 60.0  # seconds: what is not waited for

STREAM_STAGES = [
    "before the first event",
    "after the head",
    "in mid event",
    "in a sleep",
    "between events",
    "never suspending",
    "under backpressure",
    "behind another request",
]
PLAIN_STAGES = ["in mid event", "between events", "under backpressure"]
REQUEST_STAGES = ["before the head", "in the head", "in the body", "in a chunk", "idle", "refused"]
WAYS = ["FIN", "RST", "half-close"]
LOOPS = ["uvloop", "asyncio"]


@pytest.fixture(params=LOOPS)
def loop_name(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    name: str = request.param
    if name == "asyncio":
        monkeypatch.setattr(residence, "new_loop", asyncio.new_event_loop)
    return name


def left_behind(server: Server) -> tuple[int, int, int, int]:
    """How many connections, tasks, descriptors and threads there are."""
    assert local(server)._loop is not None
    return (
        len(connections(server)),
        len(asyncio.all_tasks(local(server)._loop)),
        len(os.listdir("/dev/fd")),
        threading.active_count(),
    )


def no_more_than(before: tuple[int, ...], server: Server) -> bool:
    """Whether nothing is left behind that was not there before. What was may have gone: a thread of another test."""
    return all(now <= was for now, was in zip(left_behind(server), before, strict=True))


class Life:
    """A generator's life: the steps it took, whether it is where its client is to leave, and when it ended."""

    def __init__(self, stage: str) -> None:
        self.stage = stage
        self.steps = 0
        self.is_there = threading.Event()
        self.ended: list[float] = []

    def events(self) -> Iterator[tuple[Any, float | None]]:
        """Events, and the seconds to sleep after each; None: do not even suspend."""
        if self.stage == "in mid event":
            yield "x" * 3_000_000, NEVER
        if self.stage in ("in a sleep", "behind another request"):
            yield "first", NEVER
        while True:
            pause = 0.005 if self.stage == "between events" else None
            yield "x" * (20_000 if self.stage == "under backpressure" else 100), pause

    async def source(self) -> AsyncIterator[str]:
        try:
            if self.stage in ("before the first event", "after the head"):
                self.is_there.set()
                await asyncio.sleep(NEVER)
            for event, pause in self.events():
                self.steps += 1
                self.is_there.set()
                yield event
                if pause is not None:
                    await asyncio.sleep(pause)
        finally:
            self.ended.append(time.monotonic())

    def plain_source(self) -> Iterator[str]:
        try:
            for event, pause in self.events():
                self.steps += 1
                self.is_there.set()
                yield event
                if pause is not None:
                    time.sleep(0.005)
        finally:
            self.ended.append(time.monotonic())


def go(client: Connection, connection: HTTPProtocol, way: str) -> float:
    """Leave in that way; when."""
    if way == "half-close":
        client.half_close()
        until(lambda: connection._is_eof or connection._is_lost)
    client.drop(reset=way == "RST")
    return time.monotonic()


def bring_to(stage: str, server: Server, client: Connection, life: Life) -> HTTPProtocol:
    """Have the stream at its stage; the server's side of the connection."""
    client.send(head())
    if stage == "behind another request":
        client.receive_until(b"\r\n\r\nzero")
        client.send(head())
    assert life.is_there.wait(SOON)
    (connection,) = connections(server)
    if stage in ("after the head", "in a sleep", "behind another request"):
        client.receive_until(b"\r\n\r\n")
    if stage in ("in a sleep", "behind another request"):
        client.receive_until(b"first")
    if stage in ("in mid event", "never suspending"):
        client.receive_until(b"xxxxxxxxxx")
    if stage == "between events":
        reached = life.steps + 3
        until(lambda: life.steps >= reached)
    if stage == "under backpressure":
        until(lambda: connection._outlet.is_paused)
    return connection


def check_end(
    life: Life, left: float, server: Server, before: tuple[int, ...], promise: float = PROMISE
) -> None:
    until(lambda: bool(life.ended))
    on_time(life.ended[0] - left, promise)
    until(lambda: no_more_than(before, server))
    assert len(life.ended) == 1


#: A silent body of bytes has nothing to send that would tell a peer that has gone from one that has half-closed.
STREAM_CASES = [
    (kind, stage, way)
    for kind in ("events", "bytes")
    for stage in STREAM_STAGES
    for way in WAYS
    if kind == "events" or way == "RST" or stage in ("between events", "under backpressure")
]


@pytest.mark.parametrize(("kind", "stage", "way"), STREAM_CASES)
@in_one_of_five
def test_a_generator_ends_once_and_soon(kind: str, stage: str, way: str, loop_name: str) -> None:
    life = Life(stage)
    asked = itertools.count()

    def handler(req: Request) -> Any:
        if stage == "behind another request" and next(asked) == 0:
            return "zero"
        return (SSEResponse if kind == "events" else Response)(life.source())

    receive_buffer = 4096 if stage == "under backpressure" else None
    with serving(handler) as server:
        request_nothing(server)
        before = left_behind(server)
        with Connection(server, receive_buffer=receive_buffer) as client:
            left = go(client, bring_to(stage, server, client, life), way)
        check_end(life, left, server, before)


def request_nothing(server: Server) -> None:
    """Let the server have answered somebody before it is looked at."""
    with Connection(server) as client:
        client.send(b"\r\n" + head(method="BREW"))
        client.receive_to_end()
    until(lambda: not connections(server))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("stage", PLAIN_STAGES)
@in_one_of_five
def test_a_plain_generator_ends_once_and_soon(stage: str, way: str, loop_name: str) -> None:
    life = Life(stage)
    receive_buffer = 4096 if stage == "under backpressure" else None
    with serving(lambda req: SSEResponse(life.plain_source())) as server:
        request_nothing(server)
        before = left_behind(server)
        with Connection(server, receive_buffer=receive_buffer) as client:
            left = go(client, bring_to(stage, server, client, life), way)
        check_end(life, left, server, before)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("stage", REQUEST_STAGES)
@in_one_of_five
def test_a_request_that_is_not_complete_leaves_nothing(
    stage: str, way: str, loop_name: str
) -> None:
    handled: list[str] = []

    def handler(req: Request) -> str:
        handled.append(req.path)
        return "x"

    data = {
        "before the head": b"",
        "in the head": head()[:-5],
        "in the body": head("/", "Content-Length: 10", method="POST") + b"12345",
        "in a chunk": head("/", "Transfer-Encoding: chunked", method="POST") + b"a\r\n12345",
        "idle": head("/idle"),
        "refused": b"GET / HTTP/1.1\r\n\r\n",
    }[stage]
    with serving(handler) as server:
        request_nothing(server)
        before = left_behind(server)
        with Connection(server) as client:
            client.send(data)
            until(lambda: len(connections(server)) == 1)
            (connection,) = connections(server)
            if stage == "idle":
                client.receive_until(b"\r\n\r\nx")
            elif stage == "refused":
                client.receive_to_end()
            elif data:
                until(lambda: not connection._reader.is_between)
            if way == "half-close":
                client.half_close()
                client.receive_to_end()
                assert client.end == "closed"
            left = go(client, connection, "FIN" if way == "half-close" else way)
        until(lambda: no_more_than(before, server))
        on_time(time.monotonic() - left, PROMISE)
    assert handled == (["/idle"] if stage == "idle" else [])


@pytest.mark.parametrize("way", WAYS)
@in_one_of_five
def test_an_async_handler_leaves_nothing(way: str, loop_name: str) -> None:
    """It is cancelled by RST; after a FIN it is let be, since its client may still read, and its answer tells."""
    life = Life("in a handler")
    go_on: Future[None] = Future()

    async def handler(req: Request) -> str:
        try:
            life.is_there.set()
            await asyncio.wrap_future(go_on)
            return "x"
        finally:
            life.ended.append(time.monotonic())

    with serving(handler) as server:
        request_nothing(server)
        before = left_behind(server)
        with Connection(server) as client:
            client.send(head())
            assert life.is_there.wait(SOON)
            (connection,) = connections(server)
            left = go(client, connection, way)
        if way != "RST":
            until(lambda: connection._is_eof)
            assert life.ended == []
            go_on.set_result(None)
        check_end(life, left, server, before)


@pytest.mark.parametrize("way", WAYS)
@in_one_of_five
def test_a_client_that_had_more_to_ask_than_is_read_ahead_is_seen_to_go(
    way: str, loop_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading is held back while it is answered, and its end lies behind what is not read: the next tick sees it."""
    monkeypatch.setattr(protocol, "READ_AHEAD", 1024)
    life = Life("in a sleep")
    with serving(lambda req: SSEResponse(life.source())) as server:
        request_nothing(server)
        before = left_behind(server)
        with Connection(server) as client:
            connection = bring_to("in a sleep", server, client, life)
            client.send(head() * 1000)
            until(lambda: connection._is_reading_paused)
            client.send(head() * 1000)
            if way == "half-close":
                client.half_close()
            client.drop(reset=way == "RST")
            left = time.monotonic()
        check_end(life, left, server, before, PROMISE + Config().tick)


def test_clients_that_go_in_the_first_turn_of_their_stream_leave_nothing(loop_name: str) -> None:
    """The request and the end of its client arrive together, before the generator has been stepped."""
    lives: list[Life] = []

    def handler(req: Request) -> Any:
        lives.append(Life("before the first event"))
        return SSEResponse(lives[-1].source())

    with serving(handler) as server:
        request_nothing(server)
        before = left_behind(server)
        for number in range(100):
            with Connection(server) as client:
                client.send(head())
                client.drop(reset=number % 2 == 0)
        # A request whose client sent FIN is answered; not each that was reset is read.
        until(lambda: len(lives) >= 50)
        until(lambda: no_more_than(before, server))
        for life in lives:
            assert len(life.ended) == int(life.is_there.is_set())  # if it began, it ended


def test_a_crowd_that_goes_at_once_leaves_nothing(loop_name: str) -> None:
    lives: list[Life] = []

    def handler(req: Request) -> Any:
        lives.append(Life(STREAM_STAGES[int(req.path[1:]) % 6]))
        return SSEResponse(lives[-1].source())

    with serving(handler) as server:
        request_nothing(server)
        before = left_behind(server)
        clients = [Connection(server, receive_buffer=65536) for _ in range(120)]
        for number, client in enumerate(clients):
            client.send(head(f"/{number}"))
        until(lambda: len(lives) == 120 and all(life.is_there.is_set() for life in lives))
        for number, client in enumerate(clients):
            client.drop(reset=number % 2 == 0)
        until(lambda: no_more_than(before, server))
    assert [len(life.ended) for life in lives] == [1] * 120


# Two thousand of them

SERVER = textwrap.dedent(
    """
    import asyncio, gc, os, resource, sys, threading
    from bunpy.serve import SSEResponse, serve

    started = ended = 0

    async def source(path):
        global started, ended
        started += 1
        try:
            if path != "/before":
                yield {"id": "1", "data": "x" * 100}
            while path == "/busy":
                yield "x" * 1000
            await asyncio.sleep(60)
        finally:
            ended += 1

    def plain_source():
        global started, ended
        started += 1
        try:
            while True:
                yield "x" * 20_000
        finally:
            ended += 1

    def resident():
        try:
            with open("/proc/self/statm") as file:
                return int(file.read().split()[1]) * resource.getpagesize()
        except FileNotFoundError:
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def handler(req):
        if req.path == "/state":
            gc.collect()
            return " ".join(map(str, (
                len(server._service.connections) - 1, len(asyncio.all_tasks()) - 1, started - ended, started,
                len(os.listdir("/dev/fd")), threading.active_count(), len(gc.get_objects()), resident(),
            )))
        if req.path == "/plain":
            return SSEResponse(plain_source())
        return SSEResponse(source(req.path))

    server = serve(handler, port=0, quiet=True)
    print(server.url, flush=True)
    sys.stdin.read()
    server.stop(grace=0)
    """
)


@contextlib.contextmanager
def server_process() -> Iterator[str]:
    """A server in a process of its own; its URL. It has nothing to say on stderr."""
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", SERVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            try:
                _, errors = process.communicate("", timeout=4 * SOON)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        assert (errors, process.returncode) == ("", 0)


def leave_in_every_way(url: str, count: int) -> None:
    """Connect, get to a stage, vanish: ``count`` times, over all stages and ways in turn."""
    stages = ["nothing", "head", "body", "/before", "/sleep", "/read", "/busy", "/plain"]
    for number in range(count):
        stage, way = stages[number % 8], WAYS[number // 8 % 3]
        with Connection(url) as client:
            if stage == "head":
                client.send(head()[:-5])
            elif stage == "body":
                client.send(head("/", "Content-Length: 10", method="POST") + b"12345")
            elif stage != "nothing":
                client.send(head("/sleep" if stage == "/read" else stage))
            if stage in ("/read", "/busy", "/plain"):
                client.receive()
            if way == "half-close":
                client.half_close()
            client.drop(reset=way == "RST")


def state(url: str) -> list[int]:
    return [int(number) for number in request(url, "GET", "/state").text().split()]


def settled(url: str, threads: float = math.inf) -> list[int]:
    """The state when all have gone: no connection, task or generator is left, and no more threads than these."""

    def is_settled() -> bool:
        seen[:] = state(url)
        return seen[:3] == [0, 0, 0] and seen[5] <= threads

    seen: list[int] = []
    until(is_settled, 10.0)
    return seen


def test_two_thousand_disconnects_leave_memory_where_it_was() -> None:
    with server_process() as url:
        leave_in_every_way(url, 1000)
        started, *before = settled(url)[3:]
        leave_in_every_way(url, 2000)
        ended, *after = settled(url, before[1])[3:]
    assert ended - started > 1000  # most of them had got so far as to have a generator
    for what, was, now, leeway in zip(
        ("descriptors", "threads", "objects", "bytes resident"),
        before,
        after,
        (0, 0, 200, before[3] * 0.03),
        strict=True,
    ):
        assert now - was <= leeway, f"{was} {what} before, {now} after"
