"""What the benchmarks are held to: one core for the server, loopback, events of 64 bytes of data."""

from __future__ import annotations

from typing import Final

__all__ = ["TARGETS"]

#: Benchmark to the value that it must reach, or for a time or a size must not exceed. The others have no target.
TARGETS: Final = {
    "load/one[cython]": 5_000_000.0,
    "load/one[python]": 1_000_000.0,
    "load/burst[cython]": 2_500_000.0,
    "load/hello[cython]": 60_000.0,
    "load/ticks[cython]": 15.0,
    "load/idle[cython]": 6.0,
}
