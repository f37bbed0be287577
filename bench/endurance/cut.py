"""What is taken away: descriptors, and the link."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench.endurance.check import Check, at_least, at_most
from bench.endurance.clients import Crowd, state, until
from bench.errors import BenchError
from bench.load.process import ServerProcess

__all__ = ["ADDRESS", "descriptors", "link"]

#: Where the server is reached from the other end of the link, addresses for documentation (RFC 5737).
ADDRESS: Final = "198.51.100.1"
_THERE: Final = "198.51.100.2"
_NAMESPACE: Final = "bunpy-endurance"
_CLONE_NEWNET: Final = 0x40000000


def descriptors(server: ServerProcess) -> Iterator[Check]:
    """300 clients on a process that may have 128 descriptors."""
    with Crowd(server.port) as crowd:
        crowd.join(300, "/ticks?value=0.2")
        live: set[int] = set()
        for number, data in crowd.read(1.0):
            if b"data: " in data:
                live.add(number)
        used = server.cpu_time()
        events = 0
        for number, data in crowd.read(3.0):
            events += number in live and data.count(b"data: ")
        yield at_most(
            "seconds of CPU in 3 s with 300 clients on 128 descriptors",
            server.cpu_time() - used,
            0.1,
        )
        yield at_least("  streams that live", len(live), 64)
        yield at_least("  of the events that are due to them", events / (len(live) * 15), 0.9)
        crowd.leave(sorted(live)[:20])
        began = time.perf_counter()
        while time.perf_counter() - began < 5:
            number = crowd.join(1, "/ticks?value=0.2")[0]
            if any(who == number and b"data: " in data for who, data in crowd.read(0.1)):
                break
        yield at_most("  seconds until a new client is served", time.perf_counter() - began, 1.0)


def link(server: ServerProcess) -> Iterator[Check]:
    """A link that goes down without a word, under streams that send and streams that are silent."""
    with _linked(), Crowd(server.port, ADDRESS) as crowd:
        with _inside():
            crowd.join(100, "/ticks?value=0.1")
            crowd.join(100, "/idle")
        crowd.wait_for_all(b"data: ")
        yield at_least(
            "generators that run while the link is up", state(server.port)["generators"], 200
        )
        _ip("-n", _NAMESPACE, "link", "set", "bunpy1", "down")
        began = time.perf_counter()
        until(lambda: not state(server.port)["generators"], 60)
        yield at_most(
            "  seconds until all are closed when it is down", time.perf_counter() - began, 40.0
        )
        yield at_least(
            "  of them ended as half open", state(server.port)["ends"].get("half_open", 0), 200
        )


def _ip(*words: str) -> None:
    run = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if run.returncode:
        raise BenchError(f"ip {' '.join(words)}: {run.stderr.strip()} (it takes root)")


@contextmanager
def _linked() -> Iterator[None]:
    """A network namespace at the other end of a link."""
    if shutil.which("ip") is None:
        raise BenchError("ip is not installed (Debian's package iproute2)")
    _ip("netns", "add", _NAMESPACE)
    try:
        _ip("link", "add", "bunpy0", "type", "veth", "peer", "name", "bunpy1", "netns", _NAMESPACE)
        _ip("addr", "add", f"{ADDRESS}/30", "dev", "bunpy0")
        _ip("link", "set", "bunpy0", "up")
        _ip("-n", _NAMESPACE, "addr", "add", f"{_THERE}/30", "dev", "bunpy1")
        _ip("-n", _NAMESPACE, "link", "set", "bunpy1", "up")
        yield
    finally:
        subprocess.run(["ip", "netns", "del", _NAMESPACE], check=False)
        subprocess.run(["ip", "link", "del", "bunpy0"], capture_output=True, check=False)


@contextmanager
def _inside() -> Iterator[None]:
    """This thread's new sockets are in the namespace (setns(2))."""
    libc = ctypes.CDLL(None, use_errno=True)
    here = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    there = os.open(Path("/run/netns") / _NAMESPACE, os.O_RDONLY)
    try:
        if libc.setns(there, _CLONE_NEWNET):
            raise BenchError(f"setns: {os.strerror(ctypes.get_errno())}")
        yield
    finally:
        libc.setns(here, _CLONE_NEWNET)
        os.close(there)
        os.close(here)
