"""The decoder against the examples and the rules of WHATWG HTML 9.2.6, cut in every way."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bunpy.testing import DecodedEvent, Decoder

Outcome = tuple[list[DecodedEvent], str, int | None, int]


def message(data: str, id: str = "", event: str = "message") -> DecodedEvent:  # noqa: A002
    return DecodedEvent(event, data, id)


def decode(*pieces: bytes) -> Outcome:
    decoder = Decoder()
    events = [event for piece in pieces for event in decoder.feed(piece)]
    return events, decoder.last_event_id, decoder.retry, decoder.comments


def every_way(stream: bytes) -> list[tuple[bytes, ...]]:
    """The stream whole, byte by byte, and in two pieces at every place."""
    splits = [(stream[:i], stream[i:]) for i in range(len(stream) + 1)]
    return [(stream,), tuple(stream[i : i + 1] for i in range(len(stream))), *splits]


# The examples of sections 9.2.1 and 9.2.6, in their order.
FOUR_BLOCKS = """: test stream

data: first event
id: 1

data:second event
id

data:  third event
"""
EXAMPLES = {
    "three messages": (
        """data: This is the first message.

data: This is the second message, it
data: has two lines.

data: This is the third message.

""",
        [
            message("This is the first message."),
            message("This is the second message, it\nhas two lines."),
            message("This is the third message."),
        ],
        "",
    ),
    "two event types": (
        "event: add\ndata: 73857293\n\nevent: remove\ndata: 2153\n\nevent: add\ndata: 113411\n\n",
        [
            message("73857293", event="add"),
            message("2153", event="remove"),
            message("113411", event="add"),
        ],
        "",
    ),
    "stocks": ("data: YHOO\ndata: +2\ndata: 10\n\n", [message("YHOO\n+2\n10")], ""),
    "stocks without the blank line": ("data: YHOO\ndata: +2\ndata: 10\n", [], ""),
    "four blocks": (
        FOUR_BLOCKS + "\n",
        [message("first event", "1"), message("second event"), message(" third event")],
        "",
    ),
    "four blocks, the last one not ended": (
        FOUR_BLOCKS,
        [message("first event", "1"), message("second event")],
        "",
    ),
    "four blocks, cut after the second": (
        FOUR_BLOCKS.partition("data:second")[0],
        [message("first event", "1")],
        "1",
    ),
    "two events": ("data\n\ndata\ndata\n\ndata:\n", [message(""), message("\n")], ""),
    "two events and a blank line": (
        "data\n\ndata\ndata\n\ndata:\n\n",
        [message(""), message("\n"), message("")],
        "",
    ),
    "two identical events": ("data:test\n\ndata: test\n\n", [message("test")] * 2, ""),
}


@pytest.mark.parametrize("line_end", ["\n", "\r", "\r\n"], ids=["LF", "CR", "CRLF"])
@pytest.mark.parametrize("bom", ["", "\ufeff"], ids=["plain", "BOM"])
@pytest.mark.parametrize(("stream", "events", "last_event_id"), EXAMPLES.values(), ids=EXAMPLES)
def test_an_example_of_the_standard(
    stream: str, events: list[DecodedEvent], last_event_id: str, bom: str, line_end: str
) -> None:
    for pieces in every_way((bom + stream).replace("\n", line_end).encode()):
        assert decode(*pieces)[:2] == (events, last_event_id)


def outcome(
    *events: DecodedEvent, last: str = "", retry: int | None = None, comments: int = 0
) -> Outcome:
    return list(events), last, retry, comments


A, B, C = message("a"), message("b"), message("c")
NO_OTHER_LINE_ENDS = "a\x0bb\x0cc\x1cd\x85e\u2028f\u2029g"
NO_RETRY = b"3x|+4|-5|6.0| 7|| |0x8|1_0"

# Rules without an example.
RULES = {
    "nothing": (b"", outcome()),
    "blank lines": (b"\n\r\r\n\n", outcome()),
    "line ends mixed": (b"data: a\rdata: b\r\ndata: c\n\r", outcome(message("a\nb\nc"))),
    "CR LF is one line end, LF CR are two": (b"data: a\n\rdata: b\r\n\n", outcome(A, B)),
    "no other line ends": (
        f"data: {NO_OTHER_LINE_ENDS}\n\n".encode(),
        outcome(message(NO_OTHER_LINE_ENDS)),
    ),
    "a BOM at the start": (b"\xef\xbb\xbfdata: a\n\n", outcome(A)),
    "a BOM later on": (b"data: a\n\n\xef\xbb\xbfdata: b\n\n", outcome(A)),
    "a BOM after a blank line": (b"\n\xef\xbb\xbfdata: a\n\n", outcome()),
    "two BOMs": (b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\n", outcome()),
    "a BOM in the data": (b"data: \xef\xbb\xbfa\n\n", outcome(message("\ufeffa"))),
    "not UTF-8": (b"data: \xff\xfea\n\n", outcome(message("\ufffd\ufffda"))),
    "a character cut off": (b"data: \xe2\x82\n\n", outcome(message("\ufffd"))),
    "a surrogate": (b"data: \xed\xa0\x80\n\n", outcome(message("\ufffd" * 3))),
    "characters of 2, 3 and 4 bytes": ("data: é€😀\n\n".encode(), outcome(message("é€😀"))),
    "NUL in the data": (b"data: a\0b\n\n", outcome(message("a\0b"))),
    "comments": (b":\n: a\n:data: b\ndata: c\n:\n\n:", outcome(C, comments=4)),
    "heartbeats": (b":\n\n:\n\n", outcome(comments=2)),
    "only one space goes": (b"data:  a \ndata:\tb\n\n", outcome(message(" a \n\tb"))),
    "colons in a value": (b"data: a: b\n\n", outcome(message("a: b"))),
    "unknown fields": (b"data: a\nDATA: b\n data: c\ndata : d\nfoo\n\n", outcome(A)),
    "an event type": (
        b"event: x\ndata: a\n\ndata: b\n\n",
        outcome(message("a", event="x"), B),
    ),
    "two event types": (b"event: x\nevent: y\ndata: a\n\n", outcome(message("a", event="y"))),
    "an empty event type": (b"event: x\nevent\ndata: a\n\n", outcome(A)),
    "an event type without data": (b"event: x\n\ndata: a\n\n", outcome(A)),
    "an id stays": (
        b"id: 1\ndata: a\n\ndata: b\n\n",
        outcome(message("a", "1"), message("b", "1"), last="1"),
    ),
    "an id without data": (b"id: 1\n\ndata: a\n\n", outcome(message("a", "1"), last="1")),
    "an id is reset": (
        b"id: 1\ndata: a\n\nid:\ndata: b\n\n",
        outcome(message("a", "1"), B),
    ),
    "an id with NUL": (b"id: 1\nid: 2\0\ndata: a\n\n", outcome(message("a", "1"), last="1")),
    "an id of an event that is not ended": (b"id: 1\n\nid: 2\ndata: a\n", outcome(last="1")),
    "an id in other letters": ("id: é€\n\n".encode(), outcome(last="é€")),
    "retry": (b"retry: 1500\n", outcome(retry=1500)),
    "retry with leading zeros": (b"retry:007\n", outcome(retry=7)),
    "retry twice": (b"retry: 1\nretry: 2\n", outcome(retry=2)),
    "retry that is none": (
        b"retry: 1\nretry\n" + b"".join(b"retry: %b\n" % v for v in NO_RETRY.split(b"|")),
        outcome(retry=1),
    ),
    "retry in digits of another script": ("retry: \u0661\u0662\n".encode(), outcome()),
    "retry in a line that is not ended": (b"retry: 1", outcome()),
}


@pytest.mark.parametrize(("stream", "expected"), RULES.values(), ids=RULES)
def test_a_rule_of_the_standard(stream: bytes, expected: Outcome) -> None:
    for pieces in every_way(stream):
        assert decode(*pieces) == expected


def test_a_return_at_the_end_of_a_piece_ends_its_line_at_once() -> None:
    decoder = Decoder()
    assert decoder.feed(b"data: a\r") == []
    assert decoder.feed(b"\r") == [message("a")]
    assert decoder.feed(b"\ndata: b\r\n\r") == [message("b")]
    assert decoder.feed(b"") == []
    assert decoder.feed(b"\n") == []  # the other half of the blank line, not a second one
    assert decoder.feed(b"data: c\n\n") == [message("c")]


def test_an_event_is_given_with_the_piece_that_completes_it() -> None:
    decoder = Decoder()
    assert decoder.feed(b"data: a\n\ndata: b\n\nda") == [message("a"), message("b")]
    assert decoder.feed(b"ta: c\n") == []
    assert decoder.feed(b"\n") == [message("c")]


def test_the_last_event_id_of_an_earlier_connection_is_carried_over() -> None:
    decoder = Decoder(last_event_id="7")
    assert decoder.last_event_id == "7"
    assert decoder.feed(b"data: a\n\n") == [message("a", "7")]
    assert decoder.feed(b"id: 8\ndata: b\n\n") == [message("b", "8")]
    assert decoder.feed(b"id\n\n") == []
    assert decoder.last_event_id == ""


def test_an_event_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        message("a").data = "b"  # type: ignore[misc]


FRAGMENTS = [
    *(b"data", b"event", b"id", b"retry", b":", b": ", b" ", b"x", b"12", b"\0"),
    *(b"\r", b"\n", b"\r\n", b"\n\n", b"\r\r", b"\xef\xbb\xbf", b"\xe2\x82\xac"),
    *(b"\xf0\x9f\x98\x80", b"\xf0\x9f", b"\x80", b"\xed\xa0\x80", b"\xff", b"\xc0\xaf"),
]
STREAMS = st.lists(st.sampled_from(FRAGMENTS), max_size=40).map(b"".join) | st.binary(max_size=60)


@settings(deadline=None)
@given(stream=STREAMS, cuts=st.lists(st.integers(0, 160), max_size=8))
def test_where_a_stream_is_cut_changes_nothing(stream: bytes, cuts: list[int]) -> None:
    marks = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    pieces = [stream[start:stop] for start, stop in itertools.pairwise(marks)]
    whole = decode(stream)
    assert decode(*pieces) == whole
    assert decode(*(stream[i : i + 1] for i in range(len(stream)))) == whole
