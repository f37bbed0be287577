"""The pages that people read: their code blocks, so that each can be run."""

from __future__ import annotations

import re

__all__ = ["blocks"]

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(text: str) -> dict[tuple[str, str], str]:
    """The blocks of a page, by the heading they stand under and their language."""
    found: dict[tuple[str, str], str] = {}
    for part in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        heading = part.partition("\n")[0]
        for language, source in _BLOCK.findall(part):
            assert (heading, language) not in found, f"two {language} blocks under {heading}"
            found[heading, language] = source
    return found
