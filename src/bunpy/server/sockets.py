"""Where a server listens: hosts and ports are bound here; Unix sockets and inherited ones in rooms of their own.

All of that is done before ``serve`` returns.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import sys
from typing import Any, Final

from bunpy.errors import ConfigError
from bunpy.server.inherited import Activation, inherited
from bunpy.server.listeners import Listeners
from bunpy.server.tuning import tune
from bunpy.shown import shown

if sys.platform != "win32":
    from bunpy.server.unix_socket import listen_at

__all__ = ["bind", "raise_descriptor_limit"]

#: What getaddrinfo gives for an address.
_Found = tuple[int, int, int, str, tuple[Any, ...]]

#: Ports that are tried where any will do, until one is free on every address of the name.
_TRIES = 10

#: One for the process, as its environment is.
_activation: Final = Activation()


def bind(hostname: str, port: int, backlog: int, unix_mode: int = 0o666) -> Listeners:
    """Listen where ``hostname`` says.

    - a name or an address: on every address of it, all on one port (a free one for port 0);
    - "unix:/path", or "unix:@name" for Linux's abstract namespace: on a Unix socket, its file's permissions
      ``unix_mode``; a file that nobody listens on is replaced;
    - "fd:3": on the socket of that descriptor, which the server takes over;
    - "systemd", or "systemd:name": on the sockets that systemd has passed to this process, or those of that name.

    ``port`` matters to the first alone. Raises ``OSError`` whose message names the place and says what to do;
    ``ConfigError`` for a number that is no port's.
    """
    kind, colon, name = hostname.partition(":")
    if kind == "unix" and colon:
        if sys.platform != "win32":
            listener, file = listen_at(name, backlog, unix_mode)
            return Listeners([listener], on_close=None if file is None else file.remove)
        raise OSError(errno.EAFNOSUPPORT, f"{hostname}: Python has no Unix sockets on Windows")
    if kind == "fd" and colon and ":" not in name:  # fd::1 is an address
        return Listeners(inherited(name))
    if kind == "systemd":
        return Listeners(_activation.take(name))
    return Listeners(_listen_at_port(hostname, port, backlog), hostname=hostname)


def _listen_at_port(hostname: str, port: int, backlog: int) -> list[socket.socket]:
    if not 0 <= port <= 65535:
        raise ConfigError(f"{shown(port)} is no port: ports are 0 to 65535")
    where = f"port {port} on {hostname or 'all addresses'}"
    try:
        found = socket.getaddrinfo(
            hostname or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (socket.gaierror, ValueError) as exc:  # no name for IDNA, or a NUL in it
        raise OSError(
            errno.EADDRNOTAVAIL,
            f"{hostname!r} is not the name or address of this machine ({exc}): use 127.0.0.1 for local clients only,"
            " 0.0.0.0 for all",
        ) from exc
    for tries_left in reversed(range(_TRIES if port == 0 else 1)):
        try:
            return _listen(list(dict.fromkeys(found)), port, backlog)
        except OSError as exc:
            if exc.errno != errno.EADDRINUSE or not tries_left:
                raise OSError(exc.errno, _advice(exc, where)) from exc
    raise AssertionError("unreachable")


def _listen(found: list[_Found], port: int, backlog: int) -> list[socket.socket]:
    """A listener on each address, all on one port; an address of a family that is switched off is left out."""
    listeners: list[socket.socket] = []
    missing: OSError | None = None
    try:
        for family, kind, protocol, _, address in found:
            try:
                listener = socket.socket(family, kind, protocol)
            except OSError as exc:
                missing = exc
                continue
            listeners.append(listener)
            if os.name == "posix":
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            tune(listener)
            if port == 0 and len(listeners) > 1:
                port = listeners[0].getsockname()[1]
            try:
                listener.bind((address[0], port, *address[2:]))
            except OSError as exc:
                if exc.errno != errno.EADDRNOTAVAIL:
                    raise
                missing = exc
                listeners.remove(listener)
                listener.close()
                continue
            listener.listen(backlog)
            listener.setblocking(False)
        if missing is not None and not listeners:
            raise missing
    except OSError:
        for listener in listeners:
            listener.close()
        raise
    return listeners


def _advice(exc: OSError, where: str) -> str:
    if exc.errno == errno.EADDRINUSE:
        return f"{where} is taken: stop what listens there, or give serve another port (port=0 finds a free one)"
    if exc.errno == errno.EACCES:
        return f"{where} may not be used by this user: ports below 1024 need a privilege; take one above"
    if exc.errno == errno.EADDRNOTAVAIL:
        return f"{where} cannot be had: the address is not one of this machine's"
    return f"{where} cannot be had: {exc.strerror}"


def raise_descriptor_limit() -> None:
    """Raise the soft limit of open descriptors to the hard one: each connection takes one."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
