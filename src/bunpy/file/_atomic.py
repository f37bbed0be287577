"""Replacing a file's content in one step. Encoding it is the caller's."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from functools import partial
from stat import S_IMODE

from bunpy.file._regular import require_regular


def replace(path: str, data: bytes) -> None:
    """Put ``data`` where ``path`` leads, by way of a synced temporary file in the same folder.

    Raises ``OSError``; then the old content stands, and no temporary file is left.
    """
    target = os.path.realpath(path)  # a link stays: the file behind it is replaced
    try:
        status = os.stat(target)
    except FileNotFoundError:
        mode = None
    else:
        require_regular(status, path)  # os.replace() would turn /dev/null into a file
        mode = S_IMODE(status.st_mode)
    folder = os.path.dirname(target)
    os.makedirs(folder, exist_ok=True)
    # Not the target's name with a suffix: that could be too long for the filesystem.
    temporary = os.path.join(folder, f".bunpy-{secrets.token_hex(8)}.tmp")
    # A new file's mode is left to the umask. The other starts closed: its data may be private.
    opener = partial(os.open, mode=0o666 if mode is None else 0o600)
    try:
        with open(temporary, "xb", opener=opener) as file:
            if mode is not None:
                os.chmod(temporary, mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
