"""What the text of an option means. Whether the value makes sense is for ``Config`` to say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["COUNT", "MODE", "PORT", "SECONDS", "SIZE", "SWITCH", "TEXT", "WORDS", "Kind", "said"]

_UNITS: Final = {"k": 1024, "m": 1024**2, "g": 1024**3}
_YES: Final = ("1", "true", "yes", "on")
_NO: Final = ("0", "false", "no", "off")


@dataclass(frozen=True, slots=True)
class Kind:
    """How a value is read from text, which raises ``ValueError``; what it is, for whoever wrote another; its place
    in the help, "" for a switch."""

    read: Callable[[str], Any]
    says: str
    place: str


def _size(text: str) -> int:
    unit = _UNITS.get(text[-1:].lower())
    return int(text) if unit is None else int(text[:-1]) * unit


def _port(text: str) -> int:
    if not 0 <= int(text) <= 65535:
        raise ValueError
    return int(text)


def _switch(text: str) -> bool:
    if text.lower() not in (*_YES, *_NO):
        raise ValueError
    return text.lower() in _YES


def _words(text: str) -> tuple[str, ...]:
    words = tuple(word.strip() for word in text.split(","))
    if not all(words):
        raise ValueError
    return words


COUNT: Final = Kind(int, "it is a whole number", "N")
PORT: Final = Kind(_port, "it is a number from 0 to 65535", "PORT")
SIZE: Final = Kind(_size, "it is a number of bytes, as 65536, 64K or 10M", "BYTES")
SECONDS: Final = Kind(float, "it is a number of seconds", "SECONDS")
MODE: Final = Kind(lambda text: int(text, 8), "it is the permissions in octal, as 660", "MODE")
SWITCH: Final = Kind(_switch, "it is 1 or 0 (or true, yes, on; false, no, off)", "")
TEXT: Final = Kind(str, "it is a text", "TEXT")
WORDS: Final = Kind(_words, "it is a list with commas between, as a,b", "LIST")


def said(value: object, kind: Kind) -> str:
    """A value as it would be written on the command line; "" for what need not be said."""
    if value is None or value is False or kind is WORDS:
        return ""
    if kind is SIZE and isinstance(value, int):
        for unit in ("g", "m", "k"):
            if value and value % _UNITS[unit] == 0:
                return f"{value // _UNITS[unit]}{unit.upper()}"
    if kind is MODE:
        return f"{value:o}"
    return f"{value:g}" if isinstance(value, float) else str(value)
