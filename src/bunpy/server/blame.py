"""Who holds a loop, as its thread's stack shows: the program's frames told from others, and a place in words.

When to look, and what is worth a warning, is the watchdog's.
"""

from __future__ import annotations

from types import FrameType
from typing import Final, NamedTuple

__all__ = ["Blame", "Place", "is_programs"]

#: Packages whose frames are on the way to the program's code, and are not it.
_MACHINERY: Final = frozenset(
    {"asyncio", "concurrent", "contextlib", "functools", "importlib", "_frozen_importlib", "runpy"}
    | {"selectors", "threading", "uvloop"}
)


class Place(NamedTuple):
    """Where a loop is held: lines, and the functions that they are in, each as its file and first line."""

    function: tuple[str, int]
    line: int
    inner: tuple[str, int]
    inner_line: int


class Blame(NamedTuple):
    """Who holds the loop: the outermost frame of the program's, and where that has come to."""

    words: str
    place: Place

    @classmethod
    def of(cls, frames: list[FrameType]) -> Blame:
        """The blame for a callback's frames, the innermost first; where none is the program's, that one's."""
        inner = frames[0]
        outer = next((frame for frame in reversed(frames) if is_programs(frame)), inner)
        words = _words(outer)
        if inner is not outer:
            words += f", which is in {_words(inner)}"
        return cls(words, Place(_function(outer), _line(outer), _function(inner), _line(inner)))


def is_programs(frame: FrameType) -> bool:
    """Whether a frame is the program's, and none of bunpy's or of what runs its callbacks."""
    package, _, module = str(frame.f_globals.get("__name__")).partition(".")
    if package == "bunpy":
        return module.partition(".")[0] == "demo"
    return package not in _MACHINERY


def _words(frame: FrameType) -> str:
    code = frame.f_code
    name: str = getattr(code, "co_qualname", code.co_name)  # CPython 3.11 and later have the first
    return f"{name} ({code.co_filename}:{_line(frame)})"


def _function(frame: FrameType) -> tuple[str, int]:
    return frame.f_code.co_filename, frame.f_code.co_firstlineno


def _line(frame: FrameType) -> int:
    return frame.f_lineno or frame.f_code.co_firstlineno
