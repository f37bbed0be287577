"""What keeps a process up and what ends it, seen from outside: programs in processes of their own. Not signals."""

from __future__ import annotations

import asyncio
import os
import pty
import signal
import subprocess
import sys
import threading
import types
from collections.abc import AsyncIterator, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from types import FrameType
from typing import Any

import pytest
from script import BLOCKS, TIMEOUT, Script, Scripts, Stopwatch

from bunpy.serve import Request, Server, SSEResponse, serve
from bunpy.server import residence
from bunpy.server.residence import must_block, new_loop
from bunpy.server.server import LocalServer
from bunpy.testing import EventClient, request, serving

#: Seconds in which a process that waits for nothing is gone, the end of the interpreter included.
SOON = 8.0  # less than the grace of a stop


def is_up_after_its_end(script: Script) -> bool:
    """Whether a script serves when its main part has ended, or, where ``serve`` blocks, while it has not."""
    if not BLOCKS:
        assert request(script.url, path="/ended", timeout=TIMEOUT).text() == "ended"
    return request(script.url).text() == "hello" and script.process.poll() is None


def terminate(script: Script) -> None:
    script.send(signal.SIGTERM)
    assert script.end() == 0
    assert script.err == ""


def let_it_go_on(script: Script) -> None:
    """Open the gate. Where ``serve`` blocks, the rest of a script runs when the server has been stopped."""
    request(script.url, path="/go")
    if BLOCKS:
        script.send(signal.SIGTERM)


# --- a main script that has ended well -----------------------------------------------------------


def test_serve_returns_and_the_process_stays(scripts: Scripts) -> None:
    script = scripts.run("""
        server = serve(handler, port=0)
        say("after serve")
    """)
    if not BLOCKS:
        script.wait_for("after serve")
    assert is_up_after_its_end(script)
    terminate(script)
    assert script.out == "after serve\n"


def test_the_process_ends_with_its_server(scripts: Scripts) -> None:
    script = scripts.run("""
        def stops(req):
            if req.path == "/stop":
                server.stop()
            return "hello"
        server = serve(stops, port=0)
        say("named")
    """)
    if not BLOCKS:
        script.wait_for("named")
    answer = request(script.url, path="/stop")
    if BLOCKS:
        assert answer.status == 500  # there is no server to name yet
        script.send(signal.SIGTERM)
    else:
        assert answer.status == 200
    assert script.end() == 0


@pytest.mark.parametrize(
    "source",
    [
        "def main():\n    serve(handler, port=0)\nmain()",
        "def main():\n    serve(handler, port=0)\nsys.exit(main())",
        "def main():\n    serve(handler, port=0)\n    return 0\nraise SystemExit(main())",
        """
        def main():
            try:
                serve(handler, port=0)
                raise ValueError("handled")
            except ValueError:
                pass
        main()
        """,
        """
        def start():
            return serve(handler, port=0)
        def main():
            start()
        sys.exit(main())
        """,
        """
        def starts():
            yield serve(handler, port=0)
        next(starts())
        """,
    ],
    ids=["main()", "sys.exit(main())", "SystemExit(0)", "handled", "nested", "generator"],
)
def test_a_function_that_served_and_returned(scripts: Scripts, source: str) -> None:
    script = scripts.run(source)
    assert is_up_after_its_end(script)
    terminate(script)


@pytest.mark.parametrize(
    "source",
    [
        """
        async def main():
            await asyncio.to_thread(serve, handler, 0)
        asyncio.run(main())
        """,
        """
        thread = threading.Thread(target=serve, args=(handler, 0))
        thread.start()
        thread.join()
        """,
        """
        def main():
            server = serve(handler, port=0)
            started.set()
            server.wait()
        started = threading.Event()
        threading.Thread(target=main).start()
        started.wait()
        """,
    ],
    ids=["to_thread", "thread", "waits"],
)
def test_a_server_of_another_thread_keeps_the_process_up(scripts: Scripts, source: str) -> None:
    script = scripts.run(source)
    assert request(script.url, path="/ended", timeout=TIMEOUT).text() == "ended"
    assert request(script.url).text() == "hello"
    script.send(signal.SIGINT)  # Python's own handler: it raises in the main thread
    assert script.end() == 0
    assert script.err == ""


def test_threads_and_executors_work_after_the_end(scripts: Scripts) -> None:
    script = scripts.run("""
        pool = ThreadPoolExecutor(1)

        def plain():
            yield "one"
            time.sleep(0.001)
            yield "two"

        async def answers(req):
            if req.path == "/ended":
                return await ended()
            if req.path == "/to_thread":
                return await asyncio.to_thread(str.upper, "to_thread")
            if req.path == "/pool":
                return await asyncio.wrap_future(pool.submit(str.upper, "pool"))
            if req.path == "/loop":
                return await asyncio.get_running_loop().run_in_executor(None, str.upper, "loop")
            if req.path == "/thread":
                done = []
                thread = threading.Thread(target=lambda: done.append("THREAD"))
                thread.start()
                await asyncio.to_thread(thread.join)
                return done[0]
            if req.path == "/plain":
                return SSEResponse(plain())
            return "hello"

        serve(answers, port=0)
    """)
    assert is_up_after_its_end(script)
    for name in ("to_thread", "pool", "loop", "thread"):
        assert request(script.url, path=f"/{name}").text() == name.upper()
    with EventClient(script.url, "/plain") as client:
        assert [event.data for event in client.read_all()] == ["one", "two"]
    terminate(script)


def test_what_the_program_does_at_its_end_is_done_after_the_drain(scripts: Scripts) -> None:
    script = scripts.run("""
        atexit.register(say, "atexit")
        try:
            serve(handler, port=0)
        finally:
            say("finally")
    """)
    assert is_up_after_its_end(script)
    with EventClient(script.url, "/events") as client:
        client.read(1)
        script.send(signal.SIGTERM)
        assert client.read_all() == []
    assert script.end() == 0
    lines = ["finally", "generator closed", "atexit"]
    assert script.out.splitlines() == (
        ["generator closed", "finally", "atexit"] if BLOCKS else lines
    )
    assert script.err == ""


def test_each_server_is_waited_for(scripts: Scripts) -> None:
    script = scripts.run("""
        def stops(req):
            if req.path == "/stop":
                servers[0].stop()
            return handler(req)
        servers = []
        def start():
            for _ in range(2):
                servers.append(serve(stops, port=0))
        thread = threading.Thread(target=start)
        thread.start()
        thread.join()
    """)
    script.wait_until(lambda: len(script.urls) == 2)
    first, second = script.urls
    assert request(first, path="/ended", timeout=TIMEOUT).text() == "ended"
    assert request(first, path="/stop").status == 200
    assert request(second).text() == "hello"
    assert request(second, path="/stop").status == 200  # it was already: nothing happens
    assert request(second).text() == "hello"


def test_a_server_that_is_started_after_the_end_is_waited_for(scripts: Scripts) -> None:
    script = scripts.run("""
        async def moves(req):
            if req.path == "/move":
                await ended()
                await asyncio.to_thread(serve, handler, 0)
                server.stop()
            return "hello"
        server = serve(moves, port=0)
    """)
    if BLOCKS:  # where nothing new is started once the script has ended, nothing is to be seen
        terminate(script)
        return
    assert request(script.url, path="/move", timeout=TIMEOUT).text() == "hello"
    script.wait_until(lambda: len(script.urls) == 2)
    with EventClient(script.urls[1], "/events") as client:
        client.read(1)
        with pytest.raises(TimeoutError):
            client.read(1, timeout=0.5)  # the first has long gone by then
    terminate(script)


# --- a main script that failed -------------------------------------------------------------------

FAILURES = {
    "module": "serve(handler, port=0)\ngate.wait()\nFAIL",
    "main()": "def main():\n    serve(handler, port=0)\n    gate.wait()\n    FAIL\nmain()",
    "sys.exit": "def main():\n    serve(handler, port=0)\n    gate.wait()\n    FAIL\nsys.exit(main())",
    "helper": (
        "def start():\n    return serve(handler, port=0)\n"
        "def main():\n    start()\n    gate.wait()\n    FAIL\nmain()"
    ),
    "finally": "try:\n    serve(handler, port=0)\n    gate.wait()\n    FAIL\nfinally:\n    print('x')",
}


@pytest.mark.parametrize("kind", FAILURES)
def test_a_script_that_raises(scripts: Scripts, kind: str) -> None:
    script = scripts.run(FAILURES[kind].replace("FAIL", "raise ValueError('no good')"))
    with EventClient(script.url, "/events") as client:
        client.read(1)
        let_it_go_on(script)
        assert client.read_all() == []  # drained, as by stop()
    assert script.end(SOON) == 1
    assert script.err.startswith("Traceback (most recent call last)")
    assert script.err.endswith("ValueError: no good")
    assert script.err.count("Traceback") == 1
    assert "generator closed" in script.out


def test_a_script_that_raises_after_a_helper_has_served(scripts: Scripts) -> None:
    script = scripts.run("""
        def start():
            return serve(handler, port=0)
        start()
        gate.wait()
        raise ValueError("no good")
    """)
    let_it_go_on(script)
    assert script.end(SOON) == 1
    assert script.err.count("Traceback") == 1


@pytest.mark.parametrize(
    ("kind", "failure", "status", "says"),
    [
        *((kind, "sys.exit(3)", 3, "") for kind in FAILURES),
        ("module", "raise SystemExit(3)", 3, ""),
        ("main()", "sys.exit('no good')", 1, "no good"),
    ],
)
def test_a_script_that_exits(
    scripts: Scripts, kind: str, failure: str, status: int, says: str
) -> None:
    script = scripts.run(FAILURES[kind].replace("FAIL", failure))
    let_it_go_on(script)
    assert script.end(SOON) == status
    assert script.err == says


def test_a_script_that_fails_before_it_serves(scripts: Scripts) -> None:
    script = scripts.run("""
        async def main():
            serve(handler, port=65536)
        asyncio.run(main())
    """)
    assert script.end(SOON) == 1
    assert script.err.endswith("65536 is no port: ports are 0 to 65535")


# --- how the program was started -----------------------------------------------------------------


def test_python_c(scripts: Scripts) -> None:
    script = scripts.command("-c", scripts.write("serve(handler, port=0)").read_text())
    assert is_up_after_its_end(script)
    terminate(script)


def test_a_program_on_stdin(scripts: Scripts) -> None:
    script = scripts.command("-", input=scripts.write("serve(handler, port=0)").read_text())
    assert is_up_after_its_end(script)
    terminate(script)


@pytest.mark.parametrize("path", ["app.py", "app/__main__.py"])
def test_python_m(scripts: Scripts, path: str) -> None:
    scripts.write("def main():\n    serve(handler, port=0)\nsys.exit(main())", path)
    script = scripts.command("-m", "app")
    assert is_up_after_its_end(script)
    terminate(script)


def test_a_console_script(scripts: Scripts) -> None:
    """What an installed command is: a main script of three lines that calls a function of a module."""
    scripts.write("def main():\n    serve(handler, port=0)", "app.py")
    command = scripts.write("import sys\nfrom app import main\nsys.exit(main())", "app", prelude="")
    script = scripts.command(str(command))
    assert request(script.url, path="/ended", timeout=TIMEOUT).text() == "ended"
    assert request(script.url).text() == "hello"
    terminate(script)


FORGETS = """
def test_it():
    server = serve(handler, port=0)
    assert server.port
"""


def test_pytest_is_not_held_up(scripts: Scripts) -> None:
    path = scripts.write(FORGETS, "test_forgets.py")
    environment = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = ["-m", "pytest", "-q", "-p", "no:cacheprovider", path.name]
    script = scripts.command(*command, environment=environment)
    assert script.end() == 0
    assert "1 passed" in script.out


def test_unittest_is_not_held_up(scripts: Scripts) -> None:
    case = "import unittest\nclass Case(unittest.TestCase):\n    def test_it(self):\n        "
    path = scripts.write(f"{case}self.assertTrue(serve(handler, port=0).port)", "test_forgets.py")
    script = scripts.command("-m", "unittest", path.name)
    assert script.end() == 0
    assert script.err.endswith("OK")


@pytest.mark.parametrize(
    ("name", "is_blocking"),
    [("script.py", True), ("pytest", False), ("py.test", False), ("pytest.py", True), (None, True)],
)
def test_where_serve_must_block(
    monkeypatch: pytest.MonkeyPatch, name: str | None, is_blocking: bool
) -> None:
    """By what the main script's file is called: a test run ends when it has run."""
    fake(monkeypatch, (3, 12, 1), name)
    assert must_block(frame_of("__main__")) is is_blocking


@pytest.mark.parametrize(
    ("version", "is_blocking"),
    [
        ((3, 10, 0), False),
        ((3, 11, 1), False),
        ((3, 12, 0), True),
        ((3, 12, 1), True),
        ((3, 12, 2), False),
        ((3, 13, 0), False),
        ((3, 14, 1), False),
    ],
)
def test_versions_on_which_serve_must_block(
    monkeypatch: pytest.MonkeyPatch, version: tuple[int, int, int], is_blocking: bool
) -> None:
    fake(monkeypatch, version)
    assert must_block(frame_of("__main__")) is is_blocking
    assert not must_block(frame_of("app"))
    assert not must_block(None)
    asked: list[bool] = []
    thread = threading.Thread(target=lambda: asked.append(must_block(frame_of("__main__"))))
    thread.start()
    thread.join(TIMEOUT)
    assert asked == [False]


def test_serve_must_block_without_the_hook(monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch, (3, 14, 0))
    monkeypatch.setattr(residence, "_register_at_exit", None)
    assert must_block(frame_of("__main__"))


def test_serve_need_not_block_in_a_console(monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch, (3, 12, 1), None, ps1=">>> ")
    assert not must_block(frame_of("__main__"))
    fake(monkeypatch, (3, 12, 1), None, flags=types.SimpleNamespace(interactive=1))
    assert not must_block(frame_of("__main__"))


def fake(
    monkeypatch: pytest.MonkeyPatch,
    version: tuple[int, int, int],
    name: str | None = "script.py",
    **names: Any,
) -> None:
    """Let ``residence`` see another Python, whose main script is called ``name``."""
    main = types.ModuleType("__main__")
    if name is not None:
        main.__file__ = f"/somewhere/{name}"
    stand_in = types.SimpleNamespace(
        version_info=version,
        flags=types.SimpleNamespace(interactive=0),
        modules={"__main__": main},
    )
    vars(stand_in).update(names)
    monkeypatch.setattr(residence, "sys", stand_in)


def frame_of(module: str) -> FrameType:
    """A frame of a module of this name."""
    namespace: dict[str, Any] = {"__name__": module}
    exec("import sys\nframe = sys._getframe()", namespace)
    frame: FrameType = namespace["frame"]
    return frame


# --- whether a call failed -----------------------------------------------------------------------


def test_a_call_that_returned_has_not_raised() -> None:
    def returns() -> FrameType:
        try:
            raise ValueError
        except ValueError:
            pass
        for _ in range(3):
            with open(os.devnull):
                return sys._getframe()
        raise AssertionError

    def returns_nothing(frames: list[FrameType]) -> None:
        frames.append(sys._getframe())

    frames: list[FrameType] = []
    returns_nothing(frames)
    assert not residence._has_raised(frames[0])
    assert not residence._has_raised(returns())
    assert not residence._has_raised(frame_of("__main__"))


def test_a_call_that_raised() -> None:
    frames: list[FrameType] = []

    def raises(exc: BaseException) -> None:
        frames.append(sys._getframe())
        try:
            raise exc
        finally:
            frames.reverse()

    def calls() -> None:
        frames.append(sys._getframe())
        int("no number")

    fails: list[Callable[[], None]] = [
        lambda: raises(ValueError()),
        lambda: raises(SystemExit(3)),
        calls,
    ]
    for call in fails:
        frames.clear()
        with pytest.raises((ValueError, SystemExit)):
            call()
        assert [residence._has_raised(frame) for frame in frames] == [True]


def test_a_call_that_still_runs_has_not_raised() -> None:
    assert not residence._has_raised(sys._getframe())


def test_a_generator_has_not_raised() -> None:
    def generator() -> Generator[FrameType, None, None]:
        yield sys._getframe()
        raise ValueError

    steps = generator()
    frame = next(steps)
    assert not residence._has_raised(frame)
    with pytest.raises(ValueError):
        next(steps)
    assert not residence._has_raised(frame)


# --- consoles ------------------------------------------------------------------------------------


class Console:
    """A Python in a terminal of its own, as a person has one."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self._text = ""
        self._changed = threading.Condition()
        self._terminal, terminal = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-q", *arguments],
            cwd=folder,
            env={**os.environ, "PYTHON_BASIC_REPL": "1", "TERM": "dumb"},
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            start_new_session=True,
        )
        os.close(terminal)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Console:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait(TIMEOUT)
        self._reader.join(TIMEOUT)
        os.close(self._terminal)

    def type(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def wait_for(self, text: str) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: text in self._text, TIMEOUT), self._text

    def interrupt(self) -> None:
        """Send SIGINT until Python tells of it, which looks for one only while it reads the terminal."""
        for _ in range(int(TIMEOUT)):
            self.process.send_signal(signal.SIGINT)
            with self._changed:
                if self._changed.wait_for(lambda: "KeyboardInterrupt\r\n>>> " in self._text, 1):
                    return
        raise AssertionError(self._text)

    @property
    def url(self) -> str:
        self.wait_for("bunpy: serving on")
        return self._text.partition("bunpy: serving on ")[2].split()[0]

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._terminal, 4096)
            except OSError:  # the other end has been closed: EIO
                data = b""
            if not data:
                return
            with self._changed:
                self._text += data.decode()
                self._changed.notify_all()


@pytest.mark.parametrize("goodbye", ["exit()\n", "exit(3)\n", "\x04"])
def test_leaving_a_console(tmp_path: Path, goodbye: str) -> None:
    with Console(tmp_path) as console:
        console.type("from bunpy.serve import serve\nserver = serve(lambda req: 'hello', port=0)\n")
        assert request(console.url).text() == "hello"
        console.type("print(1 + 1, 'is two')\n")
        console.wait_for("2 is two\r\n>>> ")
        console.type(goodbye)
        assert console.process.wait(SOON) == (3 if "3" in goodbye else 0)


def test_a_console_keeps_its_interrupt(tmp_path: Path) -> None:
    with Console(tmp_path) as console:
        console.type("from bunpy.serve import serve\nserver = serve(lambda req: 'hello', port=0)\n")
        url = console.url
        assert request(url).text() == "hello"
        console.interrupt()
        assert request(url).text() == "hello"


def test_a_console_after_a_script(scripts: Scripts, tmp_path: Path) -> None:
    path = scripts.write("server = serve(handler, port=0)")
    with Console(tmp_path, "-i", str(path)) as console:
        assert request(console.url).text() == "hello"
        console.type("print(1 + 1, 'is two')\n")
        console.wait_for("2 is two\r\n>>> ")
        console.interrupt()
        assert request(console.url).text() == "hello"
        console.type("exit()\n")
        assert console.process.wait(SOON) == 0


def test_a_console_that_is_fed_by_a_pipe(scripts: Scripts) -> None:
    program = "from bunpy.serve import serve\nserver = serve(print, port=0)\n"
    script = scripts.command("-q", "-i", input=program)
    assert script.end() == 0
    assert len(script.urls) == 1


def test_a_script_that_is_followed_by_an_empty_console(scripts: Scripts) -> None:
    path = scripts.write("server = serve(handler, port=0)")
    script = scripts.command("-q", "-i", str(path), input="")
    assert script.end() == 0
    assert len(script.urls) == 1


# --- block ---------------------------------------------------------------------------------------


def test_block(scripts: Scripts) -> None:
    script = scripts.run("""
        server = serve(handler, port=0, block=True)
        say("after serve", server.is_closed)
        sys.exit(5)
    """)
    with EventClient(script.url, "/events") as client:
        client.read(1)
        assert script.out == ""
        script.send(signal.SIGTERM)
        assert client.read_all() == []
    assert script.end() == 5  # the rest of the script was run, and says what it likes
    assert script.out.splitlines() == ["generator closed", "after serve True"]
    assert script.err == ""


def test_block_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    found: SimpleQueue[Server] = SimpleQueue()

    def live_here(server: LocalServer, *args: Any) -> None:
        found.put(server)
        residence_live_here(server, *args)

    residence_live_here = residence.live_here
    monkeypatch.setattr("bunpy.serve.live_here", live_here)
    with ThreadPoolExecutor(1) as executor:
        served = executor.submit(serve, lambda req: "hello", 0, block=True, quiet=True)
        server = found.get(timeout=TIMEOUT)
        assert request(server).text() == "hello"
        assert not served.done()
        server.stop()
        assert served.result(TIMEOUT) is server


# --- on a loop of the program's ------------------------------------------------------------------


def test_an_interrupt_of_asyncio_run(scripts: Scripts) -> None:
    """Its server drains, and what awaits that goes on."""
    script = scripts.run("""
        async def main():
            server = serve(handler, port=0)
            await server.wait_closed()
        asyncio.run(main())
    """)
    with EventClient(script.url, "/events") as client:
        client.read(1)
        script.send(signal.SIGINT)
        assert client.read_all() == []
        assert client.retry is not None
        assert script.end(SOON) == 0
    assert script.out == "generator closed\n"
    assert script.err == ""


def test_a_loop_that_ends_ends_its_servers(scripts: Scripts) -> None:
    script = scripts.module("""
        async def main():
            server = serve(handler, port=0)
            await asyncio.to_thread(gate.wait)
            return server
        server = asyncio.run(main())
        print(server.is_closed)
        serve(handler, server.port).stop()
    """)
    with EventClient(script.url, "/events") as client:
        client.read(1)
        request(script.url, path="/go")
        assert script.end(SOON) == 0
    assert script.out == "generator closed\nTrue\n"
    assert "never" not in script.err  # retrieved, or awaited


# --- forks ---------------------------------------------------------------------------------------


def test_a_fork_of_the_process_ends(scripts: Scripts) -> None:
    """A child has no server: it ends when it has done its work, and does not answer."""
    script = scripts.run(
        """
        import multiprocessing
        def work():
            say("child")
        def main():
            gate.wait()
            child = multiprocessing.get_context("fork").Process(target=work)
            child.start()
            child.join(10)
            say("ended", child.exitcode)
            child.kill()
        threading.Thread(target=main).start()
        serve(handler, port=0)
        """,
        "-Wignore",
    )
    request(script.url, path="/go")
    script.wait_until(lambda: "ended" in script.out)
    assert script.out == "child\nended 0\n"
    assert request(script.url).text() == "hello"
    terminate(script)


def test_a_fork_of_the_process_can_be_terminated(scripts: Scripts) -> None:
    """``Process.terminate`` and pools that end their workers send SIGTERM: a child has no server to drain."""
    script = scripts.run(
        """
        import multiprocessing
        def work(ready):
            ready.send("child")
            time.sleep(3600)
        def main():
            gate.wait()
            here, there = multiprocessing.Pipe()
            child = multiprocessing.get_context("fork").Process(target=work, args=[there])
            child.start()
            here.recv()
            child.terminate()
            child.join(10)
            say("ended", child.exitcode)
            child.kill()
        threading.Thread(target=main).start()
        serve(handler, port=0)
        """,
        "-Wignore",
    )
    request(script.url, path="/go")
    script.wait_until(lambda: "ended" in script.out)
    assert script.out == f"ended {-signal.SIGTERM}\n"
    assert request(script.url).text() == "hello"
    terminate(script)


# --- what may go wrong at the start --------------------------------------------------------------


@pytest.mark.parametrize(
    ("patch", "error"),
    [
        ("threading.Thread.start", 'RuntimeError("can\'t start new thread")'),
        ("residence.new_loop", "OSError(24, 'Too many open files')"),
    ],
)
def test_a_server_that_cannot_begin(scripts: Scripts, patch: str, error: str) -> None:
    """At a limit of the system the error is the caller's; no port is kept, and nobody waits for what never was."""
    script = scripts.run(f"""
        from bunpy.server import residence
        real = {patch}
        def fail(*args):
            raise {error}
        def main():
            server = serve(handler, port=0)
            port = server.port
            server.stop()
            {patch} = fail
            try:
                serve(handler, port)
            except Exception as exc:
                say(repr(exc))
            {patch} = real
            serve(handler, port).stop()
        import types
        exec(main.__code__, {{**globals(), "__name__": "no main script, so that it never blocks"}})
    """)
    assert script.end(SOON) == 0
    assert script.out.strip() == error
    assert script.err == ""
    assert len(script.urls) == 2
    assert len(set(script.urls)) == 1


def test_the_loop_is_uvloops(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = new_loop()
    loop.close()
    assert type(loop).__module__.startswith("uvloop")


def test_without_uvloop(monkeypatch: pytest.MonkeyPatch) -> None:
    """On Windows and PyPy: the same on asyncio's own loop."""
    monkeypatch.setitem(sys.modules, "uvloop", None)
    loops = []
    closed = threading.Event()

    async def events() -> AsyncIterator[str]:
        try:
            yield "first"
            await asyncio.sleep(3600)
        finally:
            closed.set()

    def handler(req: Request) -> object:
        loops.append(asyncio.get_running_loop())
        return SSEResponse(events()) if req.path == "/events" else "hello"

    with serving(handler) as server:
        assert request(server).text() == "hello"
        with EventClient(server, "/events") as client:
            assert client.read(1)[0].data == "first"
            server.stop()
            assert client.read_all() == []
    assert closed.wait(TIMEOUT)
    assert {type(loop).__module__.partition(".")[0] for loop in loops} == {"asyncio"}
    serve(handler, server.port, quiet=True).stop()  # the port is free again


# --- the loop's end ------------------------------------------------------------------------------


def test_tasks_of_the_handlers_are_cancelled() -> None:
    tasks = []
    closed = threading.Event()

    async def forever() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0)
            closed.set()

    async def handler(req: Request) -> str:
        tasks.append(asyncio.create_task(forever()))
        await asyncio.sleep(0)
        return "hello"

    with serving(handler) as server:
        assert request(server).text() == "hello"
    assert closed.wait(TIMEOUT)


def test_async_generators_of_the_handlers_are_closed() -> None:
    closed = threading.Event()
    kept = []

    async def generator() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            await asyncio.sleep(0)
            closed.set()

    async def handler(req: Request) -> str:
        kept.append(generator())
        await kept[0].__anext__()
        return "hello"

    with serving(handler) as server:
        assert request(server).text() == "hello"
    assert closed.wait(TIMEOUT)


def test_a_task_that_does_not_end_holds_nothing_up(scripts: Scripts) -> None:
    script = scripts.run("""
        async def stubborn():
            while True:
                try:
                    await asyncio.sleep(3600)
                except asyncio.CancelledError:
                    pass
        tasks = []
        async def starts(req):
            tasks.append(asyncio.create_task(stubborn()))
            await asyncio.sleep(0)
            return "hello"
        serve(starts, port=0)
    """)
    assert request(script.url).text() == "hello"
    watch = Stopwatch()
    terminate(script)
    assert watch.seconds < SOON
