"""Field names (RFC 9110 section 5.1) as handlers see them: str, in lower case."""

from __future__ import annotations

from functools import lru_cache

__all__ = ["field_name"]


@lru_cache(maxsize=1024)
def field_name(name: bytes) -> str:
    """The lower-case name: one str for all requests that have it."""
    return name.decode("latin-1").lower()
