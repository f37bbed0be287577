"""The PROXY header, versions 1 and 2: whole, byte by byte, and with a tail; and how soon what is none is refused."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bunpy.errors import RequestRefused
from bunpy.http.proxy_header import ProxyHeader

Source = tuple[str, int] | None
SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
TAILS = [b"", b"G", b"GET / HTTP/1.1\r\n\r\n", b"\r\n", b"\n", SIGNATURE, b"PROXY UNKNOWN\r\n"]


def take(pieces: Iterable[bytes]) -> tuple[bytes | None, Source, bool]:
    """What follows the header, None if it is not complete; its client; whether it is local."""
    header = ProxyHeader()
    rest: bytes | None = None
    for piece in pieces:
        if rest is None:
            rest = header.feed(piece)
        else:
            rest += piece
    return rest, header.client, header.is_local


def cuts(raw: bytes) -> Iterator[list[bytes]]:
    """Whole, byte by byte, in threes, with empty pieces, and in two at each of the first places."""
    yield [raw]
    for size in (1, 3):
        yield sliced(raw, size)
    yield [b"", raw[:1], b"", raw[1:]]
    for cut in range(1, min(len(raw), 60)):
        yield [raw[:cut], raw[cut:]]


def sliced(raw: bytes, size: int) -> list[bytes]:
    return [raw[i : i + size] for i in range(0, len(raw), size)]


def is_refused(pieces: Iterable[bytes]) -> bool:
    try:
        take(pieces)
    except RequestRefused as refusal:
        return refusal.status == 400 and refusal.closes
    return False


def binary(
    rest: bytes = b"", *, command: int = 0x21, family: int = 0x11, length: int | None = None
) -> bytes:
    """A header of version 2 with these bytes after its first 16."""
    size = len(rest) if length is None else length
    return SIGNATURE + struct.pack("!BBH", command, family, size) + rest


FOUR = bytes([192, 0, 2, 1, 198, 51, 100, 2]) + struct.pack("!HH", 56324, 443)
SIX = bytes.fromhex("20010db8000000000000000000000001 20010db8000000000000000000000002") + struct.pack(
    "!HH", 56324, 443
)  # fmt: skip
MAPPED = bytes(10) + b"\xff\xff" + bytes([192, 0, 2, 1]) + bytes(16) + b"\x00\x01\x00\x02"
UNIX = b"/run/client.sock".ljust(108, b"\0") + b"/run/proxy.sock".ljust(108, b"\0")
CRC32C = b"\x03\x00\x04\xde\xad\xbe\xef"  # not the right one
LONGEST = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"

HEADERS: dict[str, tuple[bytes, Source, bool]] = {
    # Version 1
    "TCP4": (b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n", ("192.0.2.1", 56324), False),
    "shortest TCP4": (b"PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n", ("0.0.0.0", 0), False),
    "longest TCP4": (
        b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", ("255.255.255.255", 65535), False,
    ),
    "TCP6": (b"PROXY TCP6 2001:db8::1 2001:db8::2 56324 443\r\n", ("2001:db8::1", 56324), False),
    "shortest TCP6": (b"PROXY TCP6 :: :: 0 0\r\n", ("::", 0), False),
    "longest TCP6": (f"PROXY TCP6 {LONGEST} {LONGEST} 65535 65535\r\n".encode(), (LONGEST, 65535), False),
    "TCP6 in full": (b"PROXY TCP6 2001:0DB8:0:0:0:0:0:1 ::2 1 2\r\n", ("2001:db8::1", 1), False),
    "TCP6, ends in a double colon": (b"PROXY TCP6 1:2:3:4:5:6:7:: 1:: 1 2\r\n", ("1:2:3:4:5:6:7:0", 1), False),
    "TCP6, IPv4-mapped": (b"PROXY TCP6 ::ffff:192.0.2.1 ::ffff:192.0.2.2 1 2\r\n", ("192.0.2.1", 1), False),
    "UNKNOWN": (b"PROXY UNKNOWN\r\n", None, True),
    "UNKNOWN and a space": (b"PROXY UNKNOWN \r\n", None, True),
    "UNKNOWN with addresses": (b"PROXY UNKNOWN ::1 ::2 1 2\r\n", None, True),
    "UNKNOWN with anything": (b"PROXY UNKNOWN \x00\xff%  TCP4\t\r\n", None, True),
    "longest UNKNOWN": (f"PROXY UNKNOWN {LONGEST} {LONGEST} 65535 65535\r\n".encode(), None, True),
    "longest line": (b"PROXY UNKNOWN ".ljust(105, b"x") + b"\r\n", None, True),
    # Version 2
    "IPv4 stream": (binary(FOUR), ("192.0.2.1", 56324), False),
    "IPv4 datagram": (binary(FOUR, family=0x12), ("192.0.2.1", 56324), False),
    "IPv6 stream": (binary(SIX, family=0x21), ("2001:db8::1", 56324), False),
    "IPv6 datagram": (binary(SIX, family=0x22), ("2001:db8::1", 56324), False),
    "IPv6, IPv4-mapped": (binary(MAPPED, family=0x21), ("192.0.2.1", 1), False),
    "Unix stream": (binary(UNIX, family=0x31), None, False),
    "Unix datagram": (binary(UNIX, family=0x32), None, False),
    "zeros": (binary(bytes(12)), ("0.0.0.0", 0), False),
    "ones": (binary(b"\xff" * 12), ("255.255.255.255", 65535), False),
    "unspecified": (binary(family=0x00), None, True),
    "unspecified with a block": (binary(FOUR, family=0x00), None, True),
    "local": (binary(command=0x20, family=0x00), None, True),
    "local with addresses": (binary(FOUR, command=0x20), None, True),
    "local with few bytes of an address": (binary(b"\x01", command=0x20), None, True),
    "local with an unknown family": (binary(command=0x20, family=0xFF), None, True),
    "a checksum, wrong": (binary(FOUR + CRC32C), ("192.0.2.1", 56324), False),
    "TLVs that are none": (binary(FOUR + b"\r\n\r\n"), ("192.0.2.1", 56324), False),
    "IPv6 with TLVs": (binary(SIX + CRC32C, family=0x21), ("2001:db8::1", 56324), False),
    "Unix with TLVs": (binary(UNIX + CRC32C, family=0x31), None, False),
    "unspecified, as large as can be": (binary(bytes(4096), family=0x00), None, True),
    "as large as can be": (binary(FOUR.ljust(4096, b"\x04")), ("192.0.2.1", 56324), False),
}  # fmt: skip


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_and_what_follows_it(name: str) -> None:
    raw, client, is_local = HEADERS[name]
    for tail in TAILS:
        for pieces in cuts(raw + tail):
            assert take(pieces) == (tail, client, is_local), pieces


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_that_is_not_complete(name: str) -> None:
    """However much is missing, nothing is said yet, and nothing refused."""
    raw, _, _ = HEADERS[name]
    header = ProxyHeader()
    for cut in range(len(raw)):
        assert take([raw[:cut]]) == (None, None, False)
        assert header.feed(raw[cut : cut + 1]) == (None if cut < len(raw) - 1 else b"")


def test_nothing_is_no_header_yet() -> None:
    assert take([]) == take([b""]) == take([b"", b""]) == (None, None, False)


def test_a_large_tail_is_untouched() -> None:
    tail = bytes(range(256)) * 1024
    for name in ("TCP4", "UNKNOWN", "IPv4 stream", "local"):
        raw, client, is_local = HEADERS[name]
        assert take([raw + tail]) == (tail, client, is_local)
        assert take([raw[:-1], raw[-1:] + tail]) == (tail, client, is_local)


# Refusals. Each ends with the first byte that can be of no header.

FOUR_LINE = b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443"
REFUSED: list[bytes] = [
    # Other protocols
    b"G", b"p", b" ", b"\x00", b"\n", b"\x16", b"\x50\x00", b"PO", b"PU", b"PRI", b"\r\r", b"\r\nG",
    # Version 1: its words
    b"PROXY\r", b"PROXY\n", b"PROXY\t", b"PROXYT", b"PROXY  ", b"PROXY \r", b"PROXY t", b"PROXY TCP\r",
    b"PROXY TCP ", b"PROXY TCP5", b"PROXY TCP44", b"PROXY TCP4\r", b"PROXY TCP4\n", b"PROXY TCP4\t", b"PROXY UD",
    b"PROXY UNKNOWN\n", b"PROXY UNKNOWN\t", b"PROXY UNKNOWNS", b"PROXY UNKNOWN\rx", b"PROXY UNKNOWN x\n",
    b"PROXY UNKNOWN x\r\r", b"PROXY UNKNOWN x\rx", b"PROXY Un", b"PROXY TCP6\r", b"PROXY TCP6:", b"Pr",
    # Its spaces
    b"PROXY TCP4  ", b"PROXY TCP6  ", b"PROXY TCP4 192.0.2.1  ", b"PROXY TCP4 192.0.2.1\t",
    b"PROXY TCP4 192.0.2.1 198.51.100.2  ", b"PROXY TCP4 192.0.2.1 198.51.100.2 56324  ", FOUR_LINE + b" ",
    FOUR_LINE + b"\t", FOUR_LINE + b"\n", FOUR_LINE + b"\rx", FOUR_LINE + b"\r\r", FOUR_LINE + b"\x00",
    # Too few fields
    b"PROXY TCP4 \r", b"PROXY TCP4 192.0.2.1\r", b"PROXY TCP4 192.0.2.1 198.51.100.2\r",
    b"PROXY TCP4 192.0.2.1 198.51.100.2 \r", b"PROXY TCP4 192.0.2.1 198.51.100.2 56324\r",
    b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 \r",
    # Its IPv4 addresses
    b"PROXY TCP4 .", b"PROXY TCP4 a", b"PROXY TCP4 :", b"PROXY TCP4 -", b"PROXY TCP4 +", b"PROXY TCP4 00",
    b"PROXY TCP4 01", b"PROXY TCP4 256", b"PROXY TCP4 300", b"PROXY TCP4 1000", b"PROXY TCP4 1..",
    b"PROXY TCP4 1.02", b"PROXY TCP4 1.256", b"PROXY TCP4 1.2.3.256", b"PROXY TCP4 1.2.3.4.", b"PROXY TCP4 1 ",
    b"PROXY TCP4 1.2.3 ", b"PROXY TCP4 1.2.3. ", b"PROXY TCP4 0x", b"PROXY TCP4 1.2.3.4/", b"PROXY TCP4 1.2.3.4%",
    b"PROXY TCP4 1.2.3.4:", b"PROXY TCP4 1.2.3.\xb2", b"PROXY TCP4 [", b"PROXY TCP4 1_",
    b"PROXY TCP4 192.0.2.1 a", b"PROXY TCP4 192.0.2.1 256", b"PROXY TCP4 192.0.2.1 :", b"PROXY TCP4 192.0.2.1 1.2.3 ",
    # Its IPv6 addresses
    b"PROXY TCP6 g", b"PROXY TCP6 .", b"PROXY TCP6 [", b"PROXY TCP6 -", b"PROXY TCP6 :1", b"PROXY TCP6 :::",
    b"PROXY TCP6 : ", b"PROXY TCP6 1 ", b"PROXY TCP6 1: ", b"PROXY TCP6 12345", b"PROXY TCP6 1:::",
    b"PROXY TCP6 1::2::", b"PROXY TCP6 1:2:3:4:5:6:7 ", b"PROXY TCP6 1:2:3:4:5:6:7:8:", b"PROXY TCP6 ::1:2:3:4:5:6:7:",
    b"PROXY TCP6 ::1/", b"PROXY TCP6 ::1%", b"PROXY TCP6 ::\xb2", b"PROXY TCP6 1.", b"PROXY TCP6 192.",
    b"PROXY TCP6 ::256.", b"PROXY TCP6 ::1.2.3 ", b"PROXY TCP6 ::1.2.3.4:", b"PROXY TCP6 ::1.2.3.256",
    b"PROXY TCP6 ::01.", b"PROXY TCP6 1:2:3:4:5:6:7:1.", b"PROXY TCP6 1:2:3:4:5:6:7::1",
    b"PROXY TCP6 ::1 1.", b"PROXY TCP6 ::1 g", b"PROXY TCP6 ::1 ::1%",
    # Its ports
    b"PROXY TCP4 192.0.2.1 198.51.100.2 a", b"PROXY TCP4 192.0.2.1 198.51.100.2 00",
    b"PROXY TCP4 192.0.2.1 198.51.100.2 01", b"PROXY TCP4 192.0.2.1 198.51.100.2 -",
    b"PROXY TCP4 192.0.2.1 198.51.100.2 +", b"PROXY TCP4 192.0.2.1 198.51.100.2 65536",
    b"PROXY TCP4 192.0.2.1 198.51.100.2 70000", b"PROXY TCP4 192.0.2.1 198.51.100.2 100000",
    b"PROXY TCP4 192.0.2.1 198.51.100.2 1.", b"PROXY TCP4 192.0.2.1 198.51.100.2 \xb2",
    b"PROXY TCP4 192.0.2.1 198.51.100.2 :", b"PROXY TCP4 192.0.2.1 198.51.100.2 1_",
    b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 a", b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 00",
    b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 65536", b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 :",
    # Its length
    b"PROXY UNKNOWN ".ljust(106, b"x"),
    b"PROXY TCP6 " + b"0000:0000:0000:0000:0000:ffff:255.255.255.255 " * 2 + b"655",
    # Version 2: its signature
    b"\r\n\r\r", b"\r\n\r\n\r", b"\r\n\r\n\x00\x00", b"\r\n\r\n\x00\r\nQUIT\r", b"\r\n\r\n\x00\r\nq",
    b"\r\n\r\n\x00\r\nQUIT\x00",
    # Its version and command
    *(SIGNATURE + bytes([byte]) for byte in (0x00, 0x01, 0x10, 0x11, 0x02, 0x12, 0x22, 0x2F, 0x30, 0x31, 0xFF)),
    # Its family and transport
    *(
        SIGNATURE + bytes([0x21, byte])
        for byte in (0x01, 0x02, 0x10, 0x13, 0x1F, 0x20, 0x23, 0x30, 0x33, 0x40, 0x41, 0x44, 0xF1, 0xFF)
    ),
    # Its length
    *(
        SIGNATURE + bytes([command, family, *length])
        for command, family, length in (
            (0x21, 0x11, (0x00, 0x00)), (0x21, 0x11, (0x00, 0x0B)), (0x21, 0x12, (0x00, 0x0B)),
            (0x21, 0x21, (0x00, 0x23)), (0x21, 0x22, (0x00, 0x0C)), (0x21, 0x31, (0x00, 0xD7)),
            (0x21, 0x32, (0x00, 0x24)), (0x21, 0x11, (0x10, 0x01)), (0x21, 0x11, (0x11,)), (0x21, 0x11, (0xFF,)),
            (0x21, 0x00, (0x10, 0x01)), (0x20, 0x00, (0x10, 0x01)), (0x20, 0x11, (0x11,)),
        )
    ),
]  # fmt: skip


@pytest.mark.parametrize("raw", REFUSED, ids=lambda raw: repr(raw[-40:]))
def test_what_is_no_header_is_refused_at_its_first_wrong_byte(raw: bytes) -> None:
    assert not is_refused([raw[:-1]])
    for tail in TAILS[:3]:
        for pieces in cuts(raw + tail):
            assert is_refused(pieces), pieces


@pytest.mark.parametrize(
    "raw",
    [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", b"\r\nGET / HTTP/1.1\r\n"],
)
def test_a_connection_without_a_header_is_told_so(raw: bytes) -> None:
    with pytest.raises(RequestRefused, match="400 The connection begins with no PROXY header"):
        ProxyHeader().feed(raw)


def test_a_refusal_does_not_say_the_bytes_again() -> None:
    """It goes into a body: nothing that came does."""
    for raw in REFUSED:
        with pytest.raises(RequestRefused) as refusal:
            ProxyHeader().feed(raw)
        words = raw.decode("latin-1").split()
        assert not {word for word in words if len(word) > 7} & set(refusal.value.message.split())


@pytest.mark.parametrize("command", range(256))
def test_the_version_and_the_commands(command: int) -> None:
    assert is_refused([binary(FOUR, command=command)]) == (command not in (0x20, 0x21))


@pytest.mark.parametrize("family", range(256))
def test_the_families_and_transports(family: int) -> None:
    known = (0x00, 0x11, 0x12, 0x21, 0x22, 0x31, 0x32)
    assert is_refused([binary(UNIX, family=family)]) == (family not in known)
    assert not is_refused([binary(UNIX, family=family, command=0x20)])


# Properties

PORTS = st.integers(0, 65535) | st.sampled_from([0, 1, 9, 10, 65534, 65535])
SIXES = (
    st.ip_addresses(v=6).map(ipaddress.IPv6Address)
    | st.lists(st.sampled_from(["0", "0", "ffff", "1"]), min_size=8, max_size=8)
    .map(":".join)
    .map(ipaddress.IPv6Address)
)  # fmt: skip
TAIL = st.binary(max_size=20)


def canonical(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


@settings(deadline=None)
@given(st.ip_addresses(v=4), st.ip_addresses(v=4), PORTS, PORTS, TAIL, st.integers(1, 60))
def test_a_line_with_ipv4_is_read_as_it_was_written(
    source: object, target: object, port: int, target_port: int, tail: bytes, size: int
) -> None:
    raw = f"PROXY TCP4 {source} {target} {port} {target_port}\r\n".encode()
    for pieces in ([raw + tail], [*sliced(raw, 1), tail], sliced(raw + tail, size)):
        assert take(pieces) == (tail, (str(source), port), False)


@settings(deadline=None)
@given(
    SIXES,
    SIXES,
    PORTS,
    st.sampled_from(["compressed", "exploded", "mixed"]),
    TAIL,
    st.integers(1, 60),
)
def test_a_line_with_ipv6_is_read_as_it_was_written(
    source: ipaddress.IPv6Address,
    target: ipaddress.IPv6Address,
    port: int,
    form: str,
    tail: bytes,
    size: int,
) -> None:
    def text(address: ipaddress.IPv6Address) -> str:
        if form != "mixed":
            return str(getattr(address, form))
        groups = address.exploded.upper().split(":")[:6]
        return ":".join([*groups, str(ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF))])

    raw = f"PROXY TCP6 {text(source)} {target} {port} 0\r\n".encode()
    for pieces in ([raw + tail], [*sliced(raw, 1), tail], sliced(raw + tail, size)):
        assert take(pieces) == (tail, (canonical(source), port), False)


@settings(deadline=None)
@given(
    st.ip_addresses(v=4) | SIXES,
    PORTS,
    st.sampled_from([1, 2]),
    st.binary(max_size=300),
    TAIL,
    st.integers(1, 60),
)
def test_a_binary_header_is_read_as_it_was_written(
    source: ipaddress.IPv4Address | ipaddress.IPv6Address,
    port: int,
    transport: int,
    tlvs: bytes,
    tail: bytes,
    size: int,
) -> None:
    family = (0x10 if source.version == 4 else 0x20) + transport
    target = bytes(len(source.packed))
    raw = binary(source.packed + target + struct.pack("!HH", port, 443) + tlvs, family=family)
    for pieces in ([raw + tail], [*sliced(raw, 1), tail], sliced(raw + tail, size)):
        assert take(pieces) == (tail, (canonical(source), port), False)


#: What can become a header is one with the end of one of these behind it, and zeros.
SAMPLES = [
    b"PROXY UNKNOWN\r\n",
    b"PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n",
    b"PROXY TCP6 ::0 ::0 0 0\r\n",
    b"PROXY TCP6 ::0.0.0.0 ::0.0.0.0 0 0\r\n",
    SIGNATURE + b"\x21\x00\x00\x00",
    SIGNATURE + b"\x21\x00\x00\xff",
]
ENDINGS = {sample[cut:] + bytes(4096) for sample in SAMPLES for cut in range(len(sample) + 1)}
LINES = (
    st.from_regex(rb"PROXY TCP4 [0-9.]{0,16} ?[0-9.]{0,9} ?[0-9]{0,6} ?[0-9]{0,6}\r?", fullmatch=True)
    | st.from_regex(rb"PROXY TCP6 [0-9a-f:.]{0,20} ?[0-9a-f:.]{0,9} ?[0-9]{0,6} ?[0-9]{0,6}\r?", fullmatch=True)
    | st.from_regex(rb"PROXY TCP6 [01:]{0,18}(25[0-9]|1)?(\.25[0-9]|\.1){0,4}[ :]?", fullmatch=True)
    | st.builds(
        lambda sample, cut, byte: sample[:cut] + bytes([byte]),
        st.sampled_from([raw[:120] for raw, _, _ in HEADERS.values()]),
        st.integers(0, 107),
        st.integers(0, 255) | st.sampled_from(b"\r\n .:0125af"),
    )
)  # fmt: skip


def is_header(raw: bytes) -> bool:
    return not is_refused([raw]) and take([raw])[0] is not None


@settings(deadline=None)
@given(LINES)
def test_what_can_become_no_header_is_refused_and_nothing_else(raw: bytes) -> None:
    """The decision is neither late nor early."""
    can_become_one = any(is_header(raw + ending) for ending in ENDINGS)
    assert is_refused([raw]) == (not can_become_one)


@settings(deadline=None, max_examples=300)
@given(
    LINES | st.binary(max_size=40) | st.binary(max_size=40).map(SIGNATURE.__add__),
    st.integers(1, 20),
)
def test_any_bytes_are_read_or_refused_the_same_way(raw: bytes, size: int) -> None:
    def outcome(pieces: list[bytes]) -> tuple[bytes | None, Source, bool] | str:
        try:
            return take(pieces)
        except RequestRefused as refusal:
            return str(refusal.status)

    assert outcome(sliced(raw, size)) == outcome(sliced(raw, 1)) == outcome([raw])
