"""The house: which module may import which. Read from the sources, so that an import in a function counts as well."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src"

#: The lowest first. A module imports only what stands in a row above its own; what shares its row is as far as if it
#: stood below. A new module has no place until it is given one here.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("bunpy", "bunpy.http", "bunpy.sse", "bunpy.server", "bunpy.workers"),
    ("bunpy.errors", "bunpy.shown"),
    # The byte work
    ("bunpy._speedups.fields",),
    ("bunpy._speedups.encoder_py", "bunpy._speedups.outlet_py", "bunpy._speedups.pump_py"),
    ("bunpy._speedups",),
    ("bunpy.logging",),
    # What is decided without a connection
    (
        "bunpy.sse.abandonment",
        "bunpy.sse.event",
        "bunpy.sse.reason",
        "bunpy.http.agenda",
        "bunpy.http.ending",
        "bunpy.http.limits",
        "bunpy.http.printable",
        "bunpy.http.request_id",
        "bunpy.http.stats",
        "bunpy.http.wire",
    ),
    (
        "bunpy.http.access_log",
        "bunpy.http.body",
        "bunpy.http.counters",
        "bunpy.http.field_name",
        "bunpy.http.flow",
        "bunpy.http.forwarded",
        "bunpy.http.hangup",
        "bunpy.http.host",
        "bunpy.http.metrics",
        "bunpy.http.observer",
        "bunpy.http.pressure",
        "bunpy.http.proxy_header",
        "bunpy.http.quota",
        "bunpy.http.request",
        "bunpy.http.request_line",
        "bunpy.http.target",
        "bunpy.http.response",
    ),
    (
        "bunpy.http.account",
        "bunpy.http.answer",
        "bunpy.http.cors_options",
        "bunpy.http.progress",
        "bunpy.http.known_heads",
        "bunpy.http.pages",
        "bunpy.sse.response",
    ),
    ("bunpy.http.cors", "bunpy.http.reader", "bunpy.server.option"),
    ("bunpy.server.config",),
    # One stream, one connection
    ("bunpy.sse.stream", "bunpy.sse.threaded"),
    ("bunpy.http.service",),
    ("bunpy.http.exchange", "bunpy.http.parting", "bunpy.http.peer"),
    ("bunpy.http.protocol",),
    # One server
    ("bunpy.server.blame",),
    (
        "bunpy.server.certificate",
        "bunpy.server.collector",
        "bunpy.server.handle",
        "bunpy.server.importer",
        "bunpy.server.lines",
        "bunpy.server.loops",
        "bunpy.server.notify",
        "bunpy.server.leaving",
        "bunpy.server.orphans",
        "bunpy.server.ticker",
        "bunpy.server.tls_outgoing",
        "bunpy.server.tuning",
        "bunpy.server.unix_socket",
        "bunpy.server.watchdog",
        "bunpy.workers.board",
    ),
    ("bunpy.server.tls_transport",),
    (
        "bunpy.server.handshakes",
        "bunpy.server.inherited",
        "bunpy.server.listeners",
        "bunpy.server.log",
        "bunpy.server.tls",
    ),
    ("bunpy.server.acceptor", "bunpy.server.sockets"),
    ("bunpy.server.drain",),
    ("bunpy.server.server",),
    # Several of them
    ("bunpy.workers.backoff", "bunpy.workers.link", "bunpy.workers.sockets"),
    ("bunpy.workers.process", "bunpy.workers.worker"),
    ("bunpy.workers.start",),
    ("bunpy.workers.nursery",),
    ("bunpy.workers.rolls",),
    ("bunpy.workers.supervisor",),
    ("bunpy.workers.fleet",),
    # Their process
    ("bunpy.server.overtime",),
    ("bunpy.server.signals",),
    ("bunpy.server.residence",),
    ("bunpy.serve",),
    # What is made with it
    (
        "bunpy.testing.deadline",
        "bunpy.testing.decoder",
        "bunpy.testing.errors",
        "bunpy.testing.pieces",
        "bunpy.testing.tunnel",
    ),
    ("bunpy.testing.address", "bunpy.testing.head"),
    ("bunpy.testing.body", "bunpy.testing.connection"),
    ("bunpy.testing.answer", "bunpy.testing.incoming"),
    ("bunpy.testing.client", "bunpy.testing.plain", "bunpy.testing.raw", "bunpy.testing.server"),
    ("bunpy.testing",),
    (
        "bunpy.doctor.coding",
        "bunpy.doctor.endpoint",
        "bunpy.doctor.finding",
        "bunpy.doctor.proxies",
        "bunpy.doctor.settings",
    ),
    ("bunpy.doctor.observation", "bunpy.doctor.question"),
    ("bunpy.doctor.flow", "bunpy.doctor.handshake", "bunpy.doctor.watch"),
    ("bunpy.doctor.answer", "bunpy.doctor.resumption"),
    ("bunpy.doctor.examination",),
    ("bunpy.doctor.report",),
    ("bunpy.doctor.command",),
    ("bunpy.doctor",),
    ("bunpy.cli.terminal", "bunpy.cli.values", "bunpy.cli.version"),
    ("bunpy.cli.options",),
    ("bunpy.cli.parser",),
    ("bunpy.cli.settings",),
    ("bunpy.cli.reload",),
    ("bunpy.cli.command",),
    ("bunpy.cli",),
    ("bunpy.cli.child", "bunpy.__main__"),
    ("bunpy.asgi.base", "bunpy.asgi.crew", "bunpy.asgi.event", "bunpy.asgi.streams"),
    ("bunpy.asgi.outflow", "bunpy.asgi.servers"),
    ("bunpy.asgi.relay",),
    ("bunpy.asgi.response",),
    ("bunpy.asgi",),
    ("bunpy.demo",),
    (
        "bunpy.demo.bookmark",
        "bunpy.demo.market",
        "bunpy.demo.page",
        "bunpy.demo.prose",
        "bunpy.demo.scenes",
    ),
    ("bunpy.demo.journal", "bunpy.demo.tape"),
    ("bunpy.demo.app",),
    ("bunpy.demo.command",),
    ("bunpy.demo.__main__",),
)

#: Beside the house, not in it: files, for whoever wants them. It knows nothing of the server.
FILES: tuple[tuple[str, ...], ...] = (
    ("bunpy", "bunpy.errors"),
    ("bunpy.file._lines", "bunpy.file._regular", "bunpy.file._watch"),
    ("bunpy.file._atomic", "bunpy.file._tail"),
    ("bunpy.file",),
    ("bunpy.file.async_",),
)

HEIGHT = {name: height for height, row in enumerate(LAYERS) for name in row}
FILE_HEIGHT = {name: height for height, row in enumerate(FILES) for name in row}
#: The demo is the one that uses both.
USES_FILES = "bunpy.demo."


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    found = {}
    for path in sorted((SOURCE / "bunpy").rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()
#: The compiled twins have sources of their own kind; ``test_a_twin_imports_...`` is about those.
TWINS = {f"bunpy._speedups.{path.stem}" for path in (SOURCE / "bunpy/_speedups").glob("*.pyx")}


def is_for_checkers(node: ast.If) -> bool:
    """Whether a branch is seen by type checkers only; ``TYPE_CHECKING or ...`` is not."""
    return (isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING") or (
        isinstance(node.test, ast.Attribute) and node.test.attr == "TYPE_CHECKING"
    )


def import_nodes(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """The imports below a node, those in functions and classes included."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.Import, ast.ImportFrom)):
            yield child
        elif isinstance(child, ast.If) and is_for_checkers(child):
            for other in child.orelse:
                yield from import_nodes(ast.Module([other], []))
        else:
            yield from import_nodes(child)


def targets(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    """The modules that an import statement names; ``from package import module`` names the module."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
        return
    assert node.level == 0, "imports are absolute in this package"
    assert node.module is not None
    for alias in node.names:
        submodule = f"{node.module}.{alias.name}"
        yield submodule if submodule in MODULES or submodule in TWINS else node.module


def imports_of(source: str) -> set[str]:
    """The modules of bunpy that a source imports, compiled twins left out."""
    found = {target for node in import_nodes(ast.parse(source)) for target in targets(node)}
    return {name for name in found if name.split(".")[0] == "bunpy"} - TWINS


@cache
def graph() -> dict[str, set[str]]:
    return {name: imports_of(path.read_text()) for name, path in MODULES.items()}


def test_the_table_names_each_module_once() -> None:
    placed = [name for row in LAYERS + FILES[1:] for name in row]
    assert sorted(placed) == sorted(set(placed))


def test_every_module_is_in_the_table_and_the_table_has_no_others() -> None:
    placed = {name for row in LAYERS + FILES for name in row}
    assert set(MODULES) - placed == set(), "give these a row in LAYERS"
    assert placed - set(MODULES) == set(), "these are gone: take them out of LAYERS"


@pytest.mark.parametrize("name", [name for name in MODULES if not name.startswith("bunpy.file")])
def test_imports_point_down(name: str) -> None:
    height = HEIGHT.get(name, -1)
    wrong = {
        other
        for other in graph()[name]
        if not (other.startswith("bunpy.file") and name.startswith(USES_FILES))
        and not HEIGHT.get(other, len(LAYERS)) < height
    }
    assert not wrong, f"{name} imports what stands beside or above it"


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith("bunpy.file")])
def test_files_know_nothing_of_the_server(name: str) -> None:
    height = FILE_HEIGHT.get(name, -1)
    wrong = {other for other in graph()[name] if not FILE_HEIGHT.get(other, len(FILES)) < height}
    assert not wrong, f"{name} imports what stands beside or above it, or not among the files"


def test_there_are_no_cycles() -> None:
    imports, done = graph(), set[str]()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join((*path, name))
        if name not in done:
            for other in sorted(imports.get(name, ())):
                visit(other, (*path, name))
            done.add(name)

    for name in imports:
        visit(name, ())


@pytest.mark.parametrize("name", ["bunpy", "bunpy.http", "bunpy.sse", "bunpy.server"])
def test_a_package_imports_nothing(name: str) -> None:
    assert [*import_nodes(ast.parse(MODULES[name].read_text()))] == []


@pytest.mark.parametrize(
    "path", sorted((SOURCE / "bunpy").rglob("*.p[yx][xd]")), ids=lambda path: path.name
)
def test_a_twin_imports_errors_and_byte_work_only(path: Path) -> None:
    names = re.findall(
        r"^\s*(?:from|import|cimport)\s+(bunpy[\w.]*)", path.read_text(), re.MULTILINE
    )
    assert path.parent.name == "_speedups"
    assert {name for name in names if not name.startswith("bunpy._speedups.")} <= {"bunpy.errors"}


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("bunpy", {"bunpy.errors", "asyncio"}),
        ("bunpy.file", {"bunpy.http", "bunpy.serve", "bunpy.server", "bunpy.sse", "asyncio"}),
        ("bunpy.file.async_", {"bunpy.http", "bunpy.serve", "bunpy.server", "bunpy.sse"}),
        ("bunpy.http.reader", {"bunpy.server", "bunpy.sse", "asyncio", "socket"}),
        ("bunpy.http.answer", {"bunpy.server", "bunpy.sse", "asyncio"}),
        ("bunpy.server.config", {"bunpy.sse", "asyncio"}),
        ("bunpy.serve", {"bunpy.testing", "bunpy.demo", "bunpy.file"}),
    ],
)
def test_what_a_module_brings_along(module: str, unwanted: set[str]) -> None:
    """What it really loads, however it is imported: the layer below sockets knows none."""
    script = f"import sys, {module}; print(*sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True
    )
    loaded = run.stdout.split()
    assert module in loaded
    assert unwanted.isdisjoint(loaded)


# The walk itself


def test_the_walk_sees_imports_wherever_they_are() -> None:
    source = """
from bunpy.errors import ConfigError
import bunpy.http.wire as wire
from bunpy import file
if TYPE_CHECKING:
    from bunpy.http.host import HostList
else:
    from bunpy.http.request import Request
if TYPE_CHECKING or True:
    from bunpy.http.body import Body
class Thing:
    import bunpy.sse.event
    async def run(self):
        try:
            from bunpy.serve import serve
        except ImportError:
            import asyncio, bunpy.server.log
"""
    assert imports_of(source) == {
        "bunpy.errors",
        "bunpy.file",
        "bunpy.http.body",
        "bunpy.http.request",
        "bunpy.http.wire",
        "bunpy.serve",
        "bunpy.server.log",
        "bunpy.sse.event",
    }
