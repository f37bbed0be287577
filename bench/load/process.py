"""A server's process as its parent sees it: started, looked at, ended. What it serves is ``server``'s."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from bench.errors import BenchError
from bench.load.cores import server_core

__all__ = ["HAS_PROC", "ServerProcess"]

#: Whether a process's time and memory can be read here.
HAS_PROC = Path("/proc/self/stat").exists()

_ROOT = Path(__file__).parents[2]
_START_TIME = 20.0
_END_TIME = 5.0


class ServerProcess:
    """Serves ``scenario`` on the server's core from here to the end of the ``with``.

    ``variant`` is "cython" or "python", bunpy's implementations, or "floor"; ``module`` the program that serves, and
    ``before`` the command that starts it, if one does; ``workers`` processes answer, on all cores if they are several.
    ``BenchError`` if it does not start, or starts as another.
    """

    def __init__(
        self,
        scenario: str,
        variant: str,
        module: str = "bench.load.server",
        before: Sequence[str] = (),
        workers: int = 1,
    ) -> None:
        what = "floor" if variant == "floor" else "bunpy"
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 -- closed with the process
        self._process = subprocess.Popen(
            [
                *(*before, sys.executable, "-m", module, scenario, what, str(server_core())),
                *([str(workers)] if workers > 1 else []),
            ],
            cwd=_ROOT,
            env={**os.environ, "BUNPY_PURE": "1" if variant == "python" else ""},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        self.pid = self._process.pid
        try:
            self.port = self._read_port(variant)
        except BaseException:
            self._end()
            raise

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end()

    def cpu_time(self) -> float:
        """Seconds of processor time that it has used, in the kernel and out of it, with all processes that it has
        started; 0.0 where that cannot be read.
        """
        if not HAS_PROC:
            return 0.0
        ticks = 0
        for pid in _family(self.pid):
            stat = Path(f"/proc/{pid}/stat").read_text()
            fields = stat.rpartition(")")[2].split()  # the name before it may hold anything
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def resident_size(self) -> int:
        """Bytes of memory that it holds, with all processes that it has started; what they share counts for each."""
        pages = 0
        for pid in _family(self.pid):
            pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def leaves(self) -> list[int]:
        """The processes that it, or one that it has started, has started, and that have started none: its workers."""
        family = _family(self.pid)
        return [pid for pid in family if len(_family(pid)) == 1]

    def descriptors(self) -> int:
        """How many descriptors it has open."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def wait(self, timeout: float) -> int:
        """Its exit status; ``BenchError`` if it has not ended in ``timeout`` seconds."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired as exc:
            raise BenchError(f"the server has not ended in {timeout:g} s") from exc

    def errors(self) -> str:
        """What it has written to standard error."""
        self._errors.seek(0)
        return self._errors.read()

    def _read_port(self, variant: str) -> int:
        output = self._process.stdout
        assert output is not None
        is_ready, _, _ = select.select([output], [], [], _START_TIME)
        words = output.readline().split() if is_ready else []
        if not words:
            raise BenchError(
                f"the {variant} server did not start in {_START_TIME:g} s\n{self.errors()}"
            )
        if words[1] != variant:
            raise BenchError(f"the {variant} server runs as {words[1]}: is the extension built?")
        return int(words[0])

    def _end(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(_END_TIME)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._errors.close()


def _family(pid: int) -> list[int]:
    """A process, and all that it has started, and those that they have."""
    children: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        children += [int(word) for word in path.read_text().split()]
    return [pid, *(member for child in children for member in _family(child))]
