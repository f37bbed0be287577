"""Names for requests: those that are taken over, and those that are made. On the wire: test_account.py."""

from __future__ import annotations

import os
import re

import pytest

from bunpy.http.request import Request
from bunpy.http.request_id import request_id


@pytest.mark.parametrize(
    "sent",
    [
        "7",
        "x" * 128,
        "550e8400-e29b-41d4-a716-446655440000",
        "01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "Root=1-67891233-abcdef012345678912345678",
        "a+b/c==",
        "user@host:7.1_2",
    ],
)
def test_an_id_is_taken_over(sent: str) -> None:
    assert request_id(sent) == sent


@pytest.mark.parametrize(
    "sent", [None, "", "x" * 129, "a b", "a\nb", "a\n", "\x1b[2J", '"', "é", "1, 2", "<b>"]
)
def test_what_is_none_is_replaced(sent: str | None) -> None:
    assert re.fullmatch("[0-9a-f]{32}", request_id(sent))


def test_no_two_are_the_same() -> None:
    assert len({request_id(None) for _ in range(1000)}) == 1000


@pytest.mark.skipif(not hasattr(os, "fork"), reason="it is about forks")
def test_a_fork_makes_others() -> None:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, request_id(None).encode())
        os._exit(0)
    try:
        assert os.read(reading, 100).decode() != request_id(None)
    finally:
        os.waitpid(child, 0)
        os.close(reading)
        os.close(writing)


def test_a_request_has_one() -> None:
    """It is made when somebody asks for it, and stays."""
    request = Request("GET", "/a", {})
    assert not request.has_id
    assert repr(request) == "<Request GET /a>"
    made = request.id
    assert request.has_id
    assert request.id == made
    assert repr(request) == f"<Request GET /a id={made}>"


def test_a_request_that_was_sent_with_one() -> None:
    request = Request("GET", "/a", {"x-request-id": "seven"})
    assert request.has_id
    assert request.id == "seven"
    assert repr(request) == "<Request GET /a id=seven>"
    assert Request("GET", "/", {"x-request-id": "\x1b]0;owned\x07"}).id.isalnum()
