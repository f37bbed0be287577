"""A server on a Unix socket, over real ones, on both loops: requests, streams, those who leave, those who are slow."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from watching import SOON, connections, in_one_of_five, local, on_time, until

from bunpy.http.hangup import untaken
from bunpy.serve import HTTPError, Request, SSEResponse, serve
from bunpy.server import residence
from bunpy.server.config import Config
from bunpy.testing import Connection, EventClient, IncompleteAnswer, exchange, request, serving

pytestmark = pytest.mark.usefixtures("log")

PROMISE = 0.5  # seconds from a client's end to its generator's
GET = b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n"
LAST = b"GET / HTTP/1.1\r\nHost: example.org\r\nConnection: close\r\n\r\n"


@pytest.fixture(params=["uvloop", "asyncio"], autouse=True)
def loop_name(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    name: str = request.param
    if name == "asyncio":
        monkeypatch.setattr(residence, "new_loop", asyncio.new_event_loop)
    return name


@pytest.fixture
def path() -> Iterator[Path]:
    """Where a socket may be; pytest's own directories can have names that are too long."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "s"
        assert os.listdir(folder) == []


class Life:
    """A generator's life: how it sends, whether it has begun, and when it ended."""

    def __init__(self, size: int = 0, pause: float = 60.0) -> None:
        self.event = "x" * size
        self.pause = pause
        self.has_begun = threading.Event()
        self.ended: list[float] = []

    async def source(self) -> AsyncIterator[str]:
        try:
            self.has_begun.set()
            while True:
                if self.event:
                    yield self.event
                if self.pause:
                    await asyncio.sleep(self.pause)
        finally:
            self.ended.append(time.monotonic())

    def handler(self, req: Request) -> SSEResponse:
        return SSEResponse(self.source())


# --- requests ------------------------------------------------------------------------------------


def test_requests(path: Path) -> None:
    """Nobody has an address there, and whatever Host a proxy has for it is answered for."""

    def handler(req: Request) -> dict[str, object]:
        return {"body": f"{req.client} {req.headers['host']} {req.text()}"}

    with serving(handler, hostname=f"unix:{path}") as server:
        assert server.port == 0
        assert server.url == f"unix:{path}"
        assert request(server, "POST", body=b"hello").text() == "None localhost hello"
        assert request(server.url, headers={"Host": "example.org"}).text() == "None example.org "


def test_the_hosts_that_are_allowed(path: Path) -> None:
    with serving(
        lambda req: "hello", hostname=f"unix:{path}", allowed_hosts=["example.org"]
    ) as server:
        assert exchange(server, LAST).statuses == [200]
        assert exchange(server, LAST.replace(b".org", b".com")).statuses == [421]


def test_an_abstract_name() -> None:
    with serving(lambda req: "hello", hostname=f"unix:@bunpy-test-{os.getpid()}") as server:
        assert request(server).text() == "hello"
        assert request(server.url).text() == "hello"


def test_the_permissions(path: Path) -> None:
    with serving(lambda req: "hello", hostname=f"unix:{path}", unix_mode=0o600):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with serving(lambda req: "hello", hostname=f"unix:{path}"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o666 == Config().unix_mode


def test_connections_are_kept(path: Path) -> None:
    with serving(lambda req: "hello", hostname=f"unix:{path}") as server:
        assert exchange(server, GET * 40 + LAST, pieces=[1, 20, 100]).statuses == [200] * 41


def test_half_closing_after_a_request(path: Path) -> None:
    async def handler(req: Request) -> str:
        await asyncio.sleep(0.02)
        return "hello"

    with serving(handler, hostname=f"unix:{path}") as server:
        result = exchange(server, GET, half_close=True)
    assert result.end == "closed"
    assert [answer.text() for answer in result.answers] == ["hello"]


def test_a_refusal_arrives(path: Path) -> None:
    """Also at a client that goes on sending."""
    body = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 200000000\r\n\r\n" + b"x" * 500_000
    with serving(lambda req: "hello", hostname=f"unix:{path}") as server:
        assert exchange(server, body).statuses == [413]
        assert exchange(server, b"no request\r\n\r\n").statuses == [400]


def test_large_bodies(path: Path) -> None:
    body = os.urandom(3_000_000)
    with serving(lambda req: req.body, hostname=f"unix:{path}") as server:
        assert request(server, "POST", body=body).body == body


# --- streams -------------------------------------------------------------------------------------


def test_events(path: Path) -> None:
    async def source() -> AsyncIterator[dict[str, str]]:
        for number in range(3):
            yield {"id": str(number), "data": f"event {number}"}
            await asyncio.sleep(0)

    with (
        serving(lambda req: SSEResponse(source()), hostname=f"unix:{path}") as server,
        EventClient(server) as client,
    ):
        assert client.headers["content-type"].startswith("text/event-stream")
        assert [event.data for event in client.read_all()] == ["event 0", "event 1", "event 2"]
        assert client.ended_cleanly


def test_more_events_than_the_kernel_takes(path: Path) -> None:
    """Each is there once, in order and whole: partly sent straight to the socket, partly by the transport."""
    sizes = [(number * 7919) % 30_000 for number in range(600)]

    async def source() -> AsyncIterator[str]:
        for number, size in enumerate(sizes):
            yield f"{number} {'x' * size}"
            if number % 50 == 0:
                await asyncio.sleep(0)

    with (
        serving(lambda req: SSEResponse(source()), hostname=f"unix:{path}") as server,
        EventClient(server, timeout=20) as client,
    ):
        until(lambda: is_paused(server))
        data = [event.data for event in client.read_all()]
    assert [len(text) for text in data] == [
        len(str(number)) + 1 + size for number, size in enumerate(sizes)
    ]
    assert [text.split()[0] for text in data] == [str(number) for number in range(600)]


def is_paused(server: Any) -> bool:
    return any(connection._outlet.is_paused for connection in connections(server))


def test_heartbeats(path: Path) -> None:
    life = Life()
    with (
        serving(life.handler, hostname=f"unix:{path}", heartbeat=0.05) as server,
        EventClient(server) as client,
    ):
        client.wait_until(lambda: client.comments >= 3)


def test_an_error_before_the_head(path: Path) -> None:
    async def source() -> AsyncIterator[str]:
        raise HTTPError(404)
        yield "never"

    with serving(lambda req: SSEResponse(source()), hostname=f"unix:{path}") as server:
        assert request(server).status == 404


def test_an_error_after_the_head(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def source() -> AsyncIterator[str]:
        yield "first"
        raise ValueError("no good")

    with (
        serving(lambda req: SSEResponse(source()), hostname=f"unix:{path}") as server,
        EventClient(server) as client,
    ):
        with pytest.raises(IncompleteAnswer):
            client.read_all()
        assert [event.data for event in client.read()] == ["first"]
    assert [record.exc_info is not None for record in caplog.get_records("call")] == [True]
    caplog.clear()


# --- those who leave -----------------------------------------------------------------------------


def close(client: Connection) -> None:
    client.drop()


def close_with_bytes_unread(client: Connection) -> None:
    """What an RST is there: the server's next look at the socket tells of an error."""
    client.socket.close()


def half_close_and_close(client: Connection) -> None:
    client.half_close()
    client.drop()


LEAVING = [close, close_with_bytes_unread, half_close_and_close]
STAGES: dict[str, Callable[[], Life]] = {
    "before the first event": lambda: Life(),
    "in a sleep": lambda: Life(100),
    "between events": lambda: Life(100, 0.005),
    "under backpressure": lambda: Life(20_000, 0.0),
    "in mid event": lambda: Life(3_000_000),
}


@pytest.mark.parametrize("leave", LEAVING)
@pytest.mark.parametrize("stage", STAGES)
@in_one_of_five
def test_a_client_that_leaves(path: Path, stage: str, leave: Callable[[Connection], None]) -> None:
    life = STAGES[stage]()
    with serving(life.handler, hostname=f"unix:{path}", head_delay=60.0) as server:
        client = Connection(server)
        client.send(GET)
        assert life.has_begun.wait(SOON)
        if stage != "before the first event":
            client.pending += client.receive_until(b"x")
        if stage in ("under backpressure", "in mid event"):
            until(lambda: is_paused(server))
        left = time.monotonic()
        leave(client)
        until(lambda: bool(life.ended))
        on_time(life.ended[0] - left, PROMISE)
        until(lambda: not connections(server))
    assert len(life.ended) == 1


def test_a_client_that_only_half_closes(path: Path) -> None:
    """Its stream goes on."""
    life = Life(10, 0.01)
    with serving(life.handler, hostname=f"unix:{path}") as server, EventClient(server) as client:
        client.read()
        client.half_close()
        client.read(50)
        assert life.ended == []


@in_one_of_five
def test_a_client_that_half_closes_in_silence(path: Path) -> None:
    """Nothing is to be sent to it, and it is told from one that has gone all the same."""
    life = Life()
    with (
        serving(life.handler, hostname=f"unix:{path}", head_delay=0.0) as server,
        EventClient(server) as client,
    ):
        client.half_close()
        client.wait_until(lambda: client.comments >= 3)
        assert life.ended == []
        left = time.monotonic()
        client.socket.close()
        until(lambda: bool(life.ended))
        on_time(life.ended[0] - left, PROMISE)


def test_a_client_that_does_not_wait_for_its_answer(path: Path) -> None:
    """It may have half-closed only, so its answer is made; then nothing is left of it."""
    begun, gate = threading.Event(), threading.Event()

    async def handler(req: Request) -> str:
        begun.set()
        await asyncio.to_thread(gate.wait, SOON)
        return "hello"

    with serving(handler, hostname=f"unix:{path}") as server:
        with Connection(server) as client:
            client.send(GET)
            assert begun.wait(SOON)
        gate.set()
        until(lambda: not connections(server))


# --- those who are slow --------------------------------------------------------------------------


def test_what_the_kernel_holds() -> None:
    """TIOCOUTQ tells of a Unix socket too, in bytes of the kernel's memory: more as more waits, 0 when all is taken."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert untaken(ours.fileno()) == 0
        ours.send(b"x" * 10_000)
        first = untaken(ours.fileno())
        assert first >= 10_000
        ours.send(b"x" * 10_000)
        assert untaken(ours.fileno()) > first
        while len(theirs.recv(1 << 20)) == 1 << 20:
            pass
        until(lambda: untaken(ours.fileno()) == 0)


def test_a_client_that_takes_nothing(path: Path) -> None:
    """Is cut off, and what waits for it is bounded until then."""
    life = Life(20_000, 0.0)
    with (
        serving(life.handler, hostname=f"unix:{path}", send_timeout=1.5) as server,
        Connection(server) as client,
    ):
        client.send(GET)
        until(lambda: is_paused(server))
        (connection,) = connections(server)
        assert connection._transport.get_write_buffer_size() < 512 * 1024
        until(lambda: bool(life.ended))
        until(lambda: not connections(server))


def test_a_client_that_is_slow(path: Path) -> None:
    """As long as it takes anything in the time it has, it stays."""
    life = Life(20_000, 0.0)
    with (
        serving(life.handler, hostname=f"unix:{path}", send_timeout=2.0) as server,
        Connection(server) as client,
    ):
        client.send(GET)
        until(lambda: is_paused(server))
        start = time.monotonic()
        while time.monotonic() - start < 4.0:
            assert len(client.receive_exactly(40_000)) == 40_000
            threading.Event().wait(0.1)
        assert life.ended == []


# --- the server's own life -----------------------------------------------------------------------


def test_stopping_ends_streams(path: Path) -> None:
    life = Life(10)
    with serving(life.handler, hostname=f"unix:{path}") as server, EventClient(server) as client:
        client.read()
        server.request_stop()
        client.read_all()
        server.stop()
        assert client.ended_cleanly
        assert not path.exists()
    assert len(life.ended) == 1


def test_the_file_goes_when_nobody_is_accepted_any_more(path: Path) -> None:
    """A new server has the path while the old one drains, and keeps it when that has ended."""
    life = Life(10)
    with serving(life.handler, hostname=f"unix:{path}") as old, EventClient(old) as client:
        client.read()
        until(lambda: bool(connections(old)))
        assert local(old)._service is not None
        old.request_stop(grace=30.0, streams="finish")
        until(lambda: not path.exists())
        with serving(lambda req: "new", hostname=f"unix:{path}") as new:
            assert request(new).text() == "new"
            old.stop(grace=0)
            assert request(new).text() == "new"
            assert path.exists()
        assert not path.exists()


def test_what_has_taken_its_place_stays(path: Path) -> None:
    """The loop removes nothing either (uvloop's and asyncio's ``cleanup_socket``)."""
    with serving(lambda req: "hello", hostname=f"unix:{path}") as server:
        path.unlink()
        path.write_text("mine")
        server.stop()
        assert path.read_text() == "mine"
        path.unlink()


def test_the_file_of_an_inherited_socket_stays(path: Path) -> None:
    """Whoever bound it still listens on it."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.fspath(path))
        listener.listen()
        with serving(
            lambda req: "hello", hostname=f"fd:{os.dup(listener.fileno())}", port=-1
        ) as server:
            assert server.url == f"unix:{path}"
            assert request(server.url).text() == "hello"
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as client:
            assert client.connect_ex(os.fspath(path)) == 0
    path.unlink()


def test_a_path_that_is_taken(path: Path) -> None:
    """Whoever has it sees a client that goes again, and goes on."""
    with serving(lambda req: "hello", hostname=f"unix:{path}") as server:
        with pytest.raises(OSError, match=f"unix:{path} is taken: stop what listens there"):
            serve(lambda req: "other", hostname=f"unix:{path}", quiet=True)
        assert request(server).text() == "hello"
        until(lambda: not connections(server))


def test_a_server_that_does_not_come_to_serve(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves no file."""

    def new_loop() -> asyncio.AbstractEventLoop:
        raise RuntimeError("no loop")

    monkeypatch.setattr(residence, "new_loop", new_loop)
    with pytest.raises(RuntimeError, match="no loop"):
        serve(lambda req: "hello", hostname=f"unix:{path}", quiet=True)
    assert not path.exists()


def test_on_a_running_loop(path: Path) -> None:
    async def main() -> None:
        server = serve(lambda req: "hello", hostname=f"unix:{path}", quiet=True)
        assert (await asyncio.to_thread(request, server)).text() == "hello"
        server.stop()
        await server.wait_closed()

    asyncio.run(main())
    assert not path.exists()
