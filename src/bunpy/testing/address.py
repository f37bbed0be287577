"""Where a server listens, and what to call it in a request: from a URL or a server object."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

from bunpy.testing.deadline import Deadline

__all__ = ["Address", "ServerLike"]

# A server bound to every address is reached by its loopback name.
_WILDCARDS = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}
_PORTS = {"http": 80, "https": 443}


class ServerLike(Protocol):
    """Whatever tells where it listens: a bunpy ``Server``, or a stand-in with two attributes."""

    @property
    def hostname(self) -> str:
        """A host name or address, or "unix:" and the path of a socket or its abstract "@name".

        A server on sockets that it was given ("fd:", "systemd") is found by its URL alone.
        """

    @property
    def port(self) -> int:
        """The TCP port; not looked at for a Unix socket."""


@dataclass(frozen=True, slots=True)
class Address:
    """A place to connect to.

    ``host`` is a name or address, or the path or "@name" of a Unix socket when ``port`` is None; ``target``
    the origin form that the URL named ("/" when it named none); ``is_secure`` says whether TLS is
    spoken there; ``authority`` goes into Host.
    """

    host: str
    port: int | None
    target: str = "/"
    is_secure: bool = False

    @classmethod
    def of(cls, server: ServerLike | str) -> Address:
        """Read a URL ("http://host:port/path", "https:...", "unix:/path") or a server's attributes.

        Raises ``ValueError`` for any other URL.
        """
        if not isinstance(server, str):
            if server.hostname.startswith("unix:"):
                return cls(server.hostname.removeprefix("unix:"), None)
            return cls(_WILDCARDS.get(server.hostname, server.hostname), server.port)
        if server.startswith("unix:"):
            return cls(server.removeprefix("unix:"), None)
        url = urlsplit(server)
        if url.scheme not in _PORTS or not url.hostname:
            raise ValueError(
                "the server must be 'http://host:port/path', 'https://host:port/path' or "
                f"'unix:/path', not {server!r}"
            )
        target = (url.path or "/") + (f"?{url.query}" if url.query else "")
        host, port = _WILDCARDS.get(url.hostname, url.hostname), url.port or _PORTS[url.scheme]
        return cls(host, port, target, url.scheme == "https")

    @property
    def authority(self) -> str:
        """The value of the Host field (RFC 9110 section 7.2); a Unix socket's is "localhost"."""
        if self.port is None:
            return "localhost"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def __str__(self) -> str:
        if self.port is None:
            return f"unix:{self.host}"
        return f"{'https' if self.is_secure else 'http'}://{self.authority}"

    def connect(self, deadline: Deadline, receive_buffer: int | None = None) -> socket.socket:
        """Open a socket to it, else ``OSError`` (``TimeoutError`` after the deadline).

        ``receive_buffer`` (bytes) is SO_RCVBUF, set first: it bounds the window that the server
        gets to see. It bounds nothing on a Unix socket, where what is sent counts against the sender.
        """
        failure: OSError = OSError("the name has no address")
        for family, place in self._places():
            sock = socket.socket(family, socket.SOCK_STREAM)
            try:
                if receive_buffer is not None:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
                if self.port is not None:  # each send leaves as it is made: pieces stay apart
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.settimeout(deadline.remaining())
                sock.connect(place)
            except OSError as exc:
                sock.close()
                failure = exc
            else:
                return sock
        if isinstance(failure, TimeoutError):
            raise TimeoutError(f"no connection to {self} within {deadline.seconds:g} s")
        # OSError picks the subclass by the number: a refusal is a ConnectionRefusedError again.
        raise OSError(failure.errno, f"no connection to {self}: {failure.strerror or failure}")

    def _places(self) -> list[tuple[int, Any]]:
        if self.port is None:
            is_abstract = self.host.startswith("@")
            return [(socket.AF_UNIX, f"\0{self.host[1:]}" if is_abstract else self.host)]
        found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        return [(family, place) for family, _, _, _, place in found]
