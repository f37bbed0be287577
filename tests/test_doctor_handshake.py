"""The certificate, and whether HTTP/2 is to be had."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
import trustme
from certificates import Pair

from bunpy.doctor.handshake import Handshake, shake_hands
from bunpy.doctor.question import Question
from bunpy.serve import Server
from bunpy.testing import serving


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> trustme.CA:
    """An authority that clients of this process trust."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    return authority


def served(leaf: trustme.LeafCert) -> Iterator[Server]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    leaf.configure_cert(context)
    with serving(lambda req: "x", tls=context) as server:
        yield server


def fault_of(leaf: trustme.LeafCert) -> str:
    for server in served(leaf):
        handshake = shake_hands(Question(server.url))
        assert handshake.protocol is None
        assert handshake.finding().level == "problem"
        return handshake.fault
    raise AssertionError("nothing was served")


def test_a_good_certificate(authority: trustme.CA) -> None:
    expires = datetime.now(timezone.utc) + timedelta(days=90.5)
    for server in served(authority.issue_cert("127.0.0.1", not_after=expires)):
        handshake = shake_hands(Question(server.url))
    assert (handshake.version, handshake.fault) == ("TLSv1.3", "")
    assert handshake.protocol in (None, "http/1.1")
    finding = handshake.finding()
    assert (finding.level, finding.seen) == (
        "ok",
        "TLSv1.3; the certificate is valid for 90 days more",
    )


def test_one_that_expires_soon(authority: trustme.CA) -> None:
    expires = datetime.now(timezone.utc) + timedelta(days=3)
    for server in served(authority.issue_cert("127.0.0.1", not_after=expires)):
        finding = shake_hands(Question(server.url)).finding()
    assert (finding.level, "3 days more" in finding.seen) == ("warning", True)


def test_one_that_has_expired(authority: trustme.CA) -> None:
    now = datetime.now(timezone.utc)
    leaf = authority.issue_cert(
        "127.0.0.1", not_before=now - timedelta(days=2), not_after=now - timedelta(days=1)
    )
    assert fault_of(leaf).startswith("has expired")


def test_one_for_another_address(authority: trustme.CA) -> None:
    assert fault_of(authority.issue_cert("127.0.0.2")).startswith("is for another address")


def test_one_that_nobody_trusts() -> None:
    fault = fault_of(trustme.CA().issue_cert("127.0.0.1"))
    assert fault.startswith(("cannot be traced", "comes from an authority"))


def test_who_goes_on_all_the_same_is_told(tmp_path: Path) -> None:
    pair = Pair.made_in(tmp_path / "pair")
    with serving(lambda req: "x", tls=pair.option) as server:
        handshake = shake_hands(Question(server.url, is_insecure=True))
    assert (handshake.version, handshake.finding().level) == ("TLSv1.3", "problem")


def test_nothing_is_known() -> None:
    assert Handshake().finding().level == "unknown"
