"""Forks, and what they take along; the names of handlers. Spawned workers: tests/test_fleet.py."""

from __future__ import annotations

import asyncio
import atexit
import os
import random
import signal
import sys
from collections.abc import Callable

import pytest

from bunpy.errors import ConfigError
from bunpy.serve import Request
from bunpy.workers import start
from bunpy.workers.link import Link
from bunpy.workers.process import WorkerProcess, how_it_ended
from bunpy.workers.start import check_spawn, fork, name_of, status_of


def at_top(req: Request) -> str:
    return "hello"


class Site:
    def method(self, req: Request) -> str:
        return "hello"

    @staticmethod
    def static(req: Request) -> str:
        return "hello"


def ends(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_fork_ends_with_the_status_of_its_function() -> None:
    assert ends(fork(lambda: 7)) == 7


def test_a_fork_whose_function_raises(capfd: pytest.CaptureFixture[str]) -> None:
    def fails() -> int:
        raise KeyError("mine")

    assert ends(fork(fails)) == 1
    assert "KeyError: 'mine'" in capfd.readouterr().err


def test_a_fork_has_nothing_of_its_parents_signals_loop_or_exit() -> None:
    def looks() -> int:
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
        assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == set()
        assert signal.set_wakeup_fd(-1) == -1
        assert atexit._ncallbacks() == 0
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()
        return 0

    async def main() -> int:
        before = signal.signal(signal.SIGTERM, lambda number, frame: None)
        try:
            return ends(fork(looks))
        finally:
            signal.signal(signal.SIGTERM, before)

    atexit.register(looks)
    try:
        assert asyncio.run(main()) == 0
    finally:
        atexit.unregister(looks)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == set()


def test_a_fork_has_random_numbers_of_its_own() -> None:
    reader, writer = os.pipe()

    def tells() -> int:
        os.write(writer, f"{random.random()}\n".encode())
        return 0

    random.seed(1)
    for _ in range(2):
        assert ends(fork(tells)) == 0
    os.close(writer)
    with os.fdopen(reader) as lines:
        assert len({*lines.read().splitlines(), str(random.Random(1).random())}) == 3


def test_a_status_is_asked_for_without_waiting() -> None:
    reader, writer = os.pipe()

    def waits() -> int:
        os.close(writer)
        os.read(reader, 1)
        return 3

    pid = fork(waits)
    os.close(reader)
    assert status_of(pid) is None
    os.close(writer)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert status_of(pid) == 3
    assert status_of(pid) == 0  # nobody can know any more


@pytest.mark.parametrize(
    ("handler", "name"),
    [
        ("app:handler", "app:handler"),
        (at_top, f"{__name__}:at_top"),
        (Site.static, f"{__name__}:Site.static"),
    ],
)
def test_names(
    handler: Callable[[Request], object] | str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # pytest's importlib mode need not leave a test's module where others find it.
    monkeypatch.setitem(sys.modules, __name__, sys.modules.get(__name__) or _this_module())
    assert name_of(handler) == name


def _this_module() -> object:
    import types

    module = types.ModuleType(__name__)
    module.__dict__.update(globals())
    return module


@pytest.mark.parametrize("handler", [lambda req: "hello", Site().method])
def test_what_has_no_name(handler: Callable[[Request], object]) -> None:
    with pytest.raises(ConfigError, match='give its name, as "app:handler"'):
        name_of(handler)


def test_a_function_of_the_main_script_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(at_top, "__module__", "__main__")
    with pytest.raises(ConfigError, match="the handler at_top by a name: make it a function at"):
        name_of(at_top)


def test_options_that_cannot_be_told() -> None:
    check_spawn("app:handler", {"workers": 2, "trusted_proxies": ["10.0.0.0/8"]})
    with pytest.raises(ConfigError, match=r"cannot be told to other processes .*lambda"):
        check_spawn("app:handler", {"on_request": lambda req: None})


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (0, "exited with status 0"),
        (3, "exited with status 3"),
        (-signal.SIGKILL, "died of SIGKILL"),
        (-signal.SIGSEGV, "died of SIGSEGV"),
        (-250, "died of signal 250"),
    ],
)
def test_how_it_ended(status: int, words: str) -> None:
    assert how_it_ended(status) == words


@pytest.mark.parametrize("has_pidfd", [False, True])
def test_a_process_is_asked_once_it_has_ended_and_killed_while_it_has_not(
    has_pidfd: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not has_pidfd:
        monkeypatch.delattr(os, "pidfd_open")
    reader, writer = os.pipe()

    def waits() -> int:
        os.close(writer)
        os.read(reader, 1)
        return 0

    pid = fork(waits)
    here, there = Link.pair()
    process = WorkerProcess(pid, here, lambda: status_of(pid), 2, 1)
    assert repr(process) == f"worker 2 (pid {pid})"
    assert (process.end is not None) is has_pidfd
    assert process.poll() is None
    process.leave("stop", 1.0, "spread", 2.0)
    assert there.receive() == [{"about": "stop", "grace": 1.0, "streams": "spread"}]
    due = process.kill_at
    process.leave("stop", 60.0, "spread", 2.0)
    assert process.kill_at == due  # a longer grace has no effect
    process.kill()
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert process.poll() == process.poll() == -signal.SIGKILL
    process.kill()  # it is not there any more
    process.close()
    process.close()
    there.close()
    os.close(reader)
    os.close(writer)
    assert start.CAN_FORK
