"""What both encoders do the same way and seldom: JSON, odd numbers, and the sentences that refuse an event.

Bytes are not made here; each twin does that itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import NoReturn, TypeGuard

from bunpy.errors import InvalidEvent, InvalidResponse
from bunpy.shown import shown_with_type

__all__ = [
    "data_text",
    "id_text",
    "piece_bytes",
    "refuse_event",
    "refuse_keys",
    "refuse_piece",
    "refuse_surrogate",
    "refuse_value",
    "retry_text",
]

KEYS = ("data", "event", "id", "retry", "comment")

_dumps = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def data_text(data: object) -> str:
    """``data`` that is not a str as compact JSON; ``InvalidEvent`` where JSON has no word for it.

    Whatever else a value's own methods raise comes out as it is.
    """
    try:
        return _dumps(data)
    except (TypeError, ValueError, RecursionError) as exc:
        raise InvalidEvent(
            f"data of type {type(data).__name__} is neither a str nor JSON ({exc}): yield a str, or a value"
            " that json.dumps accepts"
        ) from exc


def id_text(value: object) -> str:
    """An ``id`` that is not a str: an int is written in decimal, anything else refused."""
    if _is_int(value):
        return _decimal("id", value)
    raise InvalidEvent(f"id is {shown_with_type(value)}: an event's id is a str or an int")


def retry_text(value: object) -> str:
    """``retry`` in decimal: the reconnection time in milliseconds, an int that is not negative."""
    if _is_int(value) and int.__ge__(value, 0):
        return _decimal("retry", value)
    raise InvalidEvent(
        f"retry is {shown_with_type(value)}: it is an int of milliseconds, 0 or more"
    )


def _is_int(value: object) -> TypeGuard[int]:
    return issubclass(type(value), int) and type(value) is not bool


def _decimal(name: str, value: int) -> str:
    try:
        return int.__repr__(value)
    except ValueError as exc:  # over sys.get_int_max_str_digits() digits
        raise InvalidEvent(f"{name} is an int of too many digits: {exc}") from exc


def refuse_value(name: str, value: object) -> NoReturn:
    """A field that must be one line of text and is not."""
    if not issubclass(type(value), str):
        raise InvalidEvent(f"{name} is {shown_with_type(value)}: it is a str")
    what = "NUL, CR or LF" if name == "id" else "CR or LF"
    raise InvalidEvent(
        f"{name} is {shown_with_type(value)}, with {what} in it: it would end the field, or be ignored; remove it"
    )


def refuse_surrogate(name: str, value: str, exc: UnicodeEncodeError) -> NoReturn:
    """Text that UTF-8 cannot carry (an event stream is always UTF-8, WHATWG HTML 9.2.5)."""
    raise InvalidEvent(
        f"{name} has a lone surrogate, {value[exc.start]!r} at index {exc.start}, which UTF-8 cannot carry:"
        " decode the text properly where it comes from"
    ) from exc


def refuse_keys(event: Mapping[object, object]) -> NoReturn:
    """A dict that is no event: a key too many, or nothing to send."""
    unknown = [key for key in event if not issubclass(type(key), str) or key not in KEYS]
    if unknown:
        raise InvalidEvent(
            f"an event has no field {shown_with_type(unknown[0])}: the keys are {', '.join(KEYS)}"
        )
    if not event:
        raise InvalidEvent("the event is an empty dict: give it data")
    raise InvalidEvent(
        f"the event has {', '.join(sorted(map(str, event)))} but no data: a client would ignore it;"
        ' add data ("" for none)'
    )


def refuse_event(event: object) -> NoReturn:
    """Something yielded that is no event at all."""
    raise InvalidEvent(
        f"an event is a dict, a str, an Event or a list of them, not {shown_with_type(event)}"
    )


def piece_bytes(piece: str) -> bytes:
    """A str of a plain streamed body as UTF-8; ``InvalidResponse`` for a lone surrogate."""
    try:
        return str.encode(piece)
    except UnicodeEncodeError as exc:
        raise InvalidResponse(f"a piece of a streamed body has a lone surrogate: {exc}") from exc


def refuse_piece(piece: object) -> NoReturn:
    """Something yielded by the generator of a plain streamed body that is no part of a body."""
    raise InvalidResponse(f"a streamed body yields str or bytes, not {shown_with_type(piece)}")
