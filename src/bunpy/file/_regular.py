"""The check that a path leads to a regular file. Opening it is the caller's."""

from __future__ import annotations

import errno
import os
from stat import S_ISDIR, S_ISREG


def require_regular(status: os.stat_result, path: str) -> None:
    """Raise ``IsADirectoryError`` for a folder, ``OSError`` (EINVAL) for a device, pipe, socket."""
    if S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if not S_ISREG(status.st_mode):
        raise OSError(
            errno.EINVAL, "a device, pipe or socket; this works on regular files only", path
        )
