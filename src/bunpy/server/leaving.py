"""What a process does last that ends by ``os._exit``, which does nothing of it. When one does is said elsewhere."""

from __future__ import annotations

import atexit
import contextlib
import sys

__all__ = ["finish", "flush"]


def flush() -> None:
    """Write what was printed and is not written yet."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()


def finish() -> None:
    """Run what the program has registered for the end (``atexit``), then ``flush``."""
    with contextlib.suppress(Exception):
        atexit._run_exitfuncs()
    flush()
