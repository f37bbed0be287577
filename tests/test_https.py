"""The server over TLS, with real sockets, on both loops: streams, ends, clients that misbehave, another certificate."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import logging
import os
import socket
import ssl
import struct
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from certificates import Pair
from watching import Log, connections, in_one_of_five, on_time, until

from bunpy.errors import ConfigError
from bunpy.serve import Request, Response, Server, SSEResponse
from bunpy.server import residence
from bunpy.testing import Connection, EventClient, exchange, request, serving

SOON = 5.0  # seconds: what should come at once has surely come
PROMISE = 0.5  # seconds from a client's end to its generator's
NEVER = 60.0  # seconds: what is not waited for
LOOPS = ["uvloop", "asyncio"]
HEAD = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return Pair.made_in(tmp_path_factory.mktemp("old"))


@pytest.fixture(scope="module")
def new(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return Pair.made_in(tmp_path_factory.mktemp("new"))


@pytest.fixture
def pair(old: Pair, tmp_path: Path) -> Pair:
    """The old certificate in files that a test may write to."""
    return old.copied_to(tmp_path / "pair")


@pytest.fixture(params=LOOPS, autouse=True)
def loop_name(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    name: str = request.param
    if name == "asyncio":
        monkeypatch.setattr(residence, "new_loop", asyncio.new_event_loop)
    return name


@pytest.fixture(autouse=True)
def log(caplog: pytest.LogCaptureFixture) -> Iterator[Log]:
    """Nothing is logged but what a test takes: not by bunpy, nor by a loop; nothing warns when it is collected."""
    caplog.set_level(logging.WARNING)
    log = Log(caplog)
    yield log
    gc.collect()
    assert log.messages == []


class Life:
    """A generator's life: when it began to wait, and when it ended, how often."""

    def __init__(self) -> None:
        self.is_there = threading.Event()
        self.ended: list[float] = []

    async def source(self, *events: object) -> AsyncIterator[object]:
        """Some events, and then nothing for long."""
        try:
            for event in events:
                yield event
            self.is_there.set()
            await asyncio.sleep(NEVER)
        finally:
            self.ended.append(time.monotonic())

    def has_ended_since(self, left: float) -> None:
        until(lambda: bool(self.ended))
        on_time(self.ended[0] - left, PROMISE)
        assert len(self.ended) == 1


async def ticking() -> AsyncIterator[str]:
    for count in itertools.count():
        yield str(count)
        await asyncio.sleep(0.005)


def plain_connection(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), SOON)


def closed_after(sock: socket.socket) -> float:
    """Seconds until the server has closed the connection, one way or the other."""
    start = time.monotonic()
    with contextlib.suppress(ConnectionResetError):
        while sock.recv(65536):
            pass
    return time.monotonic() - start


def is_slow(server: Server) -> bool:
    """Whether more waits for a client than is meant to."""
    return any(connection._outlet.is_paused for connection in connections(server))


def has_half_closed(server: Server) -> bool:
    return any(connection._is_eof for connection in connections(server))


# Answers


def test_a_plain_get(pair: Pair) -> None:
    with serving(lambda req: f"{req.scheme} {req.url}", tls=pair.option) as server:
        assert server.url == f"https://127.0.0.1:{server.port}"
        assert repr(server) == f"<Server {server.url} running>"
        answer = request(server.url, path="/a?b=c", tls=pair.client())
        assert (answer.status, answer.text()) == (200, "https /a?b=c")


def test_a_context_instead_of_files(pair: Pair) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pair.cert, pair.key)
    with serving(lambda req: "x", tls=context) as server:
        assert request(server.url, tls=pair.client()).body == b"x"
        with pytest.raises(ConfigError, match="only a certificate that was given as files"):
            server.reload_tls()


def test_what_cannot_be_used_is_said_before_anything_is_opened(pair: Pair, new: Pair) -> None:
    with pytest.raises(ConfigError, match="is not that of the first certificate"):
        serving(lambda req: "x", tls={"cert": pair.cert, "key": new.key}).__enter__()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_connection_is_kept_over_requests(pair: Pair, version: ssl.TLSVersion) -> None:
    client = pair.client()
    client.minimum_version = client.maximum_version = version
    client.set_alpn_protocols(["h2", "http/1.1"])
    with (
        serving(lambda req: req.body or req.path, tls=pair.option) as server,
        Connection(server, tls=client) as connection,
    ):
        assert connection.tls is not None
        assert connection.tls.selected_alpn_protocol() == "http/1.1"
        connection.send(HEAD, pieces="bytes")
        assert connection.receive_until(b"\r\n\r\n/").startswith(b"HTTP/1.1 200")
        connection.send(HEAD * 3)
        for _ in range(3):
            connection.receive_until(b"\r\n\r\n/")
        body = (
            b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100000
        )
        connection.send(body)
        assert connection.receive_until(b"\r\n\r\n").startswith(b"HTTP/1.1 200")
        assert connection.receive_exactly(100_000) == b"x" * 100_000


def test_a_stream_with_heartbeats_and_its_last_chunk(pair: Pair) -> None:
    go_on = threading.Event()

    async def source() -> AsyncIterator[dict[str, str]]:
        yield {"id": "1", "data": "a"}
        await asyncio.to_thread(go_on.wait, SOON)
        yield {"id": "2", "data": "b"}

    def handler(req: Request) -> Any:
        return SSEResponse(source()) if req.path == "/events" else "x"

    with (
        serving(handler, heartbeat=0.05, tls=pair.option) as server,
        EventClient(server, "/events", tls=pair.client()) as client,
    ):
        assert [event.id for event in client.read()] == ["1"]
        client.wait_until(lambda: client.comments >= 2)
        go_on.set()
        assert [event.data for event in client.read_all()] == ["b"]
        assert client.ended_cleanly
        # The connection is kept.
        client.connection.send(HEAD)
        client.connection.receive_until(b"\r\n\r\nx")


def test_a_stream_without_chunks_ends_with_close_notify(pair: Pair) -> None:
    async def source() -> AsyncIterator[str]:
        yield "a"

    with serving(lambda req: SSEResponse(source()), tls=pair.option) as server:
        done = exchange(server, b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n", tls=pair.client())
    assert done.data.endswith(b"\r\n\r\ndata: a\n\n")
    assert done.end == "closed"


def test_events_that_come_fast_come_all(pair: Pair) -> None:
    async def source() -> AsyncIterator[str]:
        for count in range(50_000):
            yield f"{count} {'x' * 50}"

    with (
        serving(lambda req: SSEResponse(source()), tls=pair.option) as server,
        EventClient(server, tls=pair.client()) as client,
    ):
        events = client.read_all(timeout=20)
    assert [int(event.data.split()[0]) for event in events] == list(range(50_000))


def test_a_generator_in_a_thread(pair: Pair) -> None:
    with (
        serving(lambda req: SSEResponse(iter("abc")), tls=pair.option) as server,
        EventClient(server, tls=pair.client()) as client,
    ):
        assert "".join(event.data for event in client.read_all()) == "abc"


def test_a_big_answer_to_a_slow_reader(pair: Pair) -> None:
    body = bytes(range(256)) * 40_000
    with (
        serving(lambda req: Response(body), tls=pair.option) as server,
        Connection(server, receive_buffer=4096, tls=pair.client()) as connection,
    ):
        connection.send(HEAD)
        connection.receive_until(b"\r\n\r\n")
        until(lambda: is_slow(server))
        assert request(server, tls=pair.client()).body == body  # meanwhile others are served
        assert connection.receive_exactly(len(body), timeout=20) == body


def test_a_big_stream_to_a_slow_reader(pair: Pair) -> None:
    async def source() -> AsyncIterator[str]:
        for count in range(700):
            yield f"{count} {'x' * 10_000}"

    with (
        serving(lambda req: SSEResponse(source()), tls=pair.option) as server,
        EventClient(server, receive_buffer=32768, tls=pair.client()) as client,
    ):
        until(lambda: is_slow(server))
        events = client.read_all(timeout=20)
    assert [int(event.data.split()[0]) for event in events] == list(range(700))


def test_what_waits_for_a_slow_reader_is_known(pair: Pair) -> None:
    """Deadlines, and the limit for all connections, hold by it; meanwhile nothing else is answered there."""
    size = 10_000_000
    answered: list[str] = []

    def handler(req: Request) -> bytes:
        answered.append(req.path)
        return bytes(size)

    with (
        serving(handler, keep_alive_timeout=0.2, tls=pair.option) as server,
        Connection(server, receive_buffer=4096, tls=pair.client()) as connection,
    ):
        connection.send(HEAD * 3)
        until(lambda: is_slow(server))
        assert connections(server)[0].buffered > size // 3
        assert len(answered) == 1
        time.sleep(0.5)  # longer than a connection may idle: this one does not
        connection.receive_until(b"\r\n\r\n")
        assert len(connection.receive_exactly(size, timeout=20)) == size


def test_an_answer_after_which_the_connection_is_closed_comes_whole(
    pair: Pair, loop_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long it takes: asyncio's own TLS would cut it off this long after ``close``."""
    monkeypatch.setattr("asyncio.constants.SSL_SHUTDOWN_TIMEOUT", 0.2, raising=False)
    size = 10_000_000
    with (
        serving(lambda req: bytes(size), tls=pair.option) as server,
        Connection(server, receive_buffer=4096, tls=pair.client()) as connection,
    ):
        connection.send(HEAD[:-2] + b"Connection: close\r\n\r\n")
        connection.receive_until(b"\r\n\r\n")
        time.sleep(0.5)
        assert len(connection.receive_to_end(timeout=20)) == size
        assert connection.end == "closed"


def test_what_waits_for_a_reader_that_takes_nothing_is_bounded(pair: Pair) -> None:
    """As without TLS: the high-water mark, and what one step of the generator may add."""

    async def source() -> AsyncIterator[str]:
        while True:
            yield "x" * 1000

    with (
        serving(lambda req: SSEResponse(source()), tls=pair.option) as server,
        EventClient(server, receive_buffer=4096, tls=pair.client()),
    ):
        until(lambda: is_slow(server))
        assert connections(server)[0].buffered <= 160 * 1024


def test_a_reader_that_takes_nothing_is_cut_off(pair: Pair) -> None:
    life = Life()
    with (
        serving(
            lambda req: SSEResponse(life.source(*["x" * 50_000] * 1000)),
            send_timeout=1.5,
            tls=pair.option,
        ) as server,
        EventClient(server, receive_buffer=4096, tls=pair.client()) as client,
    ):
        until(lambda: bool(life.ended))
        until(lambda: not connections(server))
        client.connection.receive_to_end()
        assert client.connection.end in ("reset", "truncated")
    assert len(life.ended) == 1


def test_a_reader_that_takes_a_little_is_not_cut_off(pair: Pair) -> None:
    """What it takes comes from the kernel first, which the transport does not see for long."""
    life = Life()
    with (
        serving(
            lambda req: SSEResponse(life.source(*["x" * 50_000] * 1000)),
            send_timeout=2.0,
            tls=pair.option,
        ) as server,
        EventClient(server, receive_buffer=4096, tls=pair.client()) as client,
    ):
        until(lambda: is_slow(server))
        over = time.monotonic() + 4.0
        while time.monotonic() < over:
            client.raw(20_000)
            time.sleep(0.1)
        assert life.ended == []


# Refusals


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3000000\r\n\r\n", 413),
    ],
)
def test_a_refusal_arrives_although_more_was_sent(pair: Pair, data: bytes, status: int) -> None:
    with serving(lambda req: "x", body_limit=1000, tls=pair.option) as server:
        done = exchange(server, data + bytes(500_000), tls=pair.client())
    assert done.statuses == [status]
    assert done.end == "closed"


def test_a_head_that_does_not_come(pair: Pair) -> None:
    with serving(lambda req: "x", head_timeout=0.1, tls=pair.option) as server:
        # Who takes its time for the first byte is closed without a word.
        until(lambda: exchange(server, HEAD[:-3], tls=pair.client()).statuses == [408])
        assert exchange(server, b"", tls=pair.client()).end == "closed"


def test_a_connection_that_idles_is_closed(pair: Pair) -> None:
    with serving(lambda req: "x", keep_alive_timeout=0.1, tls=pair.option) as server:
        done = exchange(server, HEAD, tls=pair.client())
    assert (done.statuses, done.end) == ([200], "closed")


# Clients that do not speak TLS, or not to the end of the handshake


def test_plain_http_is_not_answered(pair: Pair) -> None:
    with serving(lambda req: "x", tls=pair.option) as server:
        done = exchange(f"http://127.0.0.1:{server.port}", HEAD)
        assert b"HTTP" not in done.data  # an alert, perhaps
        assert request(server, tls=pair.client()).status == 200


def is_answered(server: Server, pair: Pair) -> bool:
    """False where a busy machine has taken longer for a handshake than there is time."""
    try:
        return request(server, tls=pair.client()).status == 200
    except OSError:
        return False


@pytest.mark.parametrize("data", [b"", b"\x16", b"\x16\x03\x01\x02\x00\x01\x00", b"\x16\x03\x01"])
def test_a_handshake_that_stalls_is_cut_off(pair: Pair, data: bytes) -> None:
    with serving(lambda req: "x", handshake_timeout=0.3, tls=pair.option) as server:
        start = time.monotonic()
        with plain_connection(server) as sock:
            sock.sendall(data)
            closed_after(sock)
        assert 0.29 < time.monotonic() - start < SOON
        assert connections(server) == []
        until(lambda: is_answered(server, pair))


@pytest.mark.parametrize("way", ["FIN", "RST"])
@pytest.mark.parametrize("data", [b"", b"\x16\x03\x01\x02\x00\x01\x00", b"junk\r\n\r\n"])
def test_a_client_that_leaves_in_the_handshake(pair: Pair, data: bytes, way: str) -> None:
    with serving(lambda req: "x", tls=pair.option) as server:
        request(server, tls=pair.client())
        before = len(os.listdir("/dev/fd"))
        sock = plain_connection(server)
        sock.sendall(data)
        if way == "RST":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()
        assert request(server, tls=pair.client()).status == 200
        until(lambda: len(os.listdir("/dev/fd")) <= before)


def test_a_client_that_does_not_trust_the_certificate(pair: Pair, new: Pair) -> None:
    with serving(lambda req: "x", tls=pair.option) as server:
        with pytest.raises(ssl.SSLCertVerificationError):
            request(server, tls=new.client())
        assert request(server, tls=pair.client()).status == 200


@pytest.mark.parametrize("data", [b"", b"\x16\x03\x01\x02\x00\x01\x00"])
def test_a_server_stops_in_the_middle_of_a_handshake(pair: Pair, data: bytes) -> None:
    """Whoever has not shaken hands has asked for nothing, and is not waited for."""
    with serving(lambda req: "x", tls=pair.option) as server, plain_connection(server) as sock:
        sock.sendall(data)
        request(server, tls=pair.client())  # so it has been accepted
        start = time.monotonic()
        server.stop(grace=NEVER)
        assert time.monotonic() - start < SOON
        closed_after(sock)


# Clients that leave


WAYS = ["close_notify and FIN", "FIN", "RST"]


def leave(connection: Connection, way: str) -> float:
    if way == "FIN":
        connection.socket.close()
    else:
        connection.drop(reset=way == "RST")
    return time.monotonic()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "events", [[], ["a"], ["x" * 50_000] * 1000], ids=["silent", "one", "many"]
)
@in_one_of_five
def test_a_generator_ends_once_and_soon(pair: Pair, events: list[str], way: str) -> None:
    life = Life()
    with serving(lambda req: SSEResponse(life.source(*events)), tls=pair.option) as server:
        receive_buffer = 4096 if len(events) > 1 else None
        with Connection(server, receive_buffer=receive_buffer, tls=pair.client()) as client:
            client.send(HEAD)
            client.receive_until(b"\r\n\r\n")
            if receive_buffer is None:
                assert life.is_there.wait(SOON)
            else:
                until(lambda: is_slow(server))
            life.has_ended_since(leave(client, way))
            until(lambda: not connections(server))


@pytest.mark.parametrize("way", WAYS)
@in_one_of_five
def test_an_endless_stream_ends_with_its_client(pair: Pair, way: str) -> None:
    with (
        serving(lambda req: SSEResponse(ticking()), tls=pair.option) as server,
        EventClient(server, tls=pair.client()) as client,
    ):
        client.read(3)
        left = leave(client.connection, way)
        until(lambda: not connections(server))
        on_time(time.monotonic() - left, PROMISE)


@pytest.mark.parametrize("pieces", ["whole", "bytes"])
def test_whoever_half_closes_is_answered(pair: Pair, pieces: Any) -> None:
    """close_notify is to TLS what FIN is to TCP: nothing more will be said, and the answer is waited for."""
    with serving(lambda req: "x", tls=pair.option) as server:
        done = exchange(server, HEAD * 3, pieces=pieces, half_close=True, tls=pair.client())
    assert (done.statuses, done.end) == ([200] * 3, "closed")


def test_whoever_half_closes_is_answered_by_an_async_handler_too(pair: Pair) -> None:
    async def handler(req: Request) -> str:
        await asyncio.to_thread(until, lambda: has_half_closed(server))
        return "x"

    with serving(handler, tls=pair.option) as server:
        done = exchange(server, HEAD, half_close=True, tls=pair.client())
    assert (done.statuses, done.end) == ([200], "closed")


@in_one_of_five
def test_a_stream_to_a_client_that_has_half_closed_goes_on(pair: Pair) -> None:
    with (
        serving(lambda req: SSEResponse(ticking()), tls=pair.option) as server,
        EventClient(server, tls=pair.client()) as client,
    ):
        client.read(3)
        client.half_close()
        until(lambda: has_half_closed(server))
        client.read(20)
        left = leave(client.connection, "FIN")
        until(lambda: not connections(server))
        on_time(time.monotonic() - left, PROMISE)


# The end of a server


def test_stop_ends_live_streams_cleanly(pair: Pair) -> None:
    lives = [Life() for _ in range(5)]
    waiting = iter(lives)
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(
            serving(lambda req: SSEResponse(next(waiting).source("a")), tls=pair.option)
        )
        clients = [
            stack.enter_context(EventClient(server, tls=pair.client())) for _ in range(len(lives))
        ]
        for client in clients:
            client.read()
        thread = threading.Thread(target=server.stop, args=(NEVER,))
        start = time.monotonic()
        thread.start()
        for client in clients:
            assert client.read_all() == []
            assert client.ended_cleanly
            assert client.retry is not None
            assert client.connection.receive() == b""
            assert client.connection.end == "closed"
        thread.join(SOON)
        assert time.monotonic() - start < SOON
    assert [len(life.ended) for life in lives] == [1] * 5


def test_stop_with_connections_that_idle(pair: Pair) -> None:
    with (
        serving(lambda req: "x", tls=pair.option) as server,
        Connection(server, tls=pair.client()) as client,
    ):
        client.send(HEAD)
        client.receive_until(b"\r\n\r\nx")
        thread = threading.Thread(target=server.stop, args=(NEVER,))
        start = time.monotonic()
        thread.start()
        assert client.receive() == b""
        assert client.end == "closed"
        thread.join(SOON)
        assert time.monotonic() - start < SOON


def test_stop_does_not_wait_for_a_close_notify_that_does_not_come(pair: Pair) -> None:
    """A client that reads nothing does not say it; nor does one that is suspended."""
    with (
        serving(lambda req: "x", tls=pair.option) as server,
        Connection(server, tls=pair.client()) as client,
    ):
        client.send(HEAD)
        client.receive_until(b"\r\n\r\nx")
        start = time.monotonic()
        server.stop(grace=NEVER)
        assert time.monotonic() - start < SOON


def test_stop_at_once(pair: Pair) -> None:
    life = Life()
    with (
        serving(lambda req: SSEResponse(life.source("a")), tls=pair.option) as server,
        EventClient(server, tls=pair.client()) as client,
    ):
        client.read()
        start = time.monotonic()
        server.stop(grace=0)
        assert time.monotonic() - start < SOON
        client.connection.receive_to_end()
    assert len(life.ended) == 1


# Another certificate


def seen_by(server: Server, client: ssl.SSLContext) -> bytes | None:
    with Connection(server, tls=client) as connection:
        assert connection.tls is not None
        return connection.tls.getpeercert(binary_form=True)


def test_reload_under_live_streams(pair: Pair, old: Pair, new: Pair) -> None:
    client = old.client(new)
    with (
        serving(lambda req: SSEResponse(ticking()), tls=pair.option) as server,
        contextlib.ExitStack() as stack,
    ):
        streams = [stack.enter_context(EventClient(server, tls=client)) for _ in range(3)]
        for stream in streams:
            stream.read(2)
        for certificate in (new, old, new):
            certificate.put_at(pair)
            server.reload_tls()
            assert seen_by(server, client) == certificate.der
            for stream in streams:
                stream.read(5)
        pair.key.write_bytes(b"")
        with pytest.raises(ConfigError, match=r"not reloaded.* holds no private key"):
            server.reload_tls()
        assert seen_by(server, client) == new.der
        for stream in streams:
            stream.read(5)
        for stream in streams:
            counts = [int(event.data) for event in stream.read(5)]
            assert counts == list(range(counts[0], counts[0] + 5))


def test_without_tls_there_is_nothing_to_reload() -> None:
    with (
        serving(lambda req: "x") as server,
        pytest.raises(ConfigError, match="this server has none"),
    ):
        server.reload_tls()
