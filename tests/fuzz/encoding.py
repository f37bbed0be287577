"""One item through both encoders, and through buffers that live long: the same bytes, or the same exception."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable
from functools import partial
from types import SimpleNamespace
from typing import Any, Final, NamedTuple

from .choices import Choices
from .finding import Finding
from .objects import Objects

__all__ = ["Encoders", "Outcome", "outcome_of"]

_ADDRESS = re.compile("0x[0-9a-f]+")
#: Bytes that may wait in a buffer before it is emptied: past the size that the encoder gives back.
_FULL: Final = 3 << 20


class Outcome(NamedTuple):
    """What a call gave, or what it raised: the type, the message and the cause's type."""

    given: Any = None
    raised: type[BaseException] | None = None
    message: str = ""
    cause: type | None = None

    @property
    def short(self) -> Hashable:
        """What is new about it."""
        size = len(self.given).bit_length() if isinstance(self.given, (bytes, list)) else 0
        return (size, self.raised, self.message[:25], self.cause)


def outcome_of(call: Callable[[], Any]) -> Outcome:
    try:
        return Outcome(call())
    except BaseException as exc:  # the objects raise whatever there is, and it must come through
        return Outcome(None, type(exc), _text(exc), type(exc.__cause__))


def _text(exc: BaseException) -> str:
    """What it says, but for addresses."""
    try:
        return _ADDRESS.sub("0x", str(exc))
    except BaseException as again:
        return f"no text: {type(again)}"


class Encoders:
    """The twins' encoders, side by side."""

    def __init__(self, twins: list[SimpleNamespace]) -> None:
        self._twins = twins
        self._buffers = [twin.EventBuffer() for twin in twins]
        self._pieces = [twin.BytesBuffer() for twin in twins]

    def check(self, data: bytes) -> Hashable:
        """Encode what ``data`` stands for in each way there is."""
        way = data[0] % 4 if data else 0
        if way == 3:
            return way, self._append(data, self._pieces, Objects.piece)
        if way:
            return way, self._append(data, self._buffers, Objects.item)
        outcomes = [outcome_of(partial(_encode, twin, data)) for twin in self._twins]
        _agree("encode", outcomes)
        return way, outcomes[0].short

    def empty(self) -> None:
        """Leave nothing in the buffers that live long."""
        for buffer in (*self._buffers, *self._pieces):
            buffer.take()

    def _append(self, data: bytes, buffers: list[Any], make: Callable[[Objects], Any]) -> Hashable:
        before = len(buffers[0])
        outcomes = [outcome_of(partial(_append, buffer, data, make)) for buffer in buffers]
        _agree("append", outcomes)
        sizes = [len(buffer) for buffer in buffers]
        if len(set(sizes)) != 1:
            raise Finding("append: other sizes", repr(sizes))
        if outcomes[0].raised is not None and sizes[0] != before:
            raise Finding("append: a refused item left something", repr((before, sizes)))
        if sizes[0] > _FULL or (len(data) > 1 and data[1] % 4 == 0):
            taken = [buffer.take() for buffer in buffers]
            if any(other != taken[0] for other in taken):
                raise Finding("append: other bytes", repr([other[:500] for other in taken]))
            if any(len(buffer) for buffer in buffers):
                raise Finding("take: something is left", repr(buffers))
        return outcomes[0].short


def _made(data: bytes, make: Callable[[Objects], Any] = Objects.item) -> Any:
    return make(Objects(Choices(data[2:])))


def _encode(twin: SimpleNamespace, data: bytes) -> Any:
    return twin.encode(_made(data))


def _append(buffer: Any, data: bytes, make: Callable[[Objects], Any]) -> Any:
    return buffer.append(_made(data, make))


def _agree(call: str, outcomes: list[Outcome]) -> None:
    if any(other != outcomes[0] for other in outcomes):
        kinds = sorted({str(outcome.raised) for outcome in outcomes})
        raise Finding(f"{call}: twins differ {kinds}", repr([_brief(other) for other in outcomes]))


def _brief(outcome: Outcome) -> Outcome:
    given = outcome.given
    return outcome._replace(given=given[:500] if isinstance(given, bytes) else given)
