"""What accepted connections inherit from their listener, asked the kernel."""

from __future__ import annotations

import errno
import os
import socket

import pytest

from bunpy.serve import Request
from bunpy.server.tuning import tune
from bunpy.testing import request, serving

#: Level, option and value of all that a half-open peer, or a small write, depends on.
TUNING = [
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 20_000),
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, 512 * 1024),
]

USER_TIMEOUT = (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)


@pytest.mark.parametrize(
    ("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]
)
def test_connections_inherit_it(family: int, host: str) -> None:
    with socket.socket(family) as listener:
        tune(listener)
        listener.bind((host, 0))
        listener.listen()
        listener.settimeout(5)
        with socket.create_connection(listener.getsockname()[:2], 5):
            accepted, _ = listener.accept()
            with accepted:
                for level, option, value in TUNING:
                    assert accepted.getsockopt(level, option) == value, (level, option)


def test_connections_of_a_server_have_it() -> None:
    """The loop changes nothing of it, uvloop's or asyncio's own."""
    values: list[int] = []

    def handler(req: Request) -> str:
        for name in os.listdir("/proc/self/fd"):
            peer = peer_of(int(name))
            if peer is not None and peer == req.client:
                values.extend(options_of(int(name)))
        return "hello"

    with serving(handler) as server:
        assert request(server).text() == "hello"
    assert values == [value for _, _, value in TUNING]


def peer_of(fd: int) -> tuple[str, int] | None:
    try:
        with socket.socket(fileno=os.dup(fd)) as connection:
            name = connection.getpeername()
            return name[:2] if isinstance(name, tuple) else None
    except OSError:
        return None  # no socket, or not a connected one


def options_of(fd: int) -> list[int]:
    with socket.socket(fileno=os.dup(fd)) as connection:
        return [connection.getsockopt(level, option) for level, option, _ in TUNING]


def test_what_the_platform_lacks_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "TCP_USER_TIMEOUT")

    class Socket(socket.socket):
        def setsockopt(self, level: int, option: int, value: int) -> None:  # type: ignore[override]
            if option == socket.TCP_KEEPCNT:
                raise OSError(errno.ENOPROTOOPT, "Protocol not available")
            super().setsockopt(level, option, value)

    with Socket() as listener:
        tune(listener)
        assert listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
        assert listener.getsockopt(*USER_TIMEOUT) == 0


def test_a_unix_socket_has_less() -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        tune(listener)
        assert listener.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
