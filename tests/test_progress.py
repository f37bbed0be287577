"""Whether a client takes what waits for it: counted over real sockets, with a clock of the test's."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import suppress

import pytest
from fakes import FakeTransport
from watching import until

from bunpy.http.hangup import untaken
from bunpy.http.progress import Progress, waiting


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Ours, and a client's that has not read yet."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as client,
        listener.accept()[0] as ours,
    ):
        yield ours, client


def stuck(sock: socket.socket, size: int) -> FakeTransport:
    """A transport with so many bytes in memory."""
    transport = FakeTransport(asyncio.Protocol(), {"socket": sock}, is_stuck=True)
    transport.write(bytes(size))
    return transport


def fill(sock: socket.socket) -> None:
    """Give the kernel all that it takes."""
    sock.setblocking(False)
    with suppress(BlockingIOError):
        while True:
            sock.send(bytes(1 << 16))


def test_what_waits_is_in_memory_and_in_the_kernel(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, _ = pair
    transport = stuck(ours, 100)
    assert waiting(transport, ours.fileno()) == 100
    fill(ours)
    until(lambda: waiting(transport, ours.fileno()) == 100 + untaken(ours.fileno()) > 100)
    assert waiting(transport, -1) == 100


def test_a_client_is_stalled_from_the_first_look_that_finds_no_less() -> None:
    ours, client = socket.socketpair()
    with ours, client:
        progress, transport = Progress(), stuck(ours, 100)
        assert progress.stalled(transport, -1, 10.0) == 0.0
        assert progress.stalled(transport, -1, 13.0) == 3.0
        assert progress.stalled(transport, -1, 17.5) == 7.5


def test_a_client_that_takes_something_is_not() -> None:
    ours, client = socket.socketpair()
    with ours, client:
        progress, transport = Progress(), stuck(ours, 100)
        progress.stalled(transport, -1, 10.0)
        assert progress.stalled(transport, -1, 13.0) == 3.0
        transport.resume()
        assert progress.stalled(transport, -1, 14.0) == 0.0
        assert progress.stalled(transport, -1, 16.0) == 2.0
