"""The TLS handshake: the certificate, and whether HTTP/2 is to be had. HTTP itself is not spoken here."""

from __future__ import annotations

import ssl
import time
from dataclasses import dataclass
from typing import Final

from bunpy.doctor.finding import Finding
from bunpy.doctor.question import Question

__all__ = ["Handshake", "shake_hands"]

_DAY: Final = 24 * 60 * 60
#: Days; whoever renews certificates by itself has done so by then.
_SOON: Final = 14

#: What OpenSSL's verification codes mean (x509_vfy.h), and what to do.
_FAULTS: Final = {
    9: "is not valid yet: look at the clocks of both machines",
    10: "has expired: renew it, and have the server read it again",
    18: "is signed by itself, which no browser trusts: get one from an authority",
    19: "comes from an authority that is not trusted here: get one from one that is, or trust it",
    20: "cannot be traced to a trusted authority: serve the whole chain (fullchain.pem), not the certificate alone",
    21: "cannot be traced to a trusted authority: serve the whole chain (fullchain.pem), not the certificate alone",
    62: "is for another host name: get one that names this host",
    64: "is for another address: get one that names this address, or use the host's name",
}


@dataclass(frozen=True, slots=True)
class Handshake:
    """What a handshake has told.

    ``version`` is TLS's ("TLSv1.3"), ``protocol`` what the server chose of "h2" and "http/1.1", ``days_left``
    the certificate's; each None if it is not known. ``fault`` says what is wrong with the certificate, or "".
    """

    version: str | None = None
    protocol: str | None = None
    days_left: float | None = None
    fault: str = ""

    def finding(self) -> Finding:
        """What there is to say about the certificate."""
        if self.fault:
            return Finding("tls", "problem", f"the certificate {self.fault}")
        if self.days_left is None:
            return Finding("tls", "unknown", "the certificate was not looked at")
        seen = f"{self.version}; the certificate is valid for {self.days_left:.0f} days more"
        return Finding("tls", "warning" if self.days_left < _SOON else "ok", seen)


def shake_hands(question: Question) -> Handshake:
    """Connect as a browser does, offering HTTP/2, and hang up. Raises ``OSError`` when there is no connection."""
    try:
        return _look(question, is_checked=True)
    except ssl.SSLCertVerificationError as exc:
        fault = _FAULTS.get(exc.verify_code, f"is refused: {exc.verify_message}")
    if not question.is_insecure:
        return Handshake(fault=fault)
    seen = _look(question, is_checked=False)
    return Handshake(seen.version, seen.protocol, fault=fault)


def _look(question: Question, *, is_checked: bool) -> Handshake:
    with question.connect("h2", "http/1.1", is_checked=is_checked) as connection:
        tls = connection.tls
        assert tls is not None
        certificate = tls.getpeercert() or {}
        days_left = None
        if "notAfter" in certificate:
            expiry = ssl.cert_time_to_seconds(str(certificate["notAfter"]))
            days_left = (expiry - time.time()) / _DAY
        return Handshake(tls.version(), tls.selected_alpn_protocol(), days_left)
