"""Listening on hosts and ports, asked the kernel what came of it; the messages of what goes wrong; where else.

Unix sockets and inherited ones have files of their own: here is only that they are found.
"""

from __future__ import annotations

import errno
import os
import resource
import socket
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NoReturn

import pytest
from script import Scripts

from bunpy.server import sockets
from bunpy.server.inherited import Activation
from bunpy.server.listeners import Listeners
from bunpy.server.sockets import bind, raise_descriptor_limit
from bunpy.testing import request, serving

Listen = Callable[..., Listeners]
Bind = Callable[..., list[socket.socket]]

BOTH_FAMILIES = [
    (socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("::1", 0, 0, 0)),
    (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", 0)),
]


@pytest.fixture
def listening() -> Iterator[Listen]:
    """``bind``, with what it gives closed at the end."""
    with ExitStack() as stack:

        def call(
            hostname: str = "127.0.0.1", port: int = 0, backlog: int = 16, unix_mode: int = 0o666
        ) -> Listeners:
            listeners = bind(hostname, port, backlog, unix_mode)
            stack.callback(listeners.close)
            return listeners

        yield call


@pytest.fixture
def bound(listening: Listen) -> Bind:
    """The sockets of ``bind``, closed at the end."""
    return lambda *args, **options: listening(*args, **options).sockets


def resolve_to(monkeypatch: pytest.MonkeyPatch, *found: Any) -> None:
    """Let every name be found at these addresses, whatever the machine's files say of it."""

    def getaddrinfo(host: str | None, port: int, *args: Any, **options: Any) -> list[Any]:
        return [(*entry[:4], (entry[4][0], port, *entry[4][2:])) for entry in found]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


def failing_socket(
    monkeypatch: pytest.MonkeyPatch, method: str, error: OSError, fails: Callable[..., bool]
) -> None:
    """Let sockets raise ``error`` in one of their methods when ``fails`` says so of its arguments."""
    real = socket.socket

    class Socket(real):  # type: ignore[valid-type, misc]
        pass

    def call(self: socket.socket, *args: Any) -> Any:
        if fails(self, *args):
            raise error
        return getattr(real, method)(self, *args)

    setattr(Socket, method, call)
    monkeypatch.setattr(socket, "socket", Socket)


# --- where they listen ---------------------------------------------------------------------------


def test_a_free_port(bound: Bind) -> None:
    (listener,) = bound()
    host, port = listener.getsockname()
    assert host == "127.0.0.1"
    assert port > 0
    assert not listener.getblocking()
    with socket.create_connection((host, port), 5):
        pass


def test_a_port(bound: Bind) -> None:
    (listener,) = bound()
    port = listener.getsockname()[1]
    listener.close()
    (listener,) = bound(port=port)
    assert listener.getsockname() == ("127.0.0.1", port)


def test_an_ipv6_address(bound: Bind) -> None:
    (listener,) = bound("::1")
    assert listener.family == socket.AF_INET6
    assert listener.getsockname()[0] == "::1"


@pytest.mark.parametrize("hostname", ["::", "0.0.0.0"])
def test_all_addresses_of_one_family(bound: Bind, hostname: str) -> None:
    """Those of the other can still be served on that port, by another program as well."""
    (listener,) = bound(hostname)
    port = listener.getsockname()[1]
    (other,) = bound({"::": "0.0.0.0", "0.0.0.0": "::"}[hostname], port)
    assert other.getsockname()[1] == port


def test_all_addresses(bound: Bind) -> None:
    listeners = bound("")
    assert {listener.family for listener in listeners} == {socket.AF_INET, socket.AF_INET6}
    assert len({listener.getsockname()[1] for listener in listeners}) == 1


def test_localhost(bound: Bind, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name of both families: a browser may try either, and finds the server on one port."""
    resolve_to(monkeypatch, *BOTH_FAMILIES)
    six, four = bound("localhost")
    assert (six.family, four.family) == (socket.AF_INET6, socket.AF_INET)
    port = six.getsockname()[1]
    assert four.getsockname()[1] == port
    for host in ("::1", "127.0.0.1"):
        with socket.create_connection((host, port), 5):
            pass


def test_a_server_on_localhost(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        resolve_to(patch, *BOTH_FAMILIES)
        serving_both = serving(lambda req: req.headers["host"], hostname="localhost")
        server = serving_both.__enter__()
    try:
        for host in ("[::1]", "127.0.0.1"):
            assert request(f"http://{host}:{server.port}").text() == f"{host}:{server.port}"
    finally:
        serving_both.__exit__(None, None, None)


def test_an_address_that_is_found_twice(bound: Bind, monkeypatch: pytest.MonkeyPatch) -> None:
    """As by two lines of /etc/hosts: it can be bound once only."""
    resolve_to(monkeypatch, BOTH_FAMILIES[1], BOTH_FAMILIES[1])
    assert len(bound("localhost")) == 1


def test_a_machine_without_ipv6(bound: Bind, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its resolver still knows the addresses."""
    resolve_to(monkeypatch, *BOTH_FAMILIES)
    failing_socket(
        monkeypatch,
        "__init__",
        OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol"),
        lambda self, family, *args: family == socket.AF_INET6,
    )
    (listener,) = bound("localhost")
    assert listener.family == socket.AF_INET


def test_a_machine_whose_ipv6_is_switched_off(bound: Bind, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in many containers: there are sockets of the family, and no addresses."""
    resolve_to(monkeypatch, *BOTH_FAMILIES)
    failing_socket(
        monkeypatch,
        "bind",
        OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address"),
        lambda self, address: self.family == socket.AF_INET6,
    )
    (listener,) = bound("localhost")
    assert listener.family == socket.AF_INET


def test_a_free_port_is_free_in_both_families(bound: Bind, monkeypatch: pytest.MonkeyPatch) -> None:
    """The port that the kernel gave for the first may be taken in the second: then it takes another."""
    resolve_to(monkeypatch, *BOTH_FAMILIES)
    refused: list[int] = []

    def fails(self: socket.socket, address: tuple[Any, ...]) -> bool:
        if self.family == socket.AF_INET and not refused:
            refused.append(address[1])
            return True
        return False

    failing_socket(monkeypatch, "bind", OSError(errno.EADDRINUSE, "Address already in use"), fails)
    ports = {listener.getsockname()[1] for listener in bound("localhost")}
    assert len(ports) == 1
    assert len(refused) == 1
    assert not ports & set(refused)


# --- where else ----------------------------------------------------------------------------------


def test_what_is_told_of_a_port(listening: Listen) -> None:
    listeners = listening("127.0.0.1")
    assert listeners.addresses == ["127.0.0.1"]
    assert listeners.port == listeners.sockets[0].getsockname()[1]
    assert listeners.url("https") == f"https://127.0.0.1:{listeners.port}"


def test_a_unix_socket(listening: Listen, tmp_path: Path) -> None:
    """Whatever the port, and with the permissions asked for."""
    listeners = listening(f"unix:{tmp_path}/s", 10**20, 16, 0o640)
    assert stat.filemode((tmp_path / "s").stat().st_mode) == "srw-r-----"
    assert (listeners.port, listeners.addresses) == (0, [])
    assert listeners.url("https") == f"unix:{tmp_path}/s"
    listeners.close()
    assert os.listdir(tmp_path) == []


def test_an_abstract_unix_socket(listening: Listen) -> None:
    name = f"bunpy-test-{os.getpid()}"
    listeners = listening(f"unix:@{name}")
    assert listeners.url("http") == f"unix:@{name}"
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(f"\0{name}")
        listeners.close()
        listeners.close()


def test_a_descriptor(listening: Listen) -> None:
    with socket.create_server(("127.0.0.1", 0)) as given:
        listeners = listening(f"fd:{given.detach()}", -1)
    assert listeners.url("http") == f"http://127.0.0.1:{listeners.port}"
    with socket.create_connection(("127.0.0.1", listeners.port), 5):
        pass


@pytest.mark.parametrize("hostname", ["systemd", "systemd:http"])
def test_systemd(monkeypatch: pytest.MonkeyPatch, hostname: str) -> None:
    monkeypatch.delenv("LISTEN_FDS", raising=False)
    monkeypatch.setattr(sockets, "_activation", Activation())
    assert str(refusal(hostname, -1).strerror).startswith("systemd has passed no sockets")


@pytest.mark.parametrize("hostname", ["unix", "fd", "fd::1"])
def test_a_host_that_is_nearly_something_else(
    monkeypatch: pytest.MonkeyPatch, hostname: str
) -> None:
    asked: list[str | None] = []

    def getaddrinfo(host: str | None, *args: Any, **options: Any) -> NoReturn:
        asked.append(host)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    assert refusal(hostname, 80).errno == errno.EADDRNOTAVAIL
    assert asked == [hostname]


# --- what goes wrong -----------------------------------------------------------------------------


def refusal(hostname: str, port: int) -> OSError:
    with pytest.raises(OSError) as raised:
        bind(hostname, port, 16)
    return raised.value


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (
            errno.EADDRINUSE,
            "is taken: stop what listens there, or give serve another port (port=0 finds a free one)",
        ),
        (
            errno.EACCES,
            "may not be used by this user: ports below 1024 need a privilege; take one above",
        ),
        (errno.EADDRNOTAVAIL, "cannot be had: the address is not one of this machine's"),
        (errno.ENOBUFS, "cannot be had: no buffers"),
    ],
)
def test_what_the_system_says_is_explained(
    monkeypatch: pytest.MonkeyPatch, number: int, says: str
) -> None:
    failing_socket(monkeypatch, "bind", OSError(number, "no buffers"), lambda *args: True)
    error = refusal("127.0.0.1", 80)
    assert error.errno == number
    assert error.strerror == f"port 80 on 127.0.0.1 {says}"
    assert isinstance(error.__cause__, OSError)


def test_a_taken_port_on_all_addresses(bound: Bind) -> None:
    (listener,) = bound()
    port = listener.getsockname()[1]
    assert str(refusal("", port).strerror).startswith(f"port {port} on all addresses is taken")


def test_a_name_that_is_none() -> None:
    error = refusal("no.such.name.invalid", 80)
    assert error.errno == errno.EADDRNOTAVAIL
    assert str(error.strerror).startswith(
        "'no.such.name.invalid' is not the name or address of this machine"
    )


@pytest.mark.parametrize("port", [-1, 65536, 10**20])
def test_a_port_that_is_none(bound: Bind, port: int) -> None:
    with pytest.raises((OSError, ValueError), match=f"{port} is no port: ports are 0 to 65535"):
        bound(port=port)


def test_what_was_bound_before_it_failed_is_closed(
    monkeypatch: pytest.MonkeyPatch, bound: Bind
) -> None:
    """``filterwarnings`` makes an error of a socket that is not closed, if it is noticed; the port tells."""
    resolve_to(monkeypatch, *BOTH_FAMILIES)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert refusal("localhost", port).errno == errno.EADDRINUSE
    monkeypatch.undo()
    (listener,) = bound("::1", port)
    assert listener.getsockname()[1] == port


# --- descriptors ---------------------------------------------------------------------------------


def test_the_limit_of_descriptors_is_raised(tmp_path: Path) -> None:
    """By ``serve``; a process's own limit, so in one of its own."""
    with Scripts(tmp_path) as scripts:
        script = scripts.module("""
            import resource
            _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
            serve(handler, port=0).stop()
            say(resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard))
        """)
        assert script.end() == 0
        assert script.out == "True\n"


def test_a_limit_that_cannot_be_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []

    def setrlimit(which: int, limits: tuple[int, int]) -> None:
        asked.append(limits)
        raise ValueError("not allowed to raise maximum limit")

    monkeypatch.setattr(resource, "getrlimit", lambda which: (64, 128))
    monkeypatch.setattr(resource, "setrlimit", setrlimit)
    raise_descriptor_limit()
    assert asked == [(128, 128)]


def test_a_limit_that_is_high_already(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (128, 128))
    monkeypatch.setattr(
        resource, "setrlimit", lambda *args: pytest.fail("there is nothing to raise")
    )
    raise_descriptor_limit()
