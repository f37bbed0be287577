"""The event that a generator yields. Its bytes are the encoder's."""

from __future__ import annotations

from typing import Any, Final

from bunpy._speedups import encode

__all__ = ["Event"]

_ABSENT: Final = object()


class Event(dict[str, Any]):
    """An event (WHATWG HTML 9.2.6): the dict that a generator may yield, its keys spelled as arguments.

    ``data`` is a str, split into lines at CRLF, LF and CR, or anything else that is JSON; it may be left out only
    if ``event`` is too. ``event`` is the type that a client listens for ("message" if left out), ``id`` a str or an
    int that becomes the client's last event ID, ``retry`` its reconnection time in milliseconds, ``comment`` text
    for nobody. Raises ``InvalidEvent`` for what could not be framed as it was meant, here and not at the ``yield``.
    """

    __slots__ = ()

    def __init__(
        self,
        data: Any = _ABSENT,
        *,
        event: str | None = None,
        id: str | int | None = None,  # noqa: A002 -- the field's name
        retry: int | None = None,
        comment: str | None = None,
    ) -> None:
        fields = {"event": event, "id": id, "retry": retry, "comment": comment}
        super().__init__({name: value for name, value in fields.items() if value is not None})
        if data is not _ABSENT:
            self["data"] = data
        encode(self)

    def __repr__(self) -> str:
        return f"Event({', '.join(f'{name}={value!r}' for name, value in self.items())})"
