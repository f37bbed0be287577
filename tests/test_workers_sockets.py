"""One port for several processes."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from bunpy.server.sockets import bind
from bunpy.workers import sockets
from bunpy.workers.sockets import share_out


def waiting(listener: socket.socket) -> int:
    """How many wait to be accepted; they are closed."""
    count = 0
    while True:
        try:
            accepted, _ = listener.accept()
        except BlockingIOError:
            return count
        accepted.close()
        count += 1


@pytest.mark.parametrize("hostname", ["127.0.0.1", "localhost", "::1", "0.0.0.0"])
def test_each_has_a_socket_of_its_own_and_its_part_of_the_clients(hostname: str) -> None:
    listeners = bind(hostname, 0, 128)
    first = listeners.sockets[:]
    shares = share_out(listeners, 3, 128)
    assert shares[0] == first
    assert [len(share) for share in shares] == [len(first)] * 3
    assert {listener.getsockname()[1] for share in shares for listener in share} == {listeners.port}
    address = first[0].getsockname()[:2]
    clients = [socket.create_connection(address, 5.0) for _ in range(90)]
    counts = [sum(waiting(listener) for listener in share) for share in shares]
    assert sum(counts) == 90
    assert min(counts) > 5
    for client in clients:
        client.close()
    listeners.close()
    assert all(listener.fileno() == -1 for share in shares for listener in share)


def test_the_port_stays_its_own() -> None:
    listeners = bind("127.0.0.1", 0, 128)
    share_out(listeners, 2, 128)
    with pytest.raises(OSError, match="is taken"):
        bind("127.0.0.1", listeners.port, 128)
    listeners.close()
    bind("127.0.0.1", listeners.port, 128).close()


def test_connections_are_tuned_whoever_accepts_them() -> None:
    listeners = bind("127.0.0.1", 0, 128)
    for share in share_out(listeners, 2, 128):
        assert share[0].getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert not share[0].getblocking()
        assert not share[0].get_inheritable()
    listeners.close()


def test_alone_it_has_the_port_for_itself() -> None:
    listeners = bind("127.0.0.1", 0, 128)
    assert share_out(listeners, 1, 128) == [listeners.sockets]
    assert listeners.sockets[0].getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT) == 0
    listeners.close()


def test_what_cannot_be_shared_out_is_everybodys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unix = bind(f"unix:{tmp_path / 'x'}", 0, 128)
    assert share_out(unix, 2, 128) == [unix.sockets] * 2
    unix.close()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        inherited = bind(f"fd:{os.dup(listener.fileno())}", 0, 128)
    assert share_out(inherited, 2, 128) == [inherited.sockets] * 2
    inherited.close()
    monkeypatch.setattr(sockets, "_CAN_SPLIT", False)
    bound = bind("127.0.0.1", 0, 128)
    assert share_out(bound, 2, 128) == [bound.sockets] * 2
    bound.close()


def test_one_that_cannot_be_had_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    listeners = bind("127.0.0.1", 0, 128)

    def fail(listener: socket.socket) -> None:
        raise OSError("no more")

    monkeypatch.setattr(sockets, "tune", fail)
    with pytest.raises(OSError, match="no more"):
        share_out(listeners, 2, 128)
    listeners.close()
    assert all(listener.fileno() == -1 for listener in listeners.sockets)
