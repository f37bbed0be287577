"""The one error of the benchmarks: a measurement that cannot be had."""

from __future__ import annotations

__all__ = ["BenchError"]


class BenchError(Exception):
    """A measurement failed; its message says which, and why."""
