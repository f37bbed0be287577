"""Values in sentences: whole if they are short, never long, and never a second error."""

from __future__ import annotations

import pytest

from bunpy.shown import shown, shown_with_type


class Unshowable:
    def __repr__(self) -> str:
        raise RuntimeError("no repr today")


@pytest.mark.parametrize(
    ("value", "text", "kind"),
    [
        (None, "None", "NoneType"),
        ("a\r\nb", r"'a\r\nb'", "str"),
        ("a" * 78, repr("a" * 78), "str"),
        ("a" * 79, f"'{'a' * 76}...", "str"),
        (["x" * 3_000_000], f"['{'x' * 75}...", "list"),
        (10**400, f"1{'0' * 76}...", "int"),
    ],
    ids=range(6),
)
def test_a_value(value: object, text: str, kind: str) -> None:
    assert len(text) <= 80
    assert shown(value) == text
    assert shown_with_type(value) == f"{text} ({kind})"


def test_what_cannot_be_shown() -> None:
    assert shown(Unshowable()) == "a Unshowable whose repr fails"
    assert shown_with_type(Unshowable()) == "a Unshowable whose repr fails"


def test_digits_without_end() -> None:
    """CPython refuses to write out an int of more than 4,300 digits, since 3.10.7."""
    assert len(shown(10**5000)) <= 80


def test_an_interrupt_is_not_swallowed() -> None:
    class Interrupted:
        def __repr__(self) -> str:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        shown(Interrupted())
