"""The switch between the twins, seen from processes of its own; and what the twins have in common."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import missing, twins

import bunpy
from bunpy import _speedups

EXTENSIONS = ("encoder_c", "outlet_c", "pump_c")
NAMES = ("BytesBuffer", "EventBuffer", "Outlet", "Pump", "encode")
REPORT = """
import json, sys
from bunpy import _speedups
names = {name: getattr(_speedups, name).__module__.rpartition(".")[2] for name in _speedups.__all__[1:]}
loaded = sorted(name.rpartition(".")[2] for name in sys.modules if name.startswith("bunpy._speedups."))
import bunpy.serve
print(json.dumps([_speedups.IMPLEMENTATION, names, loaded]))
"""
BLOCKED = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name == "bunpy._speedups.{name}":
            raise ImportError(name)
sys.meta_path.insert(0, Blocker())
"""


def is_built() -> bool:
    return all(importlib.util.find_spec(f"bunpy._speedups.{name}") for name in EXTENSIONS)


def report(pure: str | None, before: str = "", *options: str) -> Any:
    """What a new interpreter chooses with BUNPY_PURE set so; ``before`` runs first in it."""
    source = str(Path(bunpy.__file__).parent.parent)
    environ = {**os.environ, "PYTHONPATH": source}
    environ.pop("BUNPY_PURE", None)
    if pure is not None:
        environ["BUNPY_PURE"] = pure
    done = subprocess.run(
        [sys.executable, "-W", "error", *options, "-c", before + REPORT],
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def chosen(implementation: str) -> list[Any]:
    """The implementation, and the module that each name comes from."""
    suffix = "c" if implementation == "cython" else "py"
    modules = ("encoder", "encoder", "outlet", "pump", "encoder")
    return [
        implementation,
        {name: f"{module}_{suffix}" for name, module in zip(NAMES, modules, strict=True)},
    ]


@pytest.mark.parametrize("pure", ["1", "yes", "true", "2", " "])
def test_bunpy_pure_chooses_python(pure: str) -> None:
    *answer, loaded = report(pure)
    assert answer == chosen("python")
    assert not set(loaded) & set(EXTENSIONS)


@pytest.mark.parametrize("pure", [None, "", "0"])
def test_the_extension_is_chosen_if_it_is_there(pure: str | None) -> None:
    if not is_built():
        missing("the compiled extension")
    assert report(pure)[:2] == chosen("cython")


@pytest.mark.parametrize("name", EXTENSIONS)
def test_python_is_chosen_if_an_extension_is_not_there(name: str) -> None:
    """One of them is enough: twins are never mixed."""
    assert report(None, BLOCKED.format(name=name))[:2] == chosen("python")


def test_environment_is_read_once() -> None:
    before = "import os, bunpy._speedups; os.environ['BUNPY_PURE'] = '1'\n"
    after = "import os, bunpy._speedups; os.environ['BUNPY_PURE'] = ''\n"
    assert report("", before)[0] == report("")[0]
    assert report("1", after)[0] == "python"


def test_option_e_of_python_is_about_its_own_variables() -> None:
    source = str(Path(bunpy.__file__).parent.parent)
    assert report("1", f"import sys; sys.path.insert(0, {source!r})\n", "-E")[0] == "python"


def test_this_process_has_chosen_one() -> None:
    expected, names = chosen(_speedups.IMPLEMENTATION)
    assert {name: getattr(_speedups, name).__module__.rpartition(".")[2] for name in NAMES} == names
    assert {"IMPLEMENTATION", *NAMES} == set(_speedups.__all__)
    if os.environ.get("BUNPY_PURE", "") not in ("", "0"):
        assert expected == "python"


@pytest.mark.parametrize("name", ["EventBuffer", "BytesBuffer", "Outlet", "Pump"])
def test_twins_have_the_same_public_names(speedups: SimpleNamespace, name: str) -> None:
    """Everything that the Python twin shows is there in each; documented where it is a method."""
    specification = getattr(twins("python"), name)
    twin = getattr(speedups, name)
    assert twin.__doc__
    for member in dir(specification):
        if not member.startswith("_"):
            assert hasattr(twin, member), f"{name}.{member}"
            if callable(getattr(specification, member)):
                assert getattr(twin, member).__doc__, f"{name}.{member}"
