"""Who is at the other end, over real sockets: what proxies say of their clients, and whose connection it counts as."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from watching import Log, connections, service_of, until

from bunpy.serve import Request, Server, SSEResponse
from bunpy.testing import Connection, Exchange, exchange, parse_answers, serving

# What is logged, a test takes; nothing else may be.
pytestmark = pytest.mark.usefixtures("log")

PROXY = "127.0.0.1"  # who connects, in these tests
ELSEWHERE = "192.0.2.0/24"


def who(req: Request) -> Any:
    """The client that a request is from, and how it was sent."""
    if req.path == "/events":
        return SSEResponse(one_and_on())
    client = "nobody" if req.client is None else f"{req.client[0]} {req.client[1]}"
    return f"{client} {req.scheme}"


async def one_and_on() -> AsyncIterator[str]:
    yield "first"
    await asyncio.sleep(60)


def get(*lines: str, target: str = "/", closes: bool = True) -> bytes:
    lines = (*lines, "Connection: close") if closes else lines
    return "\r\n".join([f"GET {target} HTTP/1.1", "Host: localhost", *lines, "", ""]).encode()


def texts(taken: Exchange) -> list[str]:
    assert taken.statuses == [200] * len(taken.statuses)
    return [answer.text() for answer in taken.answers]


def ask(server: Server, *lines: str) -> str:
    (text,) = texts(exchange(server, get(*lines)))
    return text


# Forwarded fields


def test_without_proxies_a_client_is_its_address() -> None:
    with serving(who) as server, Connection(server) as client:
        client.send(get())
        port = client.socket.getsockname()[1]
        (answer,) = parse_answers(client.receive_to_end())
        assert answer.text() == f"127.0.0.1 {port} http"


FORGED = [
    "X-Forwarded-For: 203.0.113.9",
    "X-Forwarded-Proto: https",
    "Forwarded: for=203.0.113.9;proto=https",
    "X-Real-IP: 203.0.113.9",
]


@pytest.mark.parametrize("proxies", [None, [], [ELSEWHERE], ["127.0.0.2"], ["unix"], ["::1"]])
def test_whoever_is_not_trusted_cannot_forge(proxies: list[str] | None) -> None:
    with serving(who, trusted_proxies=proxies) as server, Connection(server) as client:
        client.send(get(*FORGED))
        port = client.socket.getsockname()[1]
        (answer,) = parse_answers(client.receive_to_end())
        assert answer.text() == f"127.0.0.1 {port} http"


def test_a_trusted_proxy_is_believed() -> None:
    with serving(who, trusted_proxies=[PROXY]) as server:
        assert ask(server, *FORGED) == "203.0.113.9 0 https"
        assert ask(server, "X-Forwarded-For: 203.0.113.9:1234") == "203.0.113.9 1234 http"
        assert ask(server, "X-Forwarded-For: 2001:db8::1") == "2001:db8::1 0 http"


def test_a_client_behind_a_proxy_cannot_forge() -> None:
    """What it has written itself stands before what the proxy has."""
    with serving(who, trusted_proxies=[PROXY, ELSEWHERE]) as server:
        line = "X-Forwarded-For: 198.51.100.1, 203.0.113.9, 192.0.2.77"
        assert ask(server, line) == "203.0.113.9 0 http"
        two = ["X-Forwarded-For: 198.51.100.1", "X-Forwarded-For: 203.0.113.9"]
        assert ask(server, *two) == "203.0.113.9 0 http"


def test_each_request_of_a_connection_has_its_own_client() -> None:
    """A proxy sends those of many clients over one."""
    with serving(who, trusted_proxies=[PROXY]) as server:
        data = b"".join(
            get(f"X-Forwarded-For: 203.0.113.{number}", closes=number == 20)
            for number in range(1, 21)
        )
        expected = [f"203.0.113.{number} 0 http" for number in range(1, 21)]
        assert texts(exchange(server, data)) == expected


def test_a_request_without_the_field_is_the_proxy_s() -> None:
    with serving(who, trusted_proxies=[PROXY]) as server, Connection(server) as client:
        client.send(get("X-Forwarded-For: 203.0.113.9", closes=False))
        assert client.receive_until(b"http").endswith(b"203.0.113.9 0 http")
        client.send(get())
        port = client.socket.getsockname()[1]
        assert client.receive_to_end().endswith(f"127.0.0.1 {port} http".encode())


def test_a_unix_socket_has_no_client(tmp_path: Path) -> None:
    with serving(who, hostname=f"unix:{tmp_path}/s") as server:
        assert ask(server, *FORGED) == "nobody http"
    with serving(who, hostname=f"unix:{tmp_path}/s", trusted_proxies=["unix"]) as server:
        assert ask(server) == "nobody http"
        assert ask(server, *FORGED) == "203.0.113.9 0 https"
        # What speaks for another is no peer on a Unix socket.
        assert ask(server, "X-Forwarded-For: 203.0.113.9, 127.0.0.1") == "127.0.0.1 0 http"


# The PROXY header

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def version_1(source: str = "203.0.113.9", port: int = 1234) -> bytes:
    family, target = ("TCP6", "2001:db8::2") if ":" in source else ("TCP4", "198.51.100.2")
    return f"PROXY {family} {source} {target} {port} 443\r\n".encode()


def version_2(source: str = "203.0.113.9", port: int = 1234, tlvs: bytes = b"") -> bytes:
    is_6 = ":" in source
    family = socket.AF_INET6 if is_6 else socket.AF_INET
    block = (
        socket.inet_pton(family, source)
        + socket.inet_pton(family, "::1" if is_6 else "127.0.0.1")
        + struct.pack("!HH", port, 443)
        + tlvs
    )
    return SIGNATURE + bytes([0x21, 0x21 if is_6 else 0x11]) + struct.pack("!H", len(block)) + block


LOCAL = SIGNATURE + b"\x20\x00\x00\x00"
FROM_UNIX = SIGNATURE + b"\x21\x31" + struct.pack("!H", 216) + bytes(216)
UNKNOWN = b"PROXY UNKNOWN\r\n"

TOLD = [
    (version_1(), "203.0.113.9 1234 http"),
    (version_1("2001:db8::9"), "2001:db8::9 1234 http"),
    (version_2(), "203.0.113.9 1234 http"),
    (version_2("2001:db8::9"), "2001:db8::9 1234 http"),
    (version_2("::ffff:203.0.113.9"), "203.0.113.9 1234 http"),
    (version_2(tlvs=b"\x04\x00\x05xxxxx"), "203.0.113.9 1234 http"),
    (FROM_UNIX, "nobody http"),
]


def behind(**options: Any) -> Any:
    return serving(who, **{"trusted_proxies": [PROXY], "proxy_protocol": True, **options})


@pytest.mark.parametrize(("header", "told"), TOLD)
@pytest.mark.parametrize("pieces", ["whole", "bytes"])
def test_a_proxy_header(header: bytes, told: str, pieces: Any) -> None:
    """It is the client of all that follows, however it comes."""
    with behind() as server:
        data = header + get(closes=False) + get(closes=False) + get()
        assert texts(exchange(server, data, pieces=pieces)) == [told] * 3


@pytest.mark.parametrize("header", [version_1(), version_2()])
def test_a_proxy_header_by_itself(header: bytes) -> None:
    """The request comes later, and a header may come in two."""
    with behind() as server, Connection(server) as client:
        client.send(header[:20])
        client.send(header[20:])
        until(lambda: all(conn._peer.header is None for conn in connections(server)))
        client.send(get()[:7])
        client.send(get()[7:])
        assert client.receive_to_end().endswith(b"203.0.113.9 1234 http")


@pytest.mark.parametrize("header", [version_1(), version_2()])
@pytest.mark.parametrize("extra", [1, 5, len(get())])
def test_a_segment_that_has_the_end_of_the_header_and_more(header: bytes, extra: int) -> None:
    data = header + get()
    with behind() as server:
        taken = exchange(server, data, pieces=[10, len(header) + extra], pause=0.02)
        assert texts(taken) == ["203.0.113.9 1234 http"]


@pytest.mark.parametrize("header", [LOCAL, UNKNOWN])
def test_a_header_that_tells_nobody(header: bytes) -> None:
    """As a proxy's own checks of its server's health: the client is the proxy."""
    with behind() as server, Connection(server) as client:
        client.send(header + get())
        port = client.socket.getsockname()[1]
        assert client.receive_to_end().endswith(f"127.0.0.1 {port} http".encode())


MALFORMED = [
    b"PROXY TCP4 203.0.113.9\r\n",
    b"PROXY TCP4 203.0.113.9 198.51.100.2 1234 99999\r\n",
    b"PROXY TCP4 2001:db8::9 2001:db8::2 1234 443\r\n",
    b"PROXY UDP4 203.0.113.9 198.51.100.2 1234 443\r\n",
    b"PROXY TCP4 203.0.113.9 198.51.100.2 1234 443\n",
    b"proxy TCP4 203.0.113.9 198.51.100.2 1234 443\r\n",
    b"PROXY " + b"x" * 200,
    b"\r\n\r\n\0\r\nQUIX\n" + version_2()[12:],
    SIGNATURE + b"\x31" + version_2()[13:],
    SIGNATURE + b"\x21\x11\x00\x02xx",
    b"",  # none at all
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
]


@pytest.mark.parametrize("data", MALFORMED)
@pytest.mark.parametrize("pieces", ["whole", "bytes"])
def test_what_is_no_header_is_refused(data: bytes, pieces: Any) -> None:
    """With 400, and nothing that follows is answered, on this connection or any other."""
    with behind() as server:
        taken = exchange(server, data + get(closes=False) + get(), pieces=pieces)
        assert taken.end in ("closed", "reset")
        (refused,) = taken.answers
        assert (refused.status, refused.closes) == (400, True)
        assert "PROXY" in refused.text()
        assert texts(exchange(server, version_1() + get())) == ["203.0.113.9 1234 http"]
        until(lambda: not connections(server))
        assert (service_of(server).places.count, service_of(server).excess) == (0, 0)


def test_a_header_comes_once() -> None:
    """A client behind the proxy that sends one too has sent no request."""
    with behind() as server:
        taken = exchange(server, version_1() + version_1("198.51.100.99") + get())
        assert taken.statuses == [400]
        taken = exchange(server, version_1() + get(closes=False) + version_1("198.51.100.99"))
        assert taken.statuses == [200, 400]
        assert taken.answers[0].text() == "203.0.113.9 1234 http"


def test_a_header_of_somebody_else_is_no_request() -> None:
    """Only those of trusted proxies are read; from whoever else connects none must come."""
    with behind(trusted_proxies=[ELSEWHERE]) as server:
        assert exchange(server, version_1() + get()).statuses == [400]
        assert exchange(server, version_2() + get()).statuses == [400]
        assert ask(server).startswith("127.0.0.1 ")


def test_a_header_without_the_option_is_no_request() -> None:
    with serving(who, trusted_proxies=[PROXY]) as server:
        assert exchange(server, version_1() + get()).statuses == [400]


def test_forwarded_fields_behind_a_header() -> None:
    """They are believed if the client that the header tells of is a trusted proxy itself."""
    with behind(trusted_proxies=[PROXY, ELSEWHERE]) as server:
        assert texts(exchange(server, version_1() + get(*FORGED))) == ["203.0.113.9 1234 http"]
        taken = exchange(server, version_1("192.0.2.7") + get(*FORGED))
        assert texts(taken) == ["203.0.113.9 0 https"]
        assert texts(exchange(server, LOCAL + get(*FORGED))) == ["203.0.113.9 0 https"]


def test_a_header_that_is_not_complete_in_time() -> None:
    with behind(head_timeout=0.1) as server, Connection(server) as client:
        client.send(version_1()[:20])
        assert client.receive_to_end() == b""
        until(lambda: not connections(server))
        assert service_of(server).places.count == 0


def test_a_header_that_ends_in_the_middle() -> None:
    with behind() as server:
        for end in range(len(version_2())):
            taken = exchange(server, version_2()[:end], half_close=True)
            assert (taken.data, taken.end) == (b"", "closed")
        until(lambda: not connections(server))
        assert service_of(server).places.count == 0


def test_a_header_on_a_unix_socket(tmp_path: Path) -> None:
    with behind(hostname=f"unix:{tmp_path}/s", trusted_proxies=["unix"]) as server:
        assert texts(exchange(server, version_2() + get())) == ["203.0.113.9 1234 http"]
        assert texts(exchange(server, LOCAL + get())) == ["nobody http"]


# Whose connection it counts as


def open_stream(stack: ExitStack, server: Server, before: bytes, *lines: str) -> bool:
    """Whether there was room for one more stream, which goes on until the stack ends."""
    client = stack.enter_context(Connection(server))
    client.send(before + get(*lines, target="/events", closes=False))
    head = client.receive_until(b"\r\n\r\n")
    return head.startswith(b"HTTP/1.1 200")


def test_streams_count_for_the_client_that_a_field_tells(log: Log) -> None:
    options: dict[str, Any] = {"max_streams_per_client": 1, "max_connections_per_client": 1}
    with serving(who, trusted_proxies=[PROXY], **options) as server, ExitStack() as stack:
        for number in range(1, 6):
            field = f"X-Forwarded-For: 203.0.113.{number}"
            assert open_stream(stack, server, b"", field)
            assert not open_stream(stack, server, b"", field)
            # A client cannot have more by what it writes itself.
            assert not open_stream(
                stack, server, b"", f"X-Forwarded-For: 198.51.100.{number}, 203.0.113.{number}"
            )
        assert service_of(server).streams.count == 5
    log.take()


def test_streams_of_one_ipv6_network_count_for_one_client(log: Log) -> None:
    with (
        serving(who, trusted_proxies=[PROXY], max_streams_per_client=1) as server,
        ExitStack() as stack,
    ):
        assert open_stream(stack, server, b"", "X-Forwarded-For: 2001:db8::1")
        assert not open_stream(stack, server, b"", "X-Forwarded-For: 2001:db8::2")
        assert open_stream(stack, server, b"", "X-Forwarded-For: 2001:db8:0:1::1")
    log.take()


def test_a_client_that_is_not_trusted_has_no_more_than_its_own(log: Log) -> None:
    with (
        serving(who, trusted_proxies=[ELSEWHERE], max_streams_per_client=1) as server,
        ExitStack() as stack,
    ):
        assert open_stream(stack, server, b"", "X-Forwarded-For: 203.0.113.1")
        assert not open_stream(stack, server, b"", "X-Forwarded-For: 203.0.113.2")
    log.take()


def test_connections_of_a_proxy_are_those_of_many_clients() -> None:
    """Who they are is not known before their requests."""
    with (
        serving(who, trusted_proxies=[PROXY], max_connections_per_client=1) as server,
        ExitStack() as stack,
    ):
        for _ in range(10):
            stack.enter_context(Connection(server))
        assert ask(server, *FORGED) == "203.0.113.9 0 https"
        until(lambda: service_of(server).places.count == 10)
        assert service_of(server).excess == 0


@pytest.mark.parametrize("make", [version_1, version_2])
def test_connections_count_for_the_client_that_a_header_tells(make: Any, log: Log) -> None:
    with behind(max_connections_per_client=1) as server:
        with Connection(server) as first:
            first.send(make() + get(closes=False))
            first.receive_until(b"http")
            taken = exchange(server, make() + get())
            assert taken.statuses == [503]
            assert texts(exchange(server, make("203.0.113.10") + get())) == [
                "203.0.113.10 1234 http"
            ]
            until(lambda: len(connections(server)) == 1)
            assert (service_of(server).places.count, service_of(server).excess) == (1, 0)
        until(lambda: not connections(server))
        assert texts(exchange(server, make() + get())) == ["203.0.113.9 1234 http"]
        until(lambda: service_of(server).places.count == 0)
    log.take()


@pytest.mark.parametrize("header", [LOCAL, UNKNOWN, FROM_UNIX])
def test_connections_of_nobody_count_for_nobody(header: bytes) -> None:
    with behind(max_connections_per_client=1) as server, ExitStack() as stack:
        for _ in range(5):
            client = stack.enter_context(Connection(server))
            client.send(header + get(closes=False))
            assert client.receive_until(b"http").startswith(b"HTTP/1.1 200")
        assert service_of(server).places.count == 5


def test_a_header_does_not_take_a_second_place(log: Log) -> None:
    """A connection counts as one before and after it; one that there was no room for may have room by then."""
    with behind(max_connections=2) as server, ExitStack() as stack:
        service = service_of(server)
        first, second = (stack.enter_context(Connection(server)) for _ in range(2))
        until(lambda: service.places.count == 2)  # those accepted in one turn have no order
        third = stack.enter_context(Connection(server))
        until(lambda: service.excess == 1)
        for client in (first, second):
            client.send(version_1() + get(closes=False))
            client.receive_until(b"203.0.113.9 1234 http")
        assert (service.places.count, service.excess) == (2, 1)
        second.drop()
        until(lambda: service.places.count == 1)
        third.send(version_1() + get(closes=False))
        third.receive_until(b"203.0.113.9 1234 http")
        assert (service.places.count, service.excess) == (2, 0)
        first.drop()
        third.drop()
        until(lambda: service.places.count == 0)
    log.take()
