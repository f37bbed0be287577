"""Clients that take their time, on purpose or not: what they cost the others."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from typing import Final

from bench.endurance.check import Check, at_least, at_most
from bench.endurance.clients import Crowd, fetch, state
from bench.errors import BenchError
from bench.load.cores import client_core
from bench.load.process import ServerProcess

__all__ = ["slowloris", "stalled"]

_STALLED: Final = 500
_INTERVAL: Final = 0.05
#: Seconds: what is on time.
_ON_TIME: Final = 0.05


def stalled(server: ServerProcess) -> Iterator[Check]:
    """500 readers that stop reading, one that goes on."""
    before = server.resident_size()
    with Crowd(server.port) as crowd, Crowd(server.port) as good:
        crowd.join(_STALLED, "/endless", buffer=4096, reads=False)
        good.join(1, f"/ticks?value={_INTERVAL}")
        size = before
        due = on_time = 0
        gone_after = float("inf")
        began = time.monotonic()
        while time.monotonic() - began < 40:
            for _, data in good.read(1.0):
                now = time.monotonic()
                for line in data.split(b"\n"):
                    if line.startswith(b"data: "):
                        due += 1
                        on_time += now - float(line[6:]) < _ON_TIME
            size = max(size, server.resident_size())
            if state(server.port)["generators"] == 1:
                gone_after = time.monotonic() - began
                break
        expected = min(time.monotonic() - began, gone_after) / _INTERVAL
        yield at_least("events on time for the one that reads, of all", on_time / due, 0.95)
        yield at_least("  and of those that there should have been", due / expected, 0.9)
        yield at_most("  seconds until the 500 are gone", gone_after, 32.0)
        yield at_least("  of them ended as slow", state(server.port)["ends"].get("slow", 0), 500)
        yield at_most("  KiB of memory for each", (size - before) / 1024 / _STALLED, 160.0)


def slowloris(server: ServerProcess) -> Iterator[Check]:
    """slowhttptest on head, body and read, with a plain GET every now and then."""
    program = shutil.which("slowhttptest")
    if program is None:
        raise BenchError("slowhttptest is not installed (Debian's package of that name)")
    url = f"http://127.0.0.1:{server.port}"
    kinds = {
        "head": ["-H", "-u", f"{url}/", "-i", "1"],
        "body": ["-B", "-u", f"{url}/", "-i", "1", "-s", "8192"],
        "read": ["-X", "-u", f"{url}/endless", "-w", "10", "-y", "20", "-n", "1", "-z", "32"],
    }
    for kind, options in kinds.items():
        attack = subprocess.Popen(
            [
                "taskset",
                "-c",
                str(client_core()),
                program,
                *options,
                "-c",
                "1000",
                "-r",
                "500",
                "-l",
                "20",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        slowest = 0.0
        try:
            while attack.poll() is None:
                slowest = max(slowest, fetch(server.port)[0])
                time.sleep(0.02)  # so that it is not these requests that keep the server busy
        finally:
            attack.kill()
            attack.wait()
        yield at_most(
            f"ms of the slowest GET while 1,000 are slow with the {kind}", slowest * 1000, 100
        )
