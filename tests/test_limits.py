"""How large the parts of a request may be: the defaults, and that a server's are its options. Readers test the rest."""

from __future__ import annotations

import asyncio
from dataclasses import FrozenInstanceError, asdict

import pytest

from bunpy.http.host import HostList
from bunpy.http.limits import Limits
from bunpy.http.service import Service
from bunpy.server.config import Config

KIB = 1024

#: What HTTP.md says, row by row.
BOUNDARY = {
    "request_line": 16 * KIB,
    "head": 64 * KIB,
    "fields": 256,
    "body": 10 * KIB * KIB,
    "extension": 4 * KIB,
    "extensions": 16 * KIB,
    "trailers": 8 * KIB,
}

#: The option that each is.
OPTIONS = {
    "request_line": "request_line_limit",
    "head": "head_limit",
    "fields": "field_limit",
    "body": "body_limit",
    "extension": "extension_limit",
    "extensions": "extensions_limit",
    "trailers": "trailer_limit",
}


def limits_of(config: Config) -> Limits:
    loop = asyncio.new_event_loop()
    try:
        return Service(str, config, loop, HostList(None, [])).limits
    finally:
        loop.close()


def test_the_defaults() -> None:
    assert asdict(Limits()) == BOUNDARY


def test_a_servers_defaults_are_the_same() -> None:
    assert limits_of(Config()) == Limits()


@pytest.mark.parametrize("name", BOUNDARY)
def test_each_is_an_option_of_its_own(name: str) -> None:
    limits = limits_of(Config.of({OPTIONS[name]: 123}))
    assert asdict(limits) == {**BOUNDARY, name: 123}


def test_they_do_not_change() -> None:
    """All connections of a server share them."""
    with pytest.raises(FrozenInstanceError):
        Limits().body = 1  # type: ignore[misc]
    assert hash(Limits()) == hash(Limits())
