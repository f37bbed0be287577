"""A value as it may stand in a sentence that refuses it: short, whatever it is. No sentences here."""

from __future__ import annotations

from typing import Final

__all__ = ["shown", "shown_with_type"]

#: Characters: a list of megabytes is not repeated in a log.
_LIMIT: Final = 80


def shown(value: object) -> str:
    """The ``repr`` of a value, 80 characters of it at the most; of what has none (an int of 5,000 digits) the type."""
    text = _short(value)
    return f"a {type(value).__name__} whose repr fails" if text is None else text


def shown_with_type(value: object) -> str:
    """The same, and the name of its type."""
    text = _short(value)
    return shown(value) if text is None else f"{text} ({type(value).__name__})"


def _short(value: object) -> str | None:
    try:
        text = repr(value)
    except Exception:
        return None
    return text if len(text) <= _LIMIT else f"{text[: _LIMIT - 3]}..."
