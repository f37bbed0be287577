"""What the doctor asks, of whom, and how it connects. What comes back is not here."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from bunpy import __version__
from bunpy.doctor.coding import OFFERED
from bunpy.testing.address import Address
from bunpy.testing.connection import Connection
from bunpy.testing.head import request_bytes

__all__ = ["Question"]


@dataclass(frozen=True, slots=True)
class Question:
    """A request for an event stream, as a browser makes it, and how long to wait for what.

    ``url`` is http, https or unix:/path; ``headers`` replace those that a browser sends; ``body`` is sent with
    ``method``; ``origin`` is that of the page which would ask. ``seconds`` is how long the stream is watched,
    ``connect_timeout`` how long a connection may take. With ``is_insecure`` certificates are not checked. Raises
    ``ValueError`` for a URL or header that cannot be asked for.
    """

    url: str
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    origin: str | None = None
    seconds: float = 20.0
    connect_timeout: float = 10.0
    is_insecure: bool = False

    def __post_init__(self) -> None:
        if any(character <= " " for character in self.url):
            raise ValueError(f"{self.url!r} has a blank in it: write %20")
        if "://" not in self.url and not self.url.startswith("unix:"):
            raise ValueError(
                f"{self.url!r} is no URL: write http://{self.url} or https://{self.url}"
            )
        if "@" in urlsplit(self.url).netloc:
            raise ValueError("a name and password are sent with --header 'Authorization: ...'")
        _ = self.address, self.request()

    @property
    def address(self) -> Address:
        """Where to connect to."""
        return Address.of(self.url)

    def request(self, **replaced: str) -> bytes:
        """The request's bytes; ``replaced`` are headers of this time alone, with "_" for "-"."""
        fields = {
            "accept": "text/event-stream",
            "accept-encoding": OFFERED,
            "cache-control": "no-cache",
            "user-agent": f"bunpy-doctor/{__version__}",
        }
        if self.origin is not None:
            fields["origin"] = self.origin
        if self.body is not None:
            fields["content-type"] = "application/json"
        fields.update({name.lower(): value for name, value in self.headers.items()})
        fields.update({name.replace("_", "-"): value for name, value in replaced.items()})
        address = self.address
        return request_bytes(
            self.method,
            address.target,
            address.authority,
            {name.title(): value for name, value in fields.items()},
            self.body,
        )

    def connect(self, *protocols: str, is_checked: bool | None = None) -> Connection:
        """Connect, over TLS with these protocols to choose from, "http/1.1" if there are none.

        ``is_checked`` says whether the certificate is; by default it is unless ``is_insecure``. Raises ``OSError``,
        with a sentence, when there is no connection; ``ssl.SSLCertVerificationError`` for the certificate.
        """
        context = None
        if self.address.is_secure:
            context = ssl.create_default_context()
            context.set_alpn_protocols(protocols or ("http/1.1",))
            if self.is_insecure if is_checked is None else not is_checked:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
        try:
            return Connection(self.url, self.connect_timeout, tls=context)
        except socket.gaierror as exc:
            raise OSError(f"there is no host {self.address.host!r}: {exc.strerror}") from exc
        except ssl.SSLCertVerificationError:
            raise
        except ssl.SSLError as exc:
            raise OSError(
                f"no TLS with {self.address}: {exc.reason or exc}; does it speak http and not https?"
            ) from exc
