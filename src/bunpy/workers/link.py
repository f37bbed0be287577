"""What the processes of one server tell each other: messages over a pair of sockets. What they mean is elsewhere."""

from __future__ import annotations

import contextlib
import json
import socket
import weakref
from typing import Any, Final

__all__ = ["Link", "Message"]

#: A message: ``about`` says what, and what else there is belongs to that. JSON.
Message = dict[str, Any]

_READ_SIZE: Final = 65536
#: A supervisor must not wait for a worker that reads nothing, stopped by SIGSTOP for instance.
_AT_ONCE: Final = getattr(socket, "MSG_DONTWAIT", 0)


class Link:
    """One end. It is closed when the process that holds the other has ended, whatever ended it."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self._rest = b""
        _links.add(self)

    @classmethod
    def pair(cls) -> tuple[Link, Link]:
        """Both ends of a new one."""
        here, there = socket.socketpair()
        return cls(here), cls(there)

    @staticmethod
    def keep_only(*links: Link) -> None:
        """Close all others of this process, which a fork has inherited: as long as it holds an end, that is open."""
        for link in list(_links):
            if link not in links:
                link.close()

    def fileno(self) -> int:
        """Its descriptor; -1 when it is closed."""
        return self.socket.fileno()

    def send(self, about: str, **more: Any) -> bool:
        """Tell the other process, from any thread or signal handler; whether that was possible."""
        line = json.dumps({"about": about, **more}).encode() + b"\n"
        try:
            return self.socket.send(line, _AT_ONCE) == len(line)
        except OSError:
            return False

    def receive(self) -> list[Message] | None:
        """What has come, waiting for it if need be; None when nothing will come any more."""
        try:
            data = self.socket.recv(_READ_SIZE)
        except OSError:
            return None
        if not data:
            return None
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [json.loads(line) for line in lines]

    def close(self) -> None:
        """Close this end. Again: nothing happens."""
        with contextlib.suppress(OSError):
            self.socket.close()


_links: Final = weakref.WeakSet[Link]()
