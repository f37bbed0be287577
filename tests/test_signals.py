"""SIGINT and SIGTERM, sent to programs in processes of their own; and the rare orders of events, with stand-ins."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from signal import SIGHUP, SIGINT, SIGTERM, getsignal
from signal import Signals as Number
from typing import Any, cast
from weakref import ref

import pytest
from certificates import Pair
from script import BLOCKS, DRAINED, TIMEOUT, Scripts, Stopwatch, drain, stat_inside
from watching import in_one_of_five, on_time, until

from bunpy.server import signals
from bunpy.server.handle import Server
from bunpy.server.signals import Signals
from bunpy.testing import EventClient, request
from bunpy.testing.address import Address

BOTH = pytest.mark.parametrize("number", [SIGINT, SIGTERM])

#: Seconds in which a second signal ends the process: half of one, and what it takes to repeat a signal that was lost.
GONE = 0.7


def wait_until_refused(url: str) -> None:
    """Wait until a server takes no more connections: it is draining."""
    address = Address.of(url)
    watch = Stopwatch()
    while watch.seconds < TIMEOUT:
        try:
            socket.create_connection((address.host, address.port), 1).close()
        except ConnectionError:
            return
    raise AssertionError(f"{url} still takes connections after {TIMEOUT} s")


# --- one signal: the servers drain, and the process ends well ------------------------------------


@BOTH
def test_after_the_main_script(scripts: Scripts, number: Number) -> None:
    script = scripts.run("serve(handler, port=0)")
    if not BLOCKS:
        assert request(script.url, path="/ended", timeout=TIMEOUT).text() == "ended"
    assert drain(script, number) == ["generator closed"]


@BOTH
@pytest.mark.parametrize(
    "busy",
    [
        "time.sleep(3600)",
        "threading.Event().wait()",
        "while True: pass",
        "asyncio.run(sleep())",
        "os.read(os.pipe()[0], 1)",
    ],
)
def test_in_a_program_that_does_something_else(scripts: Scripts, number: Number, busy: str) -> None:
    """Its ``finally`` and its functions at exit are run."""
    script = scripts.module(f"""
        atexit.register(say, "atexit")
        async def sleep():
            say("asleep")
            await asyncio.sleep(3600)
        try:
            serve(handler, port=0)
            say("after serve")
            {busy}
        finally:
            say("finally")
    """)
    script.wait_for("asleep" if "asyncio" in busy else "after serve")
    lines = drain(script, number)
    assert [line for line in lines if line != "asleep"] == [
        "after serve",
        "generator closed",
        "finally",
        "atexit",
    ]


@BOTH
def test_with_nothing_to_drain(scripts: Scripts, number: Number) -> None:
    """Then the servers have stopped before the main thread is back where the signal found it. Several, at once."""
    source = """
        serve(handler, port=0)
        say("after serve")
        time.sleep(3600)
    """
    sleepers = [
        scripts.module(source),
        *(scripts.command("-c", "import program") for _ in range(3)),
    ]
    for script in sleepers:
        script.wait_for("after serve")
        script.send(number)
    for script in sleepers:
        assert script.end(DRAINED) == 0
        assert script.err == ""


@BOTH
def test_in_wait(scripts: Scripts, number: Number) -> None:
    """What waits for the server goes on when it has stopped."""
    script = scripts.run("""
        server = serve(handler, port=0)
        server.wait()
        say("after wait")
    """)
    assert drain(script, number) == ["generator closed", "after wait"]


@BOTH
def test_in_a_with(scripts: Scripts, number: Number) -> None:
    script = scripts.run("""
        with serve(handler, port=0) as server:
            server.wait()
        say("after with")
    """)
    assert drain(script, number) == ["generator closed", "after with"]


@BOTH
def test_in_block(scripts: Scripts, number: Number) -> None:
    script = scripts.run("""
        serve(handler, port=0, block=True)
        say("after serve")
    """)
    assert drain(script, number) == ["generator closed", "after serve"]


@BOTH
def test_several_servers(scripts: Scripts, number: Number) -> None:
    script = scripts.module("""
        servers = [serve(handler, port=0) for _ in range(3)]
        say("after serve")
    """)
    script.wait_for("after serve")
    script.wait_until(lambda: len(script.urls) == 3)
    assert drain(script, number) == ["after serve", *["generator closed"] * 3]


def test_a_server_of_another_thread(scripts: Scripts) -> None:
    """It is drained with the others, though it could not have asked for the signals."""
    script = scripts.module("""
        serve(handler, port=0)
        thread = threading.Thread(target=serve, args=(handler, 0))
        thread.start()
        thread.join()
        say("after serve")
    """)
    script.wait_for("after serve")
    script.wait_until(lambda: len(script.urls) == 2)
    assert drain(script, SIGTERM) == ["after serve", *["generator closed"] * 2]


def test_another_thread_waits(scripts: Scripts) -> None:
    """The main thread does something else, and must be told, whoever else waits for the server."""
    script = scripts.module("""
        server = serve(handler, port=0)
        threading.Thread(target=server.wait, daemon=True).start()
        say("after serve")
        time.sleep(3600)
    """)
    script.wait_for("after serve")
    assert drain(script, SIGTERM) == ["after serve", "generator closed"]


@BOTH
@pytest.mark.parametrize("block", [False, True])
def test_a_signal_right_after_the_start_line(scripts: Scripts, number: Number, block: bool) -> None:
    """What is told in the log to be up can be stopped: supervisors read that line, and tests."""
    script = scripts.run(f"serve(handler, port=0, block={block})")
    script.wait_until(lambda: bool(script.urls))
    script.send(number)
    assert script.end(DRAINED) == 0
    assert script.err == ""


@BOTH
def test_a_busy_loop(scripts: Scripts, number: Number) -> None:
    """A handler that blocks the loop is answered for when it is done."""
    script = scripts.run("""
        def blocks(req):
            if req.path == "/block":
                say("blocking")
                time.sleep(0.3)
            return "hello"
        serve(blocks, port=0)
    """)
    with ThreadPoolExecutor(1) as executor:
        asked = executor.submit(request, script.url, path="/block")
        script.wait_for("blocking")
        script.send(number)
        assert asked.result(TIMEOUT).text() == "hello"
    assert script.end(DRAINED) == 0


@BOTH
def test_a_handler_that_is_still_at_work(scripts: Scripts, tmp_path: Path, number: Number) -> None:
    """It is waited for, and its answer given; nobody new is let in meanwhile."""
    script = scripts.run("""
        async def waits(req):
            if req.path == "/wait":
                say("waiting")
                while not os.path.exists("go"):
                    await asyncio.sleep(0.005)
            return "hello"
        serve(waits, port=0)
    """)
    with ThreadPoolExecutor(1) as executor:
        asked = executor.submit(request, script.url, path="/wait", timeout=TIMEOUT)
        script.wait_for("waiting")
        script.send(number)
        wait_until_refused(script.url)
        assert not asked.done()
        (tmp_path / "go").touch()
        answer = asked.result(TIMEOUT)
    assert (answer.status, answer.text(), answer.closes) == (200, "hello", True)
    assert script.end(DRAINED) == 0


@pytest.mark.parametrize(
    "source",
    [
        "serve(interrupts, port=0)",
        "serve(interrupts, port=0).wait()",
        "with serve(interrupts, port=0) as server:\n    server.wait()",
    ],
    ids=["after the script", "in wait", "in a with"],
)
def test_a_signal_that_interrupts_no_system_call(scripts: Scripts, source: str) -> None:
    """As one that comes just before the main thread begins to wait: whoever waits for a server has to look."""
    script = scripts.module(f"""
import _thread
def interrupts(req):
    if req.path == "/interrupt":
        _thread.interrupt_main(signal.SIGTERM)
    return handler(req)
{source}
""")
    if "wait" not in source:
        assert request(script.url, path="/ended", timeout=TIMEOUT).text() == "ended"
    with EventClient(script.url, "/events") as client:
        client.read(1)
        assert request(script.url, path="/interrupt").text() == "hello"
        assert client.read_all() == []
    assert script.end(DRAINED) == 0


def test_a_server_that_has_stopped_is_freed(scripts: Scripts) -> None:
    """With its handler: the signals that would have stopped it do not keep it."""
    script = scripts.run("""
        import gc, weakref
        class Handler:
            def __call__(self, req):
                return "hello"
        def live():
            handler = Handler()
            server = serve(handler, port=0)
            server.stop()
            return weakref.ref(server), weakref.ref(handler)
        with ThreadPoolExecutor(1) as executor:  # where ``serve`` blocks in no version
            server, handler = executor.submit(live).result()
        while server() is not None or handler() is not None:
            gc.collect()
        say("freed")
    """)
    assert script.end(DRAINED) == 0
    assert script.out == "freed\n"


def test_serving_again_after_a_drain(scripts: Scripts) -> None:
    """A main thread that waits goes on, and only that."""
    script = scripts.module("""
        def serve_and_wait():
            def tell():
                while not server.main_waits:  # nobody is told of it
                    time.sleep(0.005)
                say("waiting")
            server = serve(handler, port=0)
            threading.Thread(target=tell).start()
            server.wait()
        serve_and_wait()
        serve_and_wait()
        say("after both")
    """)
    for count in (1, 2):
        script.wait_until(lambda count=count: script.out == "waiting\n" * count)  # type: ignore[misc]
        url = script.urls[-1]
        assert request(url).text() == "hello"
        script.send(SIGTERM)
    assert script.end(DRAINED) == 0
    assert script.out == "waiting\nwaiting\nafter both\n"


# --- a second signal: the process ends -----------------------------------------------------------


@BOTH
@pytest.mark.parametrize(
    "source",
    [
        "serve(handler, port=0)",
        "serve(handler, port=0)\ntime.sleep(3600)",
        "serve(handler, port=0).wait()",
        "serve(handler, port=0, block=True)",
    ],
    ids=["after the script", "in sleep", "in wait", "in block"],
)
@in_one_of_five
def test_a_second_signal(scripts: Scripts, number: Number, source: str) -> None:
    """What was printed is not lost, though nothing else is waited for."""
    source = f"sys.stdout.write('buffered\\n')\n{source}"
    script = scripts.run(source, PYTHONUNBUFFERED="")
    with EventClient(script.url, "/stubborn") as client:
        client.read(1)
        script.send(number)
        script.wait_until(lambda: "still here" in script.out)
        on_time(script.insist(number), GONE)
    assert script.end() == 128 + number
    assert set(script.out.splitlines()) == {"still here", "buffered"}
    assert script.err in (
        "",
        "bunpy: stopped with 1 connections whose handlers or generators did not end",
    )


@pytest.mark.parametrize("block", [False, True])
@in_one_of_five
def test_a_second_signal_while_the_loop_is_blocked(scripts: Scripts, block: bool) -> None:
    script = scripts.run(f"""
        def blocks(req):
            if req.path == "/block":
                say("blocking")
                time.sleep(3600)
            return "hello"
        signal.signal(signal.SIGUSR1, lambda *_: say("in time"))
        serve(blocks, port=0, block={block})
    """)
    with ThreadPoolExecutor(1) as executor:
        asked = executor.submit(request, script.url, path="/block", timeout=TIMEOUT)
        script.wait_for("blocking")
        script.send(SIGINT)
        script.send(Number.SIGUSR1)  # of those that wait Python handles the lowest number first
        script.wait_for("in time")
        on_time(script.insist(SIGTERM), GONE)
        assert script.end() == 128 + SIGTERM
        assert asked.exception(TIMEOUT) is not None


@in_one_of_five
def test_a_second_signal_while_nobody_reads_the_output(scripts: Scripts) -> None:
    """The main thread is in the middle of a write that never ends; no flush may be waited for."""
    script = scripts.module("""
        reader, writer = os.pipe()
        stdout, sys.stdout = sys.stdout, open(writer, "w")
        serve(handler, port=0)
        stdout.write("after serve\\n")
        while True:
            sys.stdout.write("x" * 100_000)
    """)
    script.wait_for("after serve")
    with EventClient(script.url, "/stubborn") as client:
        client.read(1)
        script.send(SIGTERM)
        wait_until_refused(script.url)
        on_time(script.insist(SIGTERM), GONE)
    assert script.end() == 128 + SIGTERM


# --- the program's own handlers ------------------------------------------------------------------


@BOTH
def test_a_handler_of_the_program_stays(scripts: Scripts, number: Number) -> None:
    script = scripts.run(f"""
        signal.signal({number}, lambda number, frame: say("mine", number))
        serve(handler, port=0)
    """)
    assert request(script.url).text() == "hello"
    script.send(number)
    script.wait_for(f"mine {int(number)}")
    assert request(script.url).text() == "hello"
    other = SIGINT if number is SIGTERM else SIGTERM
    assert drain(script, other) == [f"mine {int(number)}", "generator closed"]


def test_a_handler_that_is_set_later(scripts: Scripts) -> None:
    script = scripts.module("""
        serve(handler, port=0)
        signal.signal(signal.SIGTERM, lambda number, frame: say("mine"))
        say("set")
    """)
    script.wait_for("set")
    assert request(script.url).text() == "hello"
    script.send(SIGTERM)
    script.wait_for("mine")
    assert request(script.url).text() == "hello"


@pytest.mark.parametrize(
    "action", ["sys.exit(0)", "sys.exit(5)", "raise KeyboardInterrupt", "server.stop()"]
)
def test_a_handler_that_ends_the_program(scripts: Scripts, action: str) -> None:
    """What people write: it stops the server that the end of the process waits for, without complaint."""
    script = scripts.module(f"""
        def end(number, frame):
            {action}
        signal.signal(signal.SIGTERM, end)
        atexit.register(say, "atexit")
        server = serve(handler, port=0)
    """)
    assert request(script.url, path="/ended", timeout=TIMEOUT).text() == "ended"
    assert drain(script, SIGTERM) == ["generator closed", "atexit"]


def test_a_signal_that_was_ignored(scripts: Scripts) -> None:
    """A shell starts what it puts in the background with SIGINT ignored; who sends it one means it."""
    script = scripts.run("""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        serve(handler, port=0)
    """)
    assert drain(script, SIGINT) == ["generator closed"]


@pytest.mark.parametrize(
    ("number", "before", "end"),
    [
        (SIGINT, "signal.default_int_handler", "interrupted"),
        (SIGINT, "signal.SIG_DFL", -SIGINT),
        (SIGINT, "signal.SIG_IGN", "nothing"),
        (SIGTERM, "signal.SIG_DFL", -SIGTERM),
        (SIGTERM, "signal.SIG_IGN", "nothing"),
    ],
)
def test_when_all_servers_have_stopped_a_signal_is_what_it_was(
    scripts: Scripts, number: Number, before: str, end: str | int
) -> None:
    script = scripts.module(f"""
        signal.signal({number}, {before})
        serve(handler, port=0).stop()
        try:
            signal.raise_signal({number})
            say("nothing")
        except KeyboardInterrupt:
            say("interrupted")
    """)
    status = script.end(DRAINED)
    assert (script.out.strip() or status) == end


@BOTH
def test_a_test_run_keeps_its_signals(scripts: Scripts, number: Number) -> None:
    """Ctrl-C ends the run, not the server of the test that happens to be running."""
    path = scripts.write(
        """
        def test_it():
            serve(handler, port=0, quiet=True)
            os.write(1, b"\\nserving\\n")
            time.sleep(3600)
        def test_the_next():
            pass
        """,
        "test_sleeps.py",
    )
    command = ["-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", path.name]
    script = scripts.command(*command, environment={"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"})
    script.wait_for("serving")
    script.send(number)
    assert script.end(DRAINED) == (2 if number is SIGINT else -SIGTERM)


# --- SIGHUP --------------------------------------------------------------------------------------


def test_sighup_reads_the_certificate_again(scripts: Scripts, tmp_path: Path) -> None:
    old, new = Pair.made_in(tmp_path / "old"), Pair.made_in(tmp_path / "new")
    client = ssl.create_default_context()  # sees which certificate there is, and does not judge it
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    script = scripts.run(f"serve(handler, port=0, tls={old.option!r})")

    def presented() -> bytes | None:
        script.wait_until(lambda: bool(script.urls))
        address = ("127.0.0.1", int(script.urls[0].rpartition(":")[2]))
        with socket.create_connection(address) as sock, client.wrap_socket(sock) as tunnel:
            return tunnel.getpeercert(binary_form=True)

    assert presented() == old.der
    new.put_at(old)
    script.send(SIGHUP)
    script.wait_until(lambda: "is read again" in script.err)
    assert presented() == new.der
    old.key.write_text("nothing")
    script.send(SIGHUP)
    script.wait_until(lambda: script.err.count("SIGHUP: ") == 2)
    assert str(old.key) in script.err
    assert "Traceback" not in script.err
    assert presented() == new.der
    script.send(SIGTERM)
    assert script.end(DRAINED) == 0


# --- as a container runs it ----------------------------------------------------------------------


UNSHARE = ["unshare", "--fork", "--pid", "--mount-proc", "--kill-child"]


class Init:
    """A script that is process 1 of a PID namespace: what it has no handler for never reaches it."""

    def __init__(self, scripts: Scripts, source: str) -> None:
        path = scripts.write(source)
        command = [*UNSHARE, sys.executable, str(path)]
        self.script = scripts.command("-c", f"import os; os.execvp('unshare', {command!r})")
        assert request(self.script.url, path="/pid", timeout=TIMEOUT).text() == "1"
        outer = self.script.process.pid
        (inner,) = Path(f"/proc/{outer}/task/{outer}/children").read_text().split()
        self.pid = int(inner)

    def send(self, number: Number) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def insist(self, number: Number) -> float:
        """Send it a signal every tenth of a second until it has ended; the seconds that this took."""
        watch = Stopwatch()
        while watch.seconds < TIMEOUT:
            self.send(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.script.process.wait(0.1)
                break
        return watch.seconds


@pytest.fixture
def init(scripts: Scripts, program: Callable[[str], str]) -> Callable[[str], Init]:
    """``init(source)``: a script as process 1, ``/pid`` its number, and ``/orphan`` a process that it inherits."""
    program("unshare")
    command = [*UNSHARE, "true"]
    if subprocess.run(command, capture_output=True, timeout=TIMEOUT, check=False).returncode:
        pytest.skip(
            "there is no permission to make a PID namespace, and none that CI could install"
        )
    prelude = """
import subprocess
def answers(req):
    if req.path == "/pid":
        return str(os.getpid())
    if req.path == "/orphan":
        run = subprocess.run(["sh", "-c", "sleep 0 & echo $!"], capture_output=True, text=True)
        return run.stdout.strip()
    return handler(req)
"""
    return lambda source: Init(scripts, prelude + source)


LIVES = pytest.mark.parametrize(
    "source",
    [
        "serve(answers, port=0)",
        "serve(answers, port=0, block=True)",
        "serve(answers, port=0)\ntime.sleep(3600)",
        "async def main():\n    await serve(answers, port=0).wait_closed()\nasyncio.run(main())",
    ],
    ids=["after the script", "in block", "in sleep", "on a running loop"],
)


@LIVES
def test_process_1_drains(init: Callable[[str], Init], source: str) -> None:
    process = init(source)
    with EventClient(process.script.url, "/events") as client:
        client.read(1)
        process.send(SIGTERM)
        assert client.read_all() == []
    assert process.script.end(DRAINED) == 0


@LIVES
@in_one_of_five
def test_a_second_signal_to_process_1(init: Callable[[str], Init], source: str) -> None:
    process = init(source)
    with EventClient(process.script.url, "/stubborn") as client:
        client.read(1)
        process.send(SIGTERM)
        process.script.wait_until(lambda: "still here" in process.script.out)
        on_time(process.insist(SIGTERM), GONE)
    assert process.script.end() == 128 + SIGTERM


def test_process_1_reaps(init: Callable[[str], Init]) -> None:
    """Whose parent has gone is its child, and stays a zombie until it is asked for."""
    process = init("serve(answers, port=0)")
    orphan = request(process.script.url, path="/orphan").text()
    stat = stat_inside(process.pid, orphan)
    until(lambda: not stat.exists(), DRAINED)


@pytest.mark.parametrize("block", [False, True])
def test_without_stdout_and_stderr(scripts: Scripts, block: bool) -> None:
    """As a daemon that has closed them: what is opened next gets their numbers."""
    script = scripts.module(f"""
        from bunpy.testing import request
        def end():
            while signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
                time.sleep(0.01)
            request("unix:x.sock", timeout=10)
            os.kill(os.getpid(), signal.SIGTERM)
        os.closerange(1, 3)
        threading.Thread(target=end, daemon=True).start()
        serve(handler, hostname="unix:x.sock", block={block})
    """)
    assert script.end(TIMEOUT) == 0


@BOTH
def test_a_program_in_asyncio_run_that_does_something_else(
    scripts: Scripts, number: Number
) -> None:
    """What asyncio does with SIGINT is not the program's own: it drains, and then the tasks are cancelled."""
    script = scripts.run("""
        async def main():
            serve(handler, port=0)
            try:
                await asyncio.sleep(3600)
            finally:
                say("finally")
        asyncio.run(main())
    """)
    assert drain(script, number) == ["generator closed", "finally"]


# --- orders of events that are rare --------------------------------------------------------------


class FakeServer:
    """A server as far as ``Signals`` looks at one; it is ``close``d by the test."""

    def __init__(self) -> None:
        self.is_closed = False
        self.main_waits = 0
        self.heeds_hangup = False
        self.grace = 10.0
        self.calls: list[Callable[[], None]] = []
        self.stops: list[float | None] = []

    def when_closed(self, call: Callable[[], None]) -> None:
        self.calls.append(call)

    def request_stop(self, grace: float | None = None) -> None:
        self.stops.append(grace)

    def kill(self) -> None:
        """Ends with the process."""

    def tell(self) -> None:
        """What ``when_closed`` was given is called, which is after ``is_closed`` has become true."""
        for call in self.calls:
            call()


#: What the tests made, with what it watches: each is told that the main thread has heard, or it would go on telling
#: this one.
WATCHERS: list[tuple[Signals, Sequence[FakeServer]]] = []


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """The signals that would have been sent to the main thread."""
    numbers: list[Any] = []
    monkeypatch.setattr("signal.pthread_kill", lambda _, number: numbers.append(number))
    monkeypatch.setattr(signals, "_REPEAT_TIME", 60.0)
    # Of this process.
    monkeypatch.setattr(signals, "forbid_overtime", lambda grace: threading.Event())
    yield numbers
    while WATCHERS:
        WATCHERS.pop()[0].forget()


def watching(*servers: FakeServer) -> Signals:
    """Signals that watch these, without a handler's being set."""
    watcher = Signals()
    WATCHERS.append((watcher, servers))
    watcher._references = [ref(cast(Server, server)) for server in servers]
    return watcher


def test_the_main_thread_is_told_once(sent: list[Any]) -> None:
    """Also when the last two servers close at the same time; a second signal would be the process's end."""
    servers = [FakeServer(), FakeServer()]
    watcher = watching(*servers)
    watcher._handle(SIGTERM, None)
    assert [server.stops for server in servers] == [[None], [None]]
    for server in servers:
        server.is_closed = True
    for server in servers:
        server.tell()
    assert sent == [SIGTERM]
    with pytest.raises(SystemExit) as raised:
        watcher._handle(SIGTERM, None)
    assert raised.value.code == 0


def test_the_main_thread_is_told_until_it_hears(
    sent: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signals, "_REPEAT_TIME", 0.01)
    before = set(threading.enumerate())
    server = FakeServer()
    watcher = watching(server)
    watcher._handle(SIGTERM, None)
    server.is_closed = True
    server.tell()
    tellers = set(threading.enumerate()) - before
    watch = Stopwatch()
    while len(sent) < 3:
        assert watch.seconds < TIMEOUT
    assert set(sent) == {SIGTERM}
    with pytest.raises(SystemExit):
        watcher._handle(SIGTERM, None)
    for teller in tellers:
        teller.join(TIMEOUT)
        assert not teller.is_alive()


def test_the_main_thread_is_told_when_the_last_has_closed(sent: list[Any]) -> None:
    servers = [FakeServer(), FakeServer()]
    watching(*servers)._handle(SIGINT, None)
    servers[0].is_closed = True
    servers[0].tell()
    assert sent == []
    servers[1].is_closed = True
    servers[1].tell()
    assert set(sent) == {SIGINT}


def test_a_server_that_had_stopped_is_left_alone(sent: list[Any]) -> None:
    stopped, running = FakeServer(), FakeServer()
    stopped.is_closed = True
    watching(stopped, running)._handle(SIGTERM, None)
    assert stopped.stops == []
    assert running.stops == [None]


def test_only_the_main_thread_sets_handlers() -> None:
    """Python would refuse."""
    before = getsignal(SIGTERM)
    failures: list[BaseException] = []

    def watch() -> None:
        try:
            Signals().watch(cast(Server, FakeServer()))
        except BaseException as exc:
            failures.append(exc)

    thread = threading.Thread(target=watch)
    thread.start()
    thread.join(TIMEOUT)
    assert failures == []
    assert getsignal(SIGTERM) == before
