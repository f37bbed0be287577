"""A worker as its supervisor sees it: a process, a link to it, and what is known of it. It decides nothing."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable

from bunpy.server.config import StreamsEnd
from bunpy.workers.link import Link

__all__ = ["WorkerProcess", "how_it_ended"]


class WorkerProcess:
    """The process ``pid`` of slot ``number``, counting into ``row``; ``poll`` asks for its exit status."""

    def __init__(
        self, pid: int, link: Link, poll: Callable[[], int | None], number: int, row: int
    ) -> None:
        self.pid = pid
        self.link = link
        self.number = number
        self.row = row
        self.started = time.monotonic()
        self.is_ready = False
        #: Whether the log has a line that it takes long to become so.
        self.is_late = False
        #: Whether it has been told to end, or ends of itself.
        self.is_leaving = False
        #: When it is killed if it has not ended, in seconds of ``time.monotonic``.
        self.kill_at = float("inf")
        #: Whether that would be worth a line in the log.
        self.has_grace = False
        #: Why it could not begin: what kind of fault, and a sentence.
        self.failure: tuple[str, str] | None = None
        #: Whether nothing more will be heard of it.
        self.is_silent = False
        self._poll = poll
        self._status: int | None = None
        #: Readable when it has ended, where the kernel has such a thing (Linux); else None.
        self.end: int | None = None
        if hasattr(os, "pidfd_open"):
            with contextlib.suppress(OSError):
                self.end = os.pidfd_open(pid)

    def __repr__(self) -> str:
        return f"worker {self.number} (pid {self.pid})"

    def poll(self) -> int | None:
        """Its exit status, or less the number of the signal that ended it; None while it runs."""
        if self._status is None:
            self._status = self._poll()
        return self._status

    def leave(self, about: str, grace: float, streams: StreamsEnd, patience: float) -> None:
        """Tell it to end, ``about`` being "stop" or "retire"; ``patience`` seconds after its grace it is killed."""
        self.is_leaving = True
        self.has_grace = grace > 0
        self.kill_at = min(self.kill_at, time.monotonic() + grace + patience)
        self.link.send(about, grace=grace, streams=streams)

    def kill(self) -> None:
        """End it at once."""
        if self._status is None:
            with contextlib.suppress(OSError):
                os.kill(self.pid, getattr(signal, "SIGKILL", signal.SIGTERM))

    def close(self) -> None:
        """It has ended: let go of what is held for it."""
        self.link.close()
        if self.end is not None:
            os.close(self.end)
            self.end = None


def how_it_ended(status: int) -> str:
    """``died of SIGKILL``, ``exited with status 3``."""
    if status >= 0:
        return f"exited with status {status}"
    try:
        return f"died of {signal.Signals(-status).name}"
    except ValueError:
        return f"died of signal {-status}"
