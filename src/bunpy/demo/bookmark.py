"""Event ids that tell a place in a numbered sequence, and which run of the server the sequence is of."""

from __future__ import annotations

import secrets

__all__ = ["Bookmarks"]

#: Digits of a number in an id: far more than a run can count to, and few enough to parse.
_DIGITS = 15


class Bookmarks:
    """The ids of one run. Sequences begin again with the server, so that an id of another run tells nothing."""

    def __init__(self) -> None:
        self._run = secrets.token_hex(4)

    def id(self, number: int) -> str:
        """The id of ``number``, as "5f3a90c1-17"."""
        return f"{self._run}-{number}"

    def number(self, last_event_id: str | None) -> int | None:
        """The number that an id of this run stands for; None for any other text, which a client may send as well."""
        run, _, digits = (last_event_id or "").partition("-")
        if run != self._run or not digits.isdecimal() or not digits.isascii():
            return None
        return int(digits) if len(digits) <= _DIGITS else None
