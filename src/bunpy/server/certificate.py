"""A certificate and its key as files: where they are, their way into a context, and what is wrong with them.

What OpenSSL says about files that it cannot use is seldom of use ("PEM lib"): they are looked at again here, and the
sentence names the option, the path and what to do. No connections here.
"""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from bunpy.errors import ConfigError

__all__ = ["CertificateFiles"]

_KEYS: Final = ("cert", "key", "password")
#: Bytes of a file that are looked at when it cannot be used.
_READ_LIMIT: Final = 1024 * 1024
_BEGIN: Final = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----")
_BLOCK: Final = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)
_MISMATCHES: Final = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED")

_Secret = str | bytes | bytearray
_SECRETS: Final = (str, bytes, bytearray)


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """The absolute paths of a certificate (with its chain, in PEM) and of its private key, and that key's password.

    ``key`` is None where the certificate's file holds it too.
    """

    cert: str
    key: str | None
    password: _Secret | Callable[[], _Secret] | None = field(repr=False)

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> CertificateFiles:
        """Take the option ``tls`` apart; ``ConfigError`` for what is not as it should be. Files are not opened."""
        for name in value:
            if name not in _KEYS:
                raise ConfigError(f"tls has no key {name!r}; it has {', '.join(_KEYS)}")
        if value.get("cert") is None:
            raise ConfigError(
                "tls lacks 'cert': the path of the certificate with its chain, in PEM"
            )
        password = value.get("password")
        if not (password is None or callable(password) or isinstance(password, _SECRETS)):
            raise ConfigError(
                f"tls['password'] is of type {type(password).__name__}:"
                " it is a str, bytes, or a function that returns one"
            )
        key = None if value.get("key") is None else _path("key", value["key"])
        return cls(_path("cert", value["cert"]), key, password)

    def load_into(self, context: ssl.SSLContext) -> None:
        """Let a new context have what the files hold now; ``ConfigError`` if that cannot be used.

        Nobody is asked for a password at a terminal.
        """
        is_encrypted = False

        def give_password() -> _Secret:  # without this OpenSSL asks at the terminal
            nonlocal is_encrypted
            is_encrypted = True
            return self._give_password()

        try:
            context.load_cert_chain(self.cert, self.key, give_password)
        except ConfigError:
            raise
        except OSError as exc:  # ssl.SSLError is one
            raise ConfigError(self._fault() or self._refusal(exc, is_encrypted)) from exc
        except ValueError as exc:  # too long, or not UTF-8
            raise ConfigError(f"tls['password'] cannot be used: {exc}") from exc

    @property
    def _key_path(self) -> str:
        return self.key or self.cert

    def _give_password(self) -> _Secret:
        """The password of a key that turned out to be encrypted."""
        if self.password is None:
            raise ConfigError(
                f"the private key in {self._key_path} is encrypted: give its password as"
                " tls['password'], or a key that is not"
            )
        if not callable(self.password):
            return self.password
        try:
            password = self.password()
        except Exception as exc:
            raise ConfigError(
                f"tls['password'] was called for the password of the key in {self._key_path} and raised"
                f" {type(exc).__name__}: it is to return the password"
            ) from exc
        if not isinstance(password, _SECRETS):
            raise ConfigError(
                f"tls['password'] was called and returned a {type(password).__name__}:"
                " it is to return str or bytes"
            )
        return password

    def _fault(self) -> str | None:
        """What a look at the files shows to be wrong with one of them."""
        certificate = _fault_of(f"tls['cert']: {self.cert}", self.cert, "certificate")
        if certificate is not None:
            return certificate
        if self.key is not None:
            return _fault_of(f"tls['key']: {self.key}", self.key, "private key")
        in_same_file = _fault_of(f"tls['cert']: {self.cert}", self.cert, "private key")
        return in_same_file and f"{in_same_file}, or give the path of the key as tls['key']"

    def _refusal(self, exc: OSError, is_encrypted: bool) -> str:
        """What OpenSSL has against files that look as they should."""
        cert, key = self.cert, self._key_path
        if not isinstance(exc, ssl.SSLError):
            return f"{cert} and {key} could not be read ({exc.strerror}), but now can be: try again"
        if exc.reason in _MISMATCHES:
            return (
                f"the private key in {key} is not that of the first certificate in {cert}: give the two of"
                " one pair, and the server's own certificate before the rest of its chain"
            )
        if exc.reason and exc.library == "SSL":
            words = exc.reason.lower().replace("_", " ")
            return f"OpenSSL refuses {cert} with {key} ({words}): make a new key and certificate"
        if is_encrypted:
            return f"tls['password'] is not the password of the private key in {key}: give the right one"
        return f"the private key in {key} is damaged: write the file again ({exc})"


def _path(name: str, value: object) -> str:
    """An absolute path, so that it means the same file when it is read again."""
    what = f"tls[{name!r}]"
    path = os.fspath(value) if isinstance(value, (str, os.PathLike)) else None
    if not isinstance(path, str):
        raise ConfigError(f"{what} is of type {type(value).__name__}: it is the path of a PEM file")
    if "-----BEGIN" in path:  # a key, perhaps, that no log should repeat
        raise ConfigError(f"{what} is the text of a PEM file: write it to one and give its path")
    if not path or "\0" in path:
        raise ConfigError(f"{what} is {path!r}: it is the path of a PEM file")
    return os.path.abspath(path)


def _fault_of(what: str, path: str, noun: str) -> str | None:
    """What is wrong with a file that ``what`` names, and that is to hold a ``noun`` in PEM (RFC 7468)."""
    try:
        with open(path, "rb") as file:
            data = file.read(_READ_LIMIT)
    except (OSError, ValueError) as exc:
        trouble = getattr(exc, "strerror", None) or exc
        return f"{what} cannot be read ({trouble}): give a file that this process may read"
    label = noun.upper().encode()
    begun = [found for found in _BEGIN.findall(data) if found.endswith(label)]
    whole = [found[0] for found in _BLOCK.finditer(data) if found[1].endswith(label)]
    if not begun and data.startswith(b"0"):
        return f"{what} is not PEM but perhaps DER: convert it, with openssl for instance"
    if not begun:
        return f"{what} holds no {noun} in PEM: put it there"
    if len(whole) < len(begun):
        return f"{what} ends in the middle of a {noun}: finish writing it, or write it again"
    if noun == "certificate" and not _are_certificates(whole):
        return f"{what} holds a certificate that is damaged: write the file again"
    return None


def _are_certificates(blocks: list[bytes]) -> bool:
    try:
        text = b"\n".join(blocks).decode("ascii")
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cadata=text)
    except (ValueError, ssl.SSLError):
        return False
    return True
