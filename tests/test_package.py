"""What is shipped: an sdist and two wheels are built, looked into, installed where nothing else is, and served from."""

from __future__ import annotations

import email
import fcntl
import json
import os
import pickle
import re
import subprocess
import sys
import tarfile
import zipfile
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from shutil import copy, copytree, ignore_patterns, unpack_archive
from subprocess import CompletedProcess

import pytest

import bunpy

ROOT = Path(__file__).parent.parent

#: Seconds for one build or installation: compilers and package indexes take their time.
TIMEOUT = 240

SPEEDUPS = ("encoder_c", "outlet_c", "pump_c")

SERVES = """
import json
from bunpy.serve import IMPLEMENTATION, SSEResponse
from bunpy.testing import EventClient, request, serving

async def events():
    yield {"id": "1", "data": {"a": "b"}}

def handler(req):
    return SSEResponse(events()) if req.path == "/events" else "hello"

with serving(handler) as server:
    text = request(server).text()
    with EventClient(server, "/events") as client:
        data = [event.data for event in client.read_all()]
print(json.dumps([IMPLEMENTATION, text, *data]))
"""


def run(*command: str | Path, folder: Path, **environment: str) -> CompletedProcess[str]:
    """Run a program in ``folder``, without what is set here of how bunpy is built and found."""
    names = ("BUNPY_PURE", "BUNPY_EXT", "PYTHONPATH", "CC", "CFLAGS")
    inherited = {name: value for name, value in os.environ.items() if name not in names}
    return subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env={**inherited, "CFLAGS": "-O0 -g0", **environment},  # -O0: nothing is measured here
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )


def check(result: CompletedProcess[str]) -> str:
    """What a program printed; fails when it has failed."""
    assert result.returncode == 0, f"{result.args}:\n{result.stdout}\n{result.stderr}"
    return result.stdout


def dist(folder: Path, name: str) -> Path:
    """Where the build of this name puts what it makes."""
    return folder / f"{name}-dist"


@dataclass(frozen=True)
class Products:
    """What has been made, and where; ``broken`` and ``required`` are how two builds without a compiler went."""

    folder: Path
    tree: Path
    sdist: Path
    wheel: Path
    pure_wheel: Path
    broken: CompletedProcess[str]
    required: CompletedProcess[str]
    installed: dict[str, Path]  # Pythons, by what is installed there


class Workshop:
    """Builds and installs everything at once, each where it disturbs nothing."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._tree = folder / "tree"

    def products(self) -> Products:
        self._copy_tree()
        with ThreadPoolExecutor(16) as executor:
            self._tools = executor.submit(self._make_tools)
            self._sdist = executor.submit(self._build_sdist)
            wheel = executor.submit(self._build_wheel, "wheel", BUNPY_EXT="require")
            pure_wheel = executor.submit(self._build_wheel, "pure", BUNPY_PURE="1")
            broken = executor.submit(self._try_wheel, "broken", CC="false")
            required = executor.submit(self._try_wheel, "required", CC="false", BUNPY_EXT="require")
            packages = {"sdist": self._sdist, "wheel": wheel, "pure": pure_wheel}
            installed = {
                name: executor.submit(self._install, name, package)
                for name, package in packages.items()
            }
            return Products(
                self._folder,
                self._tree,
                self._sdist.result(),
                wheel.result(),
                pure_wheel.result(),
                broken.result(),
                required.result(),
                {name: python.result() for name, python in installed.items()},
            )

    def _copy_tree(self) -> None:
        """The working tree as far as a build looks at it, with whatever lies about in it."""
        self._tree.mkdir()
        for path in ROOT.iterdir():
            if path.is_file():
                copy(path, self._tree)
        for name in ("src", "tests", "bench", "examples"):
            if (ROOT / name).exists():
                copytree(ROOT / name, self._tree / name, ignore=ignore_patterns("__pycache__"))
        (self._tree / "src/bunpy/_speedups/encoder_c.c").write_text("#error generated\n")

    def _make_python(self, name: str) -> Path:
        """A Python with nothing installed, not even pip."""
        folder = self._folder / name
        check(run(sys.executable, "-m", "venv", "--without-pip", folder, folder=self._folder))
        return folder / ("Scripts" if os.name == "nt" else "bin") / "python"

    def _pip(self, python: Path, *what: str | Path) -> None:
        command = (sys.executable, "-m", "pip", "--python", python, "install", "--quiet", *what)
        check(run(*command, folder=self._folder))

    def _make_tools(self) -> Path:
        python = self._make_python("tools")
        self._pip(python, "build", "setuptools>=77", "cython>=3.1")
        return python

    def _build_sdist(self) -> Path:
        outdir = dist(self._folder, "sdist")
        command = ("-m", "build", "--no-isolation", "--sdist", "--outdir", outdir)
        check(run(self._tools.result(), *command, folder=self._tree))
        (path,) = outdir.iterdir()
        return path

    def _try_wheel(self, name: str, **environment: str) -> CompletedProcess[str]:
        folder = self._folder / name
        with tarfile.open(self._sdist.result()) as sdist:
            if hasattr(tarfile, "data_filter"):  # which a Python of before 2023 lacks
                sdist.extraction_filter = tarfile.data_filter
            sdist.extractall(folder)
        (source,) = folder.iterdir()
        outdir = dist(self._folder, name)
        command = ("-m", "build", "--no-isolation", "--wheel", "--outdir", outdir)
        return run(self._tools.result(), *command, folder=source, **environment)

    def _build_wheel(self, name: str, **environment: str) -> Path:
        check(self._try_wheel(name, **environment))
        (path,) = dist(self._folder, name).iterdir()
        return path

    def _install(self, name: str, package: Future[Path]) -> Path:
        python = self._make_python(f"{name}-python")
        self._pip(python, package.result())
        return python


@pytest.fixture(scope="module")
def products(tmp_path_factory: pytest.TempPathFactory) -> Products:
    """Made once: of several processes that share the tests, the first makes them and the others wait."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    made = shared / "products"
    with (shared / "products.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            built = Workshop(tmp_path_factory.mktemp("package")).products()
            made.write_bytes(pickle.dumps(built))
    found: Products = pickle.loads(made.read_bytes())
    return found


def names_in(package: Path) -> set[str]:
    """The files of a package, an sdist's below its one folder."""
    if package.suffix == ".whl":
        with zipfile.ZipFile(package) as wheel:
            return set(wheel.namelist())
    with tarfile.open(package) as sdist:
        files = [member.name for member in sdist.getmembers() if member.isfile()]
    return {name.partition("/")[2] for name in files}


def modules_of(tree: Path, *suffixes: str) -> set[str]:
    """The source files of bunpy in a tree, as a wheel names them."""
    files = [path for path in (tree / "src").rglob("*") if path.suffix in suffixes]
    return {path.relative_to(tree / "src").as_posix() for path in files}


def metadata_of(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as file:
        (name,) = [name for name in file.namelist() if name.endswith(".dist-info/METADATA")]
        return email.message_from_bytes(file.read(name))


# --- what is in them -----------------------------------------------------------------------------


def test_the_sdist_has_all_sources(products: Products) -> None:
    sources = modules_of(products.tree, ".py", ".pyi", ".pyx", ".pxd", ".html", ".typed")
    names = names_in(products.sdist)
    assert {f"src/{name}" for name in sources} <= names
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        assert name in names
    assert {f"src/bunpy/_speedups/{name}.pyx" for name in SPEEDUPS} <= names
    assert "src/bunpy/_speedups/encoder_c.pxd" in names  # which another is compiled against


def test_the_sdist_has_nothing_that_was_made(products: Products) -> None:
    """No generated C, no library that a build in place has left, and no half of a test suite."""
    names = names_in(products.sdist)
    made = {name for name in names if re.search(r"\.(c|cpp|so|pyd|o|pyc|whl)$", name)}
    assert made == set()
    folders = {name.partition("/")[0] for name in names if "/" in name}
    assert folders == {"src"}


@pytest.mark.parametrize("kind", ["wheel", "pure_wheel"])
def test_a_wheel_has_what_is_used(products: Products, kind: str) -> None:
    names = names_in(getattr(products, kind))
    assert modules_of(products.tree, ".py", ".pyi", ".html", ".typed") <= names
    assert "bunpy/py.typed" in names
    assert "bunpy/demo/page.html" in names
    assert {f"bunpy/_speedups/{name}.pyi" for name in SPEEDUPS} <= names
    assert not {name for name in names if re.search(r"\.(c|cpp|pyx|pxd|o|pyc)$", name)}
    folders = {name.partition("/")[0] for name in names}
    assert folders == {"bunpy", f"bunpy-{bunpy.__version__}.dist-info"}
    assert any(name.endswith("/LICENSE") for name in names)


def test_the_platform_wheel_has_the_extension(products: Products) -> None:
    wheel = products.wheel
    libraries = {name for name in names_in(wheel) if re.search(r"\.(so|pyd)$", name)}
    assert {name.partition(".")[0] for name in libraries} == {
        f"bunpy/_speedups/{name}" for name in SPEEDUPS
    }
    assert len(libraries) == len(SPEEDUPS)
    assert f"-cp{sys.version_info[0]}{sys.version_info[1]}-" in wheel.name


def test_the_pure_wheel_is_for_all(products: Products) -> None:
    wheel = products.pure_wheel
    assert wheel.name == f"bunpy-{bunpy.__version__}-py3-none-any.whl"
    assert not {name for name in names_in(wheel) if re.search(r"\.(so|pyd)$", name)}


@pytest.mark.parametrize("kind", ["wheel", "pure_wheel"])
def test_what_a_wheel_says_of_itself(products: Products, kind: str) -> None:
    """Two dependencies; what tests, the compiler and file watching need is asked for by name only."""
    metadata = metadata_of(getattr(products, kind))
    assert metadata["Name"] == "bunpy"
    assert metadata["Version"] == bunpy.__version__
    assert metadata["Requires-Python"] == ">=3.10"
    assert metadata["License-Expression"] == "MIT"
    required = [text for text in metadata.get_all("Requires-Dist", []) if "extra ==" not in text]
    assert {re.split(r"[<>=; ]", text)[0] for text in required} == {"httptools", "uvloop"}
    (uvloop,) = [text for text in required if text.startswith("uvloop")]
    assert "win32" in uvloop
    assert "PyPy" in uvloop


# --- whether they work ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "implementation"), [("sdist", "cython"), ("wheel", "cython"), ("pure", "python")]
)
def test_it_serves_where_nothing_else_is_installed(
    products: Products, tmp_path: Path, kind: str, implementation: str
) -> None:
    python = products.installed[kind]
    result = check(run(python, "-I", "-W", "error", "-c", SERVES, folder=tmp_path))
    assert json.loads(result) == [implementation, "hello", '{"a":"b"}']


def test_an_installed_extension_can_be_switched_off(products: Products, tmp_path: Path) -> None:
    python = products.installed["wheel"]
    for value, implementation in (("1", "python"), ("0", "cython"), ("", "cython")):
        result = check(run(python, "-c", SERVES, folder=tmp_path, BUNPY_PURE=value))
        assert json.loads(result)[0] == implementation


def test_the_demo_is_installed(products: Products, tmp_path: Path) -> None:
    """The page that ``make run`` opens is data, which a package can forget."""
    python = products.installed["wheel"]
    source = "import importlib.resources as r; print(len((r.files('bunpy.demo') / 'page.html').read_text()))"
    assert int(check(run(python, "-I", "-c", source, folder=tmp_path))) > 1000


# --- a compiler that fails -----------------------------------------------------------------------


def test_without_a_compiler_the_package_is_pure(products: Products, tmp_path: Path) -> None:
    """The build says so and goes on; what it gives works."""
    check(products.broken)
    (wheel,) = dist(products.folder, "broken").iterdir()
    assert not {name for name in names_in(wheel) if re.search(r"\.(so|pyd)$", name)}
    unpack_archive(wheel, tmp_path, "zip")
    python = products.installed["pure"]  # for what bunpy depends on
    result = check(run(python, "-c", SERVES, folder=tmp_path, PYTHONPATH=str(tmp_path)))
    assert json.loads(result) == ["python", "hello", '{"a":"b"}']


def test_without_a_compiler_a_build_that_requires_the_extension_fails(products: Products) -> None:
    result = products.required
    assert result.returncode != 0
    assert "false" in result.stdout + result.stderr  # the compiler's name, not something else
    assert not dist(products.folder, "required").exists() or not list(
        dist(products.folder, "required").iterdir()
    )
