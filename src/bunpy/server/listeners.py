"""What a server listens on, and what can be told of it. How the sockets come about is elsewhere."""

from __future__ import annotations

import contextlib
import os
import socket
import weakref
from collections.abc import Callable
from typing import Any, Final

__all__ = ["Listeners"]

#: A server on every address is reached by the loopback one.
_WILDCARDS = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}


class Listeners:
    """Listening sockets, one at least, that do not block. Any thread may close them.

    ``hostname`` is the name that they were bound by, if they were; ``on_close`` is called when they have been closed.
    Attributes, which stay as they are then: ``sockets``; ``port``, the TCP port of the first that has one, or 0;
    ``addresses``, the IP addresses, none for Unix sockets; ``is_own``, whether this process bound them to a port.
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
        self.is_own = hostname is not None
        self._places = {_place(listener) for listener in sockets}
        _all.add(self)
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

    def close_all_others(self) -> None:
        """In a fork: close what it has inherited of its parent's other servers, their connections included.

        As long as a process holds a copy of a connection, its client is not told that it has been closed.
        """
        places = set().union(*(listeners._places for listeners in _all))
        own = {listener.fileno() for listener in self.sockets}
        for name in os.listdir("/dev/fd"):
            if int(name) not in own:
                with contextlib.suppress(OSError):
                    _close_if_at(int(name), places)


#: All that there are in this process, those included that are closed: they may have connections that are not.
_all: Final = weakref.WeakSet[Listeners]()


def _place(sock: socket.socket) -> tuple[Any, ...]:
    """What a listener's connections have in common with it."""
    name = sock.getsockname()
    return (sock.family, name[1] if _has_port(sock) else name)


def _close_if_at(fd: int, places: set[tuple[Any, ...]]) -> None:
    sock = socket.socket(fileno=fd)  # OSError for what is none
    if _place(sock) in places and sock.type == socket.SOCK_STREAM:
        sock.close()
    else:
        sock.detach()


def _has_port(listener: socket.socket) -> bool:
    return listener.family in (socket.AF_INET, socket.AF_INET6)


def _unix_name(listener: socket.socket) -> str:
    """Its path from the root, or ``@name`` of an abstract one, whose address begins with NUL (unix(7))."""
    name = os.fsdecode(listener.getsockname())
    return f"@{name[1:]}" if name.startswith("\0") else os.path.abspath(name)
