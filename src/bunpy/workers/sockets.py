"""Listening sockets for several processes: each gets its own on the same port, where the kernel shares out by that."""

from __future__ import annotations

import socket
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from bunpy.server.tuning import tune

if TYPE_CHECKING:
    from bunpy.server.listeners import Listeners

__all__ = ["share_out"]

#: Linux gives each connection to one of the sockets of a port, evenly, by a hash of its addresses (SO_REUSEPORT).
#: Elsewhere the option means something else, and processes accept from one socket.
_CAN_SPLIT: Final = sys.platform == "linux"


def share_out(listeners: Listeners, count: int, backlog: int) -> list[list[socket.socket]]:
    """For each of ``count`` processes the sockets that it accepts from; ``listeners`` close them all.

    Sockets that have no port, or were inherited, are everybody's. The port was bound before without SO_REUSEPORT, so
    nobody else listens on it; sharing it is possible for sockets of this user that ask for it, which no server of
    bunpy's does before it has a port to itself. ``OSError`` if the further sockets cannot be had.
    """
    first = listeners.sockets[:]
    if count == 1 or not (_CAN_SPLIT and listeners.is_own and listeners.port):
        return [first] * count
    for listener in first:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    return [
        first,
        *(
            [_twin(listener, listeners.sockets, backlog) for listener in first]
            for _ in range(count - 1)
        ),
    ]


def _twin(listener: socket.socket, owners: list[socket.socket], backlog: int) -> socket.socket:
    """Another socket on the same address and port; ``owners`` see to its end, whatever happens here."""
    twin = socket.socket(listener.family, listener.type, listener.proto)
    owners.append(twin)
    for level, option in _SAME:
        if option is not None and (
            level != socket.IPPROTO_IPV6 or listener.family == socket.AF_INET6
        ):
            twin.setsockopt(level, option, 1)
    tune(twin)
    twin.bind(listener.getsockname())
    twin.listen(backlog)
    twin.setblocking(False)
    return twin


_SAME: Final[Sequence[tuple[int, int | None]]] = (
    (socket.SOL_SOCKET, socket.SO_REUSEADDR),
    (socket.SOL_SOCKET, getattr(socket, "SO_REUSEPORT", None)),
    (socket.IPPROTO_IPV6, socket.IPV6_V6ONLY),
)
