"""The inputs that others are made of, in memory that is taken at once: what grew would hide what leaks."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any, Final

__all__ = ["Corpus"]

#: How many are kept beside the seeds, and of what size in bytes at most.
_SLOTS: Final = 500
_SIZE: Final = 2048
#: How many outcomes are told apart.
_MARKS: Final = 1 << 16


class Corpus(Sequence[bytes]):
    """The seeds, which stay, and inputs whose outcomes were new; of these one gives way when there are too many."""

    def __init__(self, seeds: Sequence[bytes], rng: Random) -> None:
        self._seeds = seeds
        self._rng = rng
        self._memory = bytearray(
            b"\xff" * (_SLOTS * _SIZE)
        )  # written to: zeros would not be there yet
        self._sizes: list[int] = []
        self._marks = bytearray(b"\0" * _MARKS)
        #: How many outcomes there were.
        self.outcomes = 0

    def __len__(self) -> int:
        return len(self._seeds) + len(self._sizes)

    def __getitem__(self, index: Any) -> Any:
        if index < len(self._seeds):
            return self._seeds[index]
        slot = index - len(self._seeds)
        start = slot * _SIZE
        return bytes(self._memory[start : start + self._sizes[slot]])

    def learn(self, outcome: int, data: bytes) -> None:
        """Keep an input if no other had its ``outcome``, a checksum."""
        mark = outcome % _MARKS
        if self._marks[mark]:
            return
        self._marks[mark] = 1
        self.outcomes += 1
        if len(data) > _SIZE:
            return
        slot = len(self._sizes)
        if slot < _SLOTS:
            self._sizes.append(len(data))
        else:
            slot = self._rng.randrange(_SLOTS)
            self._sizes[slot] = len(data)
        self._memory[slot * _SIZE : slot * _SIZE + len(data)] = data
