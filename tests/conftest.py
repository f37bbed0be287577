"""Fixtures of every test file: both implementations of the byte work, and programs that a test needs."""

from __future__ import annotations

import gc
import logging
import os
import shutil
import signal
import ssl
import types
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from certificates import Pair
from script import Scripts
from watching import Log

from bunpy._speedups import IMPLEMENTATION
from bunpy.server import tuning

#: In CI nothing may be missing: a skipped test is a defect there.
IS_CI = os.environ.get("CI", "") not in ("", "0", "false")
PURE = os.environ.get("BUNPY_PURE", "") not in ("", "0")
ROOT = Path(__file__).parent.parent

# A shell without job control starts what it puts in the background with SIGINT ignored, and so would be the programs
# that the tests start: many of them are about SIGINT.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def twins(name: str) -> types.SimpleNamespace:
    """The public names of one implementation's modules: "cython" or "python"."""
    suffix = {"cython": "c", "python": "py"}[name]
    names: dict[str, Any] = {"name": name}
    for module in ("encoder", "outlet", "pump"):
        namespace = vars(import_module(f"bunpy._speedups.{module}_{suffix}"))
        names.update({key: value for key, value in namespace.items() if not key.startswith("_")})
    return types.SimpleNamespace(**names)


@pytest.fixture(params=["python"] if PURE else ["cython", "python"])
def speedups(request: pytest.FixtureRequest) -> types.SimpleNamespace:
    """Each implementation in turn: ``encode``, the buffers, ``Outlet``, ``Pump`` and its ``name``."""
    name: str = request.param
    if name == "cython" and IMPLEMENTATION != "cython":
        missing("the compiled extension")
    return twins(name)


def missing(what: str) -> None:
    """Skip a test for want of something; in CI that fails."""
    message = f"{what} is not there"
    if IS_CI:
        pytest.fail(f"{message}: CI must install it", pytrace=False)
    pytest.skip(message)


@pytest.fixture(scope="session")
def program() -> Callable[[str], str]:
    """``program("chromium")``: the path of an installed program; skips the test where there is none, fails it in CI."""

    def find(name: str) -> str:
        path = shutil.which(name)
        if path is None:
            missing(f"the program {name}")
        return str(path)

    return find


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """A certificate and its key, in files that no test writes to."""
    return Pair.made_in(tmp_path_factory.mktemp("pair"))


@pytest.fixture(scope="session")
def context(pair: Pair) -> ssl.SSLContext:
    """What a server with that certificate shakes hands with."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pair.cert, pair.key)
    return context


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[Log]:
    """All that is logged; what a test does not take from it fails the test.

    But for the watchdog's warnings, which have a test of their own: a busy machine holds a loop for 0.1 s as well.
    """

    def is_of_the_server(record: logging.LogRecord) -> bool:
        return record.threadName != "bunpy-watchdog"

    log = Log(caplog)
    logging.getLogger("bunpy").addFilter(is_of_the_server)
    yield log
    logging.getLogger("bunpy").removeFilter(is_of_the_server)
    gc.collect()  # what was forgotten without being closed warns now, and warnings are errors
    assert log.messages == []


@pytest.fixture(scope="module")
def few_objects() -> Iterator[None]:
    """Let a full collection look at what came since only: 1 ms instead of 100."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def small_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the kernel hold little of what a server sends, so that backpressure is felt soon."""
    options = (*tuning._PEER_TUNING, ("SOL_SOCKET", "SO_SNDBUF", 16 * 1024))
    monkeypatch.setattr(tuning, "_PEER_TUNING", options)


@pytest.fixture
def errors() -> Iterator[list[str]]:
    """The errors that bunpy logs."""
    lines: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    collector = Collector(logging.WARNING)
    logging.getLogger("bunpy").addHandler(collector)
    yield lines
    logging.getLogger("bunpy").removeHandler(collector)


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    """For what a test waits for while it does something else."""
    with ThreadPoolExecutor(16) as executor:
        yield executor


@pytest.fixture
def scripts(tmp_path: Path) -> Iterator[Scripts]:
    """Programs in processes of their own, none of which outlives the test."""
    with Scripts(tmp_path) as scripts:
        yield scripts


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What was logged may have lone surrogates, which a report cannot take from one process to another."""
    report = yield
    report.sections = [
        (name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections
    ]
    return report
