"""The fixture of the micro benchmarks: each implementation of the byte work in turn."""

from __future__ import annotations

from importlib import import_module
from types import SimpleNamespace

import pytest

from bunpy._speedups import IMPLEMENTATION

_SUFFIXES = {"cython": "c", "python": "py"}


@pytest.fixture(params=["cython", "python"] if IMPLEMENTATION == "cython" else ["python"])
def speedups(request: pytest.FixtureRequest) -> SimpleNamespace:
    """``speedups.encode``, ``EventBuffer``, ``BytesBuffer``, ``Outlet``, ``Pump``, of one implementation."""
    names = {}
    for module in ("encoder", "outlet", "pump"):
        path = f"bunpy._speedups.{module}_{_SUFFIXES[request.param]}"
        names.update({k: v for k, v in vars(import_module(path)).items() if not k.startswith("_")})
    return SimpleNamespace(**names)
