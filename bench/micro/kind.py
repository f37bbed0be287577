"""The micro benchmarks as a kind of the campaign: one pytest session a round, read from pytest-benchmark's JSON."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.errors import BenchError
from bench.series import Reading

__all__ = ["MicroKind", "name_of", "node_of"]

_ROOT = Path(__file__).parents[2]
_FLOOR = "micro/floor/interpreter"
#: Seconds for each benchmark in a round, and for a session as a whole.
_TIME = 0.1
_TIMEOUT = 600


def name_of(node: str) -> str:
    """A pytest node ID as a benchmark's name, as ``bench/micro/test_pump.py::test_dicts`` as ``micro/pump/dicts``."""
    return re.sub(r"^bench/micro/test_(\w+)\.py::test_", r"micro/\1/", node)


def node_of(name: str) -> str:
    """A benchmark's name as a pytest node ID."""
    return re.sub(r"^micro/(\w+)/", r"bench/micro/test_\1.py::test_", name)


class MicroKind:
    """The benchmarks of ``bench/micro``."""

    def __init__(self) -> None:
        self._names: list[str] = []

    def names(self) -> list[str]:
        """All but the floor, as pytest collects them."""
        if not self._names:
            listed = _pytest("--collect-only", "-q", "bench/micro")
            nodes = [line for line in listed.splitlines() if line.startswith("bench/micro/")]
            self._names = [name_of(node) for node in nodes if name_of(node) != _FLOOR]
        return self._names

    def measure(self, names: Sequence[str]) -> Iterator[tuple[str, Reading]]:
        """One session, the floor in it."""
        nodes = [node_of(name) for name in (*names, _FLOOR)]
        with TemporaryDirectory() as folder:
            path = Path(folder) / "session.json"
            _pytest(
                "-q",
                f"--benchmark-max-time={_TIME}",
                f"--benchmark-json={path}",
                *nodes,
            )
            session = json.loads(path.read_text())
        times = {}
        for entry in session["benchmarks"]:
            info = entry["extra_info"]
            name = name_of(entry["fullname"])
            times[name] = (entry["stats"]["median"] * 1e9 / info["count"], f"ns/{info['of']}")
        floor, _ = times.pop(_FLOOR)
        for name in names:
            value, unit = times[name]
            yield name, Reading(unit, "lower", value, floor)


def _pytest(*arguments: str) -> str:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    ended = subprocess.run(
        command, cwd=_ROOT, capture_output=True, text=True, timeout=_TIMEOUT, check=False
    )
    if ended.returncode:
        raise BenchError(f"{' '.join(command[1:])} failed:\n{ended.stdout}{ended.stderr}")
    return ended.stdout
