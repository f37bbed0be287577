"""What a service manager is told of this process: sd_notify(3), the protocol of systemd's ``Type=notify``.

When it is told what, the servers decide. Nothing here raises: a service works also if nobody hears of it.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import time
from collections.abc import Mapping
from typing import Final

__all__ = ["Notify"]

_log = logging.getLogger("bunpy")

_VARIABLES: Final = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
#: What systemd means by never, in microseconds, and the most digits that a number of them has.
_USEC_INFINITY: Final = 2**64 - 1
_USEC_DIGITS: Final = 20
#: Seconds that a message may wait where the manager's queue is full; so long is the loop held at the most. A message
#: that is not sent costs more: a start that nobody hears of is undone, a lost ping ends the process.
_SEND_TIME: Final = 0.25


class Notify:
    """Tells the manager at ``address``, a path or ``@name`` (abstract); with ``None`` it says nothing.

    ``watchdog`` is in how many seconds the manager wants a sign of life (``WatchdogSec=``), or ``None``. A message
    that cannot be sent is logged as a warning, the first of them. Any thread may call; a fork's copy says nothing,
    since the manager listens to the main process alone (``NotifyAccess=main``).
    """

    def __init__(self, address: str | None, watchdog: float | None = None) -> None:
        self._address = address
        self._pid = os.getpid()
        self._has_failed = False
        self._last_ping: float | None = None
        #: Seconds between two calls of ``watchdog`` at the most, half of what the manager waits; ``None``: it does not.
        self.watchdog_interval: Final = (
            None if address is None or watchdog is None else watchdog / 2
        )

    @classmethod
    def from_environment(cls, remove: bool = False) -> Notify:
        """As NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID say; without the first it says nothing.

        ``remove`` takes the variables out of the environment, so that processes that are started later do not take
        themselves for the service. What makes no sense in them is logged, and left out.
        """
        address, watchdog = _address(os.environ), _watchdog(os.environ)
        if remove:
            for variable in _VARIABLES:
                os.environ.pop(variable, None)
        return cls(address, watchdog)

    def __repr__(self) -> str:
        return f"<Notify {self._address or 'nobody'}>"

    @property
    def is_heard(self) -> bool:
        """Whether there is a manager to tell."""
        return self._address is not None

    def ready(self, status: str | None = None) -> None:
        """The service serves: after the start, and after a reload that ``reloading`` has announced."""
        self._send("READY=1", *_status(status))

    def reloading(self, status: str | None = None) -> None:
        """It has begun to reload; ``ready`` says that this is over. For ``Type=notify`` and ``notify-reload``."""
        # By the time the manager knows whether this answers the SIGHUP that it has just sent, or an earlier one. The
        # clock is CLOCK_MONOTONIC, as it has to be, wherever there is a systemd.
        now = time.monotonic_ns() // 1000
        self._send("RELOADING=1", f"MONOTONIC_USEC={now}", *_status(status))

    def stopping(self, status: str | None = None) -> None:
        """It has begun to stop. From now on ``TimeoutStopSec=`` runs, which should be longer than the grace."""
        self._send("STOPPING=1", *_status(status))

    def status(self, text: str) -> None:
        """One line for people: ``systemctl status`` shows it."""
        self._send(*_status(text))

    def main_pid(self, pid: int) -> None:
        """The process ``pid`` is the service's main one from now on, and this one is not."""
        self._send(f"MAINPID={pid}")

    def watchdog(self) -> None:
        """A sign of life, which the manager ends the process for the lack of; nothing where it does not ask for any.

        For the tick of the event loop, or of the supervisor's, and for nothing else: a thread or a timer beside the
        loop would go on to vouch for one that has stood still for hours. It may be called as often as is convenient,
        as long as it is every ``watchdog_interval`` seconds: what is too soon after the last is left out.
        """
        if self.watchdog_interval is None:
            return
        now = time.monotonic()
        # Half an interval: whoever calls once an interval, and once a little early, must not lose that one.
        if self._last_ping is None or now - self._last_ping >= self.watchdog_interval / 2:
            self._last_ping = now
            self._send("WATCHDOG=1")

    def _send(self, *lines: str) -> None:
        address = self._address
        if address is None or os.getpid() != self._pid or sys.platform == "win32":
            return
        if address.startswith("@"):
            address = "\0" + address[1:]
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.settimeout(_SEND_TIME)
                sender.sendto("\n".join(lines).encode(), address)
        except (OSError, UnicodeError) as exc:  # UnicodeError: lone surrogates
            self._fail(lines[0], exc)

    def _fail(self, message: str, exc: Exception) -> None:
        if not self._has_failed:
            self._has_failed = True
            _log.warning(
                "%s could not be sent to NOTIFY_SOCKET %s: %s; further failures are not logged",
                message,
                self._address,
                getattr(exc, "strerror", None) or exc,
            )


def _address(environment: Mapping[str, str]) -> str | None:
    address = environment.get("NOTIFY_SOCKET")
    if not address or sys.platform == "win32":
        return None
    if not (len(address) > 1 and address[0] in "/@"):
        _log.warning("NOTIFY_SOCKET is %r, and not a path or @name: nobody is told", address)
        return None
    return address


def _watchdog(environment: Mapping[str, str]) -> float | None:
    """Seconds in which this process is to give a sign of life (sd_watchdog_enabled(3))."""
    text = environment.get("WATCHDOG_USEC")
    if text is None or environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    is_number = text.isascii() and text.isdecimal() and len(text) <= _USEC_DIGITS
    if not (is_number and 0 < int(text) < _USEC_INFINITY):
        _log.warning("WATCHDOG_USEC is %r, and not a number of microseconds: it is ignored", text)
        return None
    return int(text) / 1e6


def _status(text: str | None) -> list[str]:
    """The line with the status; the protocol's lines end at LF."""
    return [] if text is None else [f"STATUS={' '.join(text.split())}"]
