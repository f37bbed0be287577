"""The options of ``serve``: their names, defaults and limits, checked before anything is opened."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

from bunpy.errors import ConfigError

__all__ = ["Config"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The options of ``serve``, times in seconds, sizes in bytes; ``ConfigError`` for a value that makes no sense."""

    #: The longest request line; a longer one is answered 414.
    request_line_limit: int = 16 * 1024
    #: The largest head of a request; a larger one is answered 431.
    head_limit: int = 64 * 1024
    #: The largest body of a request; a larger one is answered 413.
    body_limit: int = 10 * 1024 * 1024
    #: For a request's head, from its first byte to its last, and for the first byte of a connection.
    head_timeout: float = 10.0
    #: For the next piece of a request's body.
    body_timeout: float = 30.0
    #: For the next request on a connection that stays open.
    keep_alive_timeout: float = 60.0
    #: For a client to take anything of what waits for it.
    send_timeout: float = 30.0
    #: Of silence on an event stream, after which a comment is sent.
    heartbeat: float = 15.0
    #: How long a stream's response head may wait for the first event, or for an error that becomes its status.
    head_delay: float = 0.05
    #: How long ``stop`` and a signal wait for what is running.
    grace: float = 10.0
    #: The Host names to answer for, without ports; None: any, or the loopback names if the address is a loopback
    #: one.
    allowed_hosts: tuple[str, ...] | None = None
    #: How many connections may wait to be accepted.
    backlog: int = 4096
    #: Whether the line that tells the URL at the start is left out.
    quiet: bool = False

    def __post_init__(self) -> None:
        for name in ("request_line_limit", "head_limit", "body_limit", "backlog"):
            value = getattr(self, name)
            if (
                not isinstance(value, int)
                or isinstance(value, bool)
                or value < (0 if name == "body_limit" else 1)
            ):
                raise ConfigError(
                    f"{name} is {value!r}: it is an int, {'0' if name == 'body_limit' else '1'} or more"
                )
        for name in (
            "head_timeout",
            "body_timeout",
            "keep_alive_timeout",
            "send_timeout",
            "heartbeat",
        ):
            value = getattr(self, name)
            if not _is_number(value) or not value > 0:
                raise ConfigError(f"{name} is {value!r}: it is a number of seconds, more than 0")
        for name in ("head_delay", "grace"):
            value = getattr(self, name)
            if not _is_number(value) or not value >= 0:
                raise ConfigError(f"{name} is {value!r}: it is a number of seconds, 0 or more")
        if self.allowed_hosts is not None:
            object.__setattr__(self, "allowed_hosts", _host_names(self.allowed_hosts))
        if not isinstance(self.quiet, bool):
            raise ConfigError(f"quiet is {self.quiet!r}: it is True or False")

    @classmethod
    def of(cls, options: dict[str, Any]) -> Config:
        """The configuration with these options; ``ConfigError`` names one that does not exist."""
        names = {item.name for item in fields(cls)}
        for name in options:
            if name not in names:
                raise ConfigError(f"serve has no option {name}; it has {', '.join(sorted(names))}")
        return cls(**options)

    @property
    def tick(self) -> float:
        """How often timeouts are looked at: often enough for the shortest, seldom enough to cost nothing."""
        shortest = min(
            self.head_timeout,
            self.body_timeout,
            self.keep_alive_timeout,
            self.send_timeout,
            self.heartbeat,
        )
        return min(0.5, max(0.02, shortest / 4))


def _host_names(hosts: object) -> tuple[str, ...]:
    names = (
        tuple(hosts)
        if isinstance(hosts, Iterable) and not isinstance(hosts, (str, bytes))
        else None
    )
    if names is None or not all(isinstance(name, str) for name in names):
        raise ConfigError(
            f"allowed_hosts is {hosts!r}: it is a list of host names, as ['example.org']"
        )
    return tuple(name.lower() for name in names)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
