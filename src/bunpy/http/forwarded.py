"""Who a request is from when proxies stand in between: which proxies are believed, and what their fields say.

X-Forwarded-For and X-Forwarded-Proto are read. Forwarded (RFC 7239) is not: a proxy that writes the one passes the
other on as the client sent it, so that whoever reads both believes the client. The PROXY header is another module's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from ipaddress import (
    IPv4Network,
    IPv6Address,
    IPv6Network,
    collapse_addresses,
    ip_address,
    ip_network,
)
from typing import Final

from bunpy.errors import ConfigError
from bunpy.shown import shown

__all__ = ["TrustedProxies"]

#: How far back X-Forwarded-For is followed. No chain of proxies is that long; a field of 64 KiB has 32,768 entries.
_ENTRIES: Final = 64
#: What is longer is no address: 45 characters of IPv6 and a zone.
_ADDRESS_LIMIT: Final = 80
#: How many are remembered.
_ADDRESSES: Final = 1024

_IPV6: Final = r"[0-9A-Fa-f]{0,4}:[0-9A-Fa-f:.]{1,44}(?:%[0-9A-Za-z._~-]{1,32})?"
#: An entry of X-Forwarded-For, about: whether it has an address is for ``ipaddress`` to say.
_ENTRY = re.compile(rf"(?:\[({_IPV6})\]|([0-9.]{{7,15}}))(?::([0-9]{{1,5}}))?|({_IPV6})")
_MAPPED = IPv6Network("::ffff:0:0/96")


class TrustedProxies:
    """The proxies that are believed: IP addresses, networks ("10.0.0.0/8", "::1"), and "unix" for whoever connects to
    a Unix socket.

    ``ConfigError`` names an item that is none of these. Two are equal if they trust the same. An IPv4-mapped IPv6
    address (RFC 4291 section 2.5.5.2) is the IPv4 address that it maps, here as everywhere: "::/0" has none of them.
    """

    __slots__ = ("_has_unix", "_known", "_networks")

    def __init__(self, items: Iterable[str]) -> None:
        if isinstance(items, (str, bytes)) or not isinstance(items, Iterable):
            item = items if isinstance(items, str) and items else "10.0.0.0/8"
            raise ConfigError(
                f"trusted_proxies is {shown(items)}: it is a list, as [{shown(item)}]"
            )
        names = [*items]
        networks = [_network(name) for name in names if name != "unix"]
        self._has_unix = len(networks) < len(names)
        self._networks: tuple[IPv4Network | IPv6Network, ...] = (
            *collapse_addresses(item for item in networks if isinstance(item, IPv4Network)),
            *collapse_addresses(item for item in networks if isinstance(item, IPv6Network)),
        )
        self._known = lru_cache(maxsize=_ADDRESSES)(self._look_up)

    @classmethod
    def of(cls, value: TrustedProxies | Iterable[str] | None) -> TrustedProxies:
        """The value itself if it is one, none for None, else those of the items in it; ``ConfigError`` as above."""
        if isinstance(value, TrustedProxies):
            return value
        return cls(() if value is None else value)

    def __bool__(self) -> bool:
        return self._has_unix or bool(self._networks)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TrustedProxies):
            return NotImplemented
        return (self._has_unix, self._networks) == (other._has_unix, other._networks)

    def __hash__(self) -> int:
        return hash((self._has_unix, self._networks))

    def __repr__(self) -> str:
        names = [
            str(item.network_address if item.num_addresses == 1 else item)
            for item in self._networks
        ]
        return f"TrustedProxies({names + ['unix'] * self._has_unix})"

    def trusts(self, address: str | None) -> bool:
        """Whether a peer with this IP address, or one on a Unix socket (None), is believed.

        A zone ("fe80::1%eth0") is passed over; what is no address is not believed.
        """
        if address is None:
            return self._has_unix
        known = self._known(address) if len(address) <= _ADDRESS_LIMIT else None
        return known is not None and known[1]

    def client_of(
        self, client: tuple[str, int] | None, scheme: str, headers: Mapping[str, str]
    ) -> tuple[tuple[str, int] | None, str]:
        """The (host, port) that a request is from and its scheme, "http" or "https", by what trusted proxies say.

        ``client`` and ``scheme`` are the connection's, None on a Unix socket; unless that peer is trusted, they are
        the answer. ``headers`` has lower-case names, repeated fields joined with ",".

        Each proxy appends its own peer to X-Forwarded-For. So that is read from its end, for as long as the entries
        are trusted proxies; the first that is not one is the client. An entry without an address ends the walk, at
        the one behind it. Addresses are given in their canonical form, without zones; an unknown port is 0.

        Of X-Forwarded-Proto the last value counts, however far that walk goes. Its values do not go with the entries:
        most proxies replace it, some pass it on, few append. Counted back as far as the walk went, it could be the
        client's own word; the last value is always a proxy's, if any of the trusted proxies writes it.
        """
        if not self.trusts(None if client is None else client[0]):
            return client, scheme
        said = headers.get("x-forwarded-proto", "").rpartition(",")[2].strip(" \t").lower()
        if said in ("http", "https"):
            scheme = said
        entries = headers.get("x-forwarded-for", "")
        end = len(entries)
        for _ in range(_ENTRIES):
            start = entries.rfind(",", 0, end) + 1
            entry = self._read(entries[start:end].strip(" \t"))
            if entry is None:
                break
            client, is_trusted = entry
            if not is_trusted or not start:
                break
            end = start - 1
        return client, scheme

    def _read(self, entry: str) -> tuple[tuple[str, int], bool] | None:
        """The (host, port) of an entry, and whether it is trusted; None if it has no address."""
        match = _ENTRY.fullmatch(entry)
        if match is None:
            return None
        known, port = self._known(match[1] or match[2] or match[4]), int(match[3] or 0)
        return None if known is None or port > 65535 else ((known[0], port), known[1])

    def _look_up(self, text: str) -> tuple[str, bool] | None:
        """An address in its canonical form, and whether it is trusted; None if it is no address."""
        try:
            address = ip_address(text)
        except ValueError:
            return None
        if isinstance(address, IPv6Address):
            address = address.ipv4_mapped or address
        is_trusted = any(address in network for network in self._networks)
        return str(address).partition("%")[0], is_trusted


def _network(item: object) -> IPv4Network | IPv6Network:
    """The network, or the one address as a network; ``ConfigError`` says what else an item should have been."""
    if item == "*":
        raise ConfigError(
            "trusted_proxies has '*': to believe whoever connects, if that is meant, say"
            " '0.0.0.0/0' and '::/0'"
        )
    try:
        if not isinstance(item, str):  # an int and bytes would be addresses to ``ipaddress``
            raise ValueError
        network = ip_network(item, strict=False)
    except ValueError:
        raise ConfigError(
            f"trusted_proxies has {shown(item)}: it is an IP address, a network as '10.0.0.0/8', or 'unix'"
        ) from None
    address, is_in_zone, _ = item.partition("/")[0].partition("%")
    if is_in_zone:
        # Not every event loop tells a peer's zone: with one, an item might never be met.
        raise ConfigError(f"trusted_proxies has {item!r}: leave out the zone, the part from the %")
    if ip_address(address) != network.network_address:
        raise ConfigError(
            f"trusted_proxies has {item!r}, an address in a network:"
            f" say {str(network)!r} for the network or {address!r} for the address"
        )
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        first = int(network.network_address) & 0xFFFF_FFFF
        return IPv4Network((first, network.prefixlen - _MAPPED.prefixlen))
    return network
