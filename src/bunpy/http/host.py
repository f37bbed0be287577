"""The Host of a request: what is a valid one, and which a server answers for, by the option ``allowed_hosts``."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from functools import lru_cache

from bunpy.errors import ConfigError, RequestRefused
from bunpy.shown import shown

__all__ = ["HostList", "is_loopback", "known_host"]

_HOST = re.compile(
    r"(\[[0-9A-Fa-f:.]+\]|(?:[A-Za-z0-9._~!$&'()*+;=-]|%[0-9A-Fa-f]{2})+)(?::([0-9]{0,5}))?"
)
#: A star where patterns have it; anywhere else it is a letter like others (RFC 3986 section 3.2.2).
_PATTERN = re.compile(r"(?:^|[./])\*|\*(?:[./:]|$)")
#: The longest host name is 253 characters (RFC 1035), some of which may be percent-encoded.
_LIMIT = 800


class HostList:
    """Which hosts are answered: those in ``allowed``; if that is None any, or the loopback names on loopback
    addresses.

    The last is against DNS rebinding: a page of another origin reaches a server on its reader's machine under its
    own name.
    """

    def __init__(self, allowed: Iterable[str] | None, addresses: Iterable[str]) -> None:
        self._names = None if allowed is None else frozenset(allowed)
        hosts = list(addresses)  # none on a Unix socket, which no page reaches
        self._is_loopback_only = allowed is None and bool(hosts) and all(map(is_loopback, hosts))
        self._known = lru_cache(maxsize=256)(self._status)

    def status(self, host: str) -> int:
        """The status that a request for ``host[:port]`` is refused with, 0 if it is not (RFC 9110 section 7.2)."""
        return self._known(host) if len(host) <= _LIMIT else 400

    def check(self, host: str) -> None:
        """``RequestRefused`` (400 or 421) unless ``host``, the field's value, is valid and answered for."""
        status = self.status(host)
        if status == 400:
            raise RequestRefused(400, "The request's Host is not a valid host[:port]")
        if status == 421:
            raise RequestRefused(
                421, "This server does not answer for that Host (see allowed_hosts)"
            )

    def _status(self, host: str) -> int:
        match = _HOST.fullmatch(host)
        if match is None or int(match[2] or 0) > 65535:
            return 400
        name = match[1].lower()
        if name[0] == "[" and not _is_ipv6(name[1:-1]):
            return 400
        if self._names is not None:
            return 0 if name in self._names else 421
        return 421 if self._is_loopback_only and not is_loopback(name) else 0


def known_host(text: str) -> str:
    """An item of ``allowed_hosts`` as it is compared, in lower case; ``ConfigError`` for one that no Host could match,
    with the one that may have been meant.
    """
    if _PATTERN.search(text):
        raise ConfigError(
            f"allowed_hosts has {shown(text)}, a pattern: name each host that is meant"
        )
    match = _HOST.fullmatch(text)
    if match is not None and match[2] is None and (text[0] != "[" or _is_ipv6(text[1:-1])):
        return text.lower()
    meant = _meant(text)
    if meant is not None:
        raise ConfigError(
            f"allowed_hosts has {shown(text)}, which is not a name alone: write {meant!r}"
        )
    raise ConfigError(
        f"allowed_hosts has {shown(text)}: it is a host name (in ASCII: xn-- for others), an IPv4 address, or an"
        " IPv6 address in brackets, without a scheme and a port"
    )


def _meant(text: str) -> str | None:
    """The host in a URL, before a port, or as an IPv6 address without brackets; None if there is none."""
    text = text.strip().lower().rpartition("://")[2]
    if _is_ipv6(text) and "%" not in text:  # no Host has a zone
        return f"[{text}]"
    match = _HOST.fullmatch(re.split("[/?#]", text)[0].rpartition("@")[2])
    if match is None or (match[1][0] == "[" and not _is_ipv6(match[1][1:-1])):
        return None
    return match[1]


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether a name or an address, in brackets or not, is this machine's loopback."""
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    # An IPv4 address in IPv6's clothes is one from CPython 3.13 on only, and nobody's name for this machine.
    return address.is_loopback and getattr(address, "ipv4_mapped", None) is None
