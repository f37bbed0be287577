"""How large the parts of a request may be. What a larger one is answered is the readers' business."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Limits"]


@dataclass(frozen=True, slots=True)
class Limits:
    """The largest of each, in bytes, counted on what is fed and not on what is parsed."""

    request_line: int = 16 * 1024
    head: int = 64 * 1024
    #: How many fields a head may have.
    fields: int = 256
    body: int = 10 * 1024 * 1024
    #: One chunk's extension, and those of a body together.
    extension: int = 4 * 1024
    extensions: int = 16 * 1024
    trailers: int = 8 * 1024
