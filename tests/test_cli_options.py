"""The command's options: each field of ``Config`` by flag and variable, what texts mean, and what is said of wrong
ones. No process is started and nothing is served here."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from bunpy.cli.options import GROUPS, OPTIONS, UNSAID
from bunpy.cli.parser import COMMANDS, help_text, parse
from bunpy.cli.settings import Settings, arguments_of, settings_of
from bunpy.cli.values import SWITCH
from bunpy.errors import ConfigError
from bunpy.server.config import Config

ROOT = Path(__file__).parent.parent

#: For each option a text that is not its default, and what it means.
SAMPLES: dict[str, tuple[str, Any]] = {
    "port": ("8080", 8080),
    "hostname": ("0.0.0.0", "0.0.0.0"),
    "unix": ("/run/x.sock", "unix:/run/x.sock"),
    "unix_mode": ("660", 0o660),
    "tls.cert": ("cert.pem", "cert.pem"),
    "tls.key": ("key.pem", "key.pem"),
    "handshake_timeout": ("2.5", 2.5),
    "backlog": ("128", 128),
    "workers": ("0", 0),
    "max_requests": ("1000", 1000),
    "max_lifetime": ("3600", 3600.0),
    "grace": ("0", 0.0),
    "drain": ("close", "close"),
    "block_warning": ("none", None),
    "access_log": ("1", True),
    "log_json": ("1", True),
    "metrics": ("/metrics", "/metrics"),
    "health": ("1", True),
    "quiet": ("1", True),
    "allowed_hosts": ("example.org, example.com", ("example.org", "example.com")),
    "trusted_proxies": ("10.0.0.0/8,unix", ("10.0.0.0/8", "unix")),
    "proxy_protocol": ("1", True),
    "cors.origins": ("https://example.org", ("https://example.org",)),
    "cors.credentials": ("1", True),
    "cors.methods": ("*", "*"),
    "cors.headers": ("Content-Type", ("Content-Type",)),
    "cors.expose": ("X-Request-Id,ETag", ("X-Request-Id", "ETag")),
    "cors.max_age": ("60", 60),
    "max_connections": ("100", 100),
    "max_connections_per_client": ("10", 10),
    "max_streams": ("50", 50),
    "max_streams_per_client": ("5", 5),
    "max_buffered": ("1G", 1024**3),
    "heartbeat": ("20", 20.0),
    "head_delay": ("0.1", 0.1),
    "send_timeout": ("10", 10.0),
    "close_timeout": ("1", 1.0),
    "stream_lifetime": ("600", 600.0),
    "request_line_limit": ("8k", 8192),
    "head_limit": ("32K", 32768),
    "field_limit": ("64", 64),
    "body_limit": ("0", 0),
    "extension_limit": ("1024", 1024),
    "extensions_limit": ("2K", 2048),
    "trailer_limit": ("1K", 1024),
    "pipeline_limit": ("4", 4),
    "drain_limit": ("2M", 2 * 1024 * 1024),
    "drain_timeout": ("1", 1.0),
    "head_timeout": ("5", 5.0),
    "body_timeout": ("6", 6.0),
    "keep_alive_timeout": ("7", 7.0),
    "reload": ("1", True),
    "reload_dir": ("src,web", ("src", "web")),
    "debug": ("1", True),
}
#: What an option says nothing without.
NEEDS: dict[str, dict[str, str]] = {
    "tls.cert": {"tls.key": "k"},
    "tls.key": {"tls.cert": "c"},
    "proxy_protocol": {"trusted_proxies": "127.0.0.1"},
    "reload_dir": {"reload": "1"},
    **{
        name: {"cors.origins": "https://example.com"}
        for name in OPTIONS
        if name.startswith("cors.") and name != "cors.origins"
    },
}
#: Read by ``_speedups`` and by ``main``, before there are settings.
EARLY = {"pure"}


def read(*words: str, **variables: str) -> Settings:
    return settings_of(parse(["app:handler", *words]), variables)


def wrong(*words: str, **variables: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read(*words, **variables)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def meant(settings: Settings, name: str) -> Any:
    """What an option has become in the settings."""
    own = {
        "port": settings.port,
        "hostname": settings.hostname,
        "unix": settings.hostname,
        "reload": settings.reloads,
        "reload_dir": settings.reload_dirs,
        "debug": settings.shows_tracebacks,
    }
    if name in own:
        return own[name]
    whole, dot, part = name.partition(".")
    return settings.options[whole][part] if dot else settings.options[name]


# The table


def test_every_field_has_an_option_and_every_option_a_sample() -> None:
    said = {option.field for option in OPTIONS.values()} - {None}
    assert said | UNSAID == {item.name for item in fields(Config)}
    assert not said & UNSAID
    assert set(SAMPLES) | EARLY == set(OPTIONS)


def test_flags_are_unique_and_none_is_a_command() -> None:
    flags = [option.flag for option in OPTIONS.values()]
    assert len(set(flags)) == len(flags)
    assert sum(map(len, GROUPS.values())) == len(OPTIONS)
    assert all(":" not in command for command in COMMANDS)


@pytest.mark.parametrize(
    ("name", "flag", "variable"),
    [
        ("port", "port", "BUNPY_PORT"),
        ("hostname", "host", "BUNPY_HOST"),
        ("workers", "workers", "BUNPY_WORKERS"),
        ("head_limit", "limit-head", "BUNPY_LIMIT_HEAD"),
        ("field_limit", "limit-fields", "BUNPY_LIMIT_FIELDS"),
        ("max_streams_per_client", "limit-streams-per-client", "BUNPY_LIMIT_STREAMS_PER_CLIENT"),
        ("max_requests", "max-requests", "BUNPY_MAX_REQUESTS"),
        ("tls.cert", "tls-cert", "BUNPY_TLS_CERT"),
        ("cors.max_age", "cors-max-age", "BUNPY_CORS_MAX_AGE"),
        ("pure", "pure", "BUNPY_PURE"),
    ],
)
def test_how_options_are_called(name: str, flag: str, variable: str) -> None:
    assert (OPTIONS[name].flag, OPTIONS[name].variable) == (flag, variable)


@pytest.mark.parametrize("name", SAMPLES)
def test_a_flag_and_a_variable_mean_the_same(name: str) -> None:
    text, value = SAMPLES[name]
    option = OPTIONS[name]
    texts = {**NEEDS.get(name, {}), name: text}
    by_flag = read(*arguments_of(texts))
    by_variable = read(**{OPTIONS[other].variable: text for other, text in texts.items()})
    assert meant(by_flag, name) == value
    assert meant(by_variable, name) == value
    assert by_flag.options == by_variable.options
    Config(**by_flag.options)
    assert by_flag.origins[name] == f"--{option.flag}"
    assert by_variable.origins[name] == option.variable


@pytest.mark.parametrize("name", SAMPLES)
def test_it_is_not_the_default(name: str) -> None:
    """A sample that means what is meant without it would prove nothing."""
    text, _ = SAMPLES[name]
    needs = {} if name.startswith("tls.") else NEEDS.get(name, {})
    more = NEEDS["tls.cert"] | NEEDS["tls.key"] if name.startswith("tls.") else needs
    assert read(*arguments_of({**more, name: text})) != read(*arguments_of(needs))
    assert text != OPTIONS[name].default


@pytest.mark.parametrize("name", [name for name in OPTIONS if OPTIONS[name].default])
def test_the_defaults_in_the_help_are_what_they_say(name: str) -> None:
    """The text of a default, said aloud, changes nothing."""
    option = OPTIONS[name]
    if name.startswith("cors."):
        needs = NEEDS[name]
        Config(**read(*arguments_of({**needs, name: option.default})).options)
        return
    settings = read(f"--{option.flag}={option.default}")
    silent = read()
    assert (settings.hostname, settings.port) == (silent.hostname, silent.port)
    assert Config(**settings.options) == Config()


def test_the_cors_defaults_in_the_help_are_cors_own() -> None:
    said = read("--cors-origins=*", "--cors-methods=GET,HEAD,POST", "--cors-max-age=600")
    assert Config(**said.options).cors == Config(cors={"origins": "*"}).cors  # type: ignore[arg-type]


# Who wins


def test_a_flag_wins_over_a_variable() -> None:
    settings = read("--port", "1234", "--no-quiet", BUNPY_PORT="99", BUNPY_QUIET="1")
    assert settings.port == 1234
    assert settings.options == {"quiet": False}


def test_a_wrong_variable_does_not_matter_when_a_flag_wins() -> None:
    assert read("--port=1", BUNPY_PORT="tcp://10.0.0.1:80").port == 1


def test_an_empty_variable_is_none() -> None:
    assert read(BUNPY_PORT="", BUNPY_LIMIT_HEAD="").options == {}


def test_lists_can_be_given_in_pieces() -> None:
    settings = read("--allowed-hosts", "a", "--allowed-hosts", "b,c")
    assert settings.options == {"allowed_hosts": ("a", "b", "c")}


@pytest.mark.parametrize("text", ["1", "true", "YES", "On"])
def test_words_for_yes(text: str) -> None:
    assert read(BUNPY_QUIET=text).options == {"quiet": True}


@pytest.mark.parametrize("text", ["0", "false", "NO", "Off"])
def test_words_for_no(text: str) -> None:
    assert read(BUNPY_QUIET=text).options == {"quiet": False}


def test_the_last_of_a_flag_counts() -> None:
    assert read("--port=1", "--port=2").port == 2
    assert read("--quiet", "--no-quiet").options == {"quiet": False}


# Where


@pytest.mark.parametrize(
    ("words", "variables", "place"),
    [
        ([], {}, ("127.0.0.1", 3000)),
        (["--host", "::1"], {}, ("::1", 3000)),
        (["--host", "systemd"], {}, ("systemd", 3000)),
        (["--unix", "@x"], {}, ("unix:@x", 0)),
        (["--unix", "@x"], {"BUNPY_PORT": "80", "BUNPY_HOST": "h"}, ("unix:@x", 0)),
        (["--port", "80"], {"BUNPY_UNIX": "/x"}, ("127.0.0.1", 80)),
        (["--host", "h"], {"BUNPY_UNIX": "/x", "BUNPY_PORT": "80"}, ("h", 80)),
        ([], {"BUNPY_UNIX": "/x"}, ("unix:/x", 0)),
    ],
)
def test_where_it_listens(
    words: list[str], variables: dict[str, str], place: tuple[str, int]
) -> None:
    settings = read(*words, **variables)
    assert (settings.hostname, settings.port) == place


@pytest.mark.parametrize(
    ("words", "variables", "says"),
    [
        (
            ["--unix=/x", "--port=1", "--host=h"],
            {},
            "--unix is a place of its own: leave --host and --port out",
        ),
        (
            [],
            {"BUNPY_UNIX": "/x", "BUNPY_PORT": "1"},
            "BUNPY_UNIX is a place of its own: leave BUNPY_PORT out",
        ),
    ],
)
def test_two_places_are_one_too_many(
    words: list[str], variables: dict[str, str], says: str
) -> None:
    assert wrong(*words, **variables) == says


def test_the_password_of_a_key_is_a_variable_alone() -> None:
    settings = read("--tls-cert=c", "--tls-key=k", BUNPY_TLS_PASSWORD="secret")
    assert settings.options["tls"] == {"cert": "c", "key": "k", "password": "secret"}
    assert read(BUNPY_TLS_PASSWORD="secret").options == {}


# What is wrong


@pytest.mark.parametrize(
    ("words", "variables", "says"),
    [
        (["--port", "http"], {}, "--port is 'http': it is a number from 0 to 65535"),
        (["--port", "65536"], {}, "--port is '65536': it is a number from 0 to 65535"),
        (["--port", "-1"], {}, "--port is '-1': it is a number from 0 to 65535"),
        ([], {"BUNPY_PORT": "tcp://10.0.0.1:80"}, "BUNPY_PORT is 'tcp://10.0.0.1:80': it is a"),
        (["--workers=two"], {}, "--workers is 'two': it is a whole number"),
        (["--workers=-1"], {}, "--workers is '-1': it is an int, 0 or more"),
        (["--limit-head=0"], {}, "--limit-head is '0': it is an int, 1 or more"),
        (["--backlog=2147483648"], {}, "--backlog is '2147483648': it is 2147483647 at most"),
        ([], {"BUNPY_WORKERS": "5000"}, "BUNPY_WORKERS is '5000': it is 4096 at most"),
        ([], {"BUNPY_LIMIT_BODY": "9999999999999G"}, "BUNPY_LIMIT_BODY is '9999999999999G': it is"),
        (["--cors-origins=*", "--cors-max-age=2147483648"], {}, "--cors-origins, --cors-max-age:"),
        (["--allowed-hosts=http://a"], {}, "--allowed-hosts has 'http://a', which is not a name"),
        ([], {"BUNPY_ALLOWED_HOSTS": "*"}, "BUNPY_ALLOWED_HOSTS has '*', a pattern: name each"),
        (["--metrics=/m?x"], {}, "--metrics is '/m?x': it is a path alone, with no ? or # in it"),
        (
            ["--limit-body=10MB"],
            {},
            "--limit-body is '10MB': it is a number of bytes, as 65536, 64K or 10M",
        ),
        (["--limit-body=K"], {}, "--limit-body is 'K': it is a number of bytes"),
        (["--heartbeat=nan"], {}, "--heartbeat is 'nan': it is a number of seconds, more than 0"),
        (["--heartbeat=none"], {}, "--heartbeat is 'none': it is a number of seconds"),
        (
            ["--block-warning=0"],
            {},
            "--block-warning is '0': it is a number of seconds, 0.01 or more, or none",
        ),
        (
            [],
            {"BUNPY_LIMIT_STREAMS": "many"},
            "BUNPY_LIMIT_STREAMS is 'many': it is a whole number, or none",
        ),
        (
            [],
            {"BUNPY_ACCESS_LOG": "maybe"},
            "BUNPY_ACCESS_LOG is 'maybe': it is 1 or 0 (or true, yes, on; false, no, off)",
        ),
        (["--unix-mode=rw"], {}, "--unix-mode is 'rw': it is the permissions in octal, as 660"),
        (["--unix-mode=7777"], {}, "--unix-mode is 0o7777: it is 0o777 at most"),
        (["--drain=slowly"], {}, "--drain is 'slowly': it is 'spread', "),
        (["--metrics=metrics"], {}, "--metrics is 'metrics': it is a path that begins with a"),
        (["--allowed-hosts=a,,b"], {}, "--allowed-hosts is 'a,,b': it is a list with commas"),
        (["--trusted-proxies=10.0.0.300"], {}, "--trusted-proxies has '10.0.0.300'"),
        ([], {"BUNPY_TRUSTED_PROXIES": "10.0.0.300"}, "BUNPY_TRUSTED_PROXIES has '10.0.0.300'"),
        (["--proxy-protocol"], {}, "--proxy-protocol needs --trusted-proxies: the addresses of"),
        (
            ["--cors-origins=https://example.org/"],
            {},
            "--cors-origins: the origin 'https://example.org/' ends in a slash",
        ),
        (["--cors-methods=GET"], {}, "--cors-methods says nothing without --cors-origins"),
        (["--tls-cert=c"], {}, "--tls-cert needs --tls-key beside it"),
        ([], {"BUNPY_TLS_KEY": "k"}, "BUNPY_TLS_KEY needs --tls-cert beside it"),
        (["--reload-dir=src"], {}, "--reload-dir says nothing without --reload"),
        (
            ["--reload"],
            {"BUNPY_WORKERS": "4"},
            "--reload runs one process, and replaces it when a file changes: leave BUNPY_WORKERS out",
        ),
        (["--reload", "--max-requests=9"], {}, "--reload runs one process, and replaces it when"),
        (["--bogus"], {}, "there is no option --bogus: bunpy --help lists the options"),
        (["--prot=80"], {}, "there is no option --prot: did you mean --port?"),
        (
            ["--limit-heads", "1"],
            {},
            "there is no option --limit-heads: did you mean --limit-head?",
        ),
        (["-x"], {}, "there is no option -x: bunpy --help lists the options"),
        (["--port"], {}, "--port needs a value: bunpy --help lists the options"),
        (["--quiet=yes"], {}, "--quiet takes no value: bunpy --help lists the options"),
        (["other:handler"], {}, "bunpy serves one handler, and was given app:handler and other:"),
    ],
)
def test_what_makes_no_sense(words: list[str], variables: dict[str, str], says: str) -> None:
    assert wrong(*words, **variables).startswith(says)


def test_a_text_without_end_is_not_repeated() -> None:
    assert len(wrong(f"--max-requests={'9' * 5000}")) < 200
    assert len(wrong(BUNPY_PORT="9" * 5000)) < 200


def test_flags_are_not_guessed_from_their_beginnings() -> None:
    assert wrong("--quie") == "there is no option --quie: did you mean --quiet?"


def test_a_command_that_does_not_come_first() -> None:
    with pytest.raises(ConfigError, match=r"^doctor comes first: bunpy doctor http://x$"):
        parse(["--port=1", "doctor", "http://x"])


# The help


def test_the_help_has_every_option() -> None:
    text = help_text()
    for option in OPTIONS.values():
        assert f"  --{option.flag} " in f"{text} ", option.flag
    for title in GROUPS:
        assert f"\n{title}:\n" in text
    assert "--no-quiet" not in text
    assert "TrustedProxies" not in text


def test_the_help_says_the_defaults() -> None:
    text = " ".join(help_text().split())
    assert "--port PORT 0 takes a free one (default: 3000)" in text
    assert "--limit-head BYTES a head (default: 64K)" in text
    assert "--unix-mode MODE permissions of the Unix socket (default: 666)" in text
    assert "--heartbeat SECONDS of silence, until a comment is sent (default: 15)" in text


def test_the_page_has_every_option_with_its_default() -> None:
    page = (ROOT / "docs" / "command_line.md").read_text()
    for option in OPTIONS.values():
        row = re.search(rf"^\| `--{option.flag}[ `].*$", page, re.MULTILINE)
        assert row, option.flag
        default = row[0].split("|")[2].strip()
        assert default == (f"`{option.default}`" if option.default else ""), option.flag


def test_reload_is_for_the_one_process_that_there_is_anyway() -> None:
    assert read("--reload", BUNPY_WORKERS="1", BUNPY_MAX_REQUESTS="none").reloads


def test_flags_are_written_as_they_were_read() -> None:
    texts = {name: text for name, (text, _) in SAMPLES.items() if name != "unix"}
    assert parse(["a:b", *arguments_of(texts)]).texts == {
        name: "example.org, example.com" if name == "allowed_hosts" else text
        for name, text in texts.items()
    }
    switches = {name: "0" for name, option in OPTIONS.items() if option.kind is SWITCH}
    assert parse(["a:b", *arguments_of(switches)]).texts == switches


def test_reading_the_options_loads_no_byte_work() -> None:
    """--pure chooses it."""
    script = "import sys, bunpy.cli; print(*sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True
    )
    loaded = set(run.stdout.split())
    assert "bunpy.cli.settings" in loaded
    assert loaded.isdisjoint({"bunpy._speedups", "bunpy.serve", "asyncio", "uvloop"})
