"""Being told of changes, through watchfiles when it is installed. No file is read here.

One thread and one inotify instance a folder, however many tails are in it. ``watchfiles.awatch``
takes both for each tail: measured with watchfiles 1.3, it fails at the 129th (Linux gives a user
128 instances), waits for one of AnyIO's 40 threads from the 41st on, and leaves an idle one behind.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress

_NAME = "bunpy-tail-watch"
_STEP = 50  # milliseconds: a change is told after one or two; stopping takes one

_lock = threading.Lock()  # for _folders and for what is in each
_folders: dict[str, _Folder] = {}
_logger = logging.getLogger("bunpy.file")


class Watch:
    """One tail's part in the watching of its folder.

    ``wake`` is called from another thread after each change of the file's entry, once when watching
    has begun and once when it has failed. A file behind a symbolic link changes in another folder:
    there, as on network filesystems, nobody calls, and the tail has to look for itself.
    """

    def __init__(self, path: str, wake: Callable[[], object]) -> None:
        folder, self.name = os.path.split(os.path.abspath(path))
        self.wake = wake
        self._key = folder
        self._folder: _Folder | None = None

    @property
    def alive(self) -> bool:
        """Whether changes are told. False without watchfiles, or when the system refused."""
        return self._folder is not None and self._folder.alive

    def start(self) -> None:
        """Begin, if watchfiles can be imported. Blocking."""
        try:
            import watchfiles  # noqa: F401 (here, where its absence is an answer)
        except ImportError:
            return
        with _lock:
            folder = _folders.get(self._key)
            if folder is None or not folder.alive:
                folder = _folders[self._key] = _Folder(self._key)
            folder.watches.add(self)
            self._folder = folder

    def stop(self) -> None:
        """End; the last one in the folder ends its thread too. Blocks for up to 50 ms."""
        folder, self._folder = self._folder, None
        if folder is None:
            return
        with _lock:
            folder.watches.discard(self)
            if folder.watches:
                return
            if _folders.get(self._key) is folder:
                del _folders[self._key]
        folder.stop()


class _Folder:
    """The thread that watches one folder."""

    def __init__(self, path: str) -> None:
        self.alive = True
        self.watches: set[Watch] = set()
        self._path = path
        self._stopping = threading.Event()
        # A daemon: a tail that nobody closes must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name=_NAME, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        import watchfiles

        # It logs each change: into the very file that is being followed, perhaps, without end.
        logging.getLogger("watchfiles.main").addFilter(_not_ours)
        begun = False
        try:
            for changes in watchfiles.watch(
                self._path,
                watch_filter=None,
                debounce=2 * _STEP,
                step=_STEP,
                rust_timeout=_STEP,
                yield_on_timeout=True,  # the first one says that the kernel watches from now on
                stop_event=self._stopping,
                raise_interrupt=False,
                recursive=False,
            ):
                names = {os.path.basename(path) for _, path in changes}
                self._wake(None if not begun else names)
                begun = True
        except Exception as exc:
            _logger.warning("cannot watch %s, so its tails poll instead: %s", self._path, exc)
        finally:
            self.alive = False
            self._wake(None)

    def _wake(self, names: Iterable[str] | None) -> None:
        """Wake the tails of these files; None: all."""
        with _lock:
            watches = [watch for watch in self.watches if names is None or watch.name in names]
        for watch in watches:
            with suppress(RuntimeError):  # its loop is closed: nobody waits any more
                watch.wake()


def _not_ours(record: logging.LogRecord) -> bool:
    return record.threadName != _NAME
