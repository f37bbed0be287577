"""Who is at the other end of a connection: its address, the proxy that speaks for it, and its place among all."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from bunpy.http.proxy_header import ProxyHeader

if TYPE_CHECKING:
    from asyncio import BaseTransport

    from bunpy.http.request import Request
    from bunpy.http.service import Service

__all__ = ["Peer"]


class Peer:
    """One connection's peer, from the moment that it is accepted; ``leave`` when it has gone."""

    __slots__ = ("_client", "_host", "_is_proxy", "_scheme", "_service", "has_place", "header")

    def __init__(self, service: Service, transport: BaseTransport, is_encrypted: bool) -> None:
        self._service = service
        self._scheme = "https" if is_encrypted else "http"
        name = transport.get_extra_info("peername")
        self._client: tuple[str, int] | None = name[:2] if isinstance(name, tuple) else None
        proxies = service.config.trusted_proxies
        host = _host_of(self._client, transport)
        self._is_proxy = bool(proxies) and proxies.trusts(host)
        #: The PROXY header that must come before the first request; None if there is none to come.
        self.header: ProxyHeader | None = None
        if self._is_proxy and service.config.proxy_protocol:
            self.header = ProxyHeader()
        # The connections of a proxy are those of many clients.
        self._host = None if self._is_proxy else host
        #: Whether it is one of the connections that the server has room for.
        self.has_place = service.enter(self._host)

    def read_header(self, data: bytes) -> bytes | None:
        """Take the PROXY header: what follows it, None while more is wanted; ``RequestRefused`` if it is none."""
        assert self.header is not None
        rest = self.header.feed(data)
        if rest is not None:
            header, self.header = self.header, None
            if not header.is_local:
                self._client = header.client
                # Who is not told by an address is not whoever connects to our own Unix socket.
                self._is_proxy = self._client is not None
                self._service.leave(self._host, self.has_place)
                self._host = None if self._client is None else self._client[0]
                self.has_place = self._service.enter(self._host)
        return rest

    def ask_again(self) -> bool:
        """Whether there is a place by now for one that had none."""
        self._service.leave(self._host, False)
        self.has_place = self._service.enter(self._host)
        return self.has_place

    def sign(self, request: Request) -> None:
        """Say in a request who has sent it, and how."""
        if self._is_proxy:
            request.client, request.scheme = self._service.config.trusted_proxies.client_of(
                self._client, self._scheme, request.headers
            )
        else:
            request.client = self._client
            request.scheme = self._scheme

    def leave(self) -> None:
        """The connection is gone."""
        self._service.leave(self._host, self.has_place)


def _host_of(client: tuple[str, int] | None, transport: BaseTransport) -> str | None:
    """The peer's address; None on a Unix socket, and "" for a peer that had gone before it could be asked for one."""
    if client is not None:
        return client[0]
    sock = transport.get_extra_info("socket")
    is_unix = sock is not None and sock.family == getattr(socket, "AF_UNIX", None)
    return None if is_unix else ""
