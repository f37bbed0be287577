"""Results as text: aligned columns for a terminal. What the numbers mean is decided elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

from bench.judge import Verdict
from bench.series import Series
from bench.targets import TARGETS

__all__ = ["comparison_table", "number", "results_table"]

_NOTHING = "-"


def number(value: float) -> str:
    """Three significant digits or so, with the thousands marked: 5,120,000, 14.2, 0.173."""
    if abs(value) >= 1000:
        digits = len(f"{abs(value):.0f}")
        return f"{round(value, 3 - digits):,.0f}"
    return f"{value:.1f}" if abs(value) >= 100 else f"{value:.3g}"


def results_table(benchmarks: dict[str, Series]) -> str:
    """Every benchmark's median, spread, floor and target."""
    rows = [
        (
            "benchmark",
            "median",
            "unit",
            "spread",
            "floor",
            "of floor",
            "server",
            "client",
            "target",
            "",
        )
    ]
    for name, series in benchmarks.items():
        target = TARGETS.get(name)
        rows.append(
            (
                name,
                number(series.median),
                series.unit,
                _percent(series.spread),
                number(series.floor),
                _NOTHING if series.ratio is None else f"{series.ratio:.3g}x",
                _percent(series.share("server")),
                _percent(series.share("client")),
                _target(series, target),
                _met(series, target),
            )
        )
    return _aligned(rows, left={0, 2, 9})


def comparison_table(verdicts: Sequence[Verdict]) -> str:
    """Every benchmark beside its stored result; a minus is a loss."""
    rows = [("benchmark", "stored", "now", "unit", "change", "by floor", "spread", "")]
    for verdict in verdicts:
        series = verdict.new or verdict.stored
        rows.append(
            (
                verdict.name,
                _NOTHING if verdict.stored is None else number(verdict.stored.median),
                _NOTHING if verdict.new is None else number(verdict.new.median),
                "" if series is None else series.unit,
                _gain(verdict.loss),
                _gain(verdict.floor_loss),
                _NOTHING if verdict.new is None else _percent(verdict.new.spread),
                verdict.word,
            )
        )
    return _aligned(rows, left={0, 3, 7})


def _target(series: Series, target: float | None) -> str:
    if target is None:
        return _NOTHING
    return f"{'>=' if series.better == 'higher' else '<='} {number(target)}"


def _met(series: Series, target: float | None) -> str:
    if target is None:
        return ""
    is_met = series.median >= target if series.better == "higher" else series.median <= target
    return "met" if is_met else "MISSED"


def _percent(part: float | None) -> str:
    return _NOTHING if part is None else f"{part:.0%}"


def _gain(loss: float | None) -> str:
    return _NOTHING if loss is None else f"{-loss:+.0%}"


def _aligned(rows: Sequence[Sequence[str]], left: set[int]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
