"""A value as it may stand in a sentence that refuses it: short, whatever it is. No sentences here."""

from __future__ import annotations

from typing import Final

__all__ = ["shown", "shown_with_type"]

#: Characters: a list of megabytes is not repeated in a log.
_LIMIT: Final = 80


def shown(value: object) -> str:
    """The ``repr`` of a value, 80 characters of it at the most; of what has none (an int of 5,000 digits) the type."""
    try:
        text = repr(value)
    except Exception:
        return f"a {type(value).__name__} whose repr fails"
    return text if len(text) <= _LIMIT else f"{text[: _LIMIT - 3]}..."


def shown_with_type(value: object) -> str:
    """The same, and the name of its type."""
    text, name = shown(value), type(value).__name__
    return text if text == f"a {name} whose repr fails" else f"{text} ({name})"
