"""What is told of listening sockets: ports, addresses, URLs; and their end."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from bunpy.server.listeners import Listeners


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def tcp(stack: ExitStack, host: str = "127.0.0.1") -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return stack.enter_context(socket.create_server((host, 0), family=family))


def unix(stack: ExitStack, path: str) -> socket.socket:
    listener = stack.enter_context(socket.socket(socket.AF_UNIX))
    listener.bind(path)
    listener.listen()
    return listener


@pytest.mark.parametrize(
    ("hostname", "address", "host"),
    [
        ("localhost", "127.0.0.1", "localhost"),
        ("127.0.0.1", "127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "0.0.0.0", "127.0.0.1"),
        ("", "0.0.0.0", "127.0.0.1"),
        ("::1", "::1", "[::1]"),
        ("[::1]", "::1", "[::1]"),
        ("::", "::", "[::1]"),
        (None, "127.0.0.1", "127.0.0.1"),
        (None, "0.0.0.0", "127.0.0.1"),
        (None, "::1", "[::1]"),
        (None, "::", "[::1]"),
    ],
)
def test_a_port(stack: ExitStack, hostname: str | None, address: str, host: str) -> None:
    """Found by the name that was asked for, if one was, and by a loopback address if it is all addresses."""
    listener = tcp(stack, address)
    listeners = Listeners([listener], hostname=hostname)
    port = listener.getsockname()[1]
    assert listeners.sockets == [listener]
    assert listeners.port == port
    assert listeners.addresses == [address]
    assert listeners.url("http") == f"http://{host}:{port}"
    assert listeners.url("https") == f"https://{host}:{port}"


def test_a_unix_path(stack: ExitStack, tmp_path: Path) -> None:
    listeners = Listeners([unix(stack, f"{tmp_path}/s")])
    assert listeners.port == 0
    assert listeners.addresses == []
    assert listeners.url("http") == listeners.url("https") == f"unix:{tmp_path}/s"


def test_a_relative_unix_path(
    stack: ExitStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told from the root, for whoever is elsewhere; "@" begins an abstract name only where there is no slash."""
    monkeypatch.chdir(tmp_path)
    assert Listeners([unix(stack, "@s")]).url("http") == f"unix:{tmp_path}/@s"


def test_an_abstract_name(stack: ExitStack) -> None:
    name = f"bunpy-test-listeners-{os.getpid()}"
    assert Listeners([unix(stack, f"\0{name}")]).url("http") == f"unix:@{name}"


def test_several(stack: ExitStack, tmp_path: Path) -> None:
    """The first is the one that is told of; the port is the first that there is."""
    local, six, four = unix(stack, f"{tmp_path}/s"), tcp(stack, "::1"), tcp(stack)
    listeners = Listeners([local, six, four])
    assert listeners.url("http") == f"unix:{tmp_path}/s"
    assert listeners.port == six.getsockname()[1]
    assert listeners.addresses == ["::1", "127.0.0.1"]
    assert Listeners([four, local]).url("http") == f"http://127.0.0.1:{four.getsockname()[1]}"


def test_closing(stack: ExitStack) -> None:
    """``on_close`` is called once, when the sockets are closed; what was told before is told still."""
    first, second = tcp(stack), tcp(stack)
    closed: list[list[int]] = []
    listeners = Listeners(
        [first, second], on_close=lambda: closed.append([first.fileno(), second.fileno()])
    )
    url, port = listeners.url("http"), listeners.port
    listeners.close()
    assert closed == [[-1, -1]]
    listeners.close()
    assert closed == [[-1, -1]]
    assert (listeners.url("http"), listeners.port) == (url, port)


def test_closing_what_removes_nothing(stack: ExitStack) -> None:
    listener = tcp(stack)
    Listeners([listener]).close()
    assert listener.fileno() == -1
