"""wrk, where it is installed: a client in C for plain requests."""

from __future__ import annotations

import re
import resource
import shutil
import subprocess

from bench.errors import BenchError
from bench.load.client import Window

__all__ = ["is_installed", "parse", "run"]


def is_installed() -> bool:
    """Whether wrk can be run."""
    return shutil.which("wrk") is not None


def run(port: int, connections: int, seconds: int) -> Window:
    """Ask as fast as the server answers, in one thread. Raises ``BenchError`` for answers that are not 2xx."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", f"http://127.0.0.1:{port}/"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    ended = subprocess.run(
        command, capture_output=True, text=True, timeout=seconds + 30, check=False
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if ended.returncode:
        raise BenchError(f"wrk failed: {ended.stdout}{ended.stderr}")
    requests, time = parse(ended.stdout)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Window(requests, time, used)


def parse(report: str) -> tuple[int, float]:
    """The requests that wrk's report counts, and the seconds that they took; ``BenchError`` if there are none.

    So it is if some went wrong.
    """
    wrong = re.search(r"^ *(Non-2xx or 3xx responses|Socket errors): .*", report, re.MULTILINE)
    found = re.search(r"^ *([1-9]\d*) requests in ([\d.]+)(ms|s|m)\b", report, re.MULTILINE)
    if wrong or not found:
        raise BenchError(f"wrk reports {wrong[0].strip() if wrong else report!r}")
    return int(found[1]), float(found[2]) * {"ms": 0.001, "s": 1.0, "m": 60.0}[found[3]]
