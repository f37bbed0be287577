"""Text that others sent, as it may stand in a line of a log or on a terminal."""

from __future__ import annotations

__all__ = ["printable"]


def printable(text: str) -> str:
    r"""The text with what is not printable escaped: it ends no line (``\n``), and steers no terminal (``\x1b``)."""
    if text.isprintable():
        return text
    return "".join(
        sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text
    )
