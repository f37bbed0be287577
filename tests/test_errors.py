"""The exception tree, as the docstring of bunpy.errors draws it, and the contract of HTTPError and its children."""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import pytest

from bunpy import errors
from bunpy.errors import (
    BunpyError,
    ConfigError,
    HTTPError,
    ImportFailed,
    InvalidBody,
    InvalidEvent,
    InvalidHeader,
    InvalidResponse,
    RequestRefused,
)

#: Where a name stands, its name, its other base, and what is said of it.
_DRAWN = re.compile(r"((?:[│ ] {3})*(?:[├└]── )?)(\w+)(?: \((\w+)\))?(?: {2,}(\S.*))?")


def drawn_tree() -> dict[str, tuple[str, ...]]:
    """Each exception's bases as the docstring draws them."""
    tree: dict[str, tuple[str, ...]] = {}
    branch: list[str] = []
    lines = (errors.__doc__ or "").splitlines()
    for line in lines[lines.index("BunpyError") :]:
        match = _DRAWN.fullmatch(line)
        assert match, line
        depth, name = len(match[1]) // 4, match[2]
        assert depth <= len(branch)
        assert depth == 0 or match[4], f"nothing is said of {name}"
        del branch[depth:]
        tree[name] = (branch[-1] if branch else "Exception", *filter(None, [match[3]]))
        branch.append(name)
    return tree


def real_tree() -> dict[str, tuple[str, ...]]:
    return {
        name: tuple(base.__name__ for base in value.__bases__)
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, BaseException)
    }


def test_the_tree_is_as_drawn() -> None:
    assert drawn_tree() == real_tree()


def test_every_exception_is_exported_and_nothing_else() -> None:
    assert sorted(errors.__all__) == sorted(real_tree())


def test_each_says_what_it_is() -> None:
    for name in real_tree():
        assert getattr(errors, name).__doc__, name


@pytest.mark.parametrize(
    "kind",
    [BunpyError, ConfigError, ImportFailed, InvalidEvent, InvalidHeader, InvalidResponse],
)
def test_a_plain_error_is_its_message(kind: type[BunpyError]) -> None:
    assert str(kind("what was wrong")) == "what was wrong"


@pytest.mark.parametrize("kind", [ConfigError, InvalidBody, InvalidEvent, InvalidResponse])
def test_a_wrong_value_is_a_value_error(kind: type[BunpyError]) -> None:
    with pytest.raises(ValueError, match="what was wrong"):
        raise kind("what was wrong")


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (400, "Bad Request"),
        (404, "Not Found"),
        (HTTPStatus.CONFLICT, "Conflict"),
        (503, "Service Unavailable"),
        (418, HTTPStatus(418).phrase),
        (499, "Error"),
        (599, "Error"),
    ],
)
def test_the_default_message_is_the_phrase(status: int, message: str) -> None:
    error = HTTPError(status)
    assert (error.status, error.message, error.headers) == (status, message, {})
    assert str(error) == f"{int(status)} {message}"


def test_an_error_has_its_message_and_headers() -> None:
    error = HTTPError(404, "no such log", {"Retry-After": "5"})
    assert (error.status, error.message, error.headers) == (
        404,
        "no such log",
        {"Retry-After": "5"},
    )
    assert error.args == (404, "no such log")
    assert str(error) == "404 no such log"
    assert HTTPError(404, "").message == ""


def test_the_headers_are_a_copy() -> None:
    given: Mapping[str, str] = {"A": "1"}
    error = HTTPError(404, headers=given)
    error.headers["B"] = "2"
    assert given == {"A": "1"}
    assert HTTPError(404).headers == {}


@pytest.mark.parametrize("status", [-1, 0, 99, 100, 200, 204, 304, 399, 600, 1000, True])
def test_a_status_that_is_no_error_is_refused(status: int) -> None:
    with pytest.raises(
        ValueError, match=rf"the status of an HTTPError is 400 to 599, not {status}"
    ):
        HTTPError(status)


@pytest.mark.parametrize("status", ["404", None, [404]])
def test_a_status_that_is_no_number_is_refused(status: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        HTTPError(status)


def test_a_status_that_is_no_int_is_refused() -> None:
    with pytest.raises(ValueError, match="the status of an HTTPError is"):
        HTTPError(404.5)  # type: ignore[arg-type]


def test_an_invalid_body_is_a_400() -> None:
    error = InvalidBody("The body is not JSON")
    assert (error.status, error.message, error.headers) == (400, "The body is not JSON", {})
    assert isinstance(error, HTTPError)
    assert isinstance(error, ValueError)


def test_a_refusal_closes_unless_it_says_otherwise() -> None:
    assert RequestRefused(400, "no").closes is True
    refusal = RequestRefused(405, "CONNECT is not for this server", {"Allow": "GET"}, closes=False)
    assert refusal.closes is False
    assert (refusal.status, refusal.message) == (405, "CONNECT is not for this server")
    assert refusal.headers == {"Allow": "GET"}
    with pytest.raises(ValueError, match="not 200"):
        RequestRefused(200, "fine")


def test_a_refusal_is_no_value_error() -> None:
    """A handler's ``except ValueError`` is for its own values."""
    assert not issubclass(RequestRefused, ValueError)
    assert not issubclass(HTTPError, ValueError)
