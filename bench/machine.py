"""Which machine this is, in what can be published, and what runs on it. No host name."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import bunpy

__all__ = ["Machine", "slug", "this_machine", "versions"]

_CPU_KEYS = ("model name", "cpu family", "model", "stepping")


@dataclass(frozen=True)
class Machine:
    """What a result can only be compared on: the processor, its cores, and the interpreter's feature release."""

    cpu: str
    cores: int
    python: str

    @property
    def id(self) -> str:
        """The name of its file of results: readable, and exact by a hash at its end."""
        exact = hashlib.sha256(f"{self.cpu}|{self.cores}|{self.python}".encode()).hexdigest()[:8]
        return slug(f"{self.cpu.partition(' (')[0]}-{self.cores}-cores-{self.python}-{exact}")


def slug(text: str) -> str:
    """Lower-case letters, digits, dots and single dashes: what any file system takes."""
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-")


def this_machine() -> Machine:
    """The machine that this is."""
    python = f"{platform.python_implementation()} {sys.version_info[0]}.{sys.version_info[1]}"
    return Machine(_cpu(), os.cpu_count() or 1, python)


def versions() -> dict[str, str]:
    """The versions of everything that the numbers depend on; "none" for what is not installed."""
    found = {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "kernel": f"{platform.system()} {platform.release()}",
        "bunpy": bunpy.__version__,
        "wrk": _wrk(),
    }
    packages = ("uvloop", "httptools", "cython", "pytest-benchmark")
    return found | {name: _package(name) for name in packages}


def _package(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "none"


def _cpu() -> str:
    try:
        first = Path("/proc/cpuinfo").read_text().partition("\n\n")[0]
    except OSError:
        return platform.processor() or platform.machine()
    fields = dict(re.findall(r"^([^\t\n:]+?)\s*: *(.*)$", first, re.MULTILINE))
    name, *numbers = (fields.get(key, "") for key in _CPU_KEYS)
    # Hypervisors shorten the model's name: its numbers tell generations apart.
    return f"{name or platform.machine()} ({'/'.join(numbers)})"


def _wrk() -> str:
    path = shutil.which("wrk")
    if path is None:
        return "none"
    # wrk has no option that exits with 0: its usage begins with its version.
    shown = subprocess.run([path, "-v"], capture_output=True, text=True, timeout=10, check=False)
    found = re.match(r"wrk (\S+)", shown.stdout + shown.stderr)
    return found[1] if found else "unknown"
