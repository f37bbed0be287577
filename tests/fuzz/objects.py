"""What a generator may yield: events, and objects that lie, raise, or change what they are in. Nothing is sent here."""

from __future__ import annotations

import sys
from collections import OrderedDict, UserDict, defaultdict
from collections.abc import Callable
from typing import Any, Final

from .choices import Choices
from .liars import (
    Acting,
    Claiming,
    Failing,
    LyingDict,
    LyingInt,
    LyingStr,
    change_dict,
    change_list,
    error,
)

__all__ = ["Objects"]

_PARTS: Final = (
    "", "a", "\n", "\r", "\r\n", "\0", "data: x", ": ", "é", "\u2028", "\x85", "\x0b", "\ufeff", "\U0001f600", "\x7f",
    "\x80", "\xff", "\ud800", "\udfff", "\r\r\n\n", "end\n", "id: 1\n\n", "\U0010ffff", "x" * 60,
)  # fmt: skip
#: Where memory is grown, given back, or left by a head: in bytes.
_BOUNDS: Final = (494, 512, 64 * 1024, 80 * 1024, 160 * 1024, 1 << 20)
_FIELDS: Final = ("data", "event", "id", "retry", "comment")
_DEEP: Final = 3000
#: The most digits that an int may have to be written (sys.get_int_max_str_digits), and too many.
_LONG: Final = 10**4299
_TOO_LONG: Final = 10**4400


class Objects:
    """Makes objects as ``choices`` has it; the same again from the same bytes.

    ``containers`` are the lists and dicts made so far, which an ``Acting`` changes; ``extra`` is what else it may do.
    """

    def __init__(self, choices: Choices, extra: Callable[[], None] | None = None) -> None:
        self._choices = choices
        self._extra = extra
        self._containers: list[Any] = []
        self._budget = 40  # changes by acting objects

    def item(self) -> Any:
        """What a generator yields."""
        kind = self._choices.below(16)
        if kind < 8:
            return self._event()
        if kind < 10:
            return self.text()
        if kind < 13:
            return self._batch()
        return self.value(3)

    def piece(self) -> Any:
        """What the generator of a plain body yields."""
        choices = self._choices
        kind = choices.below(9)
        if kind == 0:
            return self.text()
        data = (
            self._text_of_size().encode("utf-8", "replace")
            if kind == 1
            else bytes(range(choices.below(200)))
        )
        if kind == 2:
            return bytearray(data)
        if kind == 3:
            return memoryview(data)[:: choices.pick((1, 2, -1))]
        if kind == 4:
            view = memoryview(bytearray(data))
            view.release()
            return view
        if kind == 5:
            return memoryview(bytearray(data * 8)).cast("Q")
        if kind == 6:
            return type("Bytes", (bytes,), {"__len__": lambda self: 3})(data)
        if kind == 7:
            return self.value(2)
        return data

    def text(self) -> str:
        choices = self._choices
        if choices.once_in(200):
            text = self._text_of_size()
        else:
            text = "".join(choices.pick(_PARTS) for _ in range(choices.below(7)))
        return LyingStr(text) if choices.once_in(12) else text

    def _text_of_size(self) -> str:
        """As long as it takes to reach a bound, in bytes, give or take the mark and the line ends."""
        choices = self._choices
        bound = choices.pick(_BOUNDS[:5] if choices.below(24) else _BOUNDS)
        size = bound - 24 + choices.below(48)
        part = choices.pick(("x", "x", "é", "\n", "x\n", "\r", "\U0001f600"))
        if part in "\n\r":
            size //= 7  # every line end becomes a line of "data: "
        return (part * (size // len(part.encode()) + 1))[
            : size // max(1, len(part.encode()) // len(part))
        ]

    def _batch(self) -> Any:
        batch: list[Any] = []
        self._containers.append(batch)
        batch += [
            self._event() if self._choices.below(4) else self.value(2)
            for _ in range(self._choices.below(6))
        ]
        if self._choices.once_in(8):
            return type(
                "List", (list,), {"__len__": lambda self: 0, "__iter__": lambda self: iter("x")}
            )(batch)
        return tuple(batch) if self._choices.once_in(8) else batch

    def _event(self) -> Any:
        choices = self._choices
        event: dict[Any, Any] = {}
        self._containers.append(event)
        if choices.below(4):
            event["data"] = self.text() if choices.below(3) else self.value(3)
        for _ in range(choices.below(4)):
            name = choices.pick(_FIELDS)
            event[name] = self._field(name)
        if choices.once_in(10):
            key = self._key()
            if choices.once_in(3):
                event = {key: self.value(1), **event}
            else:
                event[key] = self.value(1)
        if choices.once_in(10):
            kinds = (LyingDict, OrderedDict, UserDict, lambda event: defaultdict(str, event))
            return choices.pick(kinds)(event)  # type: ignore[operator]
        return event

    def _field(self, name: str) -> Any:
        choices = self._choices
        if name == "retry" or choices.once_in(4):
            return choices.pick(
                (0, 3000, None, -1, True, "1", 1.5, LyingInt(7), LyingInt(-7), _LONG, _TOO_LONG)
            )
        return self.value(1) if choices.once_in(6) else self.text()

    def _key(self) -> Any:
        choices = self._choices
        hashed = hash(choices.pick(_FIELDS))
        kind = choices.below(8)
        if kind == 0:
            return choices.pick(("Data", "data ", "x", "", "\ud800", "dat\0a", "é" * 50))
        if kind == 1:
            return LyingStr(choices.pick(_FIELDS))
        if kind == 2:
            return choices.pick((None, 0, 1.5, (), b"data", ("data",), frozenset(), float("nan")))
        if kind == 3:
            return Failing(error(choices), hashed)
        if kind == 4:
            return Claiming(str)
        if kind == 5:
            return type(
                "Str",
                (str,),
                {"__hash__": lambda self: hashed, "__eq__": lambda self, other: False},
            )("x")
        return choices.pick(_FIELDS)

    def value(self, depth: int) -> Any:
        choices = self._choices
        kind = choices.below(22)
        if kind < 7:
            return (None, True, 0, -7, 1.5, "", "text")[kind]
        if kind == 7:
            return self.text()
        if kind == 8:
            return choices.pick(
                (float("nan"), float("inf"), -0.0, 1e308, 2**64, -(2**63), _LONG, _TOO_LONG)
            )
        if kind == 9:
            return choices.pick(
                (b"bytes", bytearray(b"x"), {1, 2}, object, ..., NotImplemented, 1j, range(3))
            )
        if kind == 10:
            return LyingInt(choices.below(300) - 100)
        if kind == 11:
            return Failing(error(choices), None if choices.below(2) else 1)
        if kind == 12:
            return Claiming(
                choices.pick((str, int, dict, list, bytes, bytearray, memoryview, bool))
            )
        if kind == 13:
            return self._acting()
        if kind == 14:
            return self._deep()
        if kind == 15:
            return self._recursive()
        if kind == 16:
            return LyingDict(a=1)
        if kind == 17:
            return type("Float", (float,), {"__repr__": lambda self: "0\n"})(2.5)
        if depth <= 0:
            return kind
        if kind < 20:
            values: list[Any] = []
            self._containers.append(values)
            values += [self.value(depth - 1) for _ in range(choices.below(5))]
            return tuple(values) if kind == 19 else values
        mapping: dict[Any, Any] = {}
        self._containers.append(mapping)
        for _ in range(choices.below(5)):
            key = (
                self.text()
                if choices.below(8)
                else choices.pick((1, None, 1.5, True, (), b"", LyingInt(1), sys))
            )
            mapping[key] = self.value(depth - 1)
        return mapping

    def _deep(self) -> Any:
        value: Any = []
        for _ in range(_DEEP if self._choices.once_in(16) else 100):
            value = [value]
        return value

    def _recursive(self) -> Any:
        inner: list[Any] = [1]
        inner.append({"inner": inner})
        return inner if self._choices.below(2) else inner[1]

    # Objects that change what they are in

    def _acting(self) -> Any:
        choices = self._choices
        target = choices.pick(self._containers) if self._containers else []
        way = choices.below(7)
        raised = error(choices) if choices.once_in(4) else None

        def act() -> None:
            self._budget -= 1
            if self._budget < 0:
                return
            if way == 0 and self._extra is not None:
                self._extra()
            elif isinstance(target, list):
                change_list(target, way)
            elif isinstance(target, dict):
                change_dict(target, way)

        return Acting(act, raised)
