"""Files: read, write, append, exists, stat, lines, tail. Blocking; coroutines are in ``async_``.

Newlines are never translated: what is read is what stands in the file. No function here guards
against ``..``, links or absolute paths: confining a path that a stranger sent is the caller's work.
"""

from __future__ import annotations

import os
import time
from collections.abc import Generator
from contextlib import closing
from io import FileIO
from typing import overload

from bunpy.file._atomic import replace
from bunpy.file._lines import batches
from bunpy.file._tail import Follower

__all__ = ["append", "exists", "lines", "read", "stat", "tail", "write"]


@overload
def read(path: str | os.PathLike[str], encoding: str = "utf-8") -> str: ...
@overload
def read(path: str | os.PathLike[str], encoding: None) -> bytes: ...
def read(path: str | os.PathLike[str], encoding: str | None = "utf-8") -> str | bytes:
    """The whole file, as ``str``; as ``bytes`` when ``encoding`` is None.

    Raises ``OSError`` (``FileNotFoundError``, ...), and ``UnicodeDecodeError`` for bytes that are
    not of ``encoding``.
    """
    if encoding is None:
        with open(os.fspath(path), "rb") as binary:
            return binary.read()
    with open(os.fspath(path), encoding=encoding, newline="") as text:
        return text.read()


def write(path: str | os.PathLike[str], data: str | bytes, encoding: str = "utf-8") -> None:
    """Make ``data`` the file's content, atomically: readers see the old content or the new, whole.

    The data is written and synced to a temporary file in the same folder, which then takes the
    file's place. Missing parent folders are made. The mode of an existing file is kept; its owner
    becomes the caller's, and hard links to it keep the old content. A symbolic link stays one: what
    it points to is replaced.

    Raises ``TypeError`` for data that is neither str nor bytes and ``UnicodeEncodeError`` before
    anything is touched, and ``OSError``, also for what is not a regular file. After any failure the
    old content stands and no temporary file is left.
    """
    replace(os.fspath(path), _encoded(data, encoding))


def append(path: str | os.PathLike[str], data: str | bytes, encoding: str = "utf-8") -> None:
    """Add ``data`` at the file's end, in one write with O_APPEND.

    A missing file and its parent folders are made. Appends from several processes do not mix on a
    local filesystem. Raises ``TypeError`` for data
    that is neither str nor bytes, ``UnicodeEncodeError``, ``OSError``.
    """
    remaining = memoryview(_encoded(data, encoding))
    name = os.fspath(path)
    try:
        file = FileIO(name, "a")
    except FileNotFoundError:
        os.makedirs(os.path.dirname(os.path.realpath(name)), exist_ok=True)
        file = FileIO(name, "a")
    with file:
        # One call takes everything; a second is for a full disk, so that it raises ENOSPC.
        while remaining:
            remaining = remaining[file.write(remaining) :]


def exists(path: str | os.PathLike[str]) -> bool:
    """Whether something is there, a folder included. A link that leads nowhere is not."""
    return os.path.exists(os.fspath(path))


def stat(path: str | os.PathLike[str]) -> os.stat_result:
    """``os.stat``: size in bytes, times in seconds, mode. Raises ``FileNotFoundError``."""
    return os.stat(os.fspath(path))


def lines(path: str | os.PathLike[str], encoding: str = "utf-8") -> Generator[str, None, None]:
    r"""The file's lines without their ends, which are ``\n`` and ``\r\n`` only, read lazily.

    The file is opened at the first step and closed at the end or by ``close()``. A last line
    without an end counts; there is no empty line after the last end. Raises what ``read`` raises,
    while iterating.
    """
    for batch in batches(path, encoding):
        yield from batch


def tail(
    path: str | os.PathLike[str],
    from_line: int = 0,
    *,
    encoding: str = "utf-8",
    poll_interval: float = 0.1,
) -> Generator[str, None, None]:
    r"""The file's lines from number ``from_line`` on, then each new one as it is written, for ever.

    Lines are counted from 0 at the file's start; their ends, ``\n`` and ``\r\n``, are taken off;
    a last line without its end is held back until the end comes. Bytes that are not of ``encoding``
    become U+FFFD. Each byte is read once; at the end of the file, ``poll_interval`` is the time in
    seconds between two looks.

    - Truncated: it starts again at the start, and drops the line that was held back. Seen by the
      size: a file that has already grown past its old length goes on from there.
    - Rotated (another file under the name): the old one is followed until the new one is not empty,
      drained, its unended last line given as it is; then the new one is read from its start.
    - Gone: it waits for the file to come back.

    After the first two every line counts, whatever ``from_line`` was. Windows lets nobody rename a
    file that is being followed.

    Raises at the first step: ``FileNotFoundError``, ``OSError`` for what is not a regular file,
    ``ValueError`` for a negative ``from_line`` or a ``poll_interval`` of 0 or less, ``LookupError``
    for an unknown encoding; later any other ``OSError``. It sleeps between looks: where that would
    stall an event loop, use ``bunpy.file.async_.tail``.
    """
    follower = Follower(path, from_line, encoding, poll_interval)
    with closing(follower):
        follower.open()
        while True:
            yield from follower.step()
            if follower.idle:
                time.sleep(poll_interval)


def _encoded(data: str | bytes, encoding: str) -> bytes:
    if isinstance(data, str):
        return data.encode(encoding)
    if isinstance(data, bytes):
        return data
    raise TypeError(
        f"a file takes str or bytes, not {type(data).__name__}; convert it first, "
        "for instance with json.dumps() or bytes()"
    )
