"""Request bodies: how a head frames one, and reading it, whole and in pieces, with what follows given back."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bunpy.errors import RequestRefused
from bunpy.http.body import Body, ChunkedBody, SizedBody, body_of
from bunpy.http.limits import Limits

LIMIT = 1000
LIMITS = Limits(body=LIMIT)


def take(body: Body, pieces: Iterable[bytes]) -> tuple[bytes | None, bytes]:
    """What follows the body, None if it is not complete, and its content."""
    rest: bytes | None = None
    for piece in pieces:
        if rest is None:
            rest = body.feed(piece)
        else:
            rest += piece
    return rest, body.content()


def cuts(raw: bytes) -> Iterator[list[bytes]]:
    """Whole, byte by byte, in threes, and in two at every place."""
    yield [raw]
    for size in (1, 3):
        yield [raw[i : i + size] for i in range(0, len(raw), size)]
    for cut in range(1, len(raw)):
        yield [raw[:cut], raw[cut:]]


# Which body follows a head (RFC 9112 section 6.3)


@pytest.mark.parametrize(
    "headers", [{}, {"content-length": "0"}, {"content-length": "000"}, {"te": "trailers"}]
)
@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_no_body(headers: dict[str, str], version: str) -> None:
    assert body_of({"host": "a", **headers}, version, LIMITS) is None


@pytest.mark.parametrize(
    ("length", "size"),
    [("1", 1), ("5", 5), ("005", 5), ("1000", LIMIT), (f"{'0' * 5000}5", 5)],
    ids=lambda value: str(value)[:8],
)
@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_a_body_of_a_size(length: str, size: int, version: str) -> None:
    body = body_of({"content-length": length}, version, LIMITS)
    assert isinstance(body, SizedBody)
    assert take(body, [b"x" * size + b"rest"]) == (b"rest", b"x" * size)


@pytest.mark.parametrize("coding", ["chunked", "Chunked", "CHUNKED"])
def test_a_body_in_chunks(coding: str) -> None:
    body = body_of({"transfer-encoding": coding}, "1.1", LIMITS)
    assert isinstance(body, ChunkedBody)
    assert take(body, [b"5\r\nhello\r\n0\r\n\r\nrest"]) == (b"rest", b"hello")


@pytest.mark.parametrize(
    ("headers", "version", "status"),
    [
        ({"content-length": "1001"}, "1.1", 413),
        ({"content-length": "0001001"}, "1.0", 413),
        ({"content-length": "9" * 19}, "1.1", 413),
        ({"content-length": "9" * 20}, "1.1", 413),
        ({"content-length": "9" * 5000}, "1.1", 413),
        *(
            ({"content-length": length}, "1.1", 400)
            for length in (
                "",
                "+5",
                "-5",
                " 5",
                "5 ",
                "5, 5",
                "5.0",
                "0x5",
                "5_0",
                "\xb2",
                "\xbd",
                "\u0665",
                "\uff15",
            )
        ),
        *(
            ({"transfer-encoding": coding}, "1.1", 400)
            for coding in (
                "",
                "gzip",
                "identity",
                "gzip, chunked",
                "chunked, chunked",
                "chunked;a",
                "\xa0chunked",
            )
        ),
        ({"transfer-encoding": "chunked"}, "1.0", 400),
        ({"transfer-encoding": "chunked", "content-length": "5"}, "1.1", 400),
        ({"transfer-encoding": "chunked", "content-length": "0"}, "1.1", 400),
        ({"transfer-encoding": "chunked", "content-length": ""}, "1.1", 400),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_framing_that_is_refused(headers: dict[str, str], version: str, status: int) -> None:
    with pytest.raises(RequestRefused) as refusal:
        body_of(headers, version, LIMITS)
    assert refusal.value.status == status
    assert refusal.value.closes


def test_a_limit_is_named() -> None:
    with pytest.raises(RequestRefused, match="413 The body is over the limit of 1000 bytes"):
        body_of({"content-length": "1001"}, "1.1", LIMITS)


def test_a_limit_of_nothing() -> None:
    assert body_of({"content-length": "0"}, "1.1", Limits(body=0)) is None
    with pytest.raises(RequestRefused, match="413"):
        body_of({"content-length": "1"}, "1.1", Limits(body=0))


# By size


@pytest.mark.parametrize("rest", [b"", b"rest", b"\r\n"])
def test_a_sized_body_ends_at_its_size(rest: bytes) -> None:
    for pieces in cuts(b"he\r\n\0" + rest):
        assert take(SizedBody(5), pieces) == (rest, b"he\r\n\0"), pieces


def test_a_sized_body_waits_for_its_last_byte() -> None:
    body = SizedBody(5)
    assert body.feed(b"hell") is None
    assert body.feed(b"") is None
    assert body.feed(b"o") == b""
    assert body.content() == b"hello"


# In chunks

BODIES: dict[str, tuple[bytes, bytes]] = {
    "a chunk": (b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
    "no chunk": (b"0\r\n\r\n", b""),
    "many chunks": (b"1\r\na\r\n2\r\nbc\r\n3\r\ndef\r\n0\r\n\r\n", b"abcdef"),
    "sizes in either case": (b"a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n", b"0123456789" * 2),
    "padded sizes": (b"0000000000000001\r\na\r\n0000000000000000\r\n\r\n", b"a"),
    "line ends and sizes in chunks": (b"9\r\n\r\n0\r\n\r\n\r\n\r\n0\r\n\r\n", b"\r\n0\r\n\r\n\r\n"),
    "extensions": (b'1;a\r\nx\r\n1;b=c\r\ny\r\n1;d="\xff;\t"\r\nz\r\n0;e\r\n\r\n', b"xyz"),
    "blanks before an extension": (b"1 \t;a\r\nx\r\n0\t;\r\n\r\n", b"x"),
    "trailers": (b"1\r\nx\r\n0\r\nX: 1\r\nY:\r\nZ:\t\xff \r\n\r\n", b"x"),
    "a trailer like a forbidden one": (b"0\r\nContent-Length-: 5\r\nX-Host: a\r\n\r\n", b""),
}


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("rest", [b"", b"GET / HTTP/1.1\r\n", b"\r\n", b"0\r\n\r\n"])
def test_chunks_are_put_together(name: str, rest: bytes) -> None:
    raw, content = BODIES[name]
    for pieces in cuts(raw + rest):
        assert take(ChunkedBody(LIMITS), pieces) == (rest, content), pieces


@pytest.mark.parametrize("name", BODIES)
def test_chunks_are_complete_at_their_last_byte_only(name: str) -> None:
    raw, _ = BODIES[name]
    for end in range(len(raw)):
        assert take(ChunkedBody(LIMITS), [raw[:end]])[0] is None, raw[:end]


SIZE_LINES = [
    b"", b" ", b"x", b"g", b"0x5", b"5h", b"+5", b"-5", b" 5", b"5 ", b"\t5", b"5\t", b"5,5", b"5 5", b"1_0", b".5",
    b"5\0", b"\xb2", b"5;\0", b"5;\x1b", b"5;\x7f", b"5;\x0b", b"5 a", b"5:a", b"1" * 17, b"0" * 16 + b"5",
]  # fmt: skip
TRAILERS = [
    b"X", b": y", b"X : y", b"X\t: y", b" X: y", b"X: y\r\n z", b"X Y: z", b"(X): y", b"\xe9: y", b"X: \0", b"X: \x7f",
    b"X: \x1b", b"X: y\nZ: a", b"X: y\rZ: a", b"X\r: y",
]  # fmt: skip
#: Fields of framing, routing and authorization, and what would change how the body is read.
FORBIDDEN_TRAILERS = [
    "Transfer-Encoding", "content-length", "HOST", "Authorization", "Proxy-Authorization", "Connection", "Trailer",
    "TE", "Upgrade", "Expect", "Content-Type", "Content-Encoding", "Cookie",
]  # fmt: skip

REFUSED: dict[str, tuple[bytes, int]] = {
    **{f"a size line {line!r}": (line + b"\r\n", 400) for line in SIZE_LINES},
    **{
        f"a size line's end {end!r}": (b"5" + end + b"hello\r\n0\r\n\r\n", 400)
        for end in (b"\n", b"\r", b"\r\r\n", b"\n\r\n")
    },
    **{
        f"an extension's end {end!r}": (b"5;a" + end + b"hello\r\n0\r\n\r\n", 400)
        for end in (b"\n", b"\r", b"\r\r\n")
    },
    **{
        f"a chunk's end {end!r}": (b"5\r\nhello" + end + b"0\r\n\r\n", 400)
        for end in (b"", b"\n", b"\r", b"\n\r", b"!\r\n")
    },
    **{
        f"the last line {end!r}": (b"0\r\n" + end, 400)
        for end in (b"\n", b"\r\r\n", b" \r\n", b"\t\r\n", b"\r0")
    },
    **{
        f"the last line {end!r} behind a trailer": (b"0\r\nX: y\r\n" + end, 400)
        for end in (b"\n", b"\r\r\n", b" \r\n")
    },
    **{f"a trailer {line!r}": (b"0\r\n" + line + b"\r\n\r\n", 400) for line in TRAILERS},
    **{
        f"a trailer {name}": (b"0\r\nX: y\r\n" + name.encode() + b": a\r\n\r\n", 400)
        for name in FORBIDDEN_TRAILERS
    },
    "a chunk over the limit": (b"3e9\r\n", 413),
    "a chunk far over the limit": (b"F" * 16 + b"\r\n", 413),
    "chunks over the limit": (b"1\r\nx\r\n3e8\r\n", 413),
}


@pytest.mark.parametrize("name", REFUSED)
def test_chunks_that_break_the_rules_are_refused(name: str) -> None:
    raw, status = REFUSED[name]
    for pieces in cuts(raw):
        with pytest.raises(RequestRefused) as refusal:
            take(ChunkedBody(LIMITS), pieces)
        assert refusal.value.status == status, pieces
        assert refusal.value.message.isprintable()


@pytest.mark.parametrize("size", [LIMIT - 1, LIMIT])
def test_chunks_of_the_limit(size: int) -> None:
    raw = b"%x\r\n%b\r\n0\r\n\r\n" % (size, b"x" * size)
    assert take(ChunkedBody(LIMITS), [raw]) == (b"", b"x" * size)
    assert take(ChunkedBody(LIMITS), [b"1\r\nx\r\n" * size + b"0\r\n\r\n"]) == (b"", b"x" * size)


def few_cuts(raw: bytes) -> Iterator[list[bytes]]:
    """For what is long: whole, byte by byte, and cut near the line ends."""
    yield [raw]
    yield [raw[i : i + 1] for i in range(len(raw))]
    for end in (i for i, byte in enumerate(raw) if byte == 10):
        for cut in range(max(1, end - 3), min(end + 3, len(raw))):
            yield [raw[:cut], raw[cut:]]


@pytest.mark.parametrize("size", [b"1", b"0000000000000001"])
def test_an_extension_of_the_limit(size: bytes) -> None:
    raw = b"%b;%b\r\nx\r\n0\r\n\r\n" % (size, b"e" * 4095)
    for pieces in few_cuts(raw):
        assert take(ChunkedBody(LIMITS), pieces) == (b"", b"x")
    for longer in (raw.replace(b";", b";e"), raw.replace(b";", b" ;")):
        for pieces in few_cuts(longer):
            with pytest.raises(RequestRefused, match="400"):
                take(ChunkedBody(LIMITS), pieces)


def test_an_extension_over_the_limit_is_refused_before_it_ends() -> None:
    for pieces in (
        [b"1;" + b"e" * 4200],
        [b"1;" + b"e" * 4000, b"e" * 200],
        [b"1;", *[b"e"] * 4200],
    ):
        with pytest.raises(RequestRefused, match="400"):
            take(ChunkedBody(LIMITS), pieces)


def test_no_byte_of_a_long_line_is_lost() -> None:
    """A line that is cut where its limit is, with something behind its CR that is no LF."""
    with pytest.raises(RequestRefused, match="400"):
        take(
            ChunkedBody(LIMITS),
            [b"0000000000000001;" + b"e" * 4095 + b"\rlost", b"\nx\r\n0\r\n\r\n"],
        )


def test_extensions_of_the_limit_in_all() -> None:
    full = b"1;%b\r\nx\r\n" % (b"e" * 4095) * 4
    for pieces in few_cuts(full + b"0\r\n\r\n"):
        assert take(ChunkedBody(LIMITS), pieces) == (b"", b"xxxx")
    for raw in (full + b"1;\r\nx\r\n0\r\n\r\n", full + b"0;\r\n\r\n"):
        for pieces in few_cuts(raw):
            with pytest.raises(RequestRefused, match="400 The chunk extensions are too long"):
                take(ChunkedBody(LIMITS), pieces)


@pytest.mark.parametrize("count", [1, 8])
def test_trailers_of_the_limit(count: int) -> None:
    """8 KiB, line ends and the empty line included."""
    raw = b"0\r\n" + b"X: 1\r\n" * (count - 1)
    raw += b"X: %b\r\n\r\n" % (b"y" * (3 + 8192 - len(raw) - 7))
    assert len(raw) == 3 + 8192
    for pieces in few_cuts(raw):
        assert take(ChunkedBody(LIMITS), pieces) == (b"", b"")
    for pieces in few_cuts(raw.replace(b"yy", b"yyy", 1)):
        with pytest.raises(RequestRefused, match="431 The trailers are over the limit of 8192"):
            take(ChunkedBody(LIMITS), pieces)


def test_trailers_over_the_limit_are_refused_before_they_end() -> None:
    for pieces in ([b"0\r\nX: " + b"y" * 8192], [b"0\r\nX: ", *[b"y"] * 8192]):
        with pytest.raises(RequestRefused, match="431"):
            take(ChunkedBody(LIMITS), pieces)


@pytest.mark.parametrize("kind", ["sized", "chunked"])
def test_a_body_in_small_pieces_costs_its_size(kind: str) -> None:
    """The limit of a body is one of memory: what a client sends two bytes at a time is not kept two bytes at a time."""
    size = 200_000
    body: Body = SizedBody(size) if kind == "sized" else ChunkedBody(Limits(body=size))
    if kind == "chunked":
        body.feed(b"%x\r\n" % size)
    tracemalloc.start()
    try:
        for number in range(size // 2):
            body.feed(b"%02x" % (number % 256))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * size


@settings(deadline=None)
@given(
    st.lists(st.binary(min_size=1, max_size=40), max_size=8),
    st.binary(max_size=10),
    st.integers(1, 20),
)
def test_whatever_is_sent_in_chunks_is_read(chunks: list[bytes], rest: bytes, size: int) -> None:
    raw = b"".join(b"%X\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n" + rest
    pieces = [raw[i : i + size] for i in range(0, len(raw), size)]
    assert take(ChunkedBody(LIMITS), pieces) == (rest, b"".join(chunks))


@settings(deadline=None, max_examples=300)
@given(st.text("05aF;: \r\n\0xX", max_size=40).map(str.encode), st.integers(1, 5))
def test_any_bytes_are_read_or_refused_the_same_way(raw: bytes, size: int) -> None:
    def outcome(pieces: list[bytes]) -> tuple[bytes | None, bytes] | int:
        try:
            return take(ChunkedBody(LIMITS), pieces)
        except RequestRefused as refusal:
            return refusal.status

    assert outcome([raw[i : i + size] for i in range(0, len(raw), size)]) == outcome([raw])
