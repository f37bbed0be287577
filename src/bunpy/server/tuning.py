"""What a listening socket is set to, and with it every connection that it accepts. Sockets are made elsewhere."""

from __future__ import annotations

import contextlib
import socket

__all__ = ["tune"]

#: Half-open peers: a connection on which nothing arrives is asked after 15 s, every 5 s, 3 times; what was sent
#: must be acknowledged within 20 s. So a peer that vanished without a word is gone within 40 s, whether it was sent
#: to or not. Slow peers: the kernel takes half a megabyte that it may not send yet, where Linux would take four.
_PEER_TUNING = (
    ("SOL_SOCKET", "SO_KEEPALIVE", 1),
    ("IPPROTO_TCP", "TCP_KEEPIDLE", 15),
    ("IPPROTO_TCP", "TCP_KEEPINTVL", 5),
    ("IPPROTO_TCP", "TCP_KEEPCNT", 3),
    ("IPPROTO_TCP", "TCP_USER_TIMEOUT", 20_000),
    ("IPPROTO_TCP", "TCP_NODELAY", 1),
    ("IPPROTO_TCP", "TCP_NOTSENT_LOWAT", 512 * 1024),
)


def tune(listener: socket.socket) -> None:
    """Set what connections inherit; what a platform or a kind of socket lacks, it does without."""
    for level, option, value in _PEER_TUNING:
        if hasattr(socket, option):
            with contextlib.suppress(OSError):
                listener.setsockopt(getattr(socket, level), getattr(socket, option), value)
