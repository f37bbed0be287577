"""What both encoders share: JSON, odd numbers, and the sentences that refuse an event, word for word."""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

import pytest
from watching import name_of

from bunpy._speedups import fields
from bunpy.errors import BunpyError, InvalidEvent, InvalidResponse


class Level(enum.IntEnum):
    HIGH = 7


class Noisy(int):
    def __str__(self) -> str:
        return "forged"

    __repr__ = __str__


class Unshowable:
    def __repr__(self) -> str:
        raise RuntimeError("no repr today")


class Colour(str, enum.Enum):
    RED = "red"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (None, "null"),
        (True, "true"),
        (0, "0"),
        (-1.5, "-1.5"),
        (1e100, "1e+100"),
        (Level.HIGH, "7"),
        (Noisy(5), "5"),
        ([], "[]"),
        ((1, "a"), '[1,"a"]'),
        ({"a": {"b": None}, "c": [1, 2]}, '{"a":{"b":null},"c":[1,2]}'),
        ({"b": 1, "a": 2}, '{"b":1,"a":2}'),
        ({1: "a", 2.5: "b", None: "c", False: "d"}, '{"1":"a","2.5":"b","null":"c","false":"d"}'),
        ({"ä": "€😀"}, '{"ä":"€😀"}'),
        (['\r\n\0\x1f\x7f\u2028"\\/'], '["\\r\\n\\u0000\\u001f\x7f\u2028\\"\\\\/"]'),
        (["\ud800"], '["\ud800"]'),
        ([Colour.RED], '["red"]'),
    ],
    ids=ascii,
)
def test_data_text(data: object, text: str) -> None:
    assert fields.data_text(data) == text


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (float("nan"), "Out of range float values are not JSON compliant"),
        ([float("-inf")], "Out of range float values are not JSON compliant"),
        (b"a", "Object of type bytes is not JSON serializable"),
        ({1, 2}, "Object of type set is not JSON serializable"),
        (Decimal(1), "Object of type Decimal is not JSON serializable"),
        ({"a": object()}, "Object of type object is not JSON serializable"),
        ({(1, 2): 3}, "keys must be str, int, float, bool or None, not tuple"),
    ],
    ids=name_of,
)
def test_data_text_refuses(data: object, reason: str) -> None:
    with pytest.raises(InvalidEvent) as caught:
        fields.data_text(data)
    assert re.fullmatch(
        rf"data of type {type(data).__name__} is neither a str nor JSON \({re.escape(reason)}.*\):"
        " yield a str, or a value that json.dumps accepts",
        str(caught.value),
    )
    assert isinstance(caught.value.__cause__, (TypeError, ValueError))


def test_data_text_refuses_a_circle() -> None:
    circle: dict[str, Any] = {}
    circle["self"] = circle
    with pytest.raises(InvalidEvent, match="is neither a str nor JSON"):
        fields.data_text(circle)


def test_data_text_lets_the_errors_of_the_users_own_code_through() -> None:
    class Failing(dict[str, Any]):
        def items(self) -> Any:
            raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        fields.data_text(Failing(a=1))


@pytest.mark.parametrize("text", [fields.id_text, fields.retry_text])
@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, "0"), (7, "7"), (2**70, str(2**70)), (Level.HIGH, "7"), (Noisy(12), "12")],
)
def test_numbers(text: Callable[[object], str], value: int, expected: str) -> None:
    assert text(value) == expected


def test_negative_id() -> None:
    assert fields.id_text(-7) == "-7"


@pytest.mark.parametrize("value", [True, False, 1.0, b"1", ["1"], Decimal(1), object, Unshowable()])
def test_id_text_refuses(value: object) -> None:
    with pytest.raises(InvalidEvent, match=r"^id is .*: an event's id is a str or an int$"):
        fields.id_text(value)


@pytest.mark.parametrize("value", [-1, -(10**30), True, False, 1.0, "1", b"1", [], Unshowable()])
def test_retry_text_refuses(value: object) -> None:
    with pytest.raises(
        InvalidEvent, match=r"^retry is .*: it is an int of milliseconds, 0 or more$"
    ):
        fields.retry_text(value)


@pytest.mark.parametrize(("name", "text"), [("id", fields.id_text), ("retry", fields.retry_text)])
def test_number_of_too_many_digits(name: str, text: Callable[[object], str]) -> None:
    assert text(10**4299) == "1" + "0" * 4299
    with pytest.raises(InvalidEvent, match=f"^{name} is an int of too many digits: Exceeds the"):
        text(10**4300)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("event", 5, "event is 5 (int): it is a str"),
        ("comment", b"a", "comment is b'a' (bytes): it is a str"),
        ("event", None, "event is None (NoneType): it is a str"),
        ("event", Unshowable(), "event is a Unshowable whose repr fails: it is a str"),
        (
            "event",
            "a\nb",
            (
                "event is 'a\\nb' (str), with CR or LF in it: it would end the field, or be ignored;"
                " remove it"
            ),
        ),
        (
            "id",
            "a\0b",
            (
                "id is 'a\\x00b' (str), with NUL, CR or LF in it: it would end the field, or be ignored;"
                " remove it"
            ),
        ),
        (
            "id",
            "x" * 100 + "\n",
            (
                f"id is '{'x' * 76}... (str), with NUL, CR or LF in it: it would end the field, or be"
                " ignored; remove it"
            ),
        ),
    ],
)
def test_refuse_value(name: str, value: object, message: str) -> None:
    with pytest.raises(InvalidEvent, match=f"^{re.escape(message)}$"):
        fields.refuse_value(name, value)


def test_refuse_surrogate() -> None:
    text = "ab\udc80\ud800"
    with pytest.raises(UnicodeEncodeError) as cause:
        text.encode()
    with pytest.raises(InvalidEvent) as caught:
        fields.refuse_surrogate("comment", text, cause.value)
    assert str(caught.value) == (
        "comment has a lone surrogate, '\\udc80' at index 2, which UTF-8 cannot carry: decode the"
        " text properly where it comes from"
    )
    assert caught.value.__cause__ is cause.value


@pytest.mark.parametrize(
    ("event", "message"),
    [
        ({}, "the event is an empty dict: give it data"),
        (
            {"data": 1, "name": 2},
            "an event has no field 'name' (str): the keys are data, event, id, retry, comment",
        ),
        (
            {"data": 1, 5: 2},
            "an event has no field 5 (int): the keys are data, event, id, retry, comment",
        ),
        (
            {"data": 1, "x" * 200: 2},
            f"an event has no field '{'x' * 76}... (str): the keys are data, event, id, retry, comment",
        ),
        (
            {Unshowable(): 2},
            (
                "an event has no field a Unshowable whose repr fails: the keys are data, event, id,"
                " retry, comment"
            ),
        ),
        (
            {"id": None, "event": "a"},
            'the event has event, id but no data: a client would ignore it; add data ("" for none)',
        ),
    ],
)
def test_refuse_keys(event: Mapping[object, object], message: str) -> None:
    with pytest.raises(InvalidEvent, match=f"^{re.escape(message)}$"):
        fields.refuse_keys(event)


@pytest.mark.parametrize(
    ("event", "shown"),
    [
        (None, "None (NoneType)"),
        (5, "5 (int)"),
        (b"a", "b'a' (bytes)"),
        (["a"], "['a'] (list)"),
        ("x" * 80, f"'{'x' * 76}... (str)"),
        ("x" * 78, f"'{'x' * 78}' (str)"),
        (Unshowable(), "a Unshowable whose repr fails"),
    ],
)
def test_refuse_event(event: object, shown: str) -> None:
    with pytest.raises(InvalidEvent) as caught:
        fields.refuse_event(event)
    assert (
        str(caught.value) == f"an event is a dict, a str, an Event or a list of them, not {shown}"
    )


def test_a_repr_that_is_interrupted_is_not_swallowed() -> None:
    class Interrupted:
        def __repr__(self) -> str:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fields.refuse_event(Interrupted())


def test_piece_bytes() -> None:
    assert fields.piece_bytes("é\n") == b"\xc3\xa9\n"
    with pytest.raises(InvalidResponse) as caught:
        fields.piece_bytes("a\ud800")
    assert str(caught.value).startswith("a piece of a streamed body has a lone surrogate: ")
    assert isinstance(caught.value.__cause__, UnicodeEncodeError)


def test_refuse_piece() -> None:
    with pytest.raises(
        InvalidResponse, match=r"^a streamed body yields str or bytes, not 5 \(int\)$"
    ):
        fields.refuse_piece(5)


def test_all_refusals_are_in_the_tree_of_errors() -> None:
    assert issubclass(InvalidEvent, (BunpyError, ValueError))
    assert issubclass(InvalidResponse, (BunpyError, ValueError))
