"""Bytes cut into the pieces in which they are to be sent. No I/O here."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal

__all__ = ["Pieces", "cut"]

Pieces = Literal["whole", "bytes"] | Sequence[int]


def cut(data: bytes, pieces: Pieces = "whole") -> list[bytes]:
    """Cut ``data`` into pieces: "whole", "bytes" (one each), or at the offsets of a sequence.

    Raises ``ValueError`` when the offsets do not rise, or leave the data.
    """
    if pieces == "whole":
        return [data]
    if pieces == "bytes":
        return [data[i : i + 1] for i in range(len(data))]
    if isinstance(pieces, str):
        raise ValueError(f"pieces is 'whole', 'bytes' or a sequence of offsets, not {pieces!r}")
    marks = [0, *pieces, len(data)]
    if marks != sorted(marks):
        raise ValueError(f"the offsets must rise from 0 to {len(data)}, not {list(pieces)!r}")
    return [data[start:stop] for start, stop in itertools.pairwise(marks)]
