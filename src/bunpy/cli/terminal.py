"""What the command says on stderr: one sentence a line, with a little colour at a terminal."""

from __future__ import annotations

import sys

from bunpy.server.lines import has_colours

__all__ = ["fail", "tell"]

_RED = "31"
_DIM = "2"


def fail(sentence: str) -> None:
    """Say what is wrong."""
    _write(sentence, _RED)


def tell(sentence: str) -> None:
    """Say what is going on."""
    _write(sentence, _DIM)


def _write(sentence: str, colour: str) -> None:
    if sys.stderr is None:
        return
    name = "bunpy:"
    if has_colours(sys.stderr):
        name = f"\x1b[{colour}m{name}\x1b[0m"
    sys.stderr.write(f"{name} {sentence}\n")
    sys.stderr.flush()
