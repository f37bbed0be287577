"""The benchmarks' own workings: what is judged a loss, what is stored, that each of them runs. No speed is asserted."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from bench.__main__ import main
from bench.campaign import measure, retry_lost, select
from bench.errors import BenchError
from bench.judge import Verdict, judge_all, loss
from bench.load import wrk
from bench.load.client import LAST_CHUNK, Load
from bench.load.kind import LoadKind
from bench.load.process import ServerProcess
from bench.load.scenarios import SCENARIOS
from bench.machine import Machine, slug, this_machine, versions
from bench.micro.kind import name_of, node_of
from bench.results import Results
from bench.series import Better, Reading, Series
from bench.table import comparison_table, number, results_table
from bench.targets import TARGETS
from bunpy._speedups import IMPLEMENTATION

ROOT = Path(__file__).parent.parent


def series(
    *values: float, floors: Sequence[float] = (), better: Better = "higher", unit: str = "events/s"
) -> Series:
    return Series(unit, better, list(values), list(floors) or [100.0] * len(values))


# The numbers of a series


def test_a_series_is_read_by_its_middle() -> None:
    rounds = series(90, 100, 130, floors=[10, 10, 20])
    assert rounds.median == 100
    assert rounds.spread == pytest.approx(0.4)
    assert rounds.floor == 10
    assert rounds.ratio == 9  # of 9, 10 and 6.5: each round by its own floor
    assert series(1, 2, floors=[0, 5]).ratio is None


def test_a_series_takes_readings() -> None:
    rounds = Series("events/s", "higher")
    rounds.add(Reading("events/s", "higher", 5.0, 10.0, {"client": 0.25}))
    rounds.add(Reading("events/s", "higher", 7.0, 10.0, {"client": 0.75}))
    assert rounds.values == [5.0, 7.0]
    assert rounds.share("client") == 0.5
    assert rounds.share("server") is None


# The judgement


@pytest.mark.parametrize(
    ("better", "stored", "new", "expected"),
    [
        ("higher", 100, 80, 0.2),
        ("higher", 100, 120, -0.2),
        ("lower", 100, 120, 0.2),
        ("lower", 100, 80, -0.2),
        ("lower", 0, 5, 0.0),
    ],
)
def test_loss(better: Better, stored: float, new: float, expected: float) -> None:
    assert loss(better, stored, new) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("better", "value", "floor", "is_lost"),
    [
        ("higher", 100, 100, False),
        ("higher", 86, 100, False),  # within the limit
        ("higher", 84, 100, True),
        ("higher", 50, 50, False),  # the machine is slower, not bunpy
        ("higher", 50, 90, True),  # both are, bunpy more so
        ("higher", 100, 200, False),  # only the floor moved
        ("higher", 200, 100, False),
        ("lower", 100, 100, False),
        ("lower", 114, 100, False),
        ("lower", 116, 100, True),
        ("lower", 200, 200, False),
        ("lower", 200, 110, True),
        ("lower", 100, 50, False),
        ("lower", 50, 100, False),
    ],
)
def test_lost_is_what_lost_by_itself_and_by_the_floor(
    better: Better, value: float, floor: float, is_lost: bool
) -> None:
    stored = series(100, 100, 100, better=better)
    new = series(value, value, value, floors=[floor, floor, floor], better=better)
    assert Verdict("load/one[cython]", stored, new).is_lost is is_lost


def test_one_bad_round_is_no_loss() -> None:
    assert not Verdict("x", series(100, 100, 100), series(100, 20, 100)).is_lost


def test_without_a_floor_the_value_alone_counts() -> None:
    stored, new = series(100, floors=[0.0]), series(50, floors=[0.0])
    assert Verdict("x", stored, new).floor_loss is None
    assert Verdict("x", stored, new).is_lost


def test_verdicts_in_a_word() -> None:
    stored = {"kept": series(100), "slower": series(100), "gone": series(100)}
    new = {"kept": series(99), "slower": series(50), "added": series(1)}
    words = {v.name: v.word for v in judge_all(["kept", "slower", "gone", "added"], stored, new)}
    assert words == {"kept": "ok", "slower": "LOST", "gone": "MISSING", "added": "new"}


# The campaign


class FakeKind:
    """A kind whose benchmarks give what they are told, round by round; the last goes on for ever."""

    def __init__(self, values: dict[str, list[float]]) -> None:
        self.values = values
        self.measured: list[str] = []

    def names(self) -> list[str]:
        return list(self.values)

    def measure(self, names: Sequence[str]) -> Iterator[tuple[str, Reading]]:
        for name in names:
            values = self.values[name]
            self.measured.append(name)
            value = values.pop(0) if len(values) > 1 else values[0]
            yield name, Reading("events/s", "higher", value, 100.0)


def test_select_by_part_of_the_name() -> None:
    names = ["load/one[cython]", "load/one[python]", "micro/pump/dicts[cython]"]
    assert select(names, []) == names
    assert select(names, ["one[c", "pump"]) == [names[0], names[2]]
    assert select(names, ["two"]) == []


def test_rounds_are_interleaved() -> None:
    kind, said = FakeKind({"a": [1, 2], "b": [3, 4], "c": [9]}), list[str]()
    found = measure([kind], ["a", "b"], 2, said.append)
    assert kind.measured == ["a", "b", "a", "b"]
    assert {name: rounds.values for name, rounds in found.items()} == {"a": [1, 2], "b": [3, 4]}
    assert said[-1] == "round 2 of 2: b 4 events/s"


def test_what_seems_lost_is_measured_again() -> None:
    stored = {"a": series(100), "b": series(100), "c": series(100)}
    found = {"a": series(100), "b": series(50), "c": series(50)}
    again = retry_lost(stored, found, lambda lost: {"b": series(99), "c": series(51)})
    assert again == ["b", "c"]
    assert [verdict.is_lost for verdict in judge_all("abc", stored, found)] == [False, False, True]


def test_what_is_not_lost_is_not_measured_again() -> None:
    stored, found = {"a": series(100)}, {"a": series(100), "new": series(1)}
    assert retry_lost(stored, found, lambda lost: pytest.fail(f"measured {lost}")) == []


# What is stored

MACHINE = Machine("Chip 9 (1/2/3)", 4, "CPython 3.11")


def test_a_machine_has_a_name_that_tells_nobody_whose_it_is() -> None:
    assert MACHINE.id.startswith("chip-9-4-cores-cpython-3.11-")
    assert MACHINE.id != Machine("Chip 9 (1/2/4)", 4, "CPython 3.11").id
    assert this_machine().id == slug(this_machine().id)
    assert socket.gethostname() not in this_machine().id.split("-")
    assert {"python", "uvloop", "httptools", "cython", "bunpy", "kernel"} <= set(versions())


def test_results_are_kept(tmp_path: Path) -> None:
    assert Results.load(tmp_path, MACHINE) is None
    results = Results(MACHINE)
    results.take("monday", {"rounds": 2}, {"a": series(1, 2), "b": series(3.14159265)})
    path = results.save(tmp_path)
    assert path.name == f"{MACHINE.id}.json"
    stored = Results.load(tmp_path, MACHINE)
    assert stored is not None
    assert stored.benchmarks["a"] == results.benchmarks["a"]
    assert stored.benchmarks["b"].values == [3.14159]
    assert stored.runs == {"monday": {"rounds": 2}}
    assert json.loads(path.read_text(encoding="utf-8"))["benchmarks"]["a"]["median"] == 1.5


def test_a_part_replaces_a_part() -> None:
    results = Results(MACHINE)
    results.take("monday", {"rounds": 2}, {"a": series(1), "b": series(2)})
    results.take("tuesday", {"rounds": 5}, {"b": series(3)})
    assert results.benchmarks["a"].run == "monday"
    assert results.benchmarks["b"].run == "tuesday"
    assert list(results.runs) == ["monday", "tuesday"]
    results.take("wednesday", {"rounds": 1}, {"a": series(4)})
    assert list(results.runs) == ["tuesday", "wednesday"]


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"benchmarks": {"a": {"speed": 1}}, "runs": {}}']
)
def test_a_file_that_is_no_result_is_refused(tmp_path: Path, text: str) -> None:
    Results.path(tmp_path, MACHINE).write_text(text)
    with pytest.raises(BenchError, match="remove it and measure again"):
        Results.load(tmp_path, MACHINE)


# What is shown


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (5_123_456, "5,120,000"),
        (1234, "1,230"),
        (999.94, "999.9"),
        (14.249, "14.2"),
        (0.1728, "0.173"),
    ],
)
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert number(value) == text


def test_results_stand_beside_their_targets() -> None:
    idle = series(7.0, better="lower", unit="KiB/stream")
    table = results_table(
        {"load/one[cython]": series(6e6), "load/idle[cython]": idle, "micro/x": series(1)}
    )
    _, one, other, micro = table.splitlines()
    assert one.endswith(">= 5,000,000  met")
    assert other.endswith("<= 6  MISSED")
    assert micro.endswith("-")


def test_every_target_is_some_benchmark_s() -> None:
    names = {f"load/{name}[{twin}]" for name in SCENARIOS for twin in ("cython", "python")}
    assert set(TARGETS) <= names


def test_a_comparison_shows_losses_with_a_minus() -> None:
    table = comparison_table([Verdict("a", series(100), series(50)), Verdict("b", series(1), None)])
    _, lost, missing = table.splitlines()
    assert lost.split() == ["a", "100.0", "50", "events/s", "-50%", "-50%", "0%", "LOST"]
    assert missing.split() == ["b", "1", "-", "events/s", "-", "-", "-", "MISSING"]


# The program


def run(tmp_path: Path, values: dict[str, list[float]], *arguments: str) -> int:
    return main([*arguments, "--results", str(tmp_path)], {"load": FakeKind(values)})


def test_the_program_stores_and_compares(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = {"load/a": [100.0], "load/b": [100.0]}
    assert run(tmp_path, values) == 0
    assert run(tmp_path, values, "--compare") == 0
    before = Results.path(tmp_path, this_machine()).read_text()
    capsys.readouterr()
    assert run(tmp_path, {"load/a": [100.0], "load/b": [80.0]}, "--compare") == 1
    shown = capsys.readouterr().out
    assert "load/b lost over 15%" in shown
    assert "load/a lost" not in shown
    assert Results.path(tmp_path, this_machine()).read_text() == before  # comparing stores nothing


def test_the_program_forgives_a_loss_that_a_retry_does_not_show(tmp_path: Path) -> None:
    assert run(tmp_path, {"load/a": [100.0]}) == 0
    assert run(tmp_path, {"load/a": [50.0, 100.0]}, "--compare", "--rounds", "1") == 0
    assert run(tmp_path, {"load/a": [50.0, 50.0, 100.0]}, "--compare", "--rounds", "1") == 1


def test_the_program_misses_what_was_measured_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, {"load/a": [1.0], "load/b": [1.0]}) == 0
    assert run(tmp_path, {"load/a": [1.0]}, "--compare") == 1
    assert "load/b is stored but could not be measured" in capsys.readouterr().out
    assert run(tmp_path, {"load/a": [1.0]}, "--compare", "-k", "load/a") == 0
    assert run(tmp_path, {"load/a": [1.0]}) == 0  # the whole is measured anew: b is no more
    assert run(tmp_path, {"load/a": [1.0]}, "--compare") == 0


def test_the_program_keeps_what_a_part_does_not_measure(tmp_path: Path) -> None:
    assert run(tmp_path, {"load/a": [1.0], "load/b": [1.0]}) == 0
    assert run(tmp_path, {"load/a": [2.0], "load/b": [2.0]}, "-k", "load/a") == 0
    stored = Results.load(tmp_path, this_machine())
    assert stored is not None
    assert {name: rounds.median for name, rounds in stored.benchmarks.items()} == {
        "load/a": 2.0,
        "load/b": 1.0,
    }


def test_with_nothing_stored_there_is_nothing_to_compare(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kind = FakeKind({"load/a": [1.0]})
    assert main(["--compare", "--results", str(tmp_path)], {"load": kind}) == 0
    assert "make bench" in capsys.readouterr().out
    assert kind.measured == []


def test_the_program_says_what_it_does_not_know(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, {"load/a": [1.0]}, "-k", "zzz") == 2
    assert "no benchmark's name contains 'zzz'" in capsys.readouterr().err


# The load

HEAD = b"HTTP/1.1 200 OK\r\n\r\n"


@contextmanager
def scripted(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """The port of a server that takes one connection and does ``answer`` with it."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                answer(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            thread.join(10)


def test_the_client_asks_again_whatever_pieces_an_answer_ends_in() -> None:
    asked: list[bytes] = []

    def answer(connection: socket.socket) -> None:
        for pieces in (
            [HEAD + b"!!" + LAST_CHUNK],
            [HEAD + b"!!0\r", b"\n\r", b"\n"],
            [HEAD, b"!!", b"0", b"\r\n\r\n"],
        ):
            asked.append(connection.recv(1000))
            for piece in pieces:
                connection.sendall(piece)
        asked.append(connection.recv(1000))
        connection.sendall(b"!")
        connection.recv(1000)  # until the client goes; it resets

    def answer_quietly(connection: socket.socket) -> None:
        with pytest.raises(ConnectionResetError):
            answer(connection)

    with scripted(answer_quietly) as port, Load(port, 1, LAST_CHUNK) as load:
        assert load.run(0, events=7).events == 7
    assert len(asked) == 4
    assert len(set(asked)) == 1


def test_a_window_lasts_until_there_is_an_event_to_count() -> None:
    def answer(connection: socket.socket) -> None:
        connection.recv(1000)
        connection.sendall(HEAD)
        connection.sendall(b"!")

    with scripted(answer) as port, Load(port, 1) as load:
        assert load.run(0).events == 1


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"HTTP/1.1 500 Internal Server Error\r\n\r\n", "500 Internal Server Error"),
        (HEAD + b"!", "closed a connection"),
    ],
)
def test_the_client_does_not_count_failures(answer: bytes, message: str) -> None:
    def serve(connection: socket.socket) -> None:
        connection.recv(1000)
        connection.sendall(answer)

    with scripted(serve) as port, Load(port, 1) as load, pytest.raises(BenchError, match=message):
        load.run(5)


REPORT = """Running 2s test @ http://127.0.0.1:3000/
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.23ms  200.00us   9.99ms   90.00%
  104000 requests in 2.08s, 15.00MB read
Requests/sec:  50000.00
"""


def test_wrk_s_report() -> None:
    assert wrk.parse(REPORT) == (104000, 2.08)


@pytest.mark.parametrize(
    "line", ["Non-2xx or 3xx responses: 7", "Socket errors: connect 0, read 3, write 0, timeout 0"]
)
def test_wrk_s_report_of_errors(line: str) -> None:
    with pytest.raises(BenchError, match=line):
        wrk.parse(f"{REPORT}  {line}\n")
    with pytest.raises(BenchError):
        wrk.parse("")
    with pytest.raises(BenchError):
        wrk.parse(REPORT.replace("104000", "0"))


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_each_load_runs(scenario: str) -> None:
    kind = LoadKind(size=0.02)
    names = [name for name in kind.names() if name == f"load/{scenario}[{IMPLEMENTATION}]"]
    readings = dict(kind.measure(names))
    assert list(readings) == names
    for reading in readings.values():
        assert reading.unit == SCENARIOS[scenario].unit
        assert reading.value >= 0


def test_a_server_ends_with_its_measurement() -> None:
    with ServerProcess("hello", "floor") as server:
        socket.create_connection(("127.0.0.1", server.port), timeout=5).close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port), timeout=5)


def test_a_server_that_runs_as_another_is_refused() -> None:
    with pytest.raises(BenchError, match="runs as"):
        ServerProcess("hello", "rust")


# The pieces


def test_names_and_nodes() -> None:
    node = "bench/micro/test_pump.py::test_dicts[python]"
    assert name_of(node) == "micro/pump/dicts[python]"
    assert node_of(name_of(node)) == node


def test_each_piece_runs() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "--benchmark-disable", "bench/micro"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr
