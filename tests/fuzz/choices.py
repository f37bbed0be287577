"""Decisions read from bytes, so that whatever is made of them can be made again, twice alike, and mutated."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final, TypeVar

__all__ = ["Choices", "mutate"]

T = TypeVar("T")

_SIZE: Final = 400


class Choices:
    """Reads decisions one after the other; when the bytes are used up each is 0, the first and simplest one."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def is_over(self) -> bool:
        return self._at >= len(self._data)

    def below(self, limit: int) -> int:
        """A number from 0 to ``limit`` - 1; ``limit`` is 65536 at most."""
        size = 1 if limit <= 256 else 2
        piece = self._data[self._at : self._at + size]
        self._at += size
        return int.from_bytes(piece, "little") % limit

    def once_in(self, times: int) -> bool:
        """True for one in so many."""
        return self.below(times) == times - 1

    def pick(self, items: Sequence[T]) -> T:
        return items[self.below(len(items))]


def mutate(rng: random.Random, corpus: Sequence[bytes]) -> bytes:
    """New bytes: random ones, or some of ``corpus`` changed in a few places."""
    if rng.random() < 0.25:
        return rng.randbytes(rng.choice((2, 4, 8, 16, 40, 100)))
    data = bytearray(rng.choice(corpus))
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = rng.randrange(len(data) + 1)
        way = rng.randrange(5)
        if way == 0:
            data[at : at + 1] = rng.randbytes(1)
        elif way == 1:
            data[at:at] = rng.randbytes(rng.choice((1, 2, 8)))
        elif way == 2:
            del data[at : at + rng.choice((1, 2, 8))]
        elif way == 3:
            other = rng.choice(corpus)
            data[at:] = other[rng.randrange(len(other) + 1) :]
        else:
            data += data[at : at + 20]
    return bytes(data[:_SIZE])
