"""What the doctor asks, and how it connects."""

from __future__ import annotations

import re
import socket
import ssl
from pathlib import Path

import pytest
from certificates import Pair

from bunpy.doctor.question import Question
from bunpy.testing import serving


def lines(question: Question, **replaced: str) -> list[str]:
    return question.request(**replaced).decode().split("\r\n")


def test_it_asks_as_a_browser_does() -> None:
    first, *fields = lines(Question("http://example.org/a?b=c"))
    assert first == "GET /a?b=c HTTP/1.1"
    assert {
        "Host: example.org:80",
        "Accept: text/event-stream",
        "Accept-Encoding: gzip, deflate, br, zstd",
        "Cache-Control: no-cache",
    } <= set(fields)
    assert not any(field.startswith(("Origin", "Content", "Last-Event-ID")) for field in fields)


def test_headers_replace_what_a_browser_sends() -> None:
    question = Question(
        "http://h/",
        method="POST",
        headers={"ACCEPT-encoding": "br", "Authorization": "Bearer x"},
        body=b"{}",
        origin="https://a.example",
    )
    first, *fields = lines(question, last_event_id="7")
    assert first == "POST / HTTP/1.1"
    assert {
        "Accept-Encoding: br",
        "Authorization: Bearer x",
        "Origin: https://a.example",
        "Content-Type: application/json",
        "Content-Length: 2",
        "Last-Event-Id: 7",
    } <= set(fields)
    assert "Accept-Encoding: identity" in lines(question, accept_encoding="identity")


@pytest.mark.parametrize(
    ("url", "headers", "says"),
    [
        ("localhost:3000/x", {}, "write http://localhost:3000/x or https://"),
        ("http://h/a b", {}, "write %20"),
        ("ftp://h/", {}, "ftp://h/"),
        ("http://", {}, "http://"),
        ("http://h:x/", {}, "x"),
        ("https://me:secret@h/", {}, "--header 'Authorization"),
        ("http://h/", {"A": "b\nc"}, "CR, LF or NUL"),
    ],
)
def test_what_cannot_be_asked(url: str, headers: dict[str, str], says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)) as caught:
        Question(url, headers=headers)
    assert "secret" not in str(caught.value)


def test_there_is_no_host() -> None:
    with pytest.raises(OSError, match="there is no host"):
        Question("http://nowhere.invalid/").connect()


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ConnectionRefusedError, match=f"no connection to http://127.0.0.1:{port}"):
        Question(f"http://127.0.0.1:{port}/").connect()


def test_http_where_https_was_asked_for() -> None:
    with serving(lambda req: "x") as server:
        question = Question(server.url.replace("http:", "https:"))
        with pytest.raises(OSError, match="does it speak http and not https") as caught:
            question.connect()
    assert not isinstance(caught.value, ssl.SSLError)


def test_certificates_are_checked_unless_told_otherwise(tmp_path: Path) -> None:
    pair = Pair.made_in(tmp_path / "pair")
    with serving(lambda req: "x", tls=pair.option) as server:
        with pytest.raises(ssl.SSLCertVerificationError):
            Question(server.url).connect()
        with Question(server.url, is_insecure=True).connect() as connection:
            assert connection.tls is not None
        with pytest.raises(ssl.SSLCertVerificationError):
            Question(server.url, is_insecure=True).connect(is_checked=True)
