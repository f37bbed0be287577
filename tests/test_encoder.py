"""The encoder twins: tables, buffers, and hypothesis against the independent decoder of ``bunpy.testing``."""

from __future__ import annotations

import contextlib
import enum
import gc
import json
import re
import sys
import tracemalloc
from collections import OrderedDict, UserDict, defaultdict
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from conftest import PURE, twins
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from watching import name_of

from bunpy._speedups import IMPLEMENTATION
from bunpy.errors import InvalidEvent, InvalidResponse
from bunpy.testing import DecodedEvent, Decoder

#: The implementations that can be compared; under BUNPY_PURE=1 there is one, which hypothesis holds to the oracle.
PAIR = (
    [twins("python")] if PURE or IMPLEMENTATION == "python" else [twins("python"), twins("cython")]
)

Outcome = bytes | tuple[type[BaseException], str, str]


def outcome(call: Callable[[Any], Any], argument: object) -> Outcome:
    """What a call gave, or what it raised: the type, the message, and the cause's type."""
    try:
        return bytes(call(argument))
    except Exception as exc:
        return type(exc), str(exc), type(exc.__cause__).__name__


def agreed(argument: object) -> Outcome:
    """What both twins make of it, which must be the same."""
    outcomes = [outcome(twin.encode, argument) for twin in PAIR]
    assert outcomes.count(outcomes[0]) == len(PAIR), outcomes
    return outcomes[0]


class Colour(str, enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 7


class Sneaky(str):
    """A str that lies about its text in every way that it can."""

    __slots__ = ()
    __hash__ = str.__hash__

    def __str__(self) -> str:
        return "data: forged"

    __repr__ = __str__

    def __format__(self, spec: str) -> str:
        return "data: forged"

    def __contains__(self, part: object) -> bool:
        return False

    def __len__(self) -> int:
        return 0

    def __bool__(self) -> bool:
        return False

    def __iter__(self) -> Iterator[str]:
        return iter("forged")

    def isascii(self) -> bool:
        return True

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return b"x\n\ndata: forged"

    def replace(self, *arguments: Any) -> str:
        return "forged"

    def splitlines(self, keepends: bool = False) -> list[str]:
        return ["forged"]


class EqualToAll(str):
    """A str that says that it equals everything, as ``unittest.mock.ANY`` does."""

    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False


class EqualToNothing(str):
    """A str that cannot be compared, as a NumPy array cannot."""

    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        raise ArithmeticError("do not compare me")


class SneakyDict(dict[str, Any]):
    """A dict that lies about what is in it."""

    def __len__(self) -> int:
        return 99

    def __bool__(self) -> bool:
        return False

    def __contains__(self, key: object) -> bool:
        return False

    def __getitem__(self, key: str) -> Any:
        return "forged"

    def __missing__(self, key: str) -> Any:
        return "forged"

    def get(self, key: str, default: Any = None) -> Any:
        return "forged"

    def keys(self) -> Any:
        return {"forged": 1}.keys()

    def items(self) -> Any:
        return {"forged": 1}.items()


class ReversedList(list[Any]):
    """A list that iterates over something else than it holds."""

    def __iter__(self) -> Iterator[Any]:
        return iter(["forged", "forged"])

    def __len__(self) -> int:
        return 99


class StrImpostor:
    """No str, although ``isinstance`` says so: what ``Mock(spec=str)`` and lazy proxies are."""

    __class__ = str  # type: ignore[assignment]

    def __repr__(self) -> str:
        return "<impostor>"


class IntImpostor(StrImpostor):
    __class__ = int  # type: ignore[assignment]


class DictImpostor(StrImpostor):
    __class__ = dict  # type: ignore[assignment]


class ListImpostor(StrImpostor):
    __class__ = list  # type: ignore[assignment]


# Every field, in the order comment, event, id, retry, data, whatever the dict's order is.
FRAMED: dict[str, tuple[Any, bytes]] = {
    "str": ("hello", b"data: hello\n\n"),
    "empty str": ("", b"data: \n\n"),
    "data": ({"data": "hello"}, b"data: hello\n\n"),
    "empty data": ({"data": ""}, b"data: \n\n"),
    "space": ({"data": " a "}, b"data:  a \n\n"),
    "colon": ({"data": ":a: b"}, b"data: :a: b\n\n"),
    "a field's name": ({"data": "id: 5"}, b"data: id: 5\n\n"),
    "NUL in data": ({"data": "a\0b"}, b"data: a\0b\n\n"),
    "NUL in event": ({"data": "", "event": "a\0b"}, b"event: a\0b\ndata: \n\n"),
    "NUL in a comment": ({"comment": "a\0b"}, b": a\0b\n\n"),
    "byte order mark": ({"data": "\ufeffa"}, b"data: \xef\xbb\xbfa\n\n"),
    "not ASCII": ({"data": "zwölf €😀"}, "data: zwölf €😀\n\n".encode()),
    "not ASCII anywhere": (
        {"data": "ä", "event": "ö", "id": "ü", "comment": "😀"},
        ": 😀\nevent: ö\nid: ü\ndata: ä\n\n".encode(),
    ),
    "event": ({"event": "add", "data": "a"}, b"event: add\ndata: a\n\n"),
    "empty event": ({"event": "", "data": "a"}, b"event: \ndata: a\n\n"),
    "id": ({"id": "7", "data": "a"}, b"id: 7\ndata: a\n\n"),
    "empty id": ({"id": "", "data": "a"}, b"id: \ndata: a\n\n"),
    "id only": ({"id": "7"}, b"id: 7\n\n"),
    "int id": ({"id": 7, "data": "a"}, b"id: 7\ndata: a\n\n"),
    "negative int id": ({"id": -7, "data": "a"}, b"id: -7\ndata: a\n\n"),
    "zero id": ({"id": 0}, b"id: 0\n\n"),
    "enum id": ({"id": Level.HIGH}, b"id: 7\n\n"),
    "huge id": ({"id": 10**4000}, b"id: 1" + b"0" * 4000 + b"\n\n"),
    "retry": ({"retry": 3000, "data": "a"}, b"retry: 3000\ndata: a\n\n"),
    "retry only": ({"retry": 0}, b"retry: 0\n\n"),
    "enum retry": ({"retry": Level.HIGH}, b"retry: 7\n\n"),
    "huge retry": ({"retry": 2**64}, b"retry: 18446744073709551616\n\n"),
    "comment only": ({"comment": "hi"}, b": hi\n\n"),
    "empty comment": ({"comment": ""}, b": \n\n"),
    "two lines of comment": ({"comment": "a\nb"}, b": a\n: b\n\n"),
    "comment before data": ({"data": "a", "comment": "b"}, b": b\ndata: a\n\n"),
    "everything": (
        {"data": "a\nb", "retry": 1, "id": "i", "event": "e", "comment": "c"},
        b": c\nevent: e\nid: i\nretry: 1\ndata: a\ndata: b\n\n",
    ),
    "all but data": ({"retry": 1, "id": "i", "comment": "c"}, b": c\nid: i\nretry: 1\n\n"),
    # None stands for a field that is not there, but for data.
    "absent event": ({"event": None, "data": "a"}, b"data: a\n\n"),
    "absent event, no data": ({"event": None, "id": "7"}, b"id: 7\n\n"),
    "all absent but data": (
        {"data": "a", "event": None, "id": None, "retry": None, "comment": None},
        b"data: a\n\n",
    ),
    # JSON
    "null": ({"data": None}, b"data: null\n\n"),
    "true": ({"data": True}, b"data: true\n\n"),
    "false": ({"data": False}, b"data: false\n\n"),
    "int": ({"data": 5}, b"data: 5\n\n"),
    "huge int": ({"data": 10**400}, b"data: 1" + b"0" * 400 + b"\n\n"),
    "float": ({"data": 0.1}, b"data: 0.1\n\n"),
    "enum of ints": ({"data": Level.HIGH}, b"data: 7\n\n"),
    "dict": ({"data": {"a": 1, "b": [1, 2]}}, b'data: {"a":1,"b":[1,2]}\n\n'),
    "empty dict": ({"data": {}}, b"data: {}\n\n"),
    "list": ({"data": ["a", None, True]}, b'data: ["a",null,true]\n\n'),
    "tuple": ({"data": (1, 2)}, b"data: [1,2]\n\n"),
    "JSON that is not ASCII": ({"data": ["ö😀"]}, 'data: ["ö😀"]\n\n'.encode()),
    "line ends in JSON": ({"data": ["a\r\nb\n"]}, b'data: ["a\\r\\nb\\n"]\n\n'),
    "U+2028 in JSON": ({"data": ["\u2028"]}, 'data: ["\u2028"]\n\n'.encode()),
    "keys of JSON": ({"data": {1: 2, None: 3, False: 4}}, b'data: {"1":2,"null":3,"false":4}\n\n'),
    # Subclasses
    "enum of str": ({"data": Colour.RED, "event": Colour.RED}, b"event: red\ndata: red\n\n"),
    "enum of str, alone": (Colour.RED, b"data: red\n\n"),
    "sneaky data": ({"data": Sneaky("a\nb")}, b"data: a\ndata: b\n\n"),
    "sneaky str": (Sneaky("a\r\rb"), b"data: a\ndata: \ndata: b\n\n"),
    "sneaky fields": (
        {"event": Sneaky("e"), "id": Sneaky("i"), "comment": Sneaky("c\rd"), "data": "a"},
        b": c\n: d\nevent: e\nid: i\ndata: a\n\n",
    ),
    "data equal to all": ({"data": EqualToAll("a")}, b"data: a\n\n"),
    "fields equal to all": (
        {"data": "a", "id": EqualToAll("i"), "event": EqualToAll("e")},
        b"event: e\nid: i\ndata: a\n\n",
    ),
    "data that cannot be compared": ({"data": EqualToNothing("a")}, b"data: a\n\n"),
    "ordered dict": (OrderedDict(data="a", id="i"), b"id: i\ndata: a\n\n"),
    "default dict": (defaultdict(lambda: "forged", data="a"), b"data: a\n\n"),
    "sneaky dict": (SneakyDict(data="a", id="i"), b"id: i\ndata: a\n\n"),
}

LINE_ENDS: dict[str, tuple[str, list[bytes]]] = {
    "LF": ("a\nb", [b"a", b"b"]),
    "CR": ("a\rb", [b"a", b"b"]),
    "CRLF": ("a\r\nb", [b"a", b"b"]),
    "LFCR": ("a\n\rb", [b"a", b"", b"b"]),
    "CR CRLF": ("a\r\r\nb", [b"a", b"", b"b"]),
    "CRLF LF": ("a\r\n\nb", [b"a", b"", b"b"]),
    "LF only": ("\n", [b"", b""]),
    "CR only": ("\r", [b"", b""]),
    "CRLF only": ("\r\n", [b"", b""]),
    "ends with LF": ("a\n", [b"a", b""]),
    "ends with CR": ("a\r", [b"a", b""]),
    "ends with CRLF": ("a\r\n", [b"a", b""]),
    "begins with LF": ("\na", [b"", b"a"]),
    "an event's end": ("a\n\nevent: x", [b"a", b"", b"event: x"]),
    "all mixed": ("a\rb\nc\r\nd\n\re\r", [b"a", b"b", b"c", b"d", b"", b"e", b""]),
    "not ASCII": ("ä\nö\r\n😀", ["ä".encode(), "ö".encode(), "😀".encode()]),
    "many": ("\n".join("x" * 300), [b"x"] * 300),
    # What str.splitlines takes for line ends, and an event stream does not.
    **{
        f"U+{ord(other):04X}": (f"a{other}b", [f"a{other}b".encode()])
        for other in "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
    },
}

UNKNOWN = "an event has no field"
LONE = "has a lone surrogate"

REFUSED: dict[str, tuple[Any, str]] = {
    "None": (None, "not None (NoneType)"),
    "int": (5, "not 5 (int)"),
    "bytes": (b"a", "not b'a' (bytes)"),
    "tuple": (("a",), "not ('a',) (tuple)"),
    "set": ({"data"}, "not {'data'} (set)"),
    "list": (["a"], "not ['a'] (list)"),
    "mapping that is no dict": (UserDict(data="a"), "not {'data': 'a'} (UserDict)"),
    "str impostor": (StrImpostor(), "not <impostor> (StrImpostor)"),
    "dict impostor": (DictImpostor(), "not <impostor> (DictImpostor)"),
    "list impostor": (ListImpostor(), "not <impostor> (ListImpostor)"),
    "empty dict": ({}, "empty dict"),
    "event only": ({"event": "a"}, "the event has event but no data"),
    "event without data": ({"event": "a", "id": "1"}, "the event has event, id but no data"),
    "all absent": ({"id": None, "retry": None}, "the event has id, retry but no data"),
    "unknown key": ({"data": "a", "Data": "b"}, f"{UNKNOWN} 'Data' (str)"),
    "misspelt key": ({"dat": "a"}, f"{UNKNOWN} 'dat' (str)"),
    "key that would forge": ({"data": "a", "x\ndata": "b"}, f"{UNKNOWN} 'x\\ndata' (str)"),
    "empty key": ({"data": "a", "": "b"}, f"{UNKNOWN} '' (str)"),
    "int key": ({"data": "a", 1: "b"}, f"{UNKNOWN} 1 (int)"),
    "None key": ({"data": "a", None: "b"}, f"{UNKNOWN} None (NoneType)"),
    "bytes key": ({b"data": "a"}, f"{UNKNOWN} b'data' (bytes)"),
    "lone surrogate key": ({"data": "a", "\ud800": "b"}, f"{UNKNOWN} '\\ud800' (str)"),
    "enum key": ({"data": "a", Colour.RED: 1}, UNKNOWN),
    "unknown key, absent": ({"data": "a", "name": None}, f"{UNKNOWN} 'name' (str)"),
    "event with LF": ({"event": "a\nb", "data": ""}, "event is 'a\\nb' (str), with CR or LF"),
    "event with CR": ({"event": "a\rb", "data": ""}, "event is 'a\\rb' (str), with CR or LF"),
    "event that is no str": ({"event": 5, "data": ""}, "event is 5 (int): it is a str"),
    "event of bytes": ({"event": b"a", "data": ""}, "event is b'a' (bytes): it is a str"),
    "event impostor": (
        {"event": StrImpostor(), "data": ""},
        "event is <impostor> (StrImpostor): it is a str",
    ),
    "sneaky event": ({"event": Sneaky("a\nid: 5"), "data": ""}, "with CR or LF in it"),
    "event with LF and a lone surrogate": ({"event": "\n\ud800", "data": ""}, "event "),
    "event with a lone surrogate and LF": ({"event": "\ud800\n", "data": ""}, "event "),
    "id with LF": ({"id": "a\nb"}, "id is 'a\\nb' (str), with NUL, CR or LF"),
    "id with CR": ({"id": "a\rb"}, "id is 'a\\rb' (str), with NUL, CR or LF"),
    "id with NUL": ({"id": "a\0b"}, "id is 'a\\x00b' (str), with NUL, CR or LF"),
    "id with NUL and a lone surrogate": ({"id": "\0\ud800"}, "id "),
    "sneaky id": ({"id": Sneaky("\0")}, "with NUL, CR or LF in it"),
    "bool id": ({"id": True}, "id is True (bool): an event's id is a str or an int"),
    "float id": ({"id": 1.0}, "id is 1.0 (float): an event's id is a str or an int"),
    "id of bytes": ({"id": b"1"}, "id is b'1' (bytes)"),
    "id impostor": ({"id": StrImpostor()}, "id is <impostor> (StrImpostor)"),
    "int impostor as id": ({"id": IntImpostor()}, "id is <impostor> (IntImpostor)"),
    "int impostor as retry": ({"retry": IntImpostor()}, "retry is <impostor> (IntImpostor)"),
    "id of too many digits": ({"id": 10**5000}, "id is an int of too many digits"),
    "negative retry": ({"retry": -1}, "retry is -1 (int): it is an int of milliseconds"),
    "bool retry": ({"retry": True}, "retry is True (bool)"),
    "float retry": ({"retry": 1.5}, "retry is 1.5 (float)"),
    "str retry": ({"retry": "5"}, "retry is '5' (str)"),
    "retry of too many digits": ({"retry": 10**5000}, "retry is an int of too many digits"),
    "comment that is no str": ({"comment": 5}, "comment is 5 (int): it is a str"),
    "comment impostor": (
        {"comment": StrImpostor()},
        "comment is <impostor> (StrImpostor): it is a str",
    ),
    "lone surrogate in data": ({"data": "ab\ud800"}, f"data {LONE}, '\\ud800' at index 2"),
    "lone low surrogate": ({"data": "\udfff"}, f"data {LONE}, '\\udfff' at index 0"),
    "surrogates the wrong way round": ({"data": "\udc00\ud800"}, f"data {LONE}, '\\udc00'"),
    "a pair of surrogates": ({"data": "\ud83d\ude00"}, f"data {LONE}, '\\ud83d' at index 0"),
    "lone surrogate in a str": ("a\ud800", f"data {LONE}"),
    "lone surrogate in JSON": ({"data": ["a\ud800"]}, f"data {LONE}"),
    "lone surrogate in event": ({"event": "\ud800", "data": ""}, f"event {LONE}"),
    "lone surrogate in id": ({"id": "\ud800"}, f"id {LONE}"),
    "lone surrogate in comment": ({"comment": "\ud800"}, f"comment {LONE}"),
    "sneaky lone surrogate": ({"data": Sneaky("\ud800")}, f"data {LONE}"),
    "NaN": ({"data": float("nan")}, "data of type float is neither a str nor JSON"),
    "infinity in a list": ({"data": [float("inf")]}, "data of type list is neither"),
    "bytes in data": ({"data": b"a"}, "data of type bytes is neither a str nor JSON"),
    "set in data": ({"data": {1}}, "data of type set is neither a str nor JSON"),
    "object in data": ({"data": object()}, "data of type object is neither a str nor JSON"),
    "impostor in data": ({"data": StrImpostor()}, "data of type StrImpostor is neither"),
    "complex in JSON": ({"data": {"a": 1j}}, "data of type dict is neither a str nor JSON"),
    "key of JSON": ({"data": {(1,): 1}}, "data of type dict is neither a str nor JSON"),
    "int of too many digits in data": ({"data": 10**5000}, "data of type int is neither"),
    # The first of several faults, in the order unknown keys, comment, event, id, retry, data.
    "keys first": ({"comment": 5, "x": 1}, UNKNOWN),
    "comment before event": ({"comment": 5, "event": 5}, "comment is 5"),
    "no data before event": ({"event": 5}, "the event has event but no data"),
    "event before id": ({"event": 5, "id": 5.0, "data": ""}, "event is 5"),
    "id before retry": ({"id": 5.0, "retry": -1}, "id is 5.0"),
    "retry before data": ({"retry": -1, "data": {1}}, "retry is -1"),
}


def loop_of_lists() -> list[Any]:
    loop: list[Any] = []
    loop.append(loop)
    return loop


@pytest.mark.parametrize(("event", "framed"), FRAMED.values(), ids=FRAMED)
def test_framed(speedups: SimpleNamespace, event: Any, framed: bytes) -> None:
    assert speedups.encode(event) == framed
    buffer = speedups.EventBuffer()
    assert buffer.append(event) == 1
    assert (len(buffer), buffer.take(), len(buffer)) == (len(framed), framed, 0)


@pytest.mark.parametrize(("text", "lines"), LINE_ENDS.values(), ids=LINE_ENDS)
def test_line_ends(speedups: SimpleNamespace, text: str, lines: list[bytes]) -> None:
    data = b"".join(b"data: %b\n" % line for line in lines)
    assert speedups.encode(text) == data + b"\n"
    assert speedups.encode({"data": Sneaky(text)}) == data + b"\n"
    comment = b"".join(b": %b\n" % line for line in lines)
    assert speedups.encode({"data": text, "comment": text}) == comment + data + b"\n"
    buffer = speedups.EventBuffer()
    buffer.append({"data": text})
    assert buffer.take() == data + b"\n"


@pytest.mark.parametrize(("event", "message"), REFUSED.values(), ids=REFUSED)
def test_refused(speedups: SimpleNamespace, event: Any, message: str) -> None:
    with pytest.raises(InvalidEvent, match=re.escape(message)):
        speedups.encode(event)
    if isinstance(event, list):
        return  # a batch, for a buffer
    buffer = speedups.EventBuffer()
    buffer.append("before")
    with pytest.raises(InvalidEvent, match=re.escape(message)):
        buffer.append(event)
    buffer.append("after")
    assert buffer.take() == b"data: before\n\ndata: after\n\n"


@pytest.mark.parametrize("event", [event for event, _ in REFUSED.values()], ids=REFUSED)
def test_refused_with_the_same_words(event: Any) -> None:
    assert not isinstance(agreed(event), bytes)


def test_circular_data_is_refused(speedups: SimpleNamespace) -> None:
    with pytest.raises(InvalidEvent, match="data of type list is neither a str nor JSON"):
        speedups.encode({"data": loop_of_lists()})


def test_data_nested_too_deep_is_refused(speedups: SimpleNamespace) -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(InvalidEvent, match="data of type list is neither a str nor JSON"):
        speedups.encode({"data": deep})
    while deep:  # unwound by hand: freeing it in one go is a recursion too
        deep = deep.pop()


def test_int_subclass_cannot_pass_for_one_that_is_not_negative(speedups: SimpleNamespace) -> None:
    class Positive(int):
        def __ge__(self, other: int) -> bool:
            return True

        def __lt__(self, other: int) -> bool:
            return False

        def __str__(self) -> str:
            return "5\ndata: forged"

        __repr__ = __str__

    assert speedups.encode({"retry": Positive(3), "id": Positive(4)}) == b"id: 4\nretry: 3\n\n"
    with pytest.raises(InvalidEvent, match="retry is "):
        speedups.encode({"retry": Positive(-3)})


@pytest.mark.parametrize("stop", [StopIteration, StopAsyncIteration, KeyError, MemoryError])
def test_what_data_itself_raises_comes_out(
    speedups: SimpleNamespace, stop: type[Exception]
) -> None:
    class Failing(dict[str, Any]):
        def items(self) -> Any:
            raise stop("items")

    data = Failing(a=1)
    buffer = speedups.EventBuffer()
    buffer.append("before")
    for item in ({"data": data}, [{"data": "x"}, {"data": data}], {"data": data, "id": "1"}):
        with pytest.raises(stop, match="items"):
            buffer.append(item)
    assert buffer.take() == b"data: before\n\n"


def test_key_that_only_equals_a_field(speedups: SimpleNamespace) -> None:
    """A dict finds by hash and equality; what it finds so is the field."""

    class Key:
        def __hash__(self) -> int:
            return hash("data")

        def __eq__(self, other: object) -> bool:
            return other == "data"

    assert speedups.encode({Key(): "a"}) == b"data: a\n\n"


def test_key_whose_comparison_fails(speedups: SimpleNamespace) -> None:
    class Key:
        def __hash__(self) -> int:
            return hash("data")

        def __eq__(self, other: object) -> bool:
            raise ArithmeticError("do not compare me")

    with pytest.raises(ArithmeticError, match="do not compare me"):
        speedups.encode({Key(): "a"})


class TestBatch:
    def test_is_encoded_in_one_step(self, speedups: SimpleNamespace) -> None:
        buffer = speedups.EventBuffer()
        assert buffer.append(["a", {"data": "b", "id": 1}, {"comment": "c"}]) == 3
        assert buffer.append([]) == 0
        assert buffer.append([{"data": "d"}]) == 1
        assert buffer.take() == b"data: a\n\nid: 1\ndata: b\n\n: c\n\ndata: d\n\n"

    @pytest.mark.parametrize("place", [0, 1, 2])
    @pytest.mark.parametrize(
        "refused", [None, {}, ["a"], {"data": "\ud800", "id": "1"}, {"id": "\n"}]
    )
    def test_is_all_or_nothing(self, speedups: SimpleNamespace, refused: Any, place: int) -> None:
        buffer = speedups.EventBuffer()
        buffer.append("before")
        batch: list[Any] = ["a" * 100_000, "b"]
        batch.insert(place, refused)
        with pytest.raises(InvalidEvent):
            buffer.append(batch)
        assert len(buffer) == 14
        buffer.append("after")
        assert buffer.take() == b"data: before\n\ndata: after\n\n"

    def test_of_a_list_subclass_is_what_the_list_holds(self, speedups: SimpleNamespace) -> None:
        buffer = speedups.EventBuffer()
        assert buffer.append(ReversedList(["a", "b"])) == 2
        assert buffer.take() == b"data: a\n\ndata: b\n\n"

    def test_of_a_tuple_is_none(self, speedups: SimpleNamespace) -> None:
        with pytest.raises(InvalidEvent, match=r"not \('a',\) \(tuple\)"):
            speedups.EventBuffer().append(("a",))

    def test_whose_events_are_dropped_while_they_are_encoded(
        self, speedups: SimpleNamespace
    ) -> None:
        """A comparison of the user's own empties the list: the event in hand must live on."""

        class Key:
            def __hash__(self) -> int:
                return hash("comment")

            def __eq__(self, other: object) -> bool:
                if batch:
                    batch.clear()
                    # Dicts like the one that was dropped, which take its memory if nothing holds it.
                    reused.extend({"forged": n} for n in range(100))
                return False

            def __repr__(self) -> str:
                return "<key>"

        reused: list[Any] = []
        batch: list[Any] = [{Key(): 1, "data": "a", "id": "i"}]
        buffer = speedups.EventBuffer()
        with pytest.raises(InvalidEvent, match="has no field <key>"):
            buffer.append(batch)
        assert reused
        assert buffer.take() == b""

    def test_that_is_changed_while_it_is_encoded(self, speedups: SimpleNamespace) -> None:
        class Emptying(dict[str, Any]):
            def items(self) -> Any:
                event.clear()
                batch.clear()
                return [("a", 1)]

        event: dict[str, Any] = {"data": Emptying(a=0), "id": "i" * 50, "comment": "c" * 50}
        batch: list[Any] = [event, "never"]
        buffer = speedups.EventBuffer()
        buffer.append(batch)
        assert buffer.take() == b': %b\nid: %b\ndata: {"a":1}\n\n' % (b"c" * 50, b"i" * 50)


class TestBuffer:
    def test_begins_empty(self, speedups: SimpleNamespace) -> None:
        buffer = speedups.EventBuffer()
        assert len(buffer) == 0
        assert buffer.take() == b""

    def test_take_gives_bytes_of_its_own(self, speedups: SimpleNamespace) -> None:
        buffer = speedups.EventBuffer()
        buffer.append("first")
        taken = buffer.take()
        buffer.append("later")
        assert type(taken) is bytes
        assert taken == b"data: first\n\n"
        assert buffer.take() == b"data: later\n\n"
        assert buffer.take() == b""

    @pytest.mark.parametrize("size", [80 * 1024 - 8, 80 * 1024 - 7, 160 * 1024, 5_000_000])
    def test_grows_for_one_event(self, speedups: SimpleNamespace, size: int) -> None:
        buffer = speedups.EventBuffer()
        buffer.append("before")
        buffer.append({"data": "x" * size})
        buffer.append("after")
        assert len(buffer) == 14 + 8 + size + 13
        expected = b"data: before\n\ndata: %b\n\ndata: after\n\n" % (b"x" * size)
        assert buffer.take() == expected

    def test_grows_by_many_events(self, speedups: SimpleNamespace) -> None:
        buffer = speedups.EventBuffer()
        events = [f"{n}\n{'é' * (n % 50)}" for n in range(60_000)]
        for event in events:
            buffer.append({"data": event, "id": "i"})
        expected = "".join(
            "id: i\ndata: {}\ndata: {}\n\n".format(*event.split("\n")) for event in events
        ).encode()
        assert len(buffer) == len(expected) > 4_000_000
        assert buffer.take() == expected

    def test_grows_by_lines(self, speedups: SimpleNamespace) -> None:
        assert speedups.encode("\n" * 300_000) == b"data: \n" * 300_001 + b"\n"
        assert speedups.encode({"comment": "\r" * 300_000}) == b": \n" * 300_001 + b"\n"

    @pytest.mark.parametrize("is_refused", [False, True])
    def test_gives_back_what_a_huge_event_took(
        self, speedups: SimpleNamespace, is_refused: bool
    ) -> None:
        buffer = speedups.EventBuffer()
        buffer.append("x")
        buffer.take()
        tracemalloc.start()
        try:
            if is_refused:
                with pytest.raises(InvalidEvent):
                    buffer.append(["x" * 8_000_000, None])
            else:
                buffer.append({"data": "x" * 8_000_000})
            buffer.take()
            assert tracemalloc.get_traced_memory()[0] < 500_000
            assert tracemalloc.get_traced_memory()[1] > 8_000_000
        finally:
            tracemalloc.stop()
        buffer.append("still good")
        assert buffer.take() == b"data: still good\n\n"

    def test_keeps_nothing_of_what_it_has_encoded(self, speedups: SimpleNamespace) -> None:
        """No event, value or error is held on to, whatever becomes of it."""

        def run() -> None:
            buffer = speedups.EventBuffer()
            for number, (event, _) in enumerate([*FRAMED.values(), *REFUSED.values()]):
                with contextlib.suppress(InvalidEvent):
                    buffer.append(event)
                    buffer.append([{"data": f"{number} ä"}, {"id": str(number)}, f"x{number}"])
                    buffer.append([{"data": str(number)}, None])
                with contextlib.suppress(InvalidEvent):
                    speedups.encode(event)
            buffer.take()

        tracemalloc.start()
        try:
            for _ in range(60):  # until the interpreter's own free lists are full
                run()
            gc.collect()
            before = tracemalloc.get_traced_memory()[0]
            for _ in range(150):
                run()
            gc.collect()
            grown = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
        # One object leaked a round in one case only would be 150 of 28 bytes; other threads take a few hundred.
        assert grown < 4000


class TestBytesBuffer:
    @pytest.mark.parametrize(
        ("piece", "expected"),
        [
            ("é\r\n", b"\xc3\xa9\r\n"),
            (b"a\0b", b"a\0b"),
            (bytearray(b"ab"), b"ab"),
            (memoryview(b"abcdef")[::2], b"ace"),
            (memoryview(b"abcdefgh").cast("I"), b"abcdefgh"),
            ("", b""),
            (b"", b""),
            (Sneaky("a\nb"), b"a\nb"),
            (Colour.RED, b"red"),
        ],
        ids=name_of,
    )
    def test_takes(self, speedups: SimpleNamespace, piece: Any, expected: bytes) -> None:
        buffer = speedups.BytesBuffer()
        assert buffer.append(piece) == 1
        assert len(buffer) == len(expected)
        assert buffer.append(b"!") == 1
        assert buffer.take() == expected + b"!"
        assert buffer.take() == b""

    @pytest.mark.parametrize("piece", [None, 5, ["a"], {"data": "a"}, StrImpostor()], ids=name_of)
    def test_refuses(self, speedups: SimpleNamespace, piece: Any) -> None:
        buffer = speedups.BytesBuffer()
        buffer.append("before")
        with pytest.raises(InvalidResponse, match="a streamed body yields str or bytes, not "):
            buffer.append(piece)
        assert buffer.take() == b"before"

    def test_refuses_a_lone_surrogate(self, speedups: SimpleNamespace) -> None:
        buffer = speedups.BytesBuffer()
        with pytest.raises(InvalidResponse, match="lone surrogate"):
            buffer.append("a\ud800")
        assert buffer.take() == b""

    def test_takes_the_bytes_of_a_subclass(self, speedups: SimpleNamespace) -> None:
        class Lying(bytes):
            def __bytes__(self) -> bytes:
                return b"forged"

        buffer = speedups.BytesBuffer()
        buffer.append(Lying(b"true"))
        assert buffer.take() == b"true"

    def test_is_not_changed_by_what_it_was_given(self, speedups: SimpleNamespace) -> None:
        piece = bytearray(b"abc")
        buffer = speedups.BytesBuffer()
        buffer.append(piece)
        piece[:] = b"xyz"
        assert buffer.take() == b"abc"

    def test_grows(self, speedups: SimpleNamespace) -> None:
        buffer = speedups.BytesBuffer()
        pieces = [bytes([n % 256]) * (n * 1000) for n in range(100)]
        for piece in pieces:
            buffer.append(piece)
        assert buffer.take() == b"".join(pieces)


# hypothesis: what was meant is what is decoded


#: The first int that CPython writes no more (sys.set_int_max_str_digits).
TOO_LONG = 10 ** sys.get_int_max_str_digits()


class Meaning(NamedTuple):
    events: list[DecodedEvent]
    last_event_id: str
    retry: int | None
    comments: int


def is_a(value: Any, kind: type) -> bool:
    """What a value is, whatever its ``__class__`` says."""
    return issubclass(type(value), kind)


def plain(text: Any) -> Any:
    """A str of any subclass as what it holds, anything else as it is."""
    return "".join(str.__iter__(text)) if is_a(text, str) else text


def is_utf8(text: str) -> bool:
    return not any("\ud800" <= char <= "\udfff" for char in text)


def meaning(event: Any, last_event_id: str) -> Meaning | None:
    """What an event means to a client by the contract of ``encode``; None where it must be refused."""
    if is_a(event, str):
        event = {"data": event}
    if not is_a(event, dict) or not all(is_a(key, str) for key in event):
        return None
    if not event.keys() <= {"data", "event", "id", "retry", "comment"}:
        return None
    fields = {key: value for key, value in event.items() if key == "data" or value is not None}
    if not fields or ("event" in fields and "data" not in fields):
        return None
    texts = []
    for key in ("comment", "event", "id"):
        text = plain(fields.get(key, ""))
        if key == "id" and type(text) is int and abs(text) < TOO_LONG:
            text = str(text)
        if not is_a(text, str) or not is_utf8(text):
            return None
        if (key != "comment" and set(text) & {"\r", "\n"}) or (key == "id" and "\0" in text):
            return None
        texts.append(text)
    comment, name, identity = texts
    retry = fields.get("retry")
    if retry is not None and (type(retry) is not int or not 0 <= retry < TOO_LONG):
        return None
    data = plain(fields.get("data"))
    if not is_a(data, str):
        try:
            data = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        except (TypeError, ValueError):
            return None
    if not is_utf8(data):
        return None
    if "id" in fields:
        last_event_id = identity
    data = data.replace("\r\n", "\n").replace("\r", "\n")
    events = [DecodedEvent(name or "message", data, last_event_id)] if "data" in fields else []
    lines = comment.replace("\r\n", "\n").replace("\r", "\n").count("\n") + 1
    return Meaning(events, last_event_id, retry, lines if "comment" in fields else 0)


FORGERIES = [
    "a\n\nevent: forged\ndata: forged\n\n",
    "a\r\rid: forged\rdata: forged\r\r",
    "a\r\n\r\nretry: 1\r\n\r\n",
    "a\u2028\u2028data: forged",
    "a\x85\x85data: forged",
    "a\x0b\x0cdata: forged\x1c\x1d\x1e",
    "\ufeffdata: forged",
    "\0",
    "\n",
    "\r",
    ": forged",
    "data",
    "data:",
]
CHARS = "a: \0\r\n\x0b\x0c\x1c\x85\u2028\ufeffé€😀\ud800\udc00"
TEXTS = st.one_of(
    st.text(),
    st.text(alphabet=CHARS),
    st.sampled_from(FORGERIES),
    st.builds(Sneaky, st.text(alphabet=CHARS)),
)
#: Up to and over the digits that an int may have as text; hypothesis cannot show those above, so they are made here.
INTS = st.one_of(st.integers(), st.sampled_from([63, 4299, 4300]).map(lambda digits: 10**digits))
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), INTS, st.floats(), TEXTS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(TEXTS, st.integers(), st.none()), inner, max_size=3),
    ),
    max_leaves=5,
)
GARBAGE = st.one_of(
    JSON,
    st.binary(max_size=3),
    st.tuples(st.integers()),
    st.builds(object),
    st.sampled_from([StrImpostor, IntImpostor, DictImpostor, ListImpostor]).map(
        lambda impostor: impostor()
    ),
    st.builds(set),
    st.complex_numbers(),
)
KEYS = st.sampled_from(["data", "event", "id", "retry", "comment"])
GARBAGE_KEYS = st.one_of(
    KEYS,
    TEXTS,
    st.builds(Sneaky, KEYS),
    st.integers(),
    st.none(),
    st.binary(max_size=4),
    st.booleans(),
)
PLAUSIBLE = st.fixed_dictionaries(
    {},
    optional={
        "data": st.one_of(TEXTS, JSON),
        "event": st.one_of(TEXTS, st.none(), st.text(alphabet="ab :")),
        "id": st.one_of(TEXTS, INTS, st.none(), st.text(alphabet="ab :")),
        "retry": st.one_of(INTS, st.none(), st.integers(min_value=0)),
        "comment": st.one_of(TEXTS, st.none()),
    },
)
EVENTS = st.one_of(
    PLAUSIBLE,
    st.dictionaries(KEYS, GARBAGE, max_size=5),
    st.dictionaries(GARBAGE_KEYS, GARBAGE, max_size=5),
    TEXTS,
    GARBAGE,
)


@settings(max_examples=600, deadline=None)
@given(EVENTS)
def test_decodes_to_what_was_meant_or_is_refused(event: Any) -> None:
    decoder = Decoder()
    before = decoder.feed(PAIR[0].encode({"data": "before", "id": "0"}))
    assert before == [DecodedEvent("message", "before", "0")]
    framed = agreed(event)
    meant = meaning(event, "0")
    if meant is None:
        assert isinstance(framed, tuple)
        assert framed[0] is InvalidEvent
        assert framed[1]
        meant = Meaning([], "0", None, 0)
    else:
        assert isinstance(framed, bytes), framed
        assert decoder.feed(framed) == meant.events
    # Nothing is left over for the next event, and nothing was forged.
    after = decoder.feed(PAIR[0].encode("after"))
    assert after == [DecodedEvent("message", "after", meant.last_event_id)]
    assert decoder.retry == meant.retry
    assert decoder.comments == meant.comments


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(items=st.lists(st.one_of(EVENTS, st.lists(EVENTS, max_size=4)), max_size=8))
def test_buffer_holds_exactly_what_it_has_counted(
    speedups: SimpleNamespace, items: list[Any]
) -> None:
    buffer = speedups.EventBuffer()
    expected = b""
    for item in items:
        batch = item if is_a(item, list) else [item]
        framed = [outcome(PAIR[0].encode, event) for event in batch]
        refusals = [one for one in framed if isinstance(one, tuple)]
        if refusals:
            with pytest.raises(InvalidEvent) as caught:
                buffer.append(item)
            assert str(caught.value) == refusals[0][1]
        else:
            assert buffer.append(item) == len(batch)
            expected += b"".join(one for one in framed if isinstance(one, bytes))
        assert len(buffer) == len(expected)
    assert buffer.take() == expected


@settings(max_examples=200, deadline=None)
@given(GARBAGE)
def test_twins_agree_on_a_piece_of_a_body(piece: Any) -> None:
    def bytes_of(twin: SimpleNamespace) -> Callable[[Any], Any]:
        def call(argument: Any) -> Any:
            buffer = twin.BytesBuffer()
            assert buffer.append(argument) == 1
            return buffer.take()

        return call

    outcomes = [outcome(bytes_of(twin), piece) for twin in PAIR]
    assert outcomes.count(outcomes[0]) == len(PAIR), outcomes
    if isinstance(outcomes[0], tuple):
        assert outcomes[0][0] is InvalidResponse
