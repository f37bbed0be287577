"""How many of a thing there may be at a time, in all and for one client. What is answered beyond that is not here."""

from __future__ import annotations

import ipaddress
import logging
import sys
import time
from functools import lru_cache
from typing import Final

__all__ = ["Quota"]

_log = logging.getLogger("bunpy")

#: Seconds in which a limit that is reached again and again is told of once.
_QUIET_TIME: Final = 60.0


@lru_cache(maxsize=4096)
def _client_of(host: str) -> str:
    """Whom an address stands for: a client on IPv6 has a network of 2^64 of them (RFC 4291 section 2.5.4)."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if address.version == 4:
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(address) >> 64 << 64, 64)))


class Quota:
    """Counts ``what`` ("connections"): at most ``most`` in all and ``most_per_client`` for one client address.

    None stands for any number. An IPv6 client is its network of 64 bits. That a limit is reached is logged, once a
    minute at most.
    """

    __slots__ = ("_clients", "_most", "_most_per_client", "_said", "_what", "count")

    def __init__(self, what: str, most: int | None, most_per_client: int | None) -> None:
        self._what = what
        self._most = most
        self._most_per_client = most_per_client
        self._clients: dict[str, int] = {}
        self._said = -_QUIET_TIME
        #: How many there are.
        self.count = 0

    @property
    def room(self) -> int:
        """How many more there may be, whoever's they are."""
        return sys.maxsize if self._most is None else max(0, self._most - self.count)

    def take(self, host: str | None) -> bool:
        """Count one more for the client with that address; False, and none counted, where it would be too many.

        None is a client that shares its address with others, on a Unix socket or behind a proxy: it counts in all.
        """
        if self._most is not None and self.count >= self._most:
            self._say(f"{self._most} {self._what}, as many as max_{self._what} allows")
            return False
        if self._most_per_client is not None and host is not None:
            client = _client_of(host)
            taken = self._clients.get(client, 0)
            if taken >= self._most_per_client:
                self._say(
                    f"{taken} {self._what} of {client}, as many as max_{self._what}_per_client allows"
                )
                return False
            self._clients[client] = taken + 1
        self.count += 1
        return True

    def give_back(self, host: str | None) -> None:
        """One that was counted for that client is gone."""
        self.count -= 1
        if self._most_per_client is not None and host is not None:
            client = _client_of(host)
            left = self._clients[client] - 1
            if left:
                self._clients[client] = left
            else:
                del self._clients[client]

    def _say(self, reached: str) -> None:
        now = time.monotonic()
        if now - self._said >= _QUIET_TIME:
            self._said = now
            _log.warning("there are %s: further ones are told to come back later", reached)
