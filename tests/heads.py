"""Requests as a client writes them: their heads, as bytes."""

from __future__ import annotations

__all__ = ["LAST", "head"]


def head(target: str = "/", *lines: str, method: str = "GET", version: str = "1.1") -> bytes:
    """The head of a request to localhost, with these lines too."""
    start = f"{method} {target} HTTP/{version}"
    return "\r\n".join([start, "Host: localhost", *lines, "", ""]).encode()


#: After its answer the connection is closed.
LAST = head("/", "Connection: close")
