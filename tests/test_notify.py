"""What a service manager is told, read from a datagram socket as systemd has one."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from script import Scripts
from watching import SOON, Log, until

from bunpy.server.notify import _SEND_TIME, Notify
from bunpy.testing import request

VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


class Manager:
    """The manager's end: ``address`` is what NOTIFY_SOCKET says."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self.socket.setblocking(False)

    def told(self) -> list[str]:
        """The lines of the next message, which is there already."""
        return self.socket.recv(4096).decode().split("\n")

    def is_told_nothing(self) -> bool:
        try:
            self.told()
        except BlockingIOError:
            return True
        return False


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    if request.param == "abstract" and sys.platform != "linux":
        pytest.skip("abstract names are Linux's")
    name = f"@bunpy-notify-{os.urandom(8).hex()}"
    manager = Manager(name if request.param == "abstract" else str(tmp_path / "notify"))
    with manager.socket:
        yield manager


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets these of the three variables, and no other of them."""

    def set_variables(**values: object) -> None:
        for variable in VARIABLES:
            monkeypatch.delenv(variable, raising=False)
        for variable, value in values.items():
            monkeypatch.setenv(variable, str(value))

    return set_variables


# Messages


@pytest.mark.parametrize(
    ("tell", "lines"),
    [
        (lambda notify: notify.ready(), ["READY=1"]),
        (lambda notify: notify.ready("serves"), ["READY=1", "STATUS=serves"]),
        (lambda notify: notify.stopping(), ["STOPPING=1"]),
        (lambda notify: notify.stopping("drains"), ["STOPPING=1", "STATUS=drains"]),
        (lambda notify: notify.status("5 streams"), ["STATUS=5 streams"]),
        (lambda notify: notify.status("two\nREADY=1\r\nlines"), ["STATUS=two READY=1 lines"]),
        (lambda notify: notify.status("é"), ["STATUS=é"]),
        (lambda notify: notify.main_pid(17), ["MAINPID=17"]),
    ],
)
def test_a_message(manager: Manager, tell: Callable[[Notify], None], lines: list[str]) -> None:
    tell(Notify(manager.address))
    assert manager.told() == lines
    assert manager.is_told_nothing()


def test_a_reload_says_when_it_began(manager: Manager) -> None:
    notify = Notify(manager.address)
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    notify.reloading("reads the certificate")
    after = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    reloading, moment, status = manager.told()
    assert (reloading, status) == ("RELOADING=1", "STATUS=reads the certificate")
    name, _, value = moment.partition("=")
    assert name == "MONOTONIC_USEC"
    assert before <= int(value) <= after
    notify.ready()
    assert manager.told() == ["READY=1"]


def test_a_fork_says_nothing(manager: Manager, monkeypatch: pytest.MonkeyPatch) -> None:
    notify = Notify(manager.address, 60)
    child = types.SimpleNamespace(getpid=lambda: os.getpid() + 1)
    monkeypatch.setattr("bunpy.server.notify.os", child)
    notify.ready()
    notify.watchdog()
    notify.stopping()
    assert manager.is_told_nothing()
    monkeypatch.undo()
    notify.stopping()
    assert manager.told() == ["STOPPING=1"]


# The watchdog


def test_pings_are_as_rare_as_may_be_and_no_rarer(
    manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    clock = types.SimpleNamespace(monotonic=lambda: now)
    monkeypatch.setattr("bunpy.server.notify.time", clock)
    notify = Notify(manager.address, 10)
    assert notify.watchdog_interval == 5
    sent = []
    for _ in range(200):
        notify.watchdog()
        if not manager.is_told_nothing():
            sent.append(now)
        now += 0.25
    gaps = {after - before for before, after in itertools.pairwise(sent)}
    assert sent[0] == 1000
    assert gaps == {2.5}


def test_who_calls_once_an_interval_loses_no_ping_to_a_clock_that_jitters(
    manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    clock = types.SimpleNamespace(monotonic=lambda: now)
    monkeypatch.setattr("bunpy.server.notify.time", clock)
    notify = Notify(manager.address, 10)
    for jitter in (0, 0.2, -0.2, 0.01, -0.01, 0.4):
        now += 5 + jitter
        notify.watchdog()
        assert manager.told() == ["WATCHDOG=1"]


def test_no_pings_where_none_are_wanted(manager: Manager) -> None:
    notify = Notify(manager.address)
    assert notify.watchdog_interval is None
    notify.watchdog()
    assert manager.is_told_nothing()


# The environment


def test_the_environment_is_left_as_it_is(
    manager: Manager, environment: Callable[..., None]
) -> None:
    values = {
        "NOTIFY_SOCKET": manager.address,
        "WATCHDOG_USEC": 30_000_000,
        "WATCHDOG_PID": os.getpid(),
    }
    environment(**values)
    notify = Notify.from_environment()
    assert notify.is_heard
    assert notify.watchdog_interval == 15
    assert {name: os.environ[name] for name in VARIABLES} == {
        name: str(value) for name, value in values.items()
    }
    notify.watchdog()
    assert manager.told() == ["WATCHDOG=1"]


def test_the_variables_are_removed_if_that_is_asked_for(
    manager: Manager, environment: Callable[..., None]
) -> None:
    environment(NOTIFY_SOCKET=manager.address, WATCHDOG_USEC=2_000_000, WATCHDOG_PID=os.getpid())
    notify = Notify.from_environment(remove=True)
    assert not os.environ.keys() & set(VARIABLES)
    assert notify.watchdog_interval == 1
    notify.ready()
    assert manager.told() == ["READY=1"]
    assert not Notify.from_environment().is_heard


@pytest.mark.parametrize(
    "values",
    [{}, {"NOTIFY_SOCKET": ""}, {"WATCHDOG_USEC": 30_000_000}],
    ids=["nothing", "empty", "no socket"],
)
def test_without_a_manager_nothing_happens(
    environment: Callable[..., None], values: dict[str, object], log: Log
) -> None:
    environment(**values)
    notify = Notify.from_environment()
    assert not notify.is_heard
    assert notify.watchdog_interval is None
    assert repr(notify) == "<Notify nobody>"
    notify.ready("serves")
    notify.reloading()
    notify.watchdog()
    notify.status("well")
    notify.main_pid(1)
    notify.stopping()


@pytest.mark.parametrize(
    ("values", "interval"),
    [
        ({"WATCHDOG_USEC": 500_000}, 0.25),
        ({"WATCHDOG_USEC": 500_000, "WATCHDOG_PID": os.getpid()}, 0.25),
        ({"WATCHDOG_USEC": 500_000, "WATCHDOG_PID": os.getpid() + 1}, None),
        ({"WATCHDOG_USEC": 500_000, "WATCHDOG_PID": ""}, None),
        ({"WATCHDOG_PID": os.getpid()}, None),
    ],
)
def test_the_watchdog_is_for_the_process_that_it_names(
    environment: Callable[..., None], values: dict[str, object], interval: float | None, log: Log
) -> None:
    environment(NOTIFY_SOCKET="@nobody", **values)
    assert Notify.from_environment().watchdog_interval == interval


@pytest.mark.parametrize("text", ["", "0", "-5", "5s", "٣", "9" * 5000, str(2**64 - 1), "1.5"])
def test_a_watchdog_that_makes_no_sense_is_logged_and_left_out(
    environment: Callable[..., None], text: str, log: Log
) -> None:
    environment(NOTIFY_SOCKET="@nobody", WATCHDOG_USEC=text)
    assert Notify.from_environment().watchdog_interval is None
    assert log.take().getMessage() == (
        f"WATCHDOG_USEC is {text!r}, and not a number of microseconds: it is ignored"
    )


@pytest.mark.parametrize("address", ["vsock:2:1234", "relative", "@", "/"])
def test_an_address_of_another_kind_is_logged_and_left_out(
    environment: Callable[..., None], address: str, log: Log
) -> None:
    environment(NOTIFY_SOCKET=address, WATCHDOG_USEC=1_000_000)
    notify = Notify.from_environment()
    assert not notify.is_heard
    assert notify.watchdog_interval is None
    notify.ready()
    assert log.take().getMessage() == (
        f"NOTIFY_SOCKET is {address!r}, and not a path or @name: nobody is told"
    )


# Failures


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("/nowhere/at/all", "No such file or directory"),
        ("@" + "x" * 200, "too long"),
    ],
)
def test_what_cannot_be_sent_is_logged_once(address: str, reason: str, log: Log) -> None:
    notify = Notify(address, 1)
    notify.ready("serves")
    message = log.take().getMessage()
    assert message.startswith(f"READY=1 could not be sent to NOTIFY_SOCKET {address}: ")
    assert reason in message
    notify.watchdog()
    notify.stopping()


def test_text_that_has_no_bytes_does_not_raise(manager: Manager, log: Log) -> None:
    notify = Notify(manager.address)
    notify.status("\ud800")
    assert "surrogates not allowed" in log.take().getMessage()
    notify.ready()
    assert manager.told() == ["READY=1"]


def test_a_manager_that_does_not_read_holds_nobody_up_for_long(manager: Manager, log: Log) -> None:
    notify = Notify(manager.address)
    start = time.monotonic()
    for number in range(100_000):
        notify.status(str(number))
        if log.records:
            break
    assert number > 0
    assert "timed out" in log.take().getMessage()
    assert time.monotonic() - start < _SEND_TIME + SOON
    # It reads again, and is told again.
    while not manager.is_told_nothing():
        pass
    notify.ready()
    assert manager.told() == ["READY=1"]


# A server


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Manager]:
    """As ``manager``, at a path."""
    manager = Manager(str(tmp_path / "notify"))
    with manager.socket:
        yield manager


def messages(manager: Manager) -> list[list[str]]:
    """All that has arrived."""
    found = []
    while True:
        try:
            found.append(manager.told())
        except BlockingIOError:
            return found


@pytest.mark.skipif(sys.platform == "win32", reason="there is no service manager of this kind")
@pytest.mark.parametrize("workers", [1, 2])
def test_a_server_tells_of_its_life(listener: Manager, scripts: Scripts, workers: int) -> None:
    script = scripts.run(
        f"serve(handler, port=0, workers={workers})",
        NOTIFY_SOCKET=listener.address,
        WATCHDOG_USEC="1000000",
    )
    heard: list[list[str]] = []

    def has_heard(line: str, times: int = 1) -> Callable[[], bool]:
        def look() -> bool:
            heard.extend(messages(listener))
            return sum(line in message for message in heard) >= times

        return look

    until(has_heard("READY=1"), 30)
    (ready,) = (message for message in heard if "READY=1" in message)
    assert ready[1].startswith("STATUS=")
    assert "http://127.0.0.1:" in ready[1]
    heard.clear()
    until(has_heard("WATCHDOG=1", 4), 30)
    assert {line for message in heard for line in message} == {"WATCHDOG=1"}
    script.process.send_signal(signal.SIGTERM)
    until(has_heard("STOPPING=1"), 30)
    assert script.end() == 0
    heard.extend(messages(listener))
    assert sum("STOPPING=1" in message for message in heard) == 1
    assert not any("READY=1" in message for message in heard)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no service manager of this kind")
def test_a_loop_that_stands_still_gives_no_sign_of_life(
    listener: Manager, scripts: Scripts
) -> None:
    script = scripts.run(
        """
        def handler(req):
            if req.path == "/block":
                say("blocks")
                time.sleep(1.5)
                say("goes on")
            return "hello"

        serve(handler, port=0, block_warning=None)
        """,
        NOTIFY_SOCKET=listener.address,
        WATCHDOG_USEC="400000",
    )

    def pings() -> int:
        return messages(listener).count(["WATCHDOG=1"])

    url = script.url
    until(lambda: pings() > 0)
    blocker = threading.Thread(target=request, args=(url, "GET", "/block"), kwargs={"timeout": 30})
    blocker.start()
    script.wait_for("blocks")
    messages(listener)
    script.wait_for("goes on")
    # The loop may have turned again by now; in 1.5 s there would have been seven at the least.
    assert pings() <= 2
    until(lambda: pings() > 0)
    blocker.join()
