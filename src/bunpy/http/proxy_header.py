"""The PROXY header that a proxy puts before a connection's first bytes: version 1, text, and version 2, binary.

By haproxy's proxy-protocol.txt, sections 2.1 and 2.2. Whom to believe is not decided here. Of version 2 the addresses
are read; the TLVs behind them are skipped as they are, a checksum among them too: TCP has one of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from bunpy.errors import RequestRefused

__all__ = ["ProxyHeader"]

_LINE_LIMIT: Final = 107
#: For what follows the 16 bytes that version 2 begins with.
_BLOCK_LIMIT: Final = 4 * 1024

_LINE = re.compile(r"PROXY (?:(TCP[46])|UNKNOWN)(?: |\Z)")
_BEGINNINGS: Final = ("PROXY TCP4", "PROXY TCP6", "PROXY UNKNOWN")
_FAMILIES: Final[dict[str, type[IPv4Address] | type[IPv6Address]]] = {
    "TCP4": IPv4Address,
    "TCP6": IPv6Address,
}
_PORT = re.compile(r"0|[1-9][0-9]{0,4}")
#: What has come of a field, an address or a port, can become one if it is one with any of these behind it.
_ENDINGS: Final = ("", "0", ".0", "0.0", ".0.0", "0.0.0", ".0.0.0", "0.0.0.0", ":0", "::0")

_SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
_LOCAL: Final = b"\x20"
_PROXY: Final = b"\x21"
#: How many bytes of addresses and ports there are by family and transport. A datagram's is a proxy's HTTP/3.
_SIZES: Final = {
    b"\x00": 0,  # AF_UNSPEC
    b"\x11": 12, b"\x12": 12,  # AF_INET
    b"\x21": 36, b"\x22": 36,  # AF_INET6
    b"\x31": 216, b"\x32": 216,  # AF_UNIX
}  # fmt: skip


class ProxyHeader:
    """One connection's PROXY header: ``feed`` it what comes until that gives what follows the header.

    Then ``client`` is the source's (host, port), None if that is a Unix socket or not told. ``is_local`` says that it
    is not told, so that the connection's own peer is the client: LOCAL and AF_UNSPEC in version 2, UNKNOWN in
    version 1. Addresses are in their canonical form, IPv4-mapped ones as the IPv4 addresses that they map.
    """

    __slots__ = ("_data", "client", "is_local")

    def __init__(self) -> None:
        self._data = b""
        self.client: tuple[str, int] | None = None
        self.is_local = False

    def feed(self, data: bytes) -> bytes | None:
        """Take bytes as they come: what follows the header when it is complete, None while more is wanted.

        ``RequestRefused`` (400) as soon as what has come can become no header. A header that is refused or complete
        is not fed again.
        """
        data = self._data + data
        is_text = data[:1] == b"P"
        size = self._read_line(data[:_LINE_LIMIT]) if is_text else self._read_block(data)
        if size:
            return data[size:]
        self._data = data
        return None

    def _read_line(self, data: bytes) -> int:
        """Version 1: how long the header is, 0 while it is not complete."""
        line, carriage, ending = data.partition(b"\r")
        if b"\n" in line or ending[:1] not in (b"", b"\n"):
            raise RequestRefused(400, "A PROXY line ends in CR LF and has no other CR or LF")
        if len(line) > _LINE_LIMIT - 2:
            raise RequestRefused(400, f"The PROXY line is over the limit of {_LINE_LIMIT} bytes")
        client = _source(line.decode("latin-1"), is_whole=bool(carriage))
        if not ending:
            return 0
        self.client = client
        self.is_local = client is None
        return len(line) + 2

    def _read_block(self, data: bytes) -> int:
        """Version 2: how long the header is, 0 while it is not complete."""
        if not data.startswith(_SIGNATURE[: len(data)]):
            raise RequestRefused(400, "The connection begins with no PROXY header")
        command, family, length = data[12:13], data[13:14], data[14:16]
        if command not in (b"", _LOCAL, _PROXY):
            raise RequestRefused(400, "A binary PROXY header is of version 2, LOCAL or PROXY")
        if command == _LOCAL:
            family = b"\x00"  # what it says does not count
        if family and family not in _SIZES:
            raise RequestRefused(400, "The PROXY header has an unknown address family or transport")
        size = int.from_bytes(length.ljust(2, b"\0"), "big")
        if size > _BLOCK_LIMIT:
            raise RequestRefused(400, f"The PROXY header is over the limit of {_BLOCK_LIMIT} bytes")
        if len(length) < 2:
            return 0
        if size < _SIZES[family]:
            raise RequestRefused(400, "The PROXY header is too short for its addresses")
        if len(data) < 16 + size:
            return 0
        if _SIZES[family] == 12:
            self.client = _client(IPv4Address(data[16:20]), int.from_bytes(data[24:26], "big"))
        elif _SIZES[family] == 36:
            self.client = _client(IPv6Address(data[16:32]), int.from_bytes(data[48:50], "big"))
        self.is_local = family == b"\x00"
        return 16 + size


def _source(line: str, *, is_whole: bool) -> tuple[str, int] | None:
    """The source of a line of version 1, None if it is UNKNOWN or not whole; ``RequestRefused`` if it can be none."""
    match = _LINE.match(line)
    if match is None:
        if is_whole or not any(beginning.startswith(line) for beginning in _BEGINNINGS):
            raise RequestRefused(400, "A PROXY line begins with PROXY, and TCP4, TCP6 or UNKNOWN")
        return None
    if match[1] is None:
        return None
    family = _FAMILIES[match[1]]
    kinds: tuple[Callable[[str], object], ...] = (family, family, _port, _port)
    fields = line[match.end() :].split(" ")
    is_valid = len(fields) == 4 if is_whole else len(fields) <= 4
    for number, (field, kind) in enumerate(zip(fields, kinds, strict=False), 1):
        endings = _ENDINGS if number == len(fields) and not is_whole else ("",)
        is_valid = is_valid and any(_is(kind, field + ending) for ending in endings)
    if not is_valid:
        raise RequestRefused(
            400,
            "A PROXY line has two addresses and two ports, in their usual form, one space apart",
        )
    return _client(family(fields[0]), int(fields[2])) if is_whole else None


def _is(kind: Callable[[str], object], text: str) -> bool:
    try:
        kind(text)
    except ValueError:
        return False
    return "%" not in text  # a zone, which ``IPv6Address`` takes


def _port(text: str) -> int:
    if not _PORT.fullmatch(text) or int(text) > 65535:
        raise ValueError(text)
    return int(text)


def _client(address: IPv4Address | IPv6Address, port: int) -> tuple[str, int]:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address), port
