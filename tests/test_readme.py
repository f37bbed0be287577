"""Every code block of the README is run. A block without a test here fails the first test."""

from __future__ import annotations

import dataclasses
import inspect
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from browser import Browser
from conftest import ROOT
from pages import blocks
from proxies import running_nginx

import bunpy.serve
from bunpy.http.cors import Cors
from bunpy.serve import Request, Server
from bunpy.server.config import Config
from bunpy.sse.reason import END_REASONS
from bunpy.testing import EventClient, serving

Handler = Callable[[Request], Any]

TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


BLOCKS = blocks(TEXT)

TESTED = {
    ("A first program", "python"),
    ("A first program", "js"),
    ("Events", "python"),
    ("Resume", "python"),
    ("Files", "python"),
    ("Testing a handler", "python"),
    ("What is seen of it", "python"),  # in test_observe
    ("Behind nginx", "nginx"),
}


def test_every_block_has_a_test() -> None:
    assert set(BLOCKS) == TESTED


@contextmanager
def running(
    heading: str,
    monkeypatch: pytest.MonkeyPatch,
    wrap: Callable[[Handler], Handler] = lambda handler: handler,
) -> Iterator[Server]:
    """Run a block's program on a free port instead of its own."""
    servers: list[Server] = []
    serve = bunpy.serve.serve

    def on_free_port(handler: Handler, port: int) -> Server:
        assert port == 3000
        servers.append(serve(wrap(handler), port=0, quiet=True))
        return servers[0]

    monkeypatch.setattr(bunpy.serve, "serve", on_free_port)
    try:
        exec(compile(BLOCKS[heading, "python"], f"README: {heading}", "exec"), {})
        yield servers[0]
    finally:
        for server in servers:
            server.stop(grace=0)


def test_first_program(monkeypatch: pytest.MonkeyPatch) -> None:
    with running("A first program", monkeypatch) as server, EventClient(server) as client:
        assert [event.data for event in client.read(2)] == ["0", "1"]


def test_first_program_in_a_browser(
    monkeypatch: pytest.MonkeyPatch, program: Callable[[str], str]
) -> None:
    def with_page(handler: Handler) -> Handler:
        def handle(req: Request) -> Any:
            if req.headers["accept"] == "text/event-stream":
                return handler(req)
            return {"headers": {"Content-Type": "text/html"}, "body": "<!doctype html>"}

        return handle

    with (
        running("A first program", monkeypatch, with_page) as server,
        Browser(program("chromium")) as browser,
    ):
        page = browser.open(server.url)
        page.evaluate("var logged = []; console.log = (text) => logged.push(text);")
        page.evaluate(BLOCKS["A first program", "js"])
        page.wait_for("logged[0] === '0' && logged[1] === '1'", timeout=10)


def test_events(monkeypatch: pytest.MonkeyPatch) -> None:
    with running("Events", monkeypatch) as server, EventClient(server) as client:
        events = client.read_all()
        assert [(event.event, event.data, event.id) for event in events] == [
            ("message", "data alone", ""),
            ("update", '{"tick":1,"value":3.14}', ""),
            ("message", "two\nlines", "17"),
            ("update", "the same", "18"),
            ("message", "both of these", "18"),
            ("message", "leave together", "18"),
        ]
        assert client.retry == 3000


def test_resume(monkeypatch: pytest.MonkeyPatch) -> None:
    with running("Resume", monkeypatch) as server, EventClient(server) as client:
        first = client.read(2)
        client.drop()
        with client.reconnect() as again:
            second = again.read(2)
    assert [event.id for event in first + second] == ["1", "2", "3", "4"]


def test_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    log = tmp_path / "app.log"
    log.write_text("one\ntwo\n")
    with running("Files", monkeypatch) as server, EventClient(server, last_event_id="1") as client:
        assert [event.data for event in client.read(1)] == ["two"]
        with log.open("a") as file:
            file.write("three\n")
        assert [(event.id, event.event, event.data) for event in client.read(1)] == [
            ("3", "log", "three")
        ]


def test_testing_a_handler() -> None:
    namespace: dict[str, Any] = {}
    exec(compile(BLOCKS["Testing a handler", "python"], "README: Testing", "exec"), namespace)
    namespace["test_counts_to_three"]()


def test_behind_nginx(tmp_path: Path, program: Callable[[str], str]) -> None:
    go_on = threading.Event()

    def events() -> Iterator[str]:
        yield "first"
        assert go_on.wait(10)
        yield "second"

    with serving(lambda req: bunpy.serve.SSEResponse(events())) as server:
        location = BLOCKS["Behind nginx", "nginx"].replace(
            "127.0.0.1:3000", f"127.0.0.1:{server.port}"
        )
        path = f"{tmp_path}/nginx.sock"
        config = (
            "worker_processes 1; events {}\n"
            "http { access_log off; gzip on; gzip_types *;\n"
            f"server {{ listen unix:{path};\n{location}\n}} }}\n"
        )
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen()
        with (
            running_nginx(program("nginx"), tmp_path, config, listener),
            EventClient(f"unix:{path}") as client,
        ):
            # The first event comes through while the second is not made yet: nothing buffers.
            assert [event.data for event in client.read(1)] == ["first"]
            go_on.set()
            assert [event.data for event in client.read_all()] == ["second"]


# The reference


def test_every_option_is_in_the_reference() -> None:
    reference = (ROOT / "docs" / "options.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(\w+)`", reference))
    assert {field.name for field in dataclasses.fields(Config)} <= named
    assert set(END_REASONS) <= named
    assert set(inspect.signature(Cors).parameters) <= named
