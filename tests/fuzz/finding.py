"""What a fuzzer finds."""

from __future__ import annotations

__all__ = ["Finding"]


class Finding(Exception):
    """Something that must not happen did; of each ``kind`` one is kept."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(f"{kind}: {message[:4000]}")
        self.kind = kind
