"""The stored results: one JSON file a machine, every round of every benchmark in it. Making them is the campaign's."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.errors import BenchError
from bench.machine import Machine
from bench.series import Series

__all__ = ["FOLDER", "Results"]

#: Where results are kept, under version control.
FOLDER = Path(__file__).parent / "results"


@dataclass
class Results:
    """One machine's results. ``runs`` tells when the benchmarks' rounds were measured, and with what."""

    machine: Machine
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    benchmarks: dict[str, Series] = field(default_factory=dict)

    @staticmethod
    def path(folder: Path, machine: Machine) -> Path:
        """The file that holds ``machine``'s results."""
        return folder / f"{machine.id}.json"

    @classmethod
    def load(cls, folder: Path, machine: Machine) -> Results | None:
        """What is stored for ``machine``, None if nothing is; ``BenchError`` for a file that is not such a result."""
        path = cls.path(folder, machine)
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except ValueError as exc:
            raise BenchError(f"{path} is no JSON ({exc}): remove it and measure again") from exc
        try:
            benchmarks = {}
            for name, fields in stored["benchmarks"].items():
                fields.pop("median", None)
                benchmarks[name] = Series(**fields)
            return cls(machine, stored["runs"], benchmarks)
        except (KeyError, TypeError, AttributeError) as exc:
            raise BenchError(
                f"{path} is not a result of these benchmarks ({exc!r}): remove it and measure again"
            ) from exc

    def take(self, date: str, run: dict[str, Any], benchmarks: dict[str, Series]) -> None:
        """Put newly measured benchmarks in the place of their old rounds; runs that nothing is left of go."""
        for series in benchmarks.values():
            series.run = date
        self.benchmarks.update(benchmarks)
        self.runs[date] = run
        used = {series.run for series in self.benchmarks.values()}
        self.runs = {date: run for date, run in self.runs.items() if date in used}

    def save(self, folder: Path) -> Path:
        """Write the file; gives its path."""
        path = self.path(folder, self.machine)
        document = {
            "machine": {"id": self.machine.id, **asdict(self.machine)},
            "runs": self.runs,
            "benchmarks": {
                name: {"median": series.median, **asdict(series)}
                for name, series in sorted(self.benchmarks.items())
            },
        }
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(_dump(document) + "\n", encoding="utf-8")
        return path


def _dump(document: dict[str, Any]) -> str:
    """Indented JSON, six significant digits, a list of rounds on one line: what a diff of results is read by."""
    rounded = json.loads(json.dumps(document), parse_float=lambda text: float(f"{float(text):.6g}"))
    return _indent(rounded, "")


def _indent(value: Any, margin: str) -> str:
    if not isinstance(value, dict) or not value:
        return json.dumps(value, ensure_ascii=False)
    inner = margin + "  "
    lines = [f"{inner}{json.dumps(key)}: {_indent(item, inner)}" for key, item in value.items()]
    return "{\n" + ",\n".join(lines) + f"\n{margin}}}"
