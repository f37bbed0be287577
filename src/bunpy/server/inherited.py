"""Listening sockets that this process was started with: on a descriptor, or from systemd. None is opened here."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Mapping
from typing import Final

from bunpy.server.tuning import tune

__all__ = ["Activation", "inherited"]

#: The first descriptor that systemd passes (SD_LISTEN_FDS_START).
_FIRST: Final = 3
#: What systemd calls a descriptor whose unit names it in no way.
_NO_NAME: Final = "unknown"
_FAMILIES: Final = ("AF_INET", "AF_INET6", "AF_UNIX")
_VARIABLES: Final = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID")


def inherited(number: str) -> list[socket.socket]:
    """The socket on descriptor ``number``, which is taken over: it is closed when the server ends.

    Raises ``OSError`` if it is not open, or no stream socket that listens; then it stays as it is.
    """
    if not (number.isascii() and number.isdecimal()):
        raise OSError(
            errno.EBADF, f"'fd:{number}' names no descriptor: it is fd: and its number, as fd:3"
        )
    return _take_over({int(number): f"descriptor {number}"})


class Activation:
    """The sockets that systemd has passed to this process (sd_listen_fds(3)), until servers take them."""

    def __init__(self) -> None:
        self._names: dict[int, str] = {}
        self._taken: list[str] = []

    def take(self, name: str) -> list[socket.socket]:
        """Those whose FileDescriptorName= is ``name``, all that are left if it is empty.

        The first call takes the variables out of the environment, so that children do not see them; what it does not
        take waits for the next. Raises ``OSError`` if there are none, or if one is no stream socket that listens.
        """
        if "LISTEN_FDS" in os.environ:
            self._names.update(_passed(os.environ))
            for variable in _VARIABLES:
                os.environ.pop(variable, None)
        chosen = {fd: own for fd, own in self._names.items() if name in ("", own)}
        if not chosen:
            raise OSError(errno.EINVAL, self._lack(name))
        sockets = _take_over(
            {fd: f"descriptor {fd} from systemd ({own})" for fd, own in chosen.items()}
        )
        for fd, own in chosen.items():
            del self._names[fd]
            self._taken.append(own)
        return sockets

    def _lack(self, name: str) -> str:
        if not self._names and not self._taken:
            return (
                "systemd has passed no sockets to this process (LISTEN_FDS): start it by a .socket unit,"
                " or give serve a hostname and a port"
            )
        if name == "" or name in self._taken:
            return f"the sockets from systemd are taken already: {', '.join(self._taken)}"
        return (
            f"systemd has passed no socket named {name!r}, but {', '.join([*self._names.values(), *self._taken])}:"
            " FileDescriptorName= in the .socket unit names them"
        )


def _passed(environment: Mapping[str, str]) -> dict[int, str]:
    """The names of the descriptors that the variables tell of; ``OSError`` if they make no sense, or are not for us."""
    pid, count = environment.get("LISTEN_PID", ""), environment["LISTEN_FDS"]
    if pid != str(os.getpid()):
        raise OSError(
            errno.EINVAL,
            f"systemd's sockets are for process {pid or '(LISTEN_PID is not set)'}, and this is {os.getpid()}:"
            " let ExecStart= run Python itself, or a script that does so with exec",
        )
    if not (count.isascii() and count.isdecimal()):
        raise OSError(errno.EINVAL, f"LISTEN_FDS is {count!r}: it is the number of sockets passed")
    fds = range(_FIRST, _FIRST + int(count))
    for fd in fds:
        try:
            os.set_inheritable(fd, False)
        except OSError as exc:
            raise OSError(
                exc.errno, f"descriptor {fd} from systemd is not open: LISTEN_FDS is {count}"
            ) from exc
    names = environment.get("LISTEN_FDNAMES")
    listed = names.split(":") if names is not None and fds else [_NO_NAME] * len(fds)
    if len(listed) != len(fds):
        raise OSError(
            errno.EINVAL, f"LISTEN_FDNAMES is {names!r}: it names {len(listed)} of {count} sockets"
        )
    return dict(zip(fds, listed, strict=True))


def _take_over(whats: dict[int, str]) -> list[socket.socket]:
    """The sockets on these descriptors, all or none of them."""
    sockets: list[socket.socket] = []
    try:
        for fd, what in whats.items():
            sockets.append(_listener(fd, what))
    except OSError:
        for listener in sockets:
            listener.detach()
        raise
    for listener in sockets:
        listener.setblocking(False)
        listener.set_inheritable(False)
        tune(listener)
    return sockets


def _listener(fd: int, what: str) -> socket.socket:
    """The stream socket that listens on a descriptor; ``OSError`` leaves the descriptor as it is."""
    try:
        is_socket = stat.S_ISSOCK(os.fstat(fd).st_mode)
    except (OSError, OverflowError) as exc:
        raise OSError(
            errno.EBADF, f"{what} is not open: whoever starts this process must pass it on"
        ) from exc
    if not is_socket:
        raise OSError(errno.ENOTSOCK, f"{what} is no socket: pass on one that listens")
    listener = socket.socket(fileno=fd)
    kind = socket.SocketKind(listener.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE))
    family = getattr(listener.family, "name", str(listener.family))
    if family not in _FAMILIES or kind != socket.SOCK_STREAM:
        number = errno.EPROTOTYPE
        lack = f"is a socket of kind {family}, {kind.name}: pass on one of TCP, or a Unix stream"
    elif not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        number = errno.EINVAL
        lack = "is a socket that does not listen: pass on one that does (under systemd, Accept=no)"
    else:
        return listener
    listener.detach()
    raise OSError(number, f"{what} {lack}")
