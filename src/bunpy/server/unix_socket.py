"""Unix sockets: bound to a path or an abstract name, with the permissions asked for, and removed at the end.

A path outlives the process that bound it, so a server finds files that nobody listens on. To tell such a file from a
live one takes a connection, and to replace it a second step; another server that starts at the same time could
come between the two, or be taken for dead between its bind and its listen. So all of it is done under a lock of the
directory, which the kernel gives back whatever becomes of the process.

Not for Windows, where Python has no Unix sockets.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import socket
import stat
import sys
import time
from collections.abc import Iterator
from typing import Final

assert sys.platform != "win32"

__all__ = ["SocketFile", "listen_at"]

_log = logging.getLogger("bunpy")

#: Bytes that fit into an address (sun_path), the NUL at the end left out.
_LIMIT: Final = 107 if sys.platform == "linux" else 103
#: Seconds to wait for a directory's lock, which is held for less than a millisecond, and between two looks at it:
#: flock knows no timeout.
_LOCK_TIME: Final = 2.0
_LOCK_STEP: Final = 0.005


class SocketFile:
    """The file of a bound socket, to be removed when the server has ended."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._identity = _identity(path)
        self._pid = os.getpid()  # a fork inherits the socket, but the file is not its own

    def remove(self) -> None:
        """Remove it, if it still is the one that was bound; again: nothing happens."""
        if self._pid != os.getpid():
            return
        try:
            with _locked(os.path.dirname(self._path)):
                if _identity(self._path) == self._identity:
                    os.unlink(self._path)
        except FileNotFoundError:
            return
        except OSError as exc:
            _log.warning("could not remove the socket %s: %s", self._path, exc.strerror)


def _identity(path: str) -> tuple[int, int, int]:
    """Device, inode and birth of a file. Inodes are given out again at once; a socket's mtime is never changed."""
    status = os.lstat(path)
    return status.st_dev, status.st_ino, status.st_mtime_ns


def listen_at(name: str, backlog: int, mode: int) -> tuple[socket.socket, SocketFile | None]:
    """A socket that listens at a path, or at ``@name`` in Linux's abstract namespace, and the file that it has there.

    ``mode`` are the permissions of the file, whatever the umask; an abstract name has none. A file that nobody
    listens on is replaced. Raises ``OSError`` whose message names the path and says what to do.
    """
    where = f"unix:{name}"
    is_abstract = name.startswith("@")
    if not name.removeprefix("@") or "\0" in name:
        raise OSError(
            errno.EINVAL, f"{where!r} names no socket: it is unix:/path, or unix:@name on Linux"
        )
    if is_abstract and sys.platform != "linux":
        raise OSError(
            errno.EINVAL, f"{where} is an abstract name, which Linux alone has: use a path"
        )
    path = os.path.abspath(name)
    try:
        if len(os.fsencode(name)) > _LIMIT:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        if is_abstract:
            return _listen("\0" + name[1:], backlog), None
        with _locked(os.path.dirname(path)):
            return _listen_on_file(name, path, backlog, mode)
    except OSError as exc:
        raise OSError(exc.errno, _advice(exc, where, os.path.dirname(path))) from exc


def _listen(address: str, backlog: int) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(address)
        listener.listen(backlog)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def _listen_on_file(
    address: str, path: str, backlog: int, mode: int
) -> tuple[socket.socket, SocketFile]:
    """Bind, replacing a file that nobody listens on. For who holds the directory's lock."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    is_bound = False
    try:
        # The umask is the whole process's, and not ours to change. Linux gives the file the mode of the socket, less
        # the umask; nobody can connect before listen; by then it has the mode that was asked for.
        with contextlib.suppress(OSError):
            os.fchmod(listener.fileno(), mode)
        try:
            listener.bind(address)
        except OSError as exc:
            if exc.errno != errno.EADDRINUSE:
                raise
            _remove_dead(address, path)
            listener.bind(address)
        is_bound = True
        _set_mode(path, mode)
        file = SocketFile(path)
        listener.listen(backlog)
        listener.setblocking(False)
    except OSError:
        listener.close()
        if is_bound:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        raise
    return listener, file


def _remove_dead(address: str, path: str) -> None:
    """Remove a socket that nobody listens on; ``OSError`` for anything else that is there."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise OSError(errno.ENOTSOCK, os.strerror(errno.ENOTSOCK))
    except FileNotFoundError:
        return  # whoever bound it has just removed it
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # EAGAIN is a full backlog: somebody listens
        number = probe.connect_ex(address)
    if number == errno.ECONNREFUSED:
        os.unlink(path)
    elif number != errno.ENOENT:
        number = number if number in (errno.EACCES, errno.EPERM) else errno.EADDRINUSE
        raise OSError(number, os.strerror(number))


def _set_mode(path: str, mode: int) -> None:
    """Set a socket's permissions, and never those of what a link leads to that somebody has put in its place."""
    if sys.platform != "linux":
        os.chmod(path, mode, follow_symlinks=False)
        return
    fd = os.open(path, os.O_PATH | os.O_NOFOLLOW)
    try:
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            raise OSError(errno.ENOTSOCK, os.strerror(errno.ENOTSOCK))
        os.chmod(f"/proc/self/fd/{fd}", mode)  # Linux has no chmod of its own that follows no link
    finally:
        os.close(fd)


@contextlib.contextmanager
def _locked(folder: str) -> Iterator[None]:
    """Hold the lock of a directory. ``OSError``: ETIMEDOUT if others hold it on and on, ENOLCK if it has none."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        deadline = time.monotonic() + _LOCK_TIME
        while not _try_lock(fd):
            if time.monotonic() > deadline:
                raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
            time.sleep(_LOCK_STEP)
        yield
    finally:
        os.close(fd)


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as exc:
        raise OSError(errno.ENOLCK, str(exc.strerror)) from exc
    return True


def _advice(exc: OSError, where: str, folder: str) -> str:
    if exc.errno == errno.EADDRINUSE:
        return f"{where} is taken: stop what listens there, or give serve another path"
    if exc.errno == errno.ENOTSOCK:
        return f"{where} is there and is no socket: give serve another path, or remove it yourself"
    if exc.errno in (errno.ENOENT, errno.ENOTDIR):
        return f"{where} cannot be made: {folder} is no directory; make it first"
    if exc.errno in (errno.EACCES, errno.EPERM):
        return f"{where} may not be used by this user: take a directory, and a file in it, that it may read and write"
    if exc.errno == errno.ENAMETOOLONG:
        return f"{where} is too long: a Unix socket's path has {_LIMIT} bytes at most; give serve a shorter one"
    if exc.errno == errno.ETIMEDOUT:
        return f"{where} cannot be had: another process holds the lock of {folder}; give serve a directory of its own"
    if exc.errno == errno.ENOLCK:
        return f"{where} cannot be had: {folder} cannot be locked ({exc.strerror}); use a local directory, as /run"
    return f"{where} cannot be had: {exc.strerror}"
