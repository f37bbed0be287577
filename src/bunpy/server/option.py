"""Kinds of options: a field of ``Config`` with its default, and what is said of a value that it cannot have.

Which options there are is not here.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import field
from inspect import iscoroutinefunction
from typing import Any, Final

__all__ = ["INT_MAX", "Check", "count", "flag", "function", "option", "path", "seconds"]

#: What is wrong with a value, as what it is to be instead; None for nothing.
Check = Callable[[Any], str | None]

#: What C takes: the int of listen(2); a size; and seconds, of which a float is made.
INT_MAX: Final = 2**31 - 1
_SECONDS_MAX: Final = int(sys.float_info.max)


def option(default: Any, check: Check, *, is_optional: bool = False) -> Any:
    """A field; with ``is_optional`` its value may be None, which ``check`` is not asked about."""
    return field(default=default, metadata={"check": check, "is_optional": is_optional})


def count(default: int | None, least: int = 1, most: int = sys.maxsize) -> Any:
    """An int from ``least`` to ``most``; None, if that is the default, stands for no limit."""

    def check(value: Any) -> str | None:
        if not _is_int(value) or value < least:
            return f"it is an int, {least} or more"
        return f"it is {most} at most" if value > most else None

    return option(default, check, is_optional=default is None)


def seconds(default: float | None, least: float | None = None, *, is_optional: bool = False) -> Any:
    """A number of seconds, above 0 or at least ``least``; None, if it can be that, stands for no limit."""

    def check(value: Any) -> str | None:
        if not _is_number(value) or value < (least or 0) or (least is None and value == 0):
            limit = "more than 0" if least is None else f"{least:g} or more"
            return f"it is a number of seconds, {limit}"
        if isinstance(value, int) and value > _SECONDS_MAX:
            return "it is a number of seconds that a float can hold, math.inf for no end"
        return None

    return option(default, check, is_optional=is_optional or default is None)


def flag(default: bool) -> Any:
    """True or False."""
    return option(default, lambda value: None if isinstance(value, bool) else "it is True or False")


def path() -> Any:
    """The path of a URL, None for none."""

    def check(value: Any) -> str | None:
        if not isinstance(value, str) or not value.startswith("/") or not value.isprintable():
            return "it is a path that begins with a slash"
        return "it is a path alone, with no ? or # in it" if {*"?#"} & {*value} else None

    return option(None, check, is_optional=True)


def function() -> Any:
    """A plain function, None for none."""

    def check(value: Any) -> str | None:
        calls = value, getattr(type(value), "__call__", None)  # noqa: B004 -- which one it is
        if not callable(value) or any(map(iscoroutinefunction, calls)):
            return "it is a plain function, not an async one"
        return None

    return option(None, check, is_optional=True)


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return _is_int(value) or (isinstance(value, float) and not math.isnan(value))
