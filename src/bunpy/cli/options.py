"""The options of the command line: each field of ``Config`` by a flag and a variable, and those of the command itself.

A new field of ``Config`` has no flag until it is given a line here; a test finds that out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, Final

from bunpy.cli.values import COUNT, MODE, PORT, SECONDS, SIZE, SWITCH, TEXT, WORDS, Kind, said
from bunpy.server.config import Config

__all__ = ["GROUPS", "OPTIONS", "UNSAID", "Option"]

#: Fields of ``Config`` that no text can say: functions.
UNSAID: Final = frozenset({"on_request", "on_stream_start", "on_stream_end"})

_FIELDS: Final = {item.name: item for item in fields(Config)}

#: How the types of fields are written.
_KINDS: Final = {
    "int": COUNT,
    "float": SECONDS,
    "bool": SWITCH,
    "str": TEXT,
    "StreamsEnd": TEXT,
    "tuple[str, ...]": WORDS,
    "TrustedProxies": WORDS,
}


@dataclass(frozen=True, slots=True)
class Option:
    """One option.

    ``name`` is that of ``serve``'s, with a dot before a part of one that is a dict ("tls.cert"); ``flag`` is without
    its dashes; ``says`` is for the help, ``default`` is as the help has it, "" for none. ``field`` is the field of
    ``Config`` that it is, or is a part of; None for what ``Config`` does not know.
    """

    name: str
    flag: str
    kind: Kind
    says: str
    default: str

    @property
    def variable(self) -> str:
        """The environment's word for it."""
        return f"BUNPY_{self.flag.upper().replace('-', '_')}"

    @property
    def field(self) -> str | None:
        """The field of ``Config`` that it sets, or sets a part of."""
        name = self.name.partition(".")[0]
        return name if name in _FIELDS else None

    @property
    def is_optional(self) -> bool:
        """Whether it can be "none"."""
        item = _FIELDS.get(self.name)
        return item is not None and bool(item.metadata.get("is_optional"))

    def check(self, value: Any) -> str | None:
        """What is wrong with a value, as ``Config`` says it; None for nothing, or if ``Config`` must see the whole."""
        item = _FIELDS.get(self.name)
        check = None if item is None else item.metadata.get("check")
        return None if check is None else check(value)


def _option(
    name: str,
    says: str,
    kind: Kind | None = None,
    *,
    flag: str | None = None,
    place: str | None = None,
    default: Any = None,
) -> Option:
    item = _FIELDS.get(name)
    if kind is None:
        assert item is not None
        kind = _KINDS[str(item.type).removesuffix(" | None")]
    if place is not None:
        kind = Kind(kind.read, kind.says, place)
    text = default if item is None else said(item.default, kind)
    return Option(name, flag or _flag(name), kind, says, text or "")


def _flag(name: str) -> str:
    """``head_limit`` is --limit-head, and ``max_streams`` --limit-streams: limits stand together in an alphabet."""
    if name.endswith("_limit"):
        name = f"limit_{name.removesuffix('_limit')}"
    elif name.startswith("max_"):
        name = f"limit_{name.removeprefix('max_')}"
    return name.replace("_", "-").replace(".", "-")


def _size(name: str, says: str) -> Option:
    return _option(name, says, SIZE)


GROUPS: Final[dict[str, tuple[Option, ...]]] = {
    "Where it listens": (
        _option("port", "0 takes a free one", PORT, default="3000"),
        _option(
            "hostname",
            "an address of this machine, 0.0.0.0 for all; fd:N, systemd",
            TEXT,
            flag="host",
            place="HOST",
            default="127.0.0.1",
        ),
        _option("unix", "a Unix socket, in place of a host and a port", TEXT, place="PATH"),
        _option("unix_mode", "permissions of the Unix socket", MODE),
        _option("tls.cert", "the certificate, and its chain", TEXT, place="FILE"),
        _option("tls.key", "its key; BUNPY_TLS_PASSWORD if it needs one", TEXT, place="FILE"),
        _option("handshake_timeout", "for a TLS handshake"),
        _option("backlog", "connections that wait to be accepted"),
    ),
    "Processes": (
        _option("workers", "processes that serve, 0: one a core"),
        _option("max_requests", "of a worker, until another replaces it", flag="max-requests"),
        _option("max_lifetime", "of a worker, until another replaces it", flag="max-lifetime"),
        _option("grace", "what a signal gives to what is running"),
        _option(
            "drain",
            "what it does with streams: end them one by one (spread), let them finish, or close",
            place="spread|finish|close",
        ),
        _option("block_warning", "that a handler may hold the loop before it is named"),
    ),
    "What is seen of it": (
        _option("access_log", "a line when a request or stream has ended"),
        _option("log_json", "such lines as JSON"),
        _option("metrics", "where Prometheus finds the metrics, as /metrics", place="PATH"),
        _option("health", "answer /healthz and /readyz"),
        _option("quiet", "do not tell the URL at the start"),
    ),
    "Who": (
        _option("allowed_hosts", "names to answer for (default: any, or the loopback's on it)"),
        _option("trusted_proxies", "addresses and networks whose X-Forwarded-... are believed"),
        _option("proxy_protocol", "their connections begin with a PROXY header"),
        _option("cors.origins", "origins whose pages may read the answers, or *", WORDS),
        _option("cors.credentials", "they may with their visitors' cookies", SWITCH),
        _option("cors.methods", "what they may ask for", WORDS, default="GET,HEAD,POST"),
        _option("cors.headers", "request headers that they may send", WORDS),
        _option("cors.expose", "response headers that they may read", WORDS),
        _option(
            "cors.max_age", "how long a preflight holds", COUNT, place="SECONDS", default="600"
        ),
    ),
    "How many": (
        _option("max_connections", "connections (default: as the descriptors allow)"),
        _option("max_connections_per_client", "connections of one address"),
        _option("max_streams", "streams"),
        _option("max_streams_per_client", "streams of one address"),
        _size("max_buffered", "that wait in memory for all slow clients"),
    ),
    "Streams": (
        _option("heartbeat", "of silence, until a comment is sent"),
        _option("head_delay", "that a status waits for the first event, or an error"),
        _option("send_timeout", "for a client to take anything"),
        _option("close_timeout", "for a generator to clean up"),
        _option("stream_lifetime", "until a stream ends, and its client comes back"),
    ),
    "Requests": (
        _size("request_line_limit", "a request line"),
        _size("head_limit", "a head"),
        _option("field_limit", "fields of a head", flag="limit-fields"),
        _size("body_limit", "a body"),
        _size("extension_limit", "an extension of a chunk"),
        _size("extensions_limit", "those of a body"),
        _size("trailer_limit", "a trailer section"),
        _option("pipeline_limit", "requests of one connection in a row"),
        _size("drain_limit", "what a client may still send after its last answer"),
        _option("drain_timeout", "and for how long"),
        _option("head_timeout", "for a whole head"),
        _option("body_timeout", "for the next piece of a body"),
        _option("keep_alive_timeout", "for the next request"),
    ),
    "Development": (
        _option("reload", "start again when a file changes (pip install 'bunpy[reload]')", SWITCH),
        _option("reload_dir", "where to watch (default: here)", WORDS),
        _option("debug", "show the traceback of what failed at the start", SWITCH),
        _option("pure", "run the Python twin of the extension", SWITCH),
    ),
}


def _all() -> Iterator[Option]:
    for group in GROUPS.values():
        yield from group


#: By name.
OPTIONS: Final = {option.name: option for option in _all()}
