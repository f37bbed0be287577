"""``bunpy.sse.event.Event`` with the encoder of each twin."""

from __future__ import annotations

import copy
import pickle
from types import SimpleNamespace
from typing import Any

import pytest

import bunpy.serve
import bunpy.sse.event
from bunpy.errors import InvalidEvent
from bunpy.sse.event import Event


@pytest.fixture(autouse=True)
def encode(speedups: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The encoder under test, which ``Event`` uses too."""
    monkeypatch.setattr(bunpy.sse.event, "encode", speedups.encode)
    return speedups.encode


def test_is_public() -> None:
    assert bunpy.serve.Event is Event


@pytest.mark.parametrize(
    ("event", "as_dict", "framed"),
    [
        (Event("a"), {"data": "a"}, b"data: a\n\n"),
        (Event(""), {"data": ""}, b"data: \n\n"),
        (Event(None), {"data": None}, b"data: null\n\n"),
        (Event(data={"a": 1}), {"data": {"a": 1}}, b'data: {"a":1}\n\n'),
        (Event("a\nb"), {"data": "a\nb"}, b"data: a\ndata: b\n\n"),
        (Event(id="7"), {"id": "7"}, b"id: 7\n\n"),
        (Event(id=0), {"id": 0}, b"id: 0\n\n"),
        (Event(id=""), {"id": ""}, b"id: \n\n"),
        (Event(retry=0), {"retry": 0}, b"retry: 0\n\n"),
        (Event(comment="hi"), {"comment": "hi"}, b": hi\n\n"),
        (Event("a", event=None, id=None, retry=None, comment=None), {"data": "a"}, b"data: a\n\n"),
        (
            Event("a", event="e", id="i", retry=5, comment="c"),
            {"data": "a", "event": "e", "id": "i", "retry": 5, "comment": "c"},
            b": c\nevent: e\nid: i\nretry: 5\ndata: a\n\n",
        ),
    ],
    ids=lambda value: repr(value) if isinstance(value, Event) else "",
)
def test_is_the_dict_of_its_arguments(
    encode: Any, speedups: SimpleNamespace, event: Event, as_dict: dict[str, Any], framed: bytes
) -> None:
    assert event == as_dict
    assert encode(event) == encode(as_dict) == framed
    buffer = speedups.EventBuffer()
    assert buffer.append([event, event]) == 2
    assert buffer.take() == framed * 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "the event is an empty dict"),
        ({"event": "a"}, "the event has event but no data"),
        ({"data": "a", "event": "a\nb"}, "event is 'a.nb'"),
        ({"data": "a", "event": 5}, "event is 5"),
        ({"data": "a", "id": "\0"}, "id is "),
        ({"id": True}, r"id is True \(bool\)"),
        ({"retry": -1}, "retry is -1"),
        ({"retry": True}, r"retry is True \(bool\)"),
        ({"comment": 5}, "comment is 5"),
        ({"data": float("nan")}, "data of type float"),
        ({"data": "\ud800"}, "data has a lone surrogate"),
    ],
)
def test_refuses_where_it_is_made(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidEvent, match=message):
        Event(**arguments)


def test_takes_no_other_field() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'name'"):
        Event("a", name="b")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="positional"):
        Event("a", "b")  # type: ignore[call-arg]


def test_repr_makes_it_again() -> None:
    for event in (Event("a\n", event="e", id=1, retry=2, comment="c"), Event(None), Event(id="x")):
        assert eval(repr(event)) == event
    assert repr(Event("a")) == "Event(data='a')"


def test_survives_copies() -> None:
    event = Event({"a": [1]}, event="e", id="i")
    for again in (copy.copy(event), copy.deepcopy(event), pickle.loads(pickle.dumps(event))):
        assert type(again) is Event
        assert again == event
        assert again is not event


def test_is_a_dict_that_may_be_changed_and_is_judged_again(encode: Any) -> None:
    event = Event("a")
    event["id"] = "7"
    assert encode(event) == b"id: 7\ndata: a\n\n"
    event["id"] = "7\n"
    with pytest.raises(InvalidEvent, match="id is "):
        encode(event)


def test_has_no_dict_of_its_own() -> None:
    with pytest.raises(AttributeError):
        Event("a").data = "b"  # type: ignore[attr-defined]
