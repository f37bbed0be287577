"""What ``serve`` returns is the same to its user, wherever the server runs."""

from __future__ import annotations

import asyncio
import concurrent.futures
import math
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from bunpy.errors import ConfigError
from bunpy.serve import Request, Server, serve
from bunpy.server.server import LocalServer
from bunpy.testing import request, serving
from bunpy.workers.fleet import Fleet

SOON = 10.0


def hello(req: Request) -> str:
    return "hello"


def goodbye(req: Request) -> str:
    return "goodbye"


@pytest.fixture(params=[1, 2], ids=["here", "2 workers"])
def options(request: pytest.FixtureRequest) -> dict[str, Any]:
    return {"port": 0, "quiet": True, "workers": request.param, "grace": 0.5}


@pytest.fixture
def server(options: dict[str, Any]) -> Iterator[Server]:
    with serving(hello, **options) as server:
        yield server


def test_which_it_is(server: Server, options: dict[str, Any]) -> None:
    assert isinstance(server, Server)
    assert type(server) is (LocalServer if options["workers"] == 1 else Fleet)
    assert server.workers == options["workers"]


def test_its_names(server: Server) -> None:
    assert server.hostname == "127.0.0.1"
    assert server.port > 0
    assert server.url == f"http://127.0.0.1:{server.port}"
    assert not server.has_tls
    assert repr(server) == f"<Server {server.url} running>"
    server.stop()
    assert repr(server) == f"<Server {server.url} stopped>"


def test_stop_returns_when_it_has_stopped_and_may_be_repeated(server: Server) -> None:
    assert not server.is_closed
    server.stop()
    assert server.is_closed
    server.stop(grace=0)
    server.request_stop()
    server.kill()
    with pytest.raises(ConnectionError):
        request(server)


def test_whoever_waits_is_told(server: Server) -> None:
    told = threading.Event()
    server.when_closed(told.set)
    with ThreadPoolExecutor(2) as executor:
        waits = [executor.submit(server.wait), executor.submit(asyncio.run, server.wait_closed())]
        server.wait_briefly(0.05)
        assert not told.is_set()
        assert not any(wait.done() for wait in waits)
        server.request_stop(0)
        for wait in waits:
            wait.result(SOON)
    assert told.wait(SOON)
    server.wait_briefly(SOON)


def test_the_main_thread_is_known_to_wait(server: Server) -> None:
    seen: list[int] = []

    def look() -> None:
        while server.main_waits == 0:
            threading.Event().wait(0.001)
        seen.append(server.main_waits)
        server.request_stop()

    looks = threading.Thread(target=look)
    looks.start()
    server.wait()
    looks.join()
    assert seen == [1]
    assert server.main_waits == 0


@pytest.mark.parametrize("streams", ["", "Finish", 1])
def test_streams_that_are_nothing(server: Server, streams: Any) -> None:
    with pytest.raises(ValueError, match='it is "spread", "finish" or "close"'):
        server.request_stop(streams=streams)
    assert request(server).text() == "hello"


def test_reload(server: Server) -> None:
    server.reload(goodbye)
    assert {request(server).text() for _ in range(6)} == {"goodbye"}


def test_reload_by_name(server: Server) -> None:
    with pytest.raises((ConfigError, RuntimeError), match="no_such_module"):
        server.reload("no_such_module:handler")
    assert request(server).text() == "hello"


def test_reload_tls_without_any(server: Server) -> None:
    with pytest.raises(ConfigError, match="reload_tls reads certificates again, and this server"):
        server.reload_tls()
    assert server.heeds_hangup is isinstance(server, Fleet)


def test_a_with_ends_it(options: dict[str, Any]) -> None:
    with serve(hello, **options) as server:
        assert request(server).text() == "hello"
    assert server.is_closed


def test_drain_is_what_becomes_of_streams(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[float, str]] = []
    with (
        serve(hello, **{**options, "drain": "finish", "grace": 3.0}) as server,
        monkeypatch.context() as patch,
    ):
        patch.setattr(server, "_request_stop", lambda *args: asked.append(args))
        server.request_stop()
        server.request_stop(1.0, "close")
    assert asked == [(3.0, "finish"), (1.0, "close")]


def test_stats(server: Server) -> None:
    for _ in range(3):
        request(server)
    watch = threading.Event()
    for _ in range(1000):
        if server.stats().responses["2xx"] == 3:
            break
        watch.wait(0.01)
    stats = server.stats()
    assert stats.responses["2xx"] == 3
    assert stats.connections_total == 3
    assert (stats.workers, stats.restarts) == (server.workers, 0)
    server.stop()
    assert server.stats().responses["2xx"] == 3


def test_a_brief_wait_may_be_for_ever() -> None:
    """More than a lock can wait: a grace of math.inf is one."""
    with serving(hello) as server, ThreadPoolExecutor(1) as executor:
        waiting = executor.submit(server.wait_briefly, math.inf)
        with pytest.raises(concurrent.futures.TimeoutError):
            waiting.result(0.1)
        server.stop()
        waiting.result(SOON)
