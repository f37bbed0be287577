"""The order in which workers are replaced, with processes that are none. With real ones: tests/test_fleet.py."""

from __future__ import annotations

import logging
from typing import Any, cast

import pytest
from watching import Log

from bunpy.workers.nursery import Nursery, Slot
from bunpy.workers.process import WorkerProcess
from bunpy.workers.rolls import Rolls


@pytest.fixture(autouse=True)
def all_levels(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "bunpy")


class Stage:
    """Rolls of two slots; ``start`` hands out what stands for a process, as long as there are any."""

    def __init__(self) -> None:
        self.now = 0.0
        self.has_room = True
        self.is_exhausted = False
        self.processes: list[Any] = []
        self.reports: list[tuple[str, dict[str, Any]]] = []
        self.handlers: list[Any] = []
        self.slots = [Slot(1, []), Slot(2, [])]
        for slot in self.slots:
            slot.current = self.start(slot, "old")
        self.rolls = Rolls(
            self.slots,
            cast(Nursery, self),
            lambda about, **more: self.reports.append((about, more)),
        )

    def start(self, slot: Slot, handler: Any) -> WorkerProcess | None:
        if self.is_exhausted:
            return None
        self.handlers.append(handler)
        self.processes.append(object())
        return cast(WorkerProcess, self.processes[-1])

    def look(self, passed: float = 0.1) -> list[int]:
        """The slots that have a successor on the way, after a look."""
        self.now += passed
        self.rolls.look(self.now)
        return [slot.number for slot in self.slots if slot.successor is not None]

    def succeed(self, slot: Slot) -> Any:
        """The successor is ready; the old process."""
        old, slot.current, slot.successor = slot.current, slot.successor, None
        assert self.rolls.on_succeeded(old, self.now) == self.handlers[-1]
        return old


def test_one_after_the_other_each_when_the_last_has_gone(log: Log) -> None:
    stage = Stage()
    first, second = stage.slots
    assert stage.look() == []
    stage.rolls.ask("new", 1)
    assert stage.look() == [1]
    assert stage.look() == [1]
    assert stage.rolls.is_at(first)
    assert not stage.rolls.is_at(second)
    old = stage.succeed(first)
    assert stage.look() == []  # it has not gone
    stage.processes.remove(old)
    assert stage.look() == [2]
    stage.processes.remove(stage.succeed(second))
    assert stage.look() == []
    assert stage.handlers[2:] == ["new", "new"]
    assert stage.reports == [("rolling", {}), ("rolled", {"tickets": [1], "error": None})]
    assert log.messages == [
        "the 2 workers are replaced, one after the other",
        "all 2 workers are replaced",
    ]
    log.records.clear()


def test_one_that_takes_long_to_go_is_not_waited_for(log: Log) -> None:
    stage = Stage()
    stage.rolls.ask("new", 1)
    stage.look()
    stage.succeed(stage.slots[0])
    assert stage.look(4.9) == []
    assert stage.look(0.2) == [2]
    log.records.clear()


def test_those_that_are_asked_for_meanwhile_are_one(log: Log) -> None:
    stage = Stage()
    for ticket in (1, 2, 3):
        stage.rolls.ask(f"handler {ticket}", ticket)
    for _ in range(2):
        for slot in stage.slots:
            assert stage.look() == [slot.number]
            stage.processes.remove(stage.succeed(slot))
        stage.look()
    assert stage.look() == []
    assert stage.handlers[2:] == ["handler 1"] * 2 + ["handler 3"] * 2
    assert [more["tickets"] for about, more in stage.reports if about == "rolled"] == [[1], [3, 2]]
    log.records.clear()


def test_it_ends_where_there_is_no_successor(log: Log) -> None:
    stage = Stage()
    stage.rolls.ask("new", 1)
    stage.look()
    stage.slots[0].successor = None
    stage.rolls.fail("worker 1 (pid 7) exited with status 3", stage.now)
    assert stage.look() == []
    assert stage.reports[-1] == (
        "rolled",
        {"tickets": [1], "error": "worker 1 (pid 7) exited with status 3"},
    )
    assert log.messages[-1] == (
        "the workers are not replaced, and the old ones go on: worker 1 (pid 7) exited with status 3"
    )
    assert stage.slots[0].due is None
    log.records.clear()


@pytest.mark.parametrize("is_dead", [False, True])
def test_a_system_without_processes(log: Log, is_dead: bool) -> None:
    """A slot that has no worker gets one as soon as there is one to be had."""
    stage = Stage()
    if is_dead:
        stage.slots[0].current = None
        stage.slots[0].due = 60.0
    stage.is_exhausted = True
    stage.rolls.ask("new", 1)
    assert stage.look() == []
    assert stage.reports[-1][1]["error"] == "the system has no process to give"
    assert stage.slots[0].due == (stage.now if is_dead else None)
    log.records.clear()


def test_it_waits_for_room(log: Log) -> None:
    stage = Stage()
    stage.has_room = False
    stage.rolls.ask("new", 1)
    assert stage.look() == []
    stage.has_room = True
    assert stage.look() == [1]
    log.records.clear()


def test_the_end_of_the_server_is_the_end_of_all(log: Log) -> None:
    stage = Stage()
    stage.rolls.end("the server stops", is_last=True)
    assert stage.reports == []
    stage.rolls.ask("new", 1)
    stage.rolls.ask("new", 2)
    stage.look()
    stage.rolls.end("the server stops", is_last=True)
    assert [more for about, more in stage.reports if about == "rolled"] == [
        {"tickets": [1], "error": "the server stops"},
        {"tickets": [2], "error": "the server stops"},
    ]
    assert log.messages == ["the 2 workers are replaced, one after the other"]
    log.records.clear()
