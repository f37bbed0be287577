"""Every code block of the README is run. A block without a test here fails the first test."""

from __future__ import annotations

import dataclasses
import inspect
import os
import re
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from browser import Browser
from conftest import ROOT

import bunpy.serve
from bunpy.http.cors import Cors
from bunpy.serve import Request, Server
from bunpy.server.config import Config
from bunpy.sse.reason import END_REASONS
from bunpy.testing import EventClient, serving

Handler = Callable[[Request], Any]

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks() -> dict[tuple[str, str], str]:
    """The blocks, by the heading they stand under and their language."""
    found: dict[tuple[str, str], str] = {}
    for part in re.split(r"^## ", TEXT, flags=re.MULTILINE)[1:]:
        heading = part.partition("\n")[0]
        for language, source in BLOCK.findall(part):
            assert (heading, language) not in found, f"two {language} blocks under {heading}"
            found[heading, language] = source
    return found


TESTED = {
    ("A first program", "python"),
    ("A first program", "js"),
    ("Events", "python"),
    ("Resume", "python"),
    ("Files", "python"),
    ("Testing a handler", "python"),
    ("Behind nginx", "nginx"),
}


def test_every_block_has_a_test() -> None:
    assert set(blocks()) == TESTED


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
        exec(compile(blocks()[heading, "python"], f"README: {heading}", "exec"), {})
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
        page.evaluate(blocks()["A first program", "js"])
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
    exec(compile(blocks()["Testing a handler", "python"], "README: Testing", "exec"), namespace)
    namespace["test_counts_to_three"]()


def test_behind_nginx(tmp_path: Path, program: Callable[[str], str]) -> None:
    go_on = threading.Event()

    def events() -> Iterator[str]:
        yield "first"
        assert go_on.wait(10)
        yield "second"

    with serving(lambda req: bunpy.serve.SSEResponse(events())) as server:
        location = blocks()["Behind nginx", "nginx"].replace(
            "127.0.0.1:3000", f"127.0.0.1:{server.port}"
        )
        address = f"unix:{tmp_path}/nginx.sock"
        config = tmp_path / "nginx.conf"
        folders = "".join(
            f"{kind}_temp_path {tmp_path}/{kind};"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        config.write_text(
            f"daemon off; worker_processes 1; pid {tmp_path}/pid; events {{}}\n"
            f"http {{ access_log off; gzip on; gzip_types *; {folders}\n"
            f"server {{ listen {address};\n{location}\n}} }}\n"
        )
        # nginx takes over a socket that listens already, so there is nothing to wait for.
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(address.removeprefix("unix:"))
            listener.listen()
            nginx = subprocess.Popen(
                [program("nginx"), "-c", str(config), "-p", str(tmp_path), "-e", "stderr"],
                stderr=subprocess.DEVNULL,
                pass_fds=[listener.fileno()],
                env={**os.environ, "NGINX": f"{listener.fileno()};"},
            )
        try:
            with EventClient(address) as client:
                # The first event comes through while the second is not made yet: nothing buffers.
                assert [event.data for event in client.read(1)] == ["first"]
                go_on.set()
                assert [event.data for event in client.read_all()] == ["second"]
        finally:
            nginx.terminate()
            nginx.wait(timeout=10)


# The reference


def test_every_option_is_in_the_reference() -> None:
    reference = (ROOT / "docs" / "options.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(\w+)`", reference))
    assert {field.name for field in dataclasses.fields(Config)} <= named
    assert set(END_REASONS) <= named
    assert set(inspect.signature(Cors).parameters) <= named
