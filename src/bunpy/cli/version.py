"""The line of ``bunpy --version``: what a report of a defect should have in it."""

from __future__ import annotations

import importlib.metadata
import platform

import bunpy

__all__ = ["version_text"]


def version_text() -> str:
    """bunpy's version and implementation, and the versions of Python, uvloop and httptools."""
    from bunpy._speedups import IMPLEMENTATION  # BUNPY_PURE is set by now

    python = f"{platform.python_implementation()} {platform.python_version()}"
    others = ", ".join(_version(name) for name in ("uvloop", "httptools"))
    return f"bunpy {bunpy.__version__} ({IMPLEMENTATION}), {python}, {others}"


def _version(name: str) -> str:
    try:
        return f"{name} {importlib.metadata.version(name)}"
    except importlib.metadata.PackageNotFoundError:
        return f"no {name}"
