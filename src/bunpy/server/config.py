"""The options of ``serve``: their names, defaults and limits, checked before anything is opened."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from bunpy.errors import ConfigError
from bunpy.http.cors import Cors
from bunpy.http.forwarded import TrustedProxies
from bunpy.http.host import known_host
from bunpy.server.option import INT_MAX, Check, count, flag, function, option, path, seconds
from bunpy.shown import shown

if TYPE_CHECKING:
    import ssl

    from bunpy.http.ending import Ending
    from bunpy.http.request import Request

__all__ = ["Config", "StreamsEnd"]

#: More processes than any machine has cores.
_WORKERS_MAX: Final = 4096
#: What may become of streams when a server stops.
StreamsEnd = Literal["spread", "finish", "close"]

_ENDS: Final = get_args(StreamsEnd)
_KiB: Final = 1024
_MiB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The options of ``serve``, times in seconds, sizes in bytes; ``ConfigError`` for a value that makes no sense."""

    # Requests

    #: The longest request line; a longer one is answered 414.
    request_line_limit: int = count(16 * _KiB)
    #: The largest head of a request; a larger one is answered 431.
    head_limit: int = count(64 * _KiB)
    #: The most fields that a head may have; one with more is answered 431.
    field_limit: int = count(256)
    #: The largest body of a request; a larger one is answered 413.
    body_limit: int = count(10 * _MiB, 0)
    #: The largest extension of a chunk, and the most of them in a body; what is larger is answered 400.
    extension_limit: int = count(4 * _KiB, 0)
    extensions_limit: int = count(16 * _KiB, 0)
    #: The largest trailer section of a body; a larger one is answered 431.
    trailer_limit: int = count(8 * _KiB, 0)
    #: How many requests of one connection are answered before others have their turn.
    pipeline_limit: int = count(16)
    #: For a request's head, from its first byte to its last, and for the first byte of a connection.
    head_timeout: float = seconds(10.0)
    #: For the next piece of a request's body.
    body_timeout: float = seconds(30.0)
    #: For the next request on a connection that stays open.
    keep_alive_timeout: float = seconds(60.0)
    #: What a client may still send after its last answer, and for how long: so that answer reaches it.
    drain_limit: int = count(1 * _MiB, 0)
    drain_timeout: float = seconds(2.0)

    # Streams

    #: For a client to take anything of what waits for it.
    send_timeout: float = seconds(30.0)
    #: Of silence on an event stream, after which a comment is sent.
    heartbeat: float = seconds(15.0)
    #: How long a stream's response head may wait for the first event, or for an error that becomes its status.
    head_delay: float = seconds(0.05, 0)
    #: How long a generator may take to clean up once its stream is over.
    close_timeout: float = seconds(5.0)
    #: How long a stream may last; it ends cleanly then, and its client comes back. None: for ever.
    stream_lifetime: float | None = seconds(None)

    # How many

    #: Connections at a time, and those of one client address. None: as many as there are descriptors; any number.
    max_connections: int | None = count(None)
    max_connections_per_client: int | None = count(None)
    #: Streams at a time, and those of one client address; None: any number.
    max_streams: int | None = count(None)
    max_streams_per_client: int | None = count(None)
    #: Bytes that may wait in memory for the clients of all connections; above that the slowest are cut off.
    max_buffered: int = count(256 * _MiB)
    #: How many connections may wait to be accepted.
    backlog: int = count(4096, most=INT_MAX)

    # Who

    #: The Host names to answer for, without ports; None: any, or the loopback names if the address is a loopback
    #: one.
    allowed_hosts: tuple[str, ...] | None = None
    #: The proxies, as addresses or networks, whose X-Forwarded-For, X-Forwarded-Proto and PROXY headers are believed;
    #: "unix" is whoever connects to a Unix socket.
    trusted_proxies: TrustedProxies = field(default=TrustedProxies(()))
    #: Whether each connection of a trusted proxy begins with a PROXY header, version 1 or 2.
    proxy_protocol: bool = flag(False)
    #: Which pages of other origins may read the answers, as a ``Cors`` or its arguments in a dict; None: none may.
    cors: Cors | None = None

    # The socket

    #: A certificate and its key, {"cert": path, "key": path} with an optional "password", or an ``SSLContext``.
    tls: Mapping[str, Any] | ssl.SSLContext | None = field(default=None, repr=False)
    #: For a TLS handshake.
    handshake_timeout: float = seconds(10.0)
    #: The permissions of a Unix socket.
    unix_mode: int = count(0o666, 0)

    # The process

    #: How long ``stop`` and a signal wait for what is running.
    grace: float = seconds(10.0, 0)
    #: How long a handler or generator may hold the loop before it is named in a warning; None: as long as it likes.
    block_warning: float | None = seconds(0.1, 0.01, is_optional=True)
    #: What becomes of streams when a signal stops the server: as ``streams`` of ``Server.stop``.
    drain: StreamsEnd = option(
        "spread",
        lambda value: None if value in _ENDS else "it is 'spread', 'finish' or 'close'",
    )
    #: Whether the line that tells the URL at the start is left out.
    quiet: bool = flag(False)

    # Several processes

    #: Processes that serve; 0: as many as there are cores that this one may use.
    workers: int = count(1, 0, _WORKERS_MAX)
    #: Requests, and seconds, after which a worker is replaced by a new one; each draws a limit up to a tenth less.
    max_requests: int | None = count(None)
    max_lifetime: float | None = seconds(None)

    # What is seen of it

    #: Whether each request and stream has a line in the log when it ends, and whether such lines are JSON.
    access_log: bool = flag(False)
    log_json: bool = flag(False)
    #: The path at which Prometheus finds the metrics.
    metrics: str | None = path()
    #: Whether /healthz and /readyz are answered: 200, and 503 from the latter while the server stops.
    health: bool = flag(False)
    #: Called with each request before its handler; with the request of each stream that begins; and with the
    #: ``Ending`` of each stream that has ended.
    on_request: Callable[[Request], None] | None = function()
    on_stream_start: Callable[[Request], None] | None = function()
    on_stream_end: Callable[[Ending], None] | None = function()

    def __post_init__(self) -> None:
        for item in fields(self):
            check: Check | None = item.metadata.get("check")
            value = getattr(self, item.name)
            if check is None or (value is None and item.metadata["is_optional"]):
                continue
            says = check(value)
            if says is not None:
                none = ", or None" if item.metadata["is_optional"] else ""
                raise ConfigError(f"{item.name} is {shown(value)}: {says}{none}")
        if self.allowed_hosts is not None:
            object.__setattr__(self, "allowed_hosts", _host_names(self.allowed_hosts))
        object.__setattr__(self, "trusted_proxies", TrustedProxies.of(self.trusted_proxies))
        object.__setattr__(self, "cors", Cors.of(self.cors))
        if self.proxy_protocol and not self.trusted_proxies:
            raise ConfigError(
                "proxy_protocol needs trusted_proxies: the addresses of the proxies that send it"
            )
        if self.metrics is not None and find_spec("prometheus_client") is None:
            raise ConfigError("metrics needs prometheus_client: pip install 'bunpy[metrics]'")
        if self.metrics in ("/healthz", "/readyz") and self.health:
            raise ConfigError(f"metrics is {self.metrics!r}, which health answers: another path")
        if self.unix_mode > 0o777:
            raise ConfigError(f"unix_mode is {self.unix_mode:#o}: it is 0o777 at most")

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
            self.drain_timeout,
            self.stream_lifetime or math.inf,
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
            f"allowed_hosts is {shown(hosts)}: it is a list of host names, as ['example.org']"
        )
    return tuple(map(known_host, names))
