"""What a server listens on, and what can be told of it. How the sockets come about is elsewhere."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

__all__ = ["Listeners"]

#: A server on every address is reached by the loopback one.
_WILDCARDS = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}


class Listeners:
    """Listening sockets, one at least, that do not block. Any thread may close them.

    ``hostname`` is the name that they were bound by, if they were; ``on_close`` is called when they have been closed.
    Attributes, which stay as they are then: ``sockets``; ``port``, the TCP port of the first that has one, or 0;
    ``addresses``, the IP addresses, none for Unix sockets.
    """

    def __init__(
        self,
        sockets: list[socket.socket],
        *,
        hostname: str | None = None,
        on_close: Callable[[], None] | None = None,
    ) -> None:
        self.sockets = sockets
        places = [listener.getsockname() for listener in sockets if _has_port(listener)]
        self.port: int = places[0][1] if places else 0
        self.addresses: list[str] = [place[0] for place in places]
        self._on_close = on_close
        first = sockets[0]
        self._unix_name = None if _has_port(first) else _unix_name(first)
        host = hostname if hostname is not None or not places else places[0][0]
        host = _WILDCARDS.get(host or "", host or "")
        self._host = f"[{host}]" if ":" in host and not host.startswith("[") else host

    def url(self, scheme: str) -> str:
        """Where to find the first: ``http://127.0.0.1:3000``, or ``unix:/run/x.sock`` whatever the scheme."""
        if self._unix_name is not None:
            return f"unix:{self._unix_name}"
        return f"{scheme}://{self._host}:{self.port}"

    def close(self) -> None:
        """Close the sockets, and remove the file of a Unix socket if it still is ours. Again: nothing happens."""
        for listener in self.sockets:
            listener.close()
        on_close, self._on_close = self._on_close, None
        if on_close is not None:
            on_close()


def _has_port(listener: socket.socket) -> bool:
    return listener.family in (socket.AF_INET, socket.AF_INET6)


def _unix_name(listener: socket.socket) -> str:
    """Its path from the root, or ``@name`` of an abstract one, whose address begins with NUL (unix(7))."""
    name = os.fsdecode(listener.getsockname())
    return f"@{name[1:]}" if name.startswith("\0") else os.path.abspath(name)
