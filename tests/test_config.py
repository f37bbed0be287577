"""The options of serve: what each can be and cannot, and what is said of it."""

from __future__ import annotations

import dataclasses
import functools
import math
import re
import sys
from typing import Any

import pytest

from bunpy.errors import ConfigError
from bunpy.http.cors import Cors
from bunpy.http.forwarded import TrustedProxies
from bunpy.server.config import Config

DEFAULTS: dict[str, Any] = {
    "request_line_limit": 16 * 1024,
    "head_limit": 64 * 1024,
    "field_limit": 256,
    "body_limit": 10 * 1024 * 1024,
    "extension_limit": 4 * 1024,
    "extensions_limit": 16 * 1024,
    "trailer_limit": 8 * 1024,
    "pipeline_limit": 16,
    "head_timeout": 10.0,
    "body_timeout": 30.0,
    "keep_alive_timeout": 60.0,
    "drain_limit": 1024 * 1024,
    "drain_timeout": 2.0,
    "send_timeout": 30.0,
    "heartbeat": 15.0,
    "head_delay": 0.05,
    "close_timeout": 5.0,
    "stream_lifetime": None,
    "max_connections": None,
    "max_connections_per_client": None,
    "max_streams": None,
    "max_streams_per_client": None,
    "max_buffered": 256 * 1024 * 1024,
    "backlog": 4096,
    "allowed_hosts": None,
    "trusted_proxies": TrustedProxies(()),
    "proxy_protocol": False,
    "cors": None,
    "tls": None,
    "handshake_timeout": 10.0,
    "unix_mode": 0o666,
    "grace": 10.0,
    "block_warning": 0.1,
    "drain": "spread",
    "quiet": False,
    "workers": 1,
    "max_requests": None,
    "max_lifetime": None,
    "access_log": False,
    "log_json": False,
    "metrics": None,
    "health": False,
    "on_request": None,
    "on_stream_start": None,
    "on_stream_end": None,
}
#: Counts, by the least that each may be.
COUNTS = {
    "request_line_limit": 1,
    "head_limit": 1,
    "field_limit": 1,
    "body_limit": 0,
    "extension_limit": 0,
    "extensions_limit": 0,
    "trailer_limit": 0,
    "pipeline_limit": 1,
    "drain_limit": 0,
    "max_buffered": 1,
    "backlog": 1,
    "workers": 0,
}
#: The most, where it is less than any size.
MOST = {"backlog": 2**31 - 1, "workers": 4096}
#: Counts that may be None, which stands for no limit.
LIMITS = [
    "max_connections",
    "max_connections_per_client",
    "max_streams",
    "max_streams_per_client",
    "max_requests",
]
TIMES = [
    "head_timeout",
    "body_timeout",
    "keep_alive_timeout",
    "drain_timeout",
    "send_timeout",
    "heartbeat",
    "close_timeout",
    "handshake_timeout",
]
TIMES_FROM_0 = ["head_delay", "grace"]
FLAGS = ["access_log", "health", "log_json", "proxy_protocol", "quiet"]
HOOKS = ["on_request", "on_stream_end", "on_stream_start"]
#: Those that have tests of their own below.
OTHERS = [
    "allowed_hosts",
    "block_warning",
    "cors",
    "drain",
    "max_lifetime",
    "metrics",
    "stream_lifetime",
    "tls",
    "trusted_proxies",
    "unix_mode",
]


def test_the_defaults_are_those_of_the_page() -> None:
    assert {field.name: getattr(Config(), field.name) for field in dataclasses.fields(Config)} == (
        DEFAULTS
    )
    assert Config.of({}) == Config()


def test_every_option_is_tested_here() -> None:
    assert {*COUNTS, *LIMITS, *TIMES, *TIMES_FROM_0, *FLAGS, *HOOKS, *OTHERS} == {*DEFAULTS}
    assert {*DEFAULTS} == {field.name for field in dataclasses.fields(Config)}


def test_a_configuration_is_not_changed_afterwards() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().grace = 1.0  # type: ignore[misc]


def test_options_are_given_by_name() -> None:
    with pytest.raises(TypeError):
        Config(1024)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(
            (name, value)
            for name, least in COUNTS.items()
            for value in (least, least + 1, 123, MOST.get(name, sys.maxsize))
        ),
        *(
            (name, value)
            for name in TIMES
            for value in (1, 0.001, 0.5, 3600, 1e9, 10**308, sys.float_info.max, math.inf)
        ),
        *((name, value) for name in TIMES_FROM_0 for value in (0, 0.0, 0.001, 1, 3600, math.inf)),
        *((name, value) for name in LIMITS for value in (None, 1, 2, 2**40)),
        *(("stream_lifetime", value) for value in (None, 1, 0.5, math.inf)),
        *(("max_lifetime", value) for value in (None, 1, 0.5, math.inf)),
        *(("drain", value) for value in ("spread", "finish", "close")),
        *(("metrics", value) for value in (None, "/", "/metrics", "/a/b", "/a b", "/é")),
        *(
            (name, value)
            for name in HOOKS
            for value in (None, print, math.floor, dict, functools.partial(print))
        ),
        *(("block_warning", value) for value in (None, 0.01, 1, math.inf)),
        *(("unix_mode", value) for value in (0, 0o600, 0o777)),
        ("quiet", True),
        ("quiet", False),
        ("proxy_protocol", False),
    ],
)
def test_a_value_that_an_option_can_have(name: str, value: Any) -> None:
    assert getattr(Config.of({name: value}), name) == value


@pytest.mark.parametrize(
    ("name", "least", "value"),
    [
        (name, least, value)
        for name, least in COUNTS.items()
        for value in (
            least - 1,
            -1,
            -(2**40),
            1.0,
            1.5,
            math.inf,
            math.nan,
            True,
            False,
            "1",
            "1k",
            b"1",
            None,
            [1],
        )
    ],
)
def test_a_value_that_a_count_cannot_have(name: str, least: int, value: Any) -> None:
    message = f"{name} is {value!r}: it is an int, {least} or more"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        Config.of({name: value})


#: The last has more digits than CPython writes out.
HUGE = [sys.maxsize + 1, 10**30, 10**400, 10**5000]


@pytest.mark.parametrize("name", [*COUNTS, *LIMITS, "unix_mode"])
@pytest.mark.parametrize("value", HUGE, ids=range(4))
def test_a_count_that_is_more_than_any(name: str, value: int) -> None:
    message = f"{name} is .*: it is {MOST.get(name, sys.maxsize)} at most(, or None)?"
    with pytest.raises(ConfigError) as raised:
        Config.of({name: value})
    assert re.fullmatch(message, str(raised.value))
    assert len(str(raised.value)) < 200


@pytest.mark.parametrize("name", MOST)
def test_a_count_that_is_one_more_than_the_most(name: str) -> None:
    value = MOST[name] + 1
    with pytest.raises(ConfigError, match=f"^{name} is {value}: it is {MOST[name]} at most$"):
        Config.of({name: value})


@pytest.mark.parametrize(
    "name", [*TIMES, *TIMES_FROM_0, "block_warning", "max_lifetime", "stream_lifetime"]
)
@pytest.mark.parametrize("value", [10**309, 10**400, 10**5000], ids=range(3))
def test_a_time_that_is_more_than_any(name: str, value: int) -> None:
    says = "it is a number of seconds that a float can hold, math.inf for no end(, or None)?"
    with pytest.raises(ConfigError) as raised:
        Config.of({name: value})
    assert re.fullmatch(f"{name} is .*: {says}", str(raised.value))
    assert len(str(raised.value)) < 200


@pytest.mark.parametrize("name", TIMES)
@pytest.mark.parametrize(
    "value",
    [0, 0.0, -0.0, -1, -0.001, -math.inf, math.nan, True, False, "10", "10s", b"1", None, [1], 1j],
)
def test_a_value_that_a_time_cannot_have(name: str, value: Any) -> None:
    message = f"{name} is {value!r}: it is a number of seconds, more than 0"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        Config.of({name: value})


@pytest.mark.parametrize("name", TIMES_FROM_0)
@pytest.mark.parametrize(
    "value", [-1, -0.001, -math.inf, math.nan, True, False, "10", b"1", None, [1], 1j]
)
def test_a_value_that_a_time_from_0_cannot_have(name: str, value: Any) -> None:
    message = f"{name} is {value!r}: it is a number of seconds, 0 or more"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        Config.of({name: value})


@pytest.mark.parametrize("name", HOOKS)
@pytest.mark.parametrize("value", [False, 1, "print", "app:hook", [print]])
def test_a_hook_is_a_function(name: str, value: Any) -> None:
    message = f"{name} is {value!r}: it is a plain function, not an async one, or None"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        Config.of({name: value})


class AsyncHook:
    async def __call__(self, req: object) -> None:
        raise AssertionError


async def async_hook(req: object) -> None:
    raise AssertionError


@pytest.mark.parametrize("name", HOOKS)
@pytest.mark.parametrize(
    "value", [async_hook, functools.partial(async_hook), AsyncHook()], ids=range(3)
)
def test_a_hook_is_not_async(name: str, value: Any) -> None:
    """Nobody would await it."""
    with pytest.raises(ConfigError, match=f"^{name} is .*: it is a plain function, not an async"):
        Config.of({name: value})


@pytest.mark.parametrize("value", ["/metrics?", "/metrics?format=text", "/a#b"])
def test_metrics_have_no_query(value: str) -> None:
    """No request would have that path."""
    message = f"metrics is {value!r}: it is a path alone, with no ? or # in it, or None"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        Config.of({"metrics": value})


@pytest.mark.parametrize("value", ["", "metrics", "metrics/", "/a\nb", "/\0", b"/metrics", True, 1])
def test_metrics_are_at_a_path(value: Any) -> None:
    message = f"metrics is {value!r}: it is a path that begins with a slash, or None"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        Config.of({"metrics": value})


@pytest.mark.parametrize("value", ["", "Spread", "abort", None, True, 1, ["close"], {}])
def test_the_streams_end_in_one_of_three_ways(value: Any) -> None:
    message = f"drain is {value!r}: it is 'spread', 'finish' or 'close'"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        Config.of({"drain": value})


@pytest.mark.parametrize("name", FLAGS)
@pytest.mark.parametrize("value", ["no", None, 1])
def test_a_flag_is_true_or_false(name: str, value: Any) -> None:
    message = f"{name} is {value!r}: it is True or False"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        Config.of({name: value})


@pytest.mark.parametrize("name", LIMITS)
@pytest.mark.parametrize("value", [0, -1, 1.5, True, "1"])
def test_a_value_that_a_limit_cannot_have(name: str, value: Any) -> None:
    message = f"{name} is {value!r}: it is an int, 1 or more, or None"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        Config.of({name: value})


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("stream_lifetime", 0, "it is a number of seconds, more than 0, or None"),
        ("stream_lifetime", "1h", "it is a number of seconds, more than 0, or None"),
        ("block_warning", 0, "it is a number of seconds, 0.01 or more, or None"),
        ("block_warning", True, "it is a number of seconds, 0.01 or more, or None"),
        ("unix_mode", -1, "it is an int, 0 or more"),
        ("unix_mode", "666", "it is an int, 0 or more"),
    ],
)
def test_a_value_that_an_option_cannot_have(name: str, value: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(f'{name} is {value!r}: {says}')}$"):
        Config.of({name: value})


def test_a_mode_that_is_more_than_permissions() -> None:
    with pytest.raises(ConfigError, match=r"^unix_mode is 0o1777: it is 0o777 at most$"):
        Config.of({"unix_mode": 0o1777})


# What has rooms of its own


def test_trusted_proxies_are_made_of_addresses() -> None:
    config = Config.of({"trusted_proxies": ["10.0.0.0/8"], "proxy_protocol": True})
    assert config.trusted_proxies == TrustedProxies(["10.0.0.0/8"])
    with pytest.raises(ConfigError, match="nonsense"):
        Config.of({"trusted_proxies": ["nonsense"]})


def test_the_proxy_protocol_is_spoken_with_proxies_that_are_known() -> None:
    with pytest.raises(ConfigError, match=r"^proxy_protocol needs trusted_proxies: "):
        Config.of({"proxy_protocol": True})


def test_cors_is_made_of_its_arguments() -> None:
    origin = "https://a.example"
    assert Config.of({"cors": {"origins": [origin]}}).cors == Cors([origin])
    with pytest.raises(ConfigError, match="origin"):
        Config.of({"cors": {"origin": [origin]}})


# Hosts


@pytest.mark.parametrize(
    ("value", "hosts"),
    [
        (None, None),
        ([], ()),
        (["a.example"], ("a.example",)),
        (("A.Example", "[::1]"), ("a.example", "[::1]")),
        ({"a": 1}, ("a",)),
        (frozenset({"a"}), ("a",)),
    ],
)
def test_allowed_hosts(value: Any, hosts: tuple[str, ...] | None) -> None:
    assert Config.of({"allowed_hosts": value}).allowed_hosts == hosts


def test_allowed_hosts_from_an_iterator() -> None:
    """Looked through once to be checked, they must not be gone when they are kept: that would allow none."""
    assert Config.of({"allowed_hosts": iter(["a", "B"])}).allowed_hosts == ("a", "b")


def test_allowed_hosts_are_kept_as_they_were_given() -> None:
    names = ["a"]
    config = Config.of({"allowed_hosts": names})
    names.append("b")
    assert config.allowed_hosts == ("a",)


@pytest.mark.parametrize(
    "value", ["a.example", "", [1], ["a", None], [b"a"], b"a", {1: "a"}, [["a"]]]
)
def test_allowed_hosts_that_are_none(value: Any) -> None:
    message = f"allowed_hosts is {value!r}: it is a list of host names, as ['example.org']"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        Config.of({"allowed_hosts": value})


def test_allowed_hosts_that_no_host_could_match() -> None:
    """Each would be answered 421 for ever; what is legal: test_host."""
    with pytest.raises(ConfigError, match=r"^allowed_hosts has 'http://a', which is .*: write 'a'"):
        Config.of({"allowed_hosts": ["b", "http://a"]})


def test_a_long_list_is_not_repeated() -> None:
    with pytest.raises(ConfigError) as raised:
        Config.of({"allowed_hosts": "a" * 3_000_000})
    assert len(str(raised.value)) < 200


@pytest.mark.parametrize("value", [1, True])
def test_allowed_hosts_that_are_no_list(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"^allowed_hosts is .*: it is a list of host names"):
        Config.of({"allowed_hosts": value})


# Options that there are not


@pytest.mark.parametrize(
    "name", ["porrt", "Quiet", "", "timeout", "__post_init__", "tick", "of", "a b"]
)
def test_an_unknown_option(name: str) -> None:
    known = ", ".join(sorted(DEFAULTS))
    with pytest.raises(
        ConfigError, match=f"^{re.escape(f'serve has no option {name}; it has {known}')}$"
    ):
        Config.of({"quiet": True, name: 1})


def test_a_wrong_value_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="backlog"):
        Config(backlog=0)


# The tick


@pytest.mark.parametrize(
    ("options", "tick"),
    [
        ({}, 0.5),
        ({"heartbeat": 2.0}, 0.5),
        ({"heartbeat": 1.0}, 0.25),
        ({"head_timeout": 0.4}, 0.1),
        ({"body_timeout": 0.4}, 0.1),
        ({"keep_alive_timeout": 0.4}, 0.1),
        ({"send_timeout": 0.4}, 0.1),
        ({"heartbeat": 0.4, "send_timeout": 0.2}, 0.05),
        ({"heartbeat": 0.08}, 0.02),
        ({"heartbeat": 0.001}, 0.02),
        (dict.fromkeys(TIMES, math.inf), 0.5),
        ({"head_delay": 0.001, "grace": 0.001}, 0.5),
    ],
)
def test_the_tick_is_a_quarter_of_the_shortest_time_within_bounds(
    options: dict[str, float], tick: float
) -> None:
    assert Config.of(options).tick == pytest.approx(tick)
