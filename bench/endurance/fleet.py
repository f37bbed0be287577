"""Several workers: very many streams over them, and workers that are killed or replaced under load."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Final

from bench.endurance.check import Check, at_least, at_most
from bench.endurance.clients import Crowd, fetch, until
from bench.endurance.followers import Followers
from bench.errors import BenchError
from bench.load.process import ServerProcess

__all__ = ["masses", "rolls"]

_STREAMS: Final = 30_000
_FOLLOWERS: Final = 1_000
_ROLLS: Final = 20


def masses(server: ServerProcess) -> Iterator[Check]:
    """30,000 idle streams over two workers, half of them held by another process: one has descriptors for 20,000."""
    half = _STREAMS // 2
    command = [
        sys.executable,
        "-m",
        "bench.endurance.clients",
        str(server.port),
        str(half),
        "/idle",
    ]
    began = time.perf_counter()
    with (
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as other,
        Crowd(server.port) as crowd,
    ):
        try:
            crowd.join(half, "/idle")
            crowd.wait_for_all(b"here")
            assert other.stdout is not None
            if other.stdout.readline() != "there\n":
                raise BenchError("the other process could not open its streams")
            yield at_most("seconds until 30,000 have had an event", time.perf_counter() - began, 20)
            until(lambda: _metric(server, "bunpy_open_streams") >= _STREAMS, 5)
            open_streams = _metric(server, "bunpy_open_streams")
            yield at_least("  streams that the two workers count together", open_streams, _STREAMS)
            slowest = max(fetch(server.port)[0] for _ in range(50))
            yield at_most("  ms of the slowest of 50 plain GETs", slowest * 1000, 100)
        finally:
            other.communicate()
    until(lambda: _metric(server, "bunpy_open_streams") == 0, 10)
    yield at_most("  streams left", _metric(server, "bunpy_open_streams"), 0)


def rolls(server: ServerProcess) -> Iterator[Check]:
    """1,000 clients that come back, and wrk: 20 rolls by SIGHUP, then a worker is killed."""
    with Followers(server.port, "/numbers", _FOLLOWERS) as followers:
        followers.run(1.0)
        load = _Wrk(server.port)
        for number in range(_ROLLS):
            server.signal(signal.SIGHUP)
            end = time.monotonic() + 30
            while server.errors().count("workers are replaced\n") <= number:
                followers.run(0.1)
                if time.monotonic() > end:
                    raise BenchError(f"roll {number + 1} has not ended in 30 s")
        requests, failed = load.stop()
        followers.run(1.0)
        yield at_least("requests answered meanwhile", requests, 1000)
        yield at_most("  of them failed in 20 rolls", failed, 0)
        yield at_least("  streams that were ended, and came back", followers.cuts, _FOLLOWERS)
        yield at_most("  of them not ended by the last chunk", followers.cuts - followers.clean, 0)
        yield at_most("  clients refused", followers.refused, 0)
        yield at_most("  events lost or doubled", followers.faults, 0)
        load = _Wrk(server.port)
        followers.run(1.0)
        os.kill(max(server.leaves()), signal.SIGKILL)
        followers.run(3.0)
        requests, failed = load.stop()
        share = 100 * failed / (requests + failed)
        yield at_most("per cent of requests that failed when a worker was killed", share, 1)
        yield at_least("  clients there again", followers.connected, _FOLLOWERS)
        yield at_most("  events lost or doubled", followers.faults, 0)


def _metric(server: ServerProcess, name: str) -> float:
    _, answer = fetch(server.port, "/metrics")
    found = re.search(rf"^{name} (\S+)$", answer.decode(), re.MULTILINE)
    if found is None:
        raise BenchError(f"there is no {name} among the metrics")
    return float(found[1])


class _Wrk:
    """Plain requests on 64 connections from now on; ``stop`` says how many were answered, and how many failed."""

    def __init__(self, port: int) -> None:
        command = ["wrk", "-t1", "-c64", "-d600s", f"http://127.0.0.1:{port}/"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self._said: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        self._said.append(self._process.stdout.read())

    def stop(self) -> tuple[int, int]:
        self._process.send_signal(signal.SIGINT)
        self._process.wait(30)
        self._reader.join()
        report = self._said[0]
        done = re.search(r"(\d+) requests in", report)
        if done is None:
            raise BenchError(f"wrk reports {report!r}")
        errors = re.search(r"Socket errors: (.*)", report)
        wrong = re.search(r"Non-2xx or 3xx responses: (\d+)", report)
        failed = sum(map(int, re.findall(r"\d+", errors[1]))) if errors else 0
        return int(done[1]), failed + (int(wrong[1]) if wrong else 0)
