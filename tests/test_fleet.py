"""Several processes that serve as one, seen from outside: their life, their deaths, and their replacement."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import re
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from signal import SIGHUP, SIGINT, SIGKILL, SIGTERM
from typing import Any

import pytest
from script import TIMEOUT, Script, Scripts, Stopwatch, drain, stat_inside
from watching import is_refused, until

from bunpy.errors import ConfigError, ImportFailed
from bunpy.serve import Request, Server, SSEResponse, serve
from bunpy.testing import EventClient, request, serving
from bunpy.workers import fleet as fleet_module
from bunpy.workers import start
from bunpy.workers.fleet import Fleet

#: Seconds for processes to end that have nothing to wait for, or to be replaced.
SOON = 8.0  # less than the grace of a stop

PRELUDE = """
from bunpy.errors import ConfigError
def answers(req):
    if req.path == "/pid":
        return str(os.getpid())
    if req.path == "/exit":
        os._exit(3)
    if req.path == "/pids":
        return f"{os.getpid()} {os.getppid()}"
    return handler(req)
"""


def answer(req: Request) -> object:
    if req.path == "/pid":
        return str(os.getpid())
    if req.path == "/exit":
        os._exit(3)
    if req.path == "/events":
        return SSEResponse(events())
    return "hello"


async def events() -> Any:
    yield str(os.getpid())
    await asyncio.sleep(3600)


def another(req: Request) -> str:
    return "another"


def pid_of(server: Server | str) -> int:
    return int(request(server, path="/pid", timeout=TIMEOUT).text())


def pids(server: Server | str, count: int) -> set[int]:
    """The processes that answer, when there are so many of them."""
    found: set[int] = set()
    watch = Stopwatch()
    while len(found) < count:
        assert watch.seconds < TIMEOUT, found
        found.add(pid_of(server))
    return found


def is_there(pid: int) -> bool:
    """Whether a process runs; one that nobody has asked for its status does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def run(scripts: Scripts, call: str, **options: str) -> Script:
    return scripts.run(f"{PRELUDE}\n{call}", **options)


def lines(script: Script) -> list[str]:
    return script.said.splitlines()


def wait_for_line(script: Script, pattern: str) -> re.Match[str]:
    script.wait_until(lambda: re.search(pattern, script.said) is not None, 30.0)
    found = re.search(pattern, script.said)
    assert found is not None
    return found


# --- the start -----------------------------------------------------------------------------------


def test_several_processes_answer_and_none_of_them_is_this_one() -> None:
    with serving(answer, workers=2) as server:
        assert isinstance(server, Fleet)
        assert server.workers == 2
        assert os.getpid() not in pids(server, 2)
        assert request(server).text() == "hello"
    assert server.is_closed


def test_each_has_random_numbers_of_its_own() -> None:
    import random

    with serving(lambda req: {"body": f"{os.getpid()} {random.random()}"}, workers=2) as server:
        numbers: dict[str, set[str]] = {}
        watch = Stopwatch()
        while len(numbers) < 2:
            assert watch.seconds < TIMEOUT
            pid, number = request(server).text().split()
            numbers.setdefault(pid, set()).add(number)
        first, second = numbers.values()
        assert first.isdisjoint(second)


def test_0_workers_are_one_a_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bunpy.serve.cores", lambda: 3)
    with serving(answer, workers=0) as server:
        assert server.workers == 3
    monkeypatch.setattr("bunpy.serve.cores", lambda: 1)
    with serving(answer, workers=0) as server:
        assert server.workers == 1
        assert pid_of(server) != os.getpid()  # it can be rolled, and is replaced, as several are


def test_the_cores_that_this_process_may_use() -> None:
    allowed = os.sched_getaffinity(0)
    assert fleet_module.cores() == len(allowed)
    with ThreadPoolExecutor(1) as executor:

        def alone() -> int:
            os.sched_setaffinity(0, [min(allowed)])
            return fleet_module.cores()

        assert executor.submit(alone).result() == 1


def test_a_port_that_is_taken() -> None:
    with serving(answer, workers=2) as server:
        for workers in (1, 2):
            with pytest.raises(OSError, match=f"port {server.port} on 127.0.0.1 is taken"):
                serve(answer, server.port, workers=workers, quiet=True)
        assert request(server).text() == "hello"
    serve(answer, server.port, workers=2, quiet=True).stop()  # it is free again


@pytest.mark.parametrize("hostname", ["127.0.0.1", "localhost", "::1"])
def test_port_0_is_one_port(hostname: str) -> None:
    with serving(answer, hostname=hostname, workers=3) as server:
        pids(server, 3)


def test_it_has_begun_when_serve_returns() -> None:
    """All accept by then: none is asked that is not there yet."""
    with serving(answer, workers=3) as server:
        assert server.stats().workers == 3


def test_the_start_line(scripts: Scripts) -> None:
    script = run(scripts, "serve(answers, port=0, workers=2)")
    assert pid_of(script.url) != script.process.pid
    assert re.fullmatch(
        r"bunpy: serving on http://127.0.0.1:\d+ \((cython|python), 2 workers\)", lines(script)[0]
    )
    script.send(SIGTERM)
    assert script.end(SOON) == 0


def test_what_was_printed_before_is_printed_once(scripts: Scripts) -> None:
    script = scripts.run(
        "sys.stdout = open(1, 'w', buffering=100_000, closefd=False)\n"
        "print('before')\n"
        "serve(handler, port=0, workers=2)\n"
    )
    assert request(script.url).text() == "hello"
    script.send(SIGTERM)
    assert script.end(SOON) == 0
    assert script.out == "before\n"


@pytest.mark.parametrize("block", [False, True])
def test_workers_that_die_again_and_again_at_the_start(scripts: Scripts, block: bool) -> None:
    """It gives up, says so in a line, and nothing is left of it."""
    script = scripts.run(f"""
        from bunpy.workers import start
        def work(task):
            os._exit(7)
        start.work = work
        try:
            serve(handler, port=0, workers=2, block={block})
        except RuntimeError as exc:
            say(repr(exc))
            sys.exit(1)
    """)
    assert script.end(30.0) == 1
    says = "workers keep dying at the start, the last one exited with status 7"
    if block:
        assert lines(script)[-1] == f"bunpy: {says}"
    else:
        assert script.out == f"StartFailed('{says}')\n"
    assert "serving on" not in script.said
    assert "Traceback" not in script.said
    assert 4 <= len(re.findall("exited with status 7, replaced", script.said)) <= 5


def test_a_module_that_cannot_be_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is one sentence, whichever process finds out."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "broken_app.py").write_text("import a_module_that_is_not_there\n")
    with pytest.raises(ImportFailed) as alone:
        serve("broken_app:handler", 0, quiet=True)
    with pytest.raises(ImportFailed) as several:
        serve("broken_app:handler", 0, workers=2, quiet=True)
    assert str(several.value) == str(alone.value)
    assert "a_module_that_is_not_there" in str(several.value)
    until(lambda: not [thread for thread in threading.enumerate() if "bunpy-" in thread.name])


def test_a_start_that_fails_gives_the_port_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken_app.py").write_text("raise RuntimeError('oh no')\n")
    with serving(answer) as server:
        port = server.port
    for _ in range(2):
        with pytest.raises(ImportFailed):
            serve("broken_app:handler", port=port, workers=2, quiet=True)
    with serving(answer, port=port, workers=2) as server:
        assert request(server).text() == "hello"


def test_a_system_without_a_process_or_descriptors_to_give(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What was bound by then is given back."""
    path = tmp_path / "socket"

    def scarce(*args: object) -> Any:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(fleet_module, "fork", scarce)
        with pytest.raises(OSError, match="Too many open files"):
            serve(answer, hostname=f"unix:{path}", workers=2, quiet=True)
        assert not path.exists()
    monkeypatch.setattr(fleet_module, "share_out", scarce)
    says = r"2 workers cannot be had \(Too many open files\): ask for fewer"
    with pytest.raises(OSError, match=says):
        serve(answer, hostname=f"unix:{path}", workers=2, quiet=True)
    assert not path.exists()


def test_a_program_that_interrupts_it_itself(scripts: Scripts) -> None:
    """It goes on, and has no zombies."""
    script = run(
        scripts,
        """
def interrupt(number, frame):
    raise KeyboardInterrupt
signal.signal(signal.SIGINT, interrupt)
try:
    serve(answers, port=0, workers=2, block=True)
except KeyboardInterrupt:
    say("children:", open(f"/proc/self/task/{os.getpid()}/children").read())
""",
    )
    pids(script.url, 2)
    script.process.send_signal(SIGINT)
    assert script.end(SOON) == 0
    assert script.out == "children: \n"


def test_a_signal_while_it_starts(scripts: Scripts, tmp_path: Path) -> None:
    (tmp_path / "endless_app.py").write_text(
        "import pathlib, time\npathlib.Path('begun').touch()\ntime.sleep(3600)\n"
    )
    script = run(scripts, "serve('endless_app:handler', port=0, workers=2, block=True)")
    until((tmp_path / "begun").exists, 30.0)
    script.process.send_signal(SIGTERM)
    assert script.end(SOON) == 0
    assert script.said == ""


def test_options_are_checked_in_this_process() -> None:
    with pytest.raises(ConfigError, match=r"tls\['cert'\]: .* cannot be read"):
        serve(answer, 0, workers=2, tls={"cert": "/nothing/there"}, quiet=True)
    with pytest.raises(TypeError, match="a handler is a function of a request, not 7"):
        serve(7, 0, workers=2)  # type: ignore[arg-type]


# --- the end -------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [False, True])
@pytest.mark.parametrize("number", [SIGTERM, SIGINT])
def test_a_signal_drains_all(scripts: Scripts, number: signal.Signals, block: bool) -> None:
    script = run(scripts, f"serve(answers, port=0, workers=2, block={block})")
    found = pids(script.url, 2)
    assert drain(script, number, streams=8) == ["generator closed"] * 8
    assert not [pid for pid in found if is_there(pid)]


def test_a_signal_to_the_whole_group(scripts: Scripts) -> None:
    """As a terminal sends SIGINT, and systemd SIGTERM: each process has it, and once is once."""
    for number in (SIGINT, SIGTERM):
        script = run(scripts, "os.setpgid(0, 0)\nserve(answers, port=0, workers=2)")
        with EventClient(script.url, "/events", timeout=TIMEOUT) as client:
            client.read(1)
            os.killpg(script.process.pid, number)
            assert client.read_all() == []
        assert script.end(SOON) == 0
        assert "died" not in script.err


@pytest.mark.parametrize("block", [False, True])
def test_a_second_signal_ends_it_at_once(scripts: Scripts, block: bool) -> None:
    script = run(scripts, f"serve(answers, port=0, workers=2, block={block})")
    found = pids(script.url, 2)
    with EventClient(script.url, "/stubborn", timeout=TIMEOUT) as client:
        client.read(1)
        script.send(SIGINT)
        script.wait_until(lambda: "still here" in script.out)
        assert script.insist(SIGINT) < 5
    assert script.end() == 128 + SIGINT
    until(lambda: not [pid for pid in found if is_there(pid)])


@pytest.mark.parametrize("block", [False, True])
def test_nobody_is_left_when_the_first_process_is_killed(scripts: Scripts, block: bool) -> None:
    script = run(scripts, f"serve(answers, port=0, workers=2, block={block})")
    found = pids(script.url, 2)
    url = script.url
    script.process.send_signal(SIGKILL)
    until(lambda: not [pid for pid in found if is_there(pid)], SOON)
    with pytest.raises(ConnectionError):
        request(url)


def test_nobody_is_left_when_the_supervisor_is_killed(scripts: Scripts) -> None:
    script = run(scripts, "server = serve(answers, port=0, workers=2)\nserver.wait()")
    found = pids(script.url, 2)
    ids = request(script.url, path="/pids").text().split()
    os.kill(int(ids[1]), SIGKILL)
    script.end(SOON)
    wait_for_line(script, rf"bunpy: the supervisor \(pid {ids[1]}\) died of SIGKILL\n")
    until(lambda: not [pid for pid in found if is_there(pid)], SOON)


def test_stop_ends_streams_as_it_is_told() -> None:
    with serving(answer, workers=2) as server:
        with EventClient(server, "/events") as client:
            client.read(1)
            server.stop(grace=5.0, streams="close")
            assert client.read_all() == []
            assert client.ended_cleanly
        assert repr(server) == f"<Server {server.url} stopped>"
        server.stop()
        server.wait()
        with pytest.raises(ValueError, match="streams is 'now'"):
            server.stop(streams="now")  # type: ignore[arg-type]


def test_a_shorter_grace_takes_effect(executor: ThreadPoolExecutor) -> None:
    with serving(answer, workers=2, grace=30.0) as server, EventClient(server, "/events") as client:
        client.read(1)
        stopping = executor.submit(server.stop, 30.0, "finish")
        until(lambda: is_refused(server))
        assert not stopping.done()
        server.stop(grace=0.1)
        stopping.result(SOON)
        client.read_all()


def test_a_worker_that_does_not_end_is_killed(scripts: Scripts) -> None:
    script = scripts.run("""
        def blocker(req):
            if req.path == "/block":
                say("blocking")
                time.sleep(3600)
            return "hello"
        serve(blocker, port=0, workers=2, grace=0.1, block_warning=None)
    """)
    with ThreadPoolExecutor(1) as executor:
        asked = executor.submit(request, script.url, path="/block", timeout=TIMEOUT)
        script.wait_for("blocking")
        script.send(SIGTERM)
        assert script.end(SOON) == 0
        assert asked.exception(TIMEOUT) is not None
    assert re.fullmatch(
        r"bunpy: worker \d \(pid \d+\) has not ended within its grace, and is killed", script.err
    )


def test_on_a_running_loop() -> None:
    async def main() -> None:
        server = serve(answer, 0, workers=2, quiet=True, grace=0.5)
        assert (await asyncio.to_thread(request, server)).text() == "hello"
        with pytest.raises(RuntimeError, match="would block the loop"):
            server.wait()
        server.stop()
        await asyncio.wait_for(server.wait_closed(), SOON)

    asyncio.run(main())


def test_a_loop_that_ends_takes_it_along(scripts: Scripts) -> None:
    script = scripts.run("""
        async def main():
            serve(handler, port=0, workers=2)
        asyncio.run(main())
    """)
    assert script.end(TIMEOUT) == 0
    assert script.err == ""


def test_a_loop_that_ends_waits_for_what_is_being_answered(
    scripts: Scripts, tmp_path: Path, executor: ThreadPoolExecutor
) -> None:
    """In a container, the end of the first process is the end of all."""
    script = scripts.run("""
        async def slow():
            say(os.getpid())
            await asyncio.sleep(1)
            return "slow"
        async def main():
            serve(lambda req: slow(), port=0, workers=2)
            while not os.path.exists("over"):
                await asyncio.sleep(0.01)
        asyncio.run(main())
    """)
    answer = executor.submit(request, script.url, timeout=TIMEOUT)
    script.wait_until(lambda: script.out.endswith("\n"))
    (tmp_path / "over").touch()
    assert script.process.wait(TIMEOUT) == 0
    assert not any(map(is_there, map(int, script.out.split())))
    assert answer.result().text() == "slow"


def test_a_script_that_fails_stops_it(scripts: Scripts) -> None:
    script = scripts.run("serve(handler, port=0, workers=2)\nraise KeyError('mine')")
    assert script.end(TIMEOUT) == 1
    assert script.err.endswith("KeyError: 'mine'")


# --- deaths --------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [False, True])
def test_a_worker_that_dies_is_replaced(scripts: Scripts, block: bool) -> None:
    script = run(scripts, f"serve(answers, port=0, workers=2, block={block})")
    first, second = sorted(pids(script.url, 2))
    os.kill(first, SIGKILL)
    found = wait_for_line(script, r"bunpy: worker \d \(pid (\d+)\) died of SIGKILL, replaced\n")
    assert found[1] == str(first)
    others = pids(script.url, 2)
    assert second in others
    assert first not in others


def test_nobody_is_refused_meanwhile(executor: ThreadPoolExecutor) -> None:
    """Who connects waits for the new one: 0.1 s at the most, and what it takes to start."""
    with serving(answer, workers=2) as server:
        for pid in pids(server, 2):
            os.kill(pid, SIGKILL)
        watch = Stopwatch()
        asked = [executor.submit(request, server, path="/pid", timeout=TIMEOUT) for _ in range(32)]
        answers = {one.result(TIMEOUT).text() for one in asked}
        assert watch.seconds < SOON
        assert answers <= {str(pid) for pid in pids(server, 2)}
        assert server.stats().restarts == 2


def test_an_exit_status_is_in_the_log_and_the_next_try_takes_longer(scripts: Scripts) -> None:
    script = run(scripts, "serve(answers, port=0, workers=2, max_requests=None)")
    assert script.url
    for _ in range(6):  # one of two slots has at least three of them
        with contextlib.suppress(Exception):
            request(script.url, path="/exit", timeout=TIMEOUT)
        assert request(script.url, timeout=TIMEOUT).text() == "hello"
    until(lambda: len(re.findall("exited", script.said)) == 6, SOON)
    assert re.search(r"worker \d \(pid \d+\) exited with status 3, replaced\n", script.said)
    assert re.search(
        r"worker \d \(pid \d+\) exited with status 3, replaced in 0.1 s\n", script.said
    )


def test_a_worker_that_somebody_ends_is_replaced_first(scripts: Scripts) -> None:
    script = run(scripts, "serve(answers, port=0, workers=2)")
    assert script.url
    with EventClient(script.url, "/events", timeout=TIMEOUT) as client:
        client.read(1)
        first, second = pids(script.url, 2)
        os.kill(first, SIGTERM)
        os.kill(second, SIGTERM)
        assert client.read_all() == []
        assert client.ended_cleanly
    assert pids(script.url, 2).isdisjoint({first, second})
    until(lambda: script.said.count("was told to end, another takes its place") == 2)
    assert "died" not in script.said
    assert "exited" not in script.said


# --- rolls ---------------------------------------------------------------------------------------


def test_a_roll_replaces_all_and_no_request_fails(executor: ThreadPoolExecutor) -> None:
    with serving(answer, workers=2) as server:
        assert isinstance(server, Fleet)
        before = pids(server, 2)
        is_over = threading.Event()

        def ask() -> int:
            asked = 0
            while not is_over.is_set():
                assert request(server, timeout=TIMEOUT).text() == "hello"
                asked += 1
            return asked

        asking = [executor.submit(ask) for _ in range(4)]
        try:
            server.roll()
        finally:
            is_over.set()
        assert all(one.result(TIMEOUT) for one in asking)
        assert pids(server, 2).isdisjoint(before)
        stats = server.stats()
        assert (stats.workers, stats.restarts) == (2, 0)


def test_streams_of_old_workers_end_and_their_clients_come_back() -> None:
    with serving(answer, workers=2, grace=5.0) as server, EventClient(server, "/events") as client:
        assert isinstance(server, Fleet)
        (first,) = client.read(1)
        server.roll()
        assert client.read_all() == []
        assert client.ended_cleanly
        assert client.retry is not None
        with EventClient(server, "/events") as again:
            assert again.read(1)[0].data != first.data


def test_hangups_in_a_row_are_rolls(scripts: Scripts) -> None:
    for block in (False, True):
        script = run(scripts, f"serve(answers, port=0, workers=2, block={block})")
        before = pids(script.url, 2)
        for _ in range(3):
            script.process.send_signal(SIGHUP)
        wait_for_line(script, r"all 2 workers are replaced\n")
        assert pids(script.url, 2).isdisjoint(before)
        script.send(SIGTERM)
        assert script.end(SOON) == 0
        assert "Traceback" not in script.said


def test_a_roll_loads_new_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    module = tmp_path / "rolled_app.py"
    module.write_text("def handler(req): return 'old'\n")
    with serving("rolled_app:handler", workers=2) as server:  # type: ignore[arg-type]
        assert isinstance(server, Fleet)
        assert request(server).text() == "old"
        module.write_text("def handler(req): return 'new'\n")
        server.roll()
        assert {request(server).text() for _ in range(8)} == {"new"}
        module.write_text("raise RuntimeError('oh no')\n")
        with pytest.raises(RuntimeError, match=r"are not replaced: .*oh no"):
            server.roll()
        assert {request(server).text() for _ in range(8)} == {"new"}
        assert "rolled_app" not in __import__("sys").modules


def test_reload() -> None:
    with serving(answer, workers=2) as server:
        assert request(server).text() == "hello"
        server.reload(another)
        assert {request(server).text() for _ in range(8)} == {"another"}
        with pytest.raises(ConfigError, match=r"cannot find the handler .*<lambda> by a name"):
            server.reload(lambda req: "third")
        with pytest.raises(TypeError, match="a handler is a function of a request, not 7"):
            server.reload(7)  # type: ignore[arg-type]
        with pytest.raises(RuntimeError, match=r"are not replaced: .*no_such_module"):
            server.reload("no_such_module:handler")
        assert {request(server).text() for _ in range(8)} == {"another"}
    with pytest.raises(RuntimeError, match="has stopped"):
        server.reload(another)


# --- recycling -----------------------------------------------------------------------------------


def test_max_requests() -> None:
    """Alone as well, there is a supervisor then."""
    with serving(answer, workers=1, max_requests=20, heartbeat=0.1) as server:
        assert server.workers == 1
        first = pid_of(server)
        watch = Stopwatch()
        asked = 1
        while pid_of(server) == first:
            asked += 1
            assert watch.seconds < TIMEOUT
        assert asked >= 18
        assert server.stats().restarts == 0


def test_max_lifetime() -> None:
    with serving(answer, workers=2, max_lifetime=0.5) as server:
        before = pids(server, 2)
        until(lambda: pid_of(server) not in before, TIMEOUT)


# --- numbers -------------------------------------------------------------------------------------


def test_stats_are_sums_and_never_go_back() -> None:
    with serving(answer, workers=2) as server:
        assert isinstance(server, Fleet)
        for _ in range(20):
            request(server)
        until(lambda: server.stats().responses["2xx"] == 20)
        with EventClient(server, "/events") as client:
            client.read(1)
            until(lambda: server.stats().streams == 1)
            server.roll()
            client.read_all()
        until(lambda: server.stats().ends["shutdown"] == 1, SOON)
        until(lambda: server.stats().streams == 0, SOON)
        stats = server.stats()
        assert stats.responses["2xx"] == 21
        assert stats.streams_total == 1
        found = pids(server, 2)
        until(lambda: server.stats().responses["2xx"] > 21)
        before = server.stats().responses["2xx"]
        for pid in found:
            os.kill(pid, SIGKILL)
        until(lambda: server.stats().restarts == 2 and server.stats().workers == 2, SOON)
        assert server.stats().responses["2xx"] >= before


# --- where it listens ----------------------------------------------------------------------------


def test_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "bunpy.sock"
    with serving(answer, hostname=f"unix:{path}", workers=2) as server:
        assert server.url == f"unix:{path}"
        pids(server, 2)
        with pytest.raises(OSError, match="is taken"):
            serve(answer, hostname=f"unix:{path}", workers=2, quiet=True)
    assert not path.exists()


def test_an_inherited_socket() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        fd = os.dup(listener.fileno())
        with serving(answer, hostname=f"fd:{fd}", workers=2) as server:
            assert request(server.url).text() == "hello"


def test_beside_other_servers() -> None:
    """What it was forked from keeps nothing open for it: a client is told of its connection's end, a port is free."""
    with serving(answer) as local, EventClient(local, "/events") as client:
        client.read(1)
        with serving(answer, workers=2) as server, serving(answer, workers=2) as other:
            local.stop(grace=1.0)
            assert client.read_all() == []
            serve(answer, local.port, quiet=True).stop()
            server.stop()
            serve(answer, server.port, quiet=True, workers=2).stop()
            assert request(other).text() == "hello"


# --- without fork --------------------------------------------------------------------------------


@pytest.fixture
def without_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    defaults = Fleet.__init__.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "spawns", True)
    monkeypatch.setattr(start, "fork", None)


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module that can be imported from anywhere."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "spawned_app.py").write_text(
        "import os\n"
        "def handler(req):\n"
        "    return str(os.getpid()) if req.path == '/pid' else 'hello'\n"
    )
    return "spawned_app"


def test_new_processes_do_the_same(without_fork: None, module: str) -> None:
    with serving(f"{module}:handler", workers=2) as server:  # type: ignore[arg-type]
        assert isinstance(server, Fleet)
        first, second = pids(server, 2)
        os.kill(first, SIGKILL)
        until(lambda: server.stats().restarts == 1 and server.stats().workers == 2, TIMEOUT)
        others = pids(server, 2)
        assert first not in others
        server.roll()
        assert pids(server, 2).isdisjoint(others)
        # What the one had counted last that was killed is lost; what the others did is not.
        until(lambda: server.stats().responses["2xx"] >= 4)
    assert not is_there(second)


def test_a_handler_is_found_by_its_name(without_fork: None, module: str) -> None:
    handler = __import__(module).handler
    with serving(handler, workers=2) as server:
        assert os.getpid() not in pids(server, 2)


def test_what_cannot_be_told_to_a_new_process(without_fork: None) -> None:
    with pytest.raises(ConfigError, match=r"cannot find the handler .*<lambda> by a name"):
        serve(lambda req: "hello", 0, workers=2, quiet=True)
    with pytest.raises(ConfigError, match="the options cannot be told to other processes"):
        serve("app:handler", 0, workers=2, quiet=True, on_request=lambda req: None)


def test_a_new_process_that_cannot_import(without_fork: None) -> None:
    with pytest.raises(ImportFailed, match="no_such_module"):
        serve("no_such_module:handler", 0, workers=2, quiet=True)


# --- as a container runs it ----------------------------------------------------------------------


UNSHARE = ["unshare", "--fork", "--pid", "--mount-proc", "--kill-child"]


@pytest.mark.parametrize("block", [False, True])
def test_process_1(scripts: Scripts, program: Callable[[str], str], block: bool) -> None:
    """It drains, and reaps what it inherits."""
    import subprocess

    program("unshare")
    if subprocess.run(
        [*UNSHARE, "true"], capture_output=True, timeout=TIMEOUT, check=False
    ).returncode:
        pytest.skip(
            "there is no permission to make a PID namespace, and none that CI could install"
        )
    path = scripts.write(f"""
import subprocess
def answers(req):
    if req.path == "/orphan":
        run = subprocess.run(["sh", "-c", "sleep 0 & echo $!"], capture_output=True, text=True)
        return run.stdout.strip()
    return handler(req)
serve(answers, port=0, workers=2, block={block})
""")
    import sys

    command = [*UNSHARE, sys.executable, str(path)]
    script = scripts.command("-c", f"import os; os.execvp('unshare', {command!r})")
    outer = script.process.pid
    assert script.url
    (inner,) = Path(f"/proc/{outer}/task/{outer}/children").read_text().split()
    orphan = request(script.url, path="/orphan", timeout=TIMEOUT).text()
    stat = stat_inside(int(inner), orphan)
    until(lambda: not stat.exists(), SOON)
    with EventClient(script.url, "/events", timeout=TIMEOUT) as client:
        client.read(1)
        os.kill(int(inner), SIGTERM)
        assert client.read_all() == []
    assert script.end(SOON) == 0
    assert script.err == ""


# --- what the service manager hears --------------------------------------------------------------


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(TIMEOUT)
        yield manager


def heard(manager: socket.socket, word: str) -> list[str]:
    """What the manager has heard until it hears this."""
    words: list[str] = []
    while not words or words[-1] != word:
        words.append(manager.recv(4096).decode().splitlines()[0])
    return words


@pytest.mark.parametrize("block", [False, True])
def test_the_service_manager_hears_of_its_life(
    scripts: Scripts, tmp_path: Path, manager: socket.socket, block: bool
) -> None:
    environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "200000"}
    script = run(scripts, f"serve(answers, port=0, workers=2, block={block})", **environment)
    assert set(heard(manager, "READY=1")[:-1]) <= {"WATCHDOG=1"}
    assert request(script.url, timeout=TIMEOUT).text() == "hello"
    for _ in range(3):
        heard(manager, "WATCHDOG=1")
    script.process.send_signal(SIGHUP)
    heard(manager, "RELOADING=1")
    heard(manager, "READY=1")
    with EventClient(script.url, "/events", timeout=TIMEOUT) as client:
        client.read(1)
        script.send(SIGTERM)
        heard(manager, "STOPPING=1")
        client.read_all()
    assert script.end(SOON) == 0


def test_the_service_manager_is_not_told_too_early(
    scripts: Scripts, tmp_path: Path, manager: socket.socket
) -> None:
    """A hangup that comes while the workers start is refused, and makes none of them ready."""
    (tmp_path / "slow_app.py").write_text(
        "import pathlib, time\npathlib.Path('begun').touch()\n"
        "while not pathlib.Path('go').exists(): time.sleep(0.01)\n"
        "def handler(req): return 'slow'\n"
    )
    environment = {"NOTIFY_SOCKET": str(tmp_path / "notify")}
    call = "serve('slow_app:handler', port=0, workers=2, block=True)"
    script = run(scripts, call, **environment)
    until((tmp_path / "begun").exists, 30.0)
    script.process.send_signal(SIGHUP)
    wait_for_line(script, "the workers are not replaced: the server is starting or stopping")
    (tmp_path / "go").touch()
    assert manager.recv(4096).startswith(b"READY=1\nSTATUS=2 workers serve")
    script.send(SIGTERM)
    assert heard(manager, "STOPPING=1") == ["STOPPING=1"]
    assert script.end(SOON) == 0
