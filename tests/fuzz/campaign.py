"""Inputs by the million: made, tried, counted, and kept when they find something. What they are is the target's.

The input under way is always in a file, so that it is there also when the process dies of it.
"""

from __future__ import annotations

import argparse
import ctypes
import faulthandler
import gc
import os
import random
import sys
import time
import zlib
from collections.abc import Awaitable, Hashable, Sequence
from pathlib import Path
from typing import Final, Protocol

from .corpus import Corpus
from .finding import Finding

__all__ = ["Campaign", "Target", "say"]

#: Findings of different kinds after which it is enough.
_FINDINGS_LIMIT: Final = 20
#: Seconds without an end of an input, after which the process says where it is and dies.
_HANG: Final = 120.0
_STDERR: Final = 2  # the descriptor, whatever sys.stderr is
#: Seconds of processor time that no input may take.
_SLOW: Final = 5.0
#: By how much memory may grow from a tenth of the inputs on; with fewer inputs nothing is settled.
_GROWTH: Final = 0.05
_SETTLED: Final = 200_000


class Target(Protocol):
    """What is fuzzed."""

    seeds: Sequence[bytes]

    def mutate(self, rng: random.Random, corpus: Sequence[bytes]) -> bytes:
        """A new input."""

    def check(self, data: bytes) -> Awaitable[Hashable]:
        """Try an input: gives its outcome in short, ``Finding`` if that must not be."""

    def empty(self) -> None:
        """Let go of what is kept from one input to the next."""

    def close(self) -> None:
        """Let go of everything."""


def say(text: str) -> None:
    """Tell whoever watches, at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def memory() -> int:
    """Bytes in use: of the heap where a sanitiser counts them, otherwise resident; 0 where there is no /proc.

    A sanitiser's allocator spreads what it has over ever more pages: a million events took 20 % more of them with all
    bytes given back, and none without the sanitiser.
    """
    gc.collect()
    library = ctypes.CDLL(None)
    allocated = getattr(library, "__sanitizer_get_current_allocated_bytes", None)
    if allocated is not None:
        allocated.restype = ctypes.c_size_t
        return int(allocated())
    trim = getattr(library, "malloc_trim", None)  # glibc's
    if trim is not None:
        trim(0)
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def descriptors() -> int:
    """How many are open; 0 where there is no /proc."""
    try:
        return len(os.listdir("/proc/self/fd"))
    except OSError:
        return 0


class Campaign:
    """One run over one target."""

    def __init__(self, name: str, target: Target, options: argparse.Namespace) -> None:
        self._name = name
        self._target = target
        self._count: int = options.count
        self._folder: Path = options.folder
        self._rng = random.Random(options.seed)
        self._corpus = Corpus(target.seeds, self._rng)
        self._kinds: set[str] = set()
        self._done = 0
        self._began = time.monotonic()
        self._armed = 0.0
        self._first_memory = 0
        self._first_descriptors = 0
        self._folder.mkdir(parents=True, exist_ok=True)
        self._path = self._folder / f"{name}-{options.seed}.current"
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)

    @property
    def is_over(self) -> bool:
        return self._done >= self._count or len(self._kinds) >= _FINDINGS_LIMIT

    async def run(self) -> None:
        """Seeds first, then what is made of them."""
        for data in self._target.seeds:
            await self.one(data)
        while not self.is_over:
            await self.one(self._target.mutate(self._rng, self._corpus))

    async def one(self, data: bytes) -> None:
        os.pwrite(self._file, data, 0)
        os.ftruncate(self._file, len(data))
        began = time.process_time()
        if began > self._armed + 1:
            self._armed = began
            faulthandler.dump_traceback_later(_HANG, exit=True, file=_STDERR)
        try:
            outcome = await self._target.check(data)
        except Finding as exc:
            self._keep(exc.kind, str(exc), data)
        except Exception as exc:  # whatever comes out is found
            self._keep(f"{type(exc).__name__} at {_place(exc)}", repr(exc), data)
        else:
            self._corpus.learn(zlib.crc32(repr(outcome).encode()), data)
        if time.process_time() - began > _SLOW:
            self._keep("slow", f"over {_SLOW} s of processor time", data)
        self._done += 1
        if self._done % max(1, self._count // 20) == 0:
            self._progress()

    def _keep(self, kind: str, message: str, data: bytes) -> None:
        if kind in self._kinds:
            return
        self._kinds.add(kind)
        path = self._folder / f"{self._name}-finding-{len(self._kinds)}.bin"
        path.write_bytes(data)
        say(f"FOUND {message}\n  by the input in {path}: {data[:500]!r}")

    def _progress(self) -> None:
        self._target.empty()
        seconds = time.monotonic() - self._began
        if not self._first_memory and self._done * 10 >= self._count:
            self._first_memory, self._first_descriptors = memory(), descriptors()
        say(
            f"{self._name}: {self._done} of {self._count}, {self._done / seconds:.0f}/s,"
            f" {self._corpus.outcomes} outcomes, {memory() / 2**20:.1f} MiB, {descriptors()} descriptors,"
            f" {len(self._kinds)} findings"
        )

    def finish(self) -> int:
        """Look at what is left, say what was; the exit status."""
        faulthandler.cancel_dump_traceback_later()
        self._target.close()
        used, files = memory(), descriptors()
        if self._count >= _SETTLED:
            if used > self._first_memory * (1 + _GROWTH):
                self._keep("memory", f"memory grew from {self._first_memory} to {used} bytes", b"")
            if files > self._first_descriptors:
                self._keep("descriptors", f"from {self._first_descriptors} to {files}", b"")
        os.close(self._file)
        self._path.unlink()
        seconds = time.monotonic() - self._began
        say(
            f"{self._name}: {self._done} inputs in {seconds:.0f} s, {self._corpus.outcomes} outcomes; memory"
            f" {self._first_memory / 2**20:.1f} MiB after a tenth, {used / 2**20:.1f} MiB at the end;"
            f" descriptors {self._first_descriptors} and {files}; findings:"
            f" {', '.join(sorted(self._kinds)) or 'none'}"
        )
        return 1 if self._kinds else 0


def _place(exc: BaseException) -> str:
    traceback = exc.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    if traceback is None:
        return "nowhere"
    return f"{traceback.tb_frame.f_code.co_filename}:{traceback.tb_lineno}"
