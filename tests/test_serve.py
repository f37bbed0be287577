"""``serve`` itself: what it takes, refuses, returns and says. What the process does then: test_residence."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from script import TIMEOUT, Scripts, Stopwatch
from watching import in_one_of_five, on_time

import bunpy.serve
from bunpy._speedups import IMPLEMENTATION
from bunpy.errors import ConfigError
from bunpy.serve import Request, Server, SSEResponse, serve
from bunpy.testing import EventClient, request, serving


def hello(req: Request) -> str:
    return "hello"


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """The lines that bunpy logs, in order."""
    lines: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(f"{record.levelname} {record.getMessage()}")

    collector = Collector()
    logging.getLogger("bunpy").addHandler(collector)
    yield lines
    logging.getLogger("bunpy").removeHandler(collector)


# --- what it returns -----------------------------------------------------------------------------


@in_one_of_five
def test_it_returns_at_once() -> None:
    watch = Stopwatch()
    server = serve(hello, port=0, quiet=True)
    try:
        on_time(watch.seconds, 1)
        assert isinstance(server, Server)
        assert request(server).text() == "hello"
    finally:
        server.stop()


def test_where_it_is() -> None:
    with serving(hello) as server:
        assert 0 < server.port <= 65535
        assert server.hostname == "127.0.0.1"
        assert server.url == f"http://127.0.0.1:{server.port}"
        assert repr(server) == f"<Server {server.url} running>"
        assert request(server.url).text() == "hello"
    assert repr(server) == f"<Server {server.url} stopped>"


def test_the_port_that_was_asked_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with serving(hello, port=port) as server:
        assert server.port == port


def test_the_hostname_is_the_second_or_the_third() -> None:
    """As in ``serve(handler, 3000, "0.0.0.0")``."""
    server = serve(hello, 0, "0.0.0.0", quiet=True)
    with server:
        assert server.hostname == "0.0.0.0"
        assert server.url == f"http://127.0.0.1:{server.port}"
        assert request(server.url).text() == "hello"


def test_several_servers() -> None:
    with serving(lambda req: "one") as one, serving(lambda req: "two") as two:
        assert one.port != two.port
        assert request(one).text() == "one"
        one.stop()
        assert request(two).text() == "two"


def test_a_server_of_another_thread() -> None:
    with ThreadPoolExecutor(1) as executor:
        server = executor.submit(serve, hello, 0, quiet=True).result(TIMEOUT)
    with server:
        assert request(server).text() == "hello"


@pytest.mark.parametrize("name", bunpy.serve.__all__)
def test_what_it_exports(name: str) -> None:
    assert getattr(bunpy.serve, name).__doc__


# --- a port that is taken ------------------------------------------------------------------------


def refusal(port: int, hostname: str = "127.0.0.1") -> str:
    """The message of the ``OSError`` that ``serve`` raises within a second, in one try of five at least."""
    messages: list[str] = []

    @in_one_of_five
    def refuse() -> None:
        watch = Stopwatch()
        with pytest.raises(OSError) as raised:
            serve(hello, port, hostname, quiet=True)
        messages.append(str(raised.value.strerror))
        on_time(watch.seconds, 1)

    refuse()
    return messages[-1]


def test_a_port_that_another_program_has() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert refusal(port) == (
            f"port {port} on 127.0.0.1 is taken: stop what listens there, or give serve another port"
            " (port=0 finds a free one)"
        )


def test_a_port_that_this_process_has() -> None:
    with serving(hello) as server:
        assert f"port {server.port} on 127.0.0.1 is taken" in refusal(server.port)
        assert f"port {server.port} on 0.0.0.0 is taken" in refusal(server.port, "0.0.0.0")
        assert request(server).text() == "hello"


def test_a_cell_that_is_run_twice() -> None:
    """In a notebook ``serve`` is called on the running loop; the first server goes on."""

    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        server = serve(hello, port, quiet=True)
        for _ in range(2):
            assert f"port {port} on 127.0.0.1 is taken" in refusal(port)
        answer = await asyncio.to_thread(request, server)
        assert answer.text() == "hello"
        server.stop()
        await server.wait_closed()
        again = serve(hello, port, quiet=True)
        assert (await asyncio.to_thread(request, again)).text() == "hello"
        again.stop()
        await again.wait_closed()

    asyncio.run(main())


# --- what it refuses -----------------------------------------------------------------------------


@pytest.mark.parametrize("handler", [None, b"handler", {}, 1])
def test_a_handler_that_is_none(handler: Any) -> None:
    with pytest.raises(TypeError, match="a handler is a function of a request, not "):
        serve(handler, port=0)


@pytest.mark.parametrize("port", ["3000", 3000.0, None, True])
def test_a_port_of_another_type(port: Any) -> None:
    with pytest.raises(TypeError, match=f"a port is an int from 0 to 65535, not {port!r}"):
        serve(hello, port)


@pytest.mark.parametrize("port", [-1, 65536, 70_000, 10**20])
def test_a_port_out_of_range(port: int) -> None:
    with pytest.raises(ConfigError) as raised:
        serve(hello, port).stop()
    assert f"{port} is no port: ports are 0 to 65535" in str(raised.value)


def test_a_port_with_digits_without_end() -> None:
    with pytest.raises(ConfigError) as raised:
        serve(hello, 10**5000).stop()
    assert str(raised.value).endswith(" is no port: ports are 0 to 65535")
    assert len(str(raised.value)) < 200


@pytest.mark.parametrize("hostname", [None, 5, True, b"127.0.0.1", ["127.0.0.1"]])
def test_a_hostname_of_another_type(hostname: Any) -> None:
    message = f"a hostname is a str, as '127.0.0.1', not {hostname!r}"
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        serve(hello, 0, hostname)


@pytest.mark.parametrize(
    "hostname", ["no.such.name.invalid", "a" * 300, "a..b", "256.1.1.1", "a\0b"]
)
def test_a_hostname_that_is_none(hostname: str) -> None:
    with pytest.raises(OSError) as raised:
        serve(hello, 0, hostname)
    assert f"{hostname!r} is not the name or address of this machine" in str(raised.value)
    assert "use 127.0.0.1 for local clients only, 0.0.0.0 for all" in str(raised.value)


def test_an_address_of_another_machine() -> None:
    with pytest.raises(OSError, match="the address is not one of this machine's"):
        serve(hello, 0, "192.0.2.1")


def test_an_option_that_does_not_exist() -> None:
    with pytest.raises(
        ConfigError, match=r"serve has no option hearbeat; it has .*heartbeat"
    ) as raised:
        serve(hello, port=0, hearbeat=1)
    assert "quiet" in str(raised.value)


def test_an_option_that_makes_no_sense() -> None:
    with pytest.raises(ConfigError, match="grace is -1"):
        serve(hello, port=0, grace=-1)


def test_what_is_refused_opens_nothing() -> None:
    """The options are looked at first: a port that was given is still free."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ConfigError):
        serve(hello, port, grace=-1)
    with pytest.raises(ConfigError):
        serve(hello, port, backlog=2**31)
    with pytest.raises(TypeError):
        serve(None, port)  # type: ignore[arg-type]
    with serving(hello, port=port) as server:
        assert request(server).text() == "hello"


# --- what it says --------------------------------------------------------------------------------


def test_the_start_line(lines: list[str]) -> None:
    server = serve(hello, port=0)
    server.stop()
    assert lines == [f"INFO serving on {server.url} ({IMPLEMENTATION})"]


def test_quiet(lines: list[str]) -> None:
    serve(hello, port=0, quiet=True).stop()
    assert lines == []


def test_nothing_is_said_of_a_server_that_there_is_not(lines: list[str]) -> None:
    with serving(hello) as server, pytest.raises(OSError):
        serve(hello, server.port)
    assert lines == []


# --- on a running loop ---------------------------------------------------------------------------


async def ask(server: Server) -> str:
    return (await asyncio.to_thread(request, server)).text()


def test_on_a_running_loop() -> None:
    """The handler runs on that loop, in its thread, and stopping does not block it."""
    where: list[Any] = []

    def handler(req: Request) -> str:
        where.append((asyncio.get_running_loop(), threading.get_ident()))
        return "hello"

    async def main() -> None:
        server = serve(handler, port=0, quiet=True)
        assert await ask(server) == "hello"
        assert where == [(asyncio.get_running_loop(), threading.get_ident())]
        server.stop()
        assert not server.is_closed
        await asyncio.wait_for(server.wait_closed(), TIMEOUT)
        assert server.is_closed

    asyncio.run(main())


def test_a_with_on_a_running_loop() -> None:
    async def main() -> None:
        with serve(hello, port=0, quiet=True) as server:
            assert await ask(server) == "hello"
        await asyncio.wait_for(server.wait_closed(), TIMEOUT)

    asyncio.run(main())


def test_a_stream_on_a_running_loop_is_drained() -> None:
    closed: list[str] = []

    async def events() -> AsyncIterator[str]:
        try:
            yield "first"
            await asyncio.sleep(3600)
        finally:
            closed.append("closed")

    def read(server: Server) -> bool | None:
        with EventClient(server) as client:
            client.read(1)
            server.stop()  # from a thread, where it blocks
            assert server.is_closed
            client.read_all()
            return client.ended_cleanly

    async def main() -> None:
        server = serve(lambda req: SSEResponse(events()), port=0, quiet=True)
        assert await asyncio.to_thread(read, server) is True

    asyncio.run(main())
    assert closed == ["closed"]


def test_several_may_wait_for_it() -> None:
    async def main() -> None:
        server = serve(hello, port=0, quiet=True)
        waiters = [asyncio.ensure_future(server.wait_closed()) for _ in range(3)]
        given_up = asyncio.ensure_future(server.wait_closed())
        await asyncio.sleep(0)
        given_up.cancel()
        assert await ask(server) == "hello"  # one that gave up has not stopped it
        server.stop()
        await asyncio.wait_for(asyncio.gather(*waiters), TIMEOUT)
        await server.wait_closed()
        server.stop()

    asyncio.run(main())


def test_wait_on_the_loop_that_serves() -> None:
    async def main() -> None:
        server = serve(hello, port=0, quiet=True)
        assert await ask(server) == "hello"
        with pytest.raises(RuntimeError, match=r"await server\.wait_closed\(\) there"):
            server.wait()
        server.stop()
        await server.wait_closed()
        server.wait()

    asyncio.run(main())


@pytest.mark.parametrize(
    "use",
    [
        "server.stop()",
        "server.stop(grace=0)",
        "server.__exit__(None, None, None)",
        "(server.stop(), server.stop(grace=0))",
        "print_error(server.wait)",
        "await asyncio.to_thread(server.stop)",
    ],
)
def test_a_server_that_has_not_had_its_first_turn(scripts: Scripts, use: str) -> None:
    """Nothing is awaited between ``serve`` and this: there too it must not block the loop for ever."""
    script = scripts.run(f"""
        def print_error(call):
            try:
                call()
            except RuntimeError as exc:
                say(exc)
                server.stop()

        async def main():
            global server
            server = serve(handler, port=0)
            {use}
            await asyncio.wait_for(server.wait_closed(), 8)
            serve(handler, server.port).stop()  # the port is free again
        asyncio.run(main())
    """)
    assert script.end() == 0
    assert script.err == ""
    assert ("await server.wait_closed() there" in script.out) is ("server.wait" in use)


def test_a_server_whose_loop_ends(lines: list[str]) -> None:
    async def main() -> Server:
        server = serve(hello, port=0, quiet=True)
        assert await ask(server) == "hello"
        return server

    server = asyncio.run(main())
    assert server.is_closed
    server.wait()
    server.stop()
    serve(hello, server.port, quiet=True).stop()
    assert lines == []
