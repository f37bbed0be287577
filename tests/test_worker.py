"""One worker, and its supervisor played by the test."""

from __future__ import annotations

import asyncio
import os
import signal
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from watching import until

from bunpy.serve import Request, SSEResponse
from bunpy.server.config import Config
from bunpy.server.sockets import bind
from bunpy.testing import Connection, EventClient, request
from bunpy.workers.board import Board
from bunpy.workers.link import Link, Message
from bunpy.workers.process import WorkerProcess
from bunpy.workers.start import start_by_fork
from bunpy.workers.worker import Task

SOON = 10.0


class Supervisor:
    """Has one worker, and the socket that it accepts from."""

    def __init__(self, handler: Any, **options: Any) -> None:
        config = Config.of({"grace": 2.0, **options})
        self.listeners = bind("127.0.0.1", 0, 128)
        self.url = self.listeners.url("http")
        self.board = Board(3)
        self.link, there = Link.pair()
        sockets = self.listeners.sockets
        task = Task(handler, "127.0.0.1", "127.0.0.1", config, sockets, self.board, 1, there)
        self.process: WorkerProcess = start_by_fork(task, self.link, 1, lambda task: None)
        self._heard: list[Message] = []

    def hears(self, about: str) -> Message:
        """The next message, which is about that."""
        while not self._heard:
            messages = self.link.receive()
            assert messages is not None, f"nothing comes any more, and {about} was to come"
            self._heard += messages
        message = self._heard.pop(0)
        assert message["about"] == about
        return message

    def ends(self) -> int:
        until(lambda: self.process.poll() is not None, SOON)
        status = self.process.poll()
        assert status is not None
        return status

    def close(self) -> None:
        self.process.kill()
        until(lambda: self.process.poll() is not None, SOON)
        self.process.close()
        self.listeners.close()


@pytest.fixture
def supervise() -> Iterator[Callable[..., Supervisor]]:
    made: list[Supervisor] = []

    def supervise(handler: Any, **options: Any) -> Supervisor:
        made.append(Supervisor(handler, **options))
        return made[-1]

    yield supervise
    for supervisor in made:
        supervisor.close()


async def events() -> Any:
    yield "first"
    await asyncio.sleep(3600)


def handler(req: Request) -> object:
    if req.path == "/events":
        return SSEResponse(events())
    if req.path == "/environment":
        return " ".join(os.environ)
    if req.path == "/block":
        Path(os.environ["BLOCKED"]).touch()
        time.sleep(3600)
    return "hello"


def test_it_says_when_it_accepts_and_ends_when_it_is_told(
    supervise: Callable[..., Supervisor],
) -> None:
    supervisor = supervise(handler)
    supervisor.hears("ready")
    assert request(supervisor.url).text() == "hello"
    supervisor.link.send("stop", grace=1.0, streams="spread")
    assert supervisor.ends() == 0
    assert supervisor.board.stats().responses["2xx"] == 1


def test_its_socket_outlives_it(supervise: Callable[..., Supervisor]) -> None:
    """Who connects meanwhile waits for its successor."""
    supervisor = supervise(handler)
    supervisor.hears("ready")
    supervisor.link.send("stop", grace=0.0, streams="spread")
    assert supervisor.ends() == 0
    with Connection(supervisor.url) as connection:
        connection.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        supervisor.listeners.sockets[0].accept()[0].close()


@pytest.mark.parametrize("number", [signal.SIGTERM])
def test_a_signal_of_somebody_else(
    supervise: Callable[..., Supervisor], number: signal.Signals
) -> None:
    """It drains, and the supervisor knows at once."""
    supervisor = supervise(handler)
    supervisor.hears("ready")
    with EventClient(supervisor.url, "/events") as client:
        client.read(1)
        os.kill(supervisor.process.pid, number)
        supervisor.hears("leaving")
        assert client.read_all() == []
        assert client.ended_cleanly
    assert supervisor.ends() == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_what_a_terminal_sends_is_not_for_it(
    supervise: Callable[..., Supervisor], number: signal.Signals
) -> None:
    supervisor = supervise(handler)
    supervisor.hears("ready")
    os.kill(supervisor.process.pid, number)
    assert request(supervisor.url).text() == "hello"
    assert supervisor.process.poll() is None


def test_it_ends_with_its_supervisor(
    supervise: Callable[..., Supervisor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bunpy.workers.worker._LAST_TIME", 30.0)
    supervisor = supervise(handler)
    supervisor.hears("ready")
    with EventClient(supervisor.url, "/events") as client:
        client.read(1)
        supervisor.link.close()
        assert client.read_all() == []
        assert client.ended_cleanly
    assert supervisor.ends() == 0


def test_also_with_a_loop_that_is_blocked(
    supervise: Callable[..., Supervisor], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("BLOCKED", str(tmp_path / "blocked"))
    supervisor = supervise(handler, grace=0.1, block_warning=None)
    supervisor.hears("ready")
    with Connection(supervisor.url) as connection:
        connection.send(b"GET /block HTTP/1.1\r\nHost: localhost\r\n\r\n")
        until((tmp_path / "blocked").exists)
        supervisor.link.close()
        assert supervisor.ends() == 1


@pytest.mark.parametrize("is_signal", [False, True], ids=["message", "signal"])
def test_retiring_it_answers_once_more_on_each_connection(
    supervise: Callable[..., Supervisor], is_signal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who sends a request as the server closes would have to guess whether to repeat it."""
    monkeypatch.setattr("bunpy.server.drain._PATIENCE", 60.0)  # in what is forked: for the next one
    supervisor = supervise(handler, grace=60.0)
    supervisor.hears("ready")
    with Connection(supervisor.url) as connection:
        connection.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"Connection: close" not in connection.receive_until(b"hello")
        if is_signal:  # of somebody else; another takes its place
            os.kill(supervisor.process.pid, signal.SIGTERM)
        else:
            supervisor.link.send("retire", grace=60.0, streams="spread")
        # It does not accept any more then.
        until(lambda: supervisor.board.stats().connections == 1)
        connection.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        connection.receive_until(b"hello")
        assert connection.receive_to_end() == b""
    assert supervisor.ends() == 0


def test_what_it_cannot_begin_with_is_said(
    supervise: Callable[..., Supervisor], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    supervisor = supervise("no_such_module:handler")
    message = supervisor.hears("failed")
    assert message["kind"] == "import"
    assert "no_such_module" in message["error"]
    assert supervisor.ends() == 1
    missing = supervise(handler, tls={"cert": str(tmp_path / "cert.pem")})
    message = missing.hears("failed")
    assert message["kind"] == "config"
    assert "cert.pem cannot be read" in message["error"]
    assert missing.ends() == 1


@pytest.mark.parametrize(
    "takes_long",
    [
        "__import__('time').sleep(3600)",
        "__import__('hashlib').pbkdf2_hmac('sha1', b'', b'', 2**31 - 1)",
    ],
    ids=["interrupted by signals", "not interrupted"],
)
def test_a_stop_while_it_imports(
    takes_long: str,
    supervise: Callable[..., Supervisor],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "endless_app.py").write_text(
        f"import pathlib\npathlib.Path('begun').touch()\n{takes_long}\n"
    )
    for stop in ("message", "signal", "end"):
        (tmp_path / "begun").unlink(missing_ok=True)
        supervisor = supervise("endless_app:handler")
        until((tmp_path / "begun").exists, SOON)
        if stop == "message":
            supervisor.link.send("stop", grace=10.0, streams="spread")
        elif stop == "signal":
            os.kill(supervisor.process.pid, signal.SIGTERM)
        else:
            supervisor.link.close()
        assert supervisor.ends() == 0


@pytest.mark.parametrize("when", ["import", "request"])
@pytest.mark.parametrize(
    "is_careful", [False, True], ids=["as it comes", "with a handler of its own"]
)
def test_the_end_of_a_process_that_the_program_has_forked_is_not_its_own(
    when: str,
    is_careful: bool,
    supervise: Callable[..., Supervisor],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "forking_app.py").write_text(
        textwrap.dedent(f"""
            import multiprocessing, signal, sys, time

            def work(begun):
                if {is_careful}:
                    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(-signal.SIGTERM))
                begun.set()
                time.sleep(60)  # it is ended before

            def fork():
                context = multiprocessing.get_context("fork")
                begun = context.Event()
                process = context.Process(target=work, args=(begun,), daemon=True)
                process.start()
                begun.wait()
                for _ in range(20):  # one that comes just before the sleep is not noticed
                    process.terminate()
                    process.join(0.2)
                    if not process.is_alive():
                        break
                else:
                    process.kill()
                return f"ended with {{process.exitcode}}"

            if {when == "import"}:
                said = fork()

            def handler(req):
                return said if {when == "import"} else fork()
        """)
    )
    supervisor = supervise("forking_app:handler")
    supervisor.hears("ready")
    status = -signal.SIGTERM % 256 if is_careful else -signal.SIGTERM
    for _ in range(2):
        assert request(supervisor.url, timeout=SOON).text() == f"ended with {status}"
    supervisor.link.send("stop", grace=1.0, streams="close")
    assert supervisor.ends() == 0


def test_it_wants_to_be_replaced_after_so_many_requests(
    supervise: Callable[..., Supervisor],
) -> None:
    supervisor = supervise(handler, max_requests=10)
    supervisor.hears("ready")
    for _ in range(10):
        assert request(supervisor.url).text() == "hello"
    supervisor.hears("tired")
    assert request(supervisor.url).text() == "hello"  # until it is told to go


def test_it_wants_to_be_replaced_after_so_long(supervise: Callable[..., Supervisor]) -> None:
    supervisor = supervise(handler, max_lifetime=2.0)
    supervisor.hears("ready")
    supervisor.hears("tired")


def test_the_service_manager_is_not_its_to_tell(
    supervise: Callable[..., Supervisor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/nowhere")
    supervisor = supervise(handler)
    supervisor.hears("ready")
    names = request(supervisor.url, path="/environment").text().split()
    assert "PATH" in names
    assert "NOTIFY_SOCKET" not in names


def test_what_it_registers_at_exit_is_run(
    supervise: Callable[..., Supervisor], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "exiting_app.py").write_text(
        "import atexit, pathlib\n"
        "atexit.register(lambda: pathlib.Path('exited').touch())\n"
        "def handler(req): return 'hello'\n"
    )
    supervisor = supervise("exiting_app:handler")
    supervisor.hears("ready")
    supervisor.link.send("stop", grace=1.0, streams="spread")
    assert supervisor.ends() == 0
    assert (tmp_path / "exited").exists()
