"""Hanging up, over real sockets: what the kernel knows of a peer, the probe of one that sent its FIN, and the reset."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import socket
import struct
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from fakes import FakeTransport
from heads import head
from watching import connections, until

from bunpy.http.agenda import Agenda
from bunpy.http.hangup import Probe, has_refused, is_hung_up, reset, untaken
from bunpy.serve import Request, Response, SSEResponse
from bunpy.sse.stream import Stream
from bunpy.testing import Connection, EventClient, serving

pytestmark = pytest.mark.usefixtures("log")

SOON = 5.0  # seconds: what should come at once has surely come
NEVER = 60.0  # seconds: what is not waited for

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Both ends of a TCP connection: ours and the peer's."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        peer = stack.enter_context(socket.create_connection(listener.getsockname()))
        ours = stack.enter_context(listener.accept()[0])
        yield ours, peer


def close_with_reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def wait_until_readable(sock: socket.socket) -> None:
    readable, _, _ = select.select([sock], [], [], SOON)
    assert readable


def read_to_end(sock: socket.socket) -> None:
    while sock.recv(65536):
        pass


# What the kernel knows


def test_a_connection_that_is_open_is_not_hung_up(pair: Pair) -> None:
    ours, peer = pair
    assert not is_hung_up(ours.fileno())
    peer.send(b"x")
    wait_until_readable(ours)
    assert not is_hung_up(ours.fileno())


def test_a_peer_that_sent_its_fin_is_not_hung_up_closed_or_not(pair: Pair) -> None:
    ours, peer = pair
    peer.shutdown(socket.SHUT_WR)
    wait_until_readable(ours)
    assert not is_hung_up(ours.fileno())
    peer.close()
    assert not is_hung_up(ours.fileno())


def test_a_peer_that_closed_is_hung_up_once_it_was_written_to(pair: Pair) -> None:
    ours, peer = pair
    peer.close()
    wait_until_readable(ours)
    ours.send(b"x")
    until(lambda: is_hung_up(ours.fileno()))


def test_a_peer_that_only_half_closed_is_not_hung_up_however_often_it_is_written_to(
    pair: Pair,
) -> None:
    ours, peer = pair
    peer.shutdown(socket.SHUT_WR)
    for _ in range(10):
        ours.send(b"x")
        assert peer.recv(1) == b"x"
    assert not is_hung_up(ours.fileno())


def test_a_peer_that_reset_the_connection_is_hung_up(pair: Pair) -> None:
    ours, peer = pair
    close_with_reset(peer)
    until(lambda: is_hung_up(ours.fileno()))


def test_a_connection_that_both_ends_have_finished_is_hung_up(pair: Pair) -> None:
    ours, peer = pair
    ours.shutdown(socket.SHUT_WR)
    assert not is_hung_up(ours.fileno())
    peer.close()
    until(lambda: is_hung_up(ours.fileno()))


def test_a_descriptor_that_is_closed_is_hung_up() -> None:
    end, other = os.pipe()
    os.close(other)
    os.close(end)
    assert is_hung_up(end)


# The reset


@pytest.mark.parametrize("unsent", [0, 8 * 1024 * 1024])
def test_a_reset_is_seen_as_one_and_leaves_nothing_queued(unsent: int) -> None:
    async def main() -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        with listener:
            peer = socket.create_connection(listener.getsockname())
            with peer:
                ours, _ = listener.accept()
                transport, _ = await asyncio.get_running_loop().create_connection(
                    asyncio.Protocol, sock=ours
                )
                if unsent:
                    transport.write(b"x" * unsent)
                reset(transport)
                await asyncio.sleep(0)
                peer.settimeout(SOON)
                with pytest.raises(ConnectionResetError):
                    read_to_end(peer)

    asyncio.run(main())


def test_a_transport_without_an_internet_socket_is_aborted_all_the_same() -> None:
    class Transport(asyncio.Transport):
        is_aborted = False

        def abort(self) -> None:
            self.is_aborted = True

    ours, peer = socket.socketpair()
    with ours, peer:
        for extra in ({}, {"socket": ours}):
            transport = Transport(extra)
            reset(transport)
            assert transport.is_aborted
        assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8) == bytes(8)


# The probe by itself


class FakeStream:
    """What a probe knows of a stream: whether it runs, and that it can send a comment."""

    def __init__(self, sock: socket.socket) -> None:
        self.reason: str | None = None
        self.comments = 0
        self._sock = sock

    def comment(self) -> None:
        self.comments += 1
        with contextlib.suppress(OSError):
            self._sock.send(b":\n\n")


def probing(
    pair: Pair,
    act: Callable[[FakeStream, FakeTransport, socket.socket], object],
    has_fin: bool = True,
) -> FakeStream:
    """Probe, call ``act`` after the first look, and look on while there is something to look for, 30 times at the most.

    How long it is until the next look is nobody's business here.
    """
    ours, peer = pair
    looks: list[Callable[[], None]] = []
    agenda = SimpleNamespace(call_later=lambda delay, look: looks.append(look))
    stream, transport = FakeStream(ours), FakeTransport()
    Probe(cast(Agenda, agenda), transport, ours.fileno(), cast(Stream, stream), has_fin).look()
    act(stream, transport, peer)
    for _ in range(30):
        if looks:
            looks.pop()()
    return stream


def until_told(sock: socket.socket, events: int) -> None:
    """Until the kernel knows of what its peer has done."""
    poll = select.poll()
    poll.register(sock, select.POLLRDHUP)
    until(lambda: any(told & events for _, told in poll.poll(0)))


def test_a_probe_looks_a_while_and_then_lets_be(pair: Pair) -> None:
    stream = probing(pair, lambda stream, transport, peer: None)
    assert stream.comments == 10


def test_a_probe_ends_with_the_stream(pair: Pair) -> None:
    def end(stream: FakeStream, transport: FakeTransport, peer: socket.socket) -> None:
        stream.reason = "finished"

    assert probing(pair, end).comments == 1


def test_a_probe_ends_with_the_transport(pair: Pair) -> None:
    def end(stream: FakeStream, transport: FakeTransport, peer: socket.socket) -> None:
        transport.abort()

    assert probing(pair, end).comments == 1


def test_a_probe_aborts_the_transport_of_a_peer_that_has_gone(pair: Pair) -> None:
    gone: list[FakeTransport] = []

    def leave(stream: FakeStream, transport: FakeTransport, peer: socket.socket) -> None:
        gone.append(transport)
        close_with_reset(peer)
        until_told(pair[0], select.POLLERR | select.POLLHUP)

    assert probing(pair, leave).comments == 1
    assert gone[0].is_aborted


def test_a_probe_that_knows_of_no_fin_looks_on_for_one_and_says_nothing(pair: Pair) -> None:
    stream = probing(pair, lambda stream, transport, peer: None, has_fin=False)
    assert stream.comments == 0


def test_a_probe_finds_a_fin_behind_bytes_that_nobody_has_read(pair: Pair) -> None:
    def half_close(stream: FakeStream, transport: FakeTransport, peer: socket.socket) -> None:
        peer.send(b"unread")
        peer.shutdown(socket.SHUT_WR)
        until_told(pair[0], select.POLLRDHUP)

    assert probing(pair, half_close, has_fin=False).comments == 10


def test_a_probe_that_knows_of_no_fin_sees_a_reset(pair: Pair) -> None:
    seen: list[FakeTransport] = []

    def leave(stream: FakeStream, transport: FakeTransport, peer: socket.socket) -> None:
        seen.append(transport)
        peer.send(b"unread")
        close_with_reset(peer)
        until_told(pair[0], select.POLLERR | select.POLLHUP)

    assert probing(pair, leave, has_fin=False).comments == 0
    assert seen[0].is_aborted


# What a peer has not taken


def test_what_a_peer_has_not_taken_is_counted_until_it_does(pair: Pair) -> None:
    ours, peer = pair
    assert untaken(ours.fileno()) == 0
    ours.setblocking(False)
    sent = ours.send(bytes(64 * 1024 * 1024))  # more than the kernel takes
    assert 0 < untaken(ours.fileno()) <= sent
    peer.settimeout(SOON)
    while sent:
        sent -= len(peer.recv(65536))
    until(lambda: untaken(ours.fileno()) == 0)


def test_what_is_no_socket_has_nothing_untaken(tmp_path: Path) -> None:
    with open(tmp_path / "file", "wb") as file:
        assert untaken(file.fileno()) == 0


# Whom the kernel has given up


def on(sock: socket.socket | None) -> FakeTransport:
    return FakeTransport(asyncio.Protocol(), {"socket": sock})


def test_who_has_acknowledged_something_in_the_time_that_it_had_was_there(pair: Pair) -> None:
    ours, _ = pair
    ours.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 3_600_000)
    assert has_refused(on(ours))
    ours.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1)
    until(lambda: not has_refused(on(ours)))


def test_of_whom_nothing_is_known_is_not_said_to_have_been_there() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert not has_refused(on(ours))
    assert not has_refused(on(ours))  # closed
    assert not has_refused(on(None))


# The probe at work


class Sleeper:
    """A generator that gives one event, sleeps, and keeps the times at which it ended."""

    def __init__(self) -> None:
        self.ended: list[float] = []
        self.sleeps = threading.Event()

    async def events(self) -> AsyncIterator[str]:
        try:
            yield "first"
            self.sleeps.set()
            await asyncio.sleep(NEVER)
        finally:
            self.ended.append(time.monotonic())


def delay_of_the_end(reset: bool) -> float:
    """The seconds from a client's leaving to its generator's finally."""
    case = Sleeper()
    with serving(lambda req: SSEResponse(case.events())) as server:
        with EventClient(server) as client:
            client.read(1)
            assert case.sleeps.wait(SOON)
            client.drop(reset=reset)
            left = time.monotonic()
        until(lambda: not connections(server))
    (ended,) = case.ended
    return ended - left


@pytest.mark.parametrize("reset", [False, True], ids=["FIN", "RST"])
def test_a_sleeping_generator_ends_within_100_ms_of_its_client(reset: bool) -> None:
    """The best of five: what a busy machine adds is not the server's."""
    delays = [delay_of_the_end(reset) for _ in range(5)]
    assert min(delays) < 0.1
    assert max(delays) < SOON


def test_a_client_that_sends_its_request_and_its_fin_together_and_goes_is_seen() -> None:
    case = Sleeper()
    with serving(lambda req: SSEResponse(case.events())) as server:
        with Connection(server) as client:
            client.send(head())
        until(lambda: case.sleeps.is_set() and bool(case.ended))


def test_a_client_that_half_closes_and_reads_on_keeps_its_silent_stream() -> None:
    case = Sleeper()
    with serving(lambda req: SSEResponse(case.events())) as server, EventClient(server) as client:
        client.half_close()
        client.wait_until(lambda: client.comments >= 5)
        assert case.ended == []
        client.drop()
        until(lambda: bool(case.ended))  # it is looked at ever more seldom


def test_a_client_that_half_closes_and_goes_later_is_seen_when_it_is_looked_at() -> None:
    case = Sleeper()
    with serving(lambda req: SSEResponse(case.events())) as server, EventClient(server) as client:
        client.read(1)
        client.half_close()
        client.wait_until(lambda: client.comments >= 3)
        client.drop()
        until(lambda: bool(case.ended))


@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_a_stream_that_begins_after_the_fin_of_a_client_that_has_gone_ends_too(
    version: str,
) -> None:
    case = Sleeper()
    go_on: Future[None] = Future()
    is_there = threading.Event()

    async def handler(req: Request) -> Any:
        is_there.set()
        await asyncio.wrap_future(go_on)
        return SSEResponse(case.events())

    with serving(handler) as server, Connection(server) as client:
        client.send(head(version=version))
        assert is_there.wait(SOON)
        (connection,) = connections(server)
        client.drop()
        until(lambda: connection._is_eof)
        go_on.set_result(None)
        assert case.sleeps.wait(SOON)
        until(lambda: bool(case.ended))


def test_a_pipelined_stream_ends_too_when_its_client_left_during_the_one_before() -> None:
    cases = {"/1": Sleeper(), "/2": Sleeper()}
    go_on: Future[None] = Future()

    async def first() -> AsyncIterator[str]:
        yield "x"
        await asyncio.wrap_future(go_on)

    def handler(req: Request) -> Any:
        return SSEResponse(first() if req.path == "/1" else cases["/2"].events())

    with serving(handler) as server, EventClient(server, "/1") as client:
        client.connection.send(head("/2"))
        (connection,) = connections(server)
        client.read(1)
        client.half_close()
        until(lambda: connection._is_eof)
        client.wait_until(lambda: client.comments >= 2)
        go_on.set_result(None)
        until(lambda: cases["/2"].sleeps.is_set())
        client.drop()
        until(lambda: bool(cases["/2"].ended))


def test_a_body_of_bytes_goes_on_until_a_write_fails() -> None:
    """It has no comment that could be sent: to it, a client that has gone is one that has half-closed."""
    ended: list[float] = []
    steps = [0]

    async def source() -> AsyncIterator[bytes]:
        try:
            while True:
                steps[0] += 1
                yield b"x"
                await asyncio.sleep(0.02)
        finally:
            ended.append(time.monotonic())

    with serving(lambda req: Response(source())) as server, EventClient(server) as client:
        client.half_close()
        reached = steps[0] + 5
        until(lambda: steps[0] >= reached)
        assert ended == []
        client.drop()
        until(lambda: bool(ended))
