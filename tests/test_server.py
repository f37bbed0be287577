"""A server's life in this process: what may be asked of it while it runs, its end. How it drains: test_drain."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest
from ports import reserved
from script import TIMEOUT, Stopwatch
from watching import Endless, Gate, is_refused, local, until

from bunpy.serve import Request, SSEResponse, serve
from bunpy.server.config import Config
from bunpy.server.server import LocalServer
from bunpy.testing import Connection, EventClient, request, serving

GET = b"GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n"

#: Seconds in which what does not wait for anything is done.
SOON = 5.0


def hello(req: Request) -> str:
    return "hello"


# --- its names -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hostname", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:{}"),
        ("localhost", "http://localhost:{}"),
        ("0.0.0.0", "http://127.0.0.1:{}"),
        ("", "http://127.0.0.1:{}"),
        ("::1", "http://[::1]:{}"),
        ("::", "http://[::1]:{}"),
    ],
)
def test_its_url(hostname: str, url: str) -> None:
    """One that can be opened, which that of all addresses cannot."""
    with serving(hello, hostname=hostname) as server:
        assert server.hostname == hostname
        assert server.url == url.format(server.port)
        assert request(server.url).text() == "hello"


# --- reload --------------------------------------------------------------------------------------


def test_reload() -> None:
    """New requests go to the new handler, also on a connection that was there; a stream goes on as it is."""
    goes_on = Gate()

    async def events() -> AsyncIterator[str]:
        yield "old"
        await goes_on.passed()
        yield "still old"

    with serving(lambda req: SSEResponse(events())) as server, Connection(server) as connection:
        with EventClient(server) as client:
            assert client.read(1)[0].data == "old"
            connection.send(GET % b"/")
            connection.receive_until(b"\r\n\r\n")
            server.reload(hello)
            assert request(server).text() == "hello"
            goes_on.open()
            assert [event.data for event in client.read_all()] == ["still old"]
        connection.receive_until(b"0\r\n\r\n")
        connection.send(GET % b"/")
        assert connection.receive_until(b"hello").startswith(b"HTTP/1.1 200")


def test_reload_from_a_handler() -> None:
    with serving(lambda req: server.reload(hello)) as server:
        assert request(server).status == 204
        assert request(server).text() == "hello"


def test_reload_takes_a_function_only() -> None:
    with serving(hello) as server:
        with pytest.raises(TypeError, match="a handler is a function of a request, not 7"):
            server.reload(7)  # type: ignore[arg-type]
        assert request(server).text() == "hello"


# --- wait ----------------------------------------------------------------------------------------


def test_wait(executor: ThreadPoolExecutor) -> None:
    with serving(hello) as server:
        waiting = [executor.submit(server.wait) for _ in range(3)]
        until(lambda: all(future.running() for future in waiting))
        assert not any(future.done() for future in waiting)
        server.stop()
        for future in waiting:
            assert future.result(TIMEOUT) is None
        server.wait()


def test_wait_in_a_handler() -> None:
    def waits(req: Request) -> str:
        with pytest.raises(RuntimeError, match=r"await server\.wait_closed\(\) there"):
            server.wait()
        return "raised"

    with serving(waits) as server:
        assert request(server).text() == "raised"


def test_wait_closed_on_any_loop() -> None:
    async def main() -> None:
        waiting = asyncio.ensure_future(server.wait_closed())
        await asyncio.to_thread(server.stop)
        await asyncio.wait_for(waiting, TIMEOUT)

    with serving(hello) as server:
        asyncio.run(main())


def test_when_closed() -> None:
    told: Future[None] = Future()
    with serving(hello) as server:
        server.when_closed(lambda: told.set_result(None))
        assert not told.done()
    told.result(TIMEOUT)
    again = threading.Event()
    server.when_closed(again.set)
    assert again.is_set()


def test_wait_briefly() -> None:
    with serving(hello) as server:
        watch = Stopwatch()
        server.wait_briefly(0.05)
        assert 0.04 < watch.seconds < SOON
        server.wait_briefly(-1)
        assert not server.is_closed
    server.wait_briefly(TIMEOUT)


# --- stop ----------------------------------------------------------------------------------------


def test_stop_returns_when_it_has_stopped() -> None:
    server = serve(hello, port=0, quiet=True)
    watch = Stopwatch()
    server.stop()
    assert watch.seconds < SOON
    assert server.is_closed
    assert is_refused(server)


def test_stop_again() -> None:
    with serving(hello) as server:
        for grace in (None, 0, 5.0, None):
            server.stop(grace)
    server.stop()


def test_stop_from_several_threads(executor: ThreadPoolExecutor) -> None:
    endless = Endless()
    with serving(lambda req: SSEResponse(endless())) as server, EventClient(server) as client:
        client.read(1)
        for future in [executor.submit(server.stop) for _ in range(8)]:
            future.result(TIMEOUT)
            assert server.is_closed
        assert client.read_all() == []
    assert endless.closed == 1


def test_stop_from_a_handler() -> None:
    """It returns at once there, and the answer is given."""

    def stops(req: Request) -> str:
        server.stop()
        return "stopping" if not server.is_closed else "stopped"

    with serving(stops) as server:
        assert request(server).text() == "stopping"
        server.wait()


def test_stop_from_an_async_handler() -> None:
    async def stops(req: Request) -> str:
        server.stop()
        await asyncio.sleep(0)
        return "stopping"

    with serving(stops) as server:
        assert request(server).text() == "stopping"
        server.wait()


def test_stop_from_an_async_generator() -> None:
    async def events() -> AsyncIterator[str]:
        yield "last"
        server.stop()

    with serving(lambda req: SSEResponse(events())) as server:
        with EventClient(server) as client:
            assert [event.data for event in client.read_all()] == ["last"]
        server.wait()


def test_stop_from_a_plain_generator(errors: list[str]) -> None:
    """That runs in a thread which the server waits for: ``stop`` must not wait for the server there."""

    def events() -> Iterator[str]:
        yield "last"
        server.stop()

    with serving(lambda req: SSEResponse(events())) as server:
        watch = Stopwatch()
        with EventClient(server) as client:
            assert [event.data for event in client.read_all(timeout=SOON)] == ["last"]
        server.wait_briefly(TIMEOUT)
        assert server.is_closed
        assert watch.seconds < SOON
    assert errors == []


def test_a_with_stops_it() -> None:
    with pytest.raises(ValueError, match="of the body"), serve(hello, port=0, quiet=True) as server:
        raise ValueError("of the body")
    assert server.is_closed
    assert is_refused(server)


@pytest.mark.parametrize("grace", [None, 0])
def test_the_port_is_free_again_at_once(grace: float | None) -> None:
    """Also when there were connections, which linger in TIME_WAIT."""
    with reserved() as port:
        for _ in range(20):
            server = serve(hello, port, quiet=True)
            with Connection(server) as connection:
                connection.send(GET % b"/")
                connection.receive_until(b"hello")
                server.stop(grace)


# --- stops before there is a loop ---


def asked_early(*stops: tuple[float, Any]) -> list[tuple[float, str]]:
    """What a server is asked once its loop runs, after these stops of before; it has stopped then."""
    asked: list[tuple[float, str]] = []

    async def main() -> None:
        server = serve(hello, 0, quiet=True)
        ask_stop = local(server)._ask_stop

        def ask(grace: float, streams: Any) -> None:
            asked.append((grace, streams))
            ask_stop(grace, streams)

        local(server)._ask_stop = ask  # type: ignore[method-assign]
        for grace, streams in stops:
            server.stop(grace, streams)
        await asyncio.wait_for(server.wait_closed(), TIMEOUT)

    asyncio.run(main())
    return asked


@pytest.mark.parametrize("streams", ["spread", "finish", "close"])
def test_a_stop_before_there_is_a_loop_to_ask(streams: str) -> None:
    """Both of its arguments are kept until there is one."""
    assert asked_early((0.7, streams)) == [(0.7, streams)]


def test_stops_before_there_is_a_loop_to_ask() -> None:
    """As later ones: the first tells how streams end, and the shortest grace counts."""
    asked = asked_early((5, "finish"), (0.7, "close"), (3, "spread"))
    assert asked[0][1] == "finish"
    assert min(grace for grace, _ in asked) == 0.7


# --- what is left --------------------------------------------------------------------------------


def test_nothing_is_left() -> None:
    """No descriptor and no thread, after streams, requests, and connections that were cut off."""
    endless = Endless()

    def descriptors() -> int:
        gc.collect()
        return len(os.listdir("/proc/self/fd"))

    def live_once() -> None:
        with serving(lambda req: SSEResponse(endless())) as server, ExitStack() as stack:
            for _ in range(5):
                stack.enter_context(EventClient(server)).read(1)
        name = f"bunpy-{server.port}"
        until(lambda: name not in {thread.name for thread in threading.enumerate()})

    live_once()
    before = descriptors()
    for _ in range(5):
        live_once()
    until(lambda: descriptors() <= before)
    assert endless.closed == 30


def test_a_server_is_freed() -> None:
    """Nothing keeps its handler alive, as the hook at exit would."""
    freed = threading.Event()

    class Handler:
        def __call__(self, req: Request) -> str:
            return "hello"

        def __del__(self) -> None:
            freed.set()

    def live() -> None:
        with serving(Handler()) as server:
            assert request(server).text() == "hello"

    live()

    def is_freed() -> bool:
        gc.collect()
        return freed.is_set()

    until(is_freed)


def test_half_an_opening_leaves_nothing() -> None:
    """A server that was made, but could not have its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        # A server of another test gives its own back in its own thread, and in time.
        until(lambda: not any(thread.name.startswith("bunpy") for thread in threading.enumerate()))
        gc.collect()
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(3):
            with pytest.raises(OSError, match="is taken"):
                LocalServer(hello, "127.0.0.1", port, Config())
        gc.collect()
        assert len(os.listdir("/proc/self/fd")) == before
