"""A supervisor in this process, with real workers: what a whole server is seldom brought to do."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from watching import Log, until

from bunpy.http.service import Handler
from bunpy.serve import Request, SSEResponse
from bunpy.server.config import Config
from bunpy.server.sockets import bind
from bunpy.testing import EventClient, request
from bunpy.workers import nursery, start
from bunpy.workers import supervisor as supervisor_module
from bunpy.workers.board import Board
from bunpy.workers.link import Link
from bunpy.workers.nursery import Plan, rows_for
from bunpy.workers.sockets import share_out
from bunpy.workers.supervisor import Supervisor

SOON = 10.0


def hello(req: Request) -> str:
    return "hello"


def stream(req: Request) -> SSEResponse:
    """The process that answers, and then nothing."""

    async def events() -> AsyncIterator[str]:
        yield str(os.getpid())
        await asyncio.sleep(3600)

    return SSEResponse(events())


class Office:
    """A supervisor of ``workers`` at work in a thread, and what it reports."""

    def __init__(
        self,
        workers: int = 2,
        parent: int | None = None,
        handler: Handler | str = hello,
        **options: Any,
    ) -> None:
        config = Config.of({"workers": workers, "grace": 0.5, **options})
        listeners = bind("127.0.0.1", 0, 128)
        self.url = listeners.url("http")
        self.board = Board(rows_for(workers))
        shares = share_out(listeners, workers, 128)
        plan = Plan(handler, "127.0.0.1", config, listeners, shares, self.board, None)
        self.link, self._far = Link.pair()
        self.reports: list[tuple[str, dict[str, Any]]] = []
        self.supervisor = Supervisor(plan, self._far, self._report, parent)
        self._thread = threading.Thread(target=self.supervisor.run)
        self._thread.start()

    def _report(self, about: str, **more: Any) -> None:
        if about != "alive":
            self.reports.append((about, more))

    def wait_for(self, about: str) -> dict[str, Any]:
        until(lambda: any(about == one for one, _ in self.reports), SOON)
        return next(more for one, more in self.reports if one == about)

    def wait_for_end(self) -> None:
        self._thread.join(SOON)
        assert not self._thread.is_alive()

    def close(self) -> None:
        self.link.send("stop", grace=0.0, streams="close")
        self.wait_for_end()
        self.link.close()
        self._far.close()


@pytest.fixture
def open_office(log: Log) -> Iterator[Callable[..., Office]]:
    offices: list[Office] = []

    def open_office(*args: Any, **options: Any) -> Office:
        offices.append(Office(*args, **options))
        return offices[-1]

    yield open_office
    for office in offices:
        office.close()


def test_from_the_start_to_the_end(open_office: Callable[..., Office]) -> None:
    office = open_office()
    office.wait_for("ready")
    assert request(office.url).text() == "hello"
    assert office.board.stats().workers == 2
    office.link.send("stop", grace=1.0, streams="spread")
    office.wait_for_end()
    assert [about for about, _ in office.reports] == ["ready", "stopping"]
    assert office.board.stats().workers == 0
    with pytest.raises(ConnectionError):
        request(office.url)


def test_a_system_that_has_no_process_to_give(
    open_office: Callable[..., Office], monkeypatch: pytest.MonkeyPatch, log: Log
) -> None:
    """It is tried again; nothing stays open of what did not come about."""
    failures = [OSError(errno.EAGAIN, "Resource temporarily unavailable")] * 2
    fork = start.fork

    def scarce(child: Callable[[], int]) -> int:
        if failures:
            raise failures.pop()
        return fork(child)

    monkeypatch.setattr(start, "fork", scarce)
    office = open_office()
    office.wait_for("ready")
    assert log.messages == [
        "worker 1 could not be started: Resource temporarily unavailable",
        "worker 2 could not be started: Resource temporarily unavailable",
    ]
    log.records.clear()


@pytest.fixture
def late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A handler that is imported when there is a file ``go``, and not before."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "late_app.py").write_text(
        "import pathlib, time\nwhile not pathlib.Path('go').exists(): time.sleep(0.01)\n"
        "def handler(req): return 'late'\n"
    )
    return "late_app:handler"


def test_a_late_worker_is_in_the_log(
    open_office: Callable[..., Office],
    monkeypatch: pytest.MonkeyPatch,
    late: str,
    tmp_path: Path,
    log: Log,
) -> None:
    """Others wait for it: all of them at the start, the rest of a roll later."""
    monkeypatch.setattr(supervisor_module, "_LATE", 0.1)
    office = open_office(workers=1, handler=late)
    until(lambda: len(log.records) > 0, SOON)
    (tmp_path / "go").touch()
    office.wait_for("ready")
    assert request(office.url).text() == "late"
    assert re.fullmatch(
        r"worker 1 \(pid \d+\) does not accept yet, after 0.1 s: it still starts, or imports the handler",
        log.messages[0],
    )
    assert len(log.messages) == 1
    log.records.clear()


def test_more_that_are_told_to_end_than_it_has_room_for(
    open_office: Callable[..., Office], monkeypatch: pytest.MonkeyPatch, log: Log
) -> None:
    """Whoever does that again and again, while streams go on, waits for one of them to end."""
    monkeypatch.setattr(nursery, "_ROWS", 2)
    office = open_office(workers=1, grace=60.0, drain="finish", handler=stream)
    office.wait_for("ready")
    (slot,) = office.supervisor._slots
    with EventClient(office.url, timeout=SOON) as first:
        pid = int(first.read(1)[0].data)
        os.kill(pid, signal.SIGTERM)
        until(lambda: slot.current is not None and slot.current.pid != pid, SOON)
        until(lambda: office.board.stats().workers == 1, SOON)
        with EventClient(office.url, timeout=SOON) as second:
            os.kill(int(second.read(1)[0].data), signal.SIGTERM)
            line = "worker 1 could not be started: 2 that were told to end have not ended yet"
            until(lambda: line in log.messages, SOON)
    until(lambda: office.board.stats().workers == 1, SOON)
    log.records.clear()


def test_a_worker_that_waits_for_room_keeps_nobody_busy(
    open_office: Callable[..., Office], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nursery, "_ROWS", 1)
    office = open_office(workers=1, max_lifetime=0.01)
    (slot,) = office.supervisor._slots
    until(lambda: slot.renewal is not None, SOON)
    assert office.supervisor._timeout() > 0.1
    assert request(office.url).text() == "hello"


def test_the_end_of_the_parent_is_its_own(open_office: Callable[..., Office]) -> None:
    """Its parent's number is that of another, when that has ended, whoever holds the link."""
    office = open_office(parent=os.getppid() + 1)
    office.wait_for("stopping")
    office.wait_for_end()


def test_nobody_at_the_other_end(open_office: Callable[..., Office]) -> None:
    office = open_office()
    office.wait_for("ready")
    office.link.close()
    office.wait_for("stopping")
    office.wait_for_end()


def test_a_signal_is_heeded_at_the_next_look(open_office: Callable[..., Office]) -> None:
    office = open_office()
    office.wait_for("ready")
    office.supervisor.terminate(15, None)
    office.wait_for("stopping")
    office.wait_for_end()


def test_a_roll_before_all_are_ready_is_refused(
    open_office: Callable[..., Office], late: str
) -> None:
    office = open_office(workers=1, handler=late)
    office.link.send("roll", ticket=7)
    assert office.wait_for("rolled") == {
        "tickets": [7],
        "error": "the server is starting or stopping",
    }


def test_a_hangup_that_is_refused_is_in_the_log(
    open_office: Callable[..., Office], late: str, log: Log
) -> None:
    office = open_office(workers=1, handler=late)
    office.link.send("roll", ticket=0)
    office.wait_for("rolled")
    assert log.messages == ["the workers are not replaced: the server is starting or stopping"]
    log.records.clear()


def test_a_roll_that_the_end_overtakes(
    open_office: Callable[..., Office], late: str, tmp_path: Path, log: Log
) -> None:
    (tmp_path / "go").touch()
    office = open_office(handler=late)
    office.wait_for("ready")
    (tmp_path / "go").unlink()  # no successor is ready before the end
    office.link.send("roll", ticket=7)
    office.wait_for("rolling")
    office.link.send("stop", grace=1.0, streams="spread")
    assert office.wait_for("rolled") == {"tickets": [7], "error": "the server stops"}
    office.wait_for_end()
    log.records.clear()
