"""Certificates for tests, made when they are wanted: each with an authority of its own, and its files."""

from __future__ import annotations

import shutil
import ssl
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

__all__ = ["PASSWORD", "Pair"]

PASSWORD = "correct horse"
_KINDS = {"EC": trustme.KeyType.ECDSA, "RSA": trustme.KeyType.RSA}


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate for localhost, 127.0.0.1 and ::1, and its key.

    Attributes: the paths ``cert`` (with its chain), ``key``, ``encrypted_key`` (with ``PASSWORD``) and ``both``, all
    in PEM; ``der``, the certificate's bytes as a client gets to see them.
    """

    authority: trustme.CA
    cert: Path
    key: Path
    encrypted_key: Path
    both: Path
    der: bytes

    @classmethod
    def made_in(cls, folder: Path, kind: Literal["EC", "RSA"] = "EC") -> Pair:
        """Make one, with its authority; the folder is made if it is missing."""
        authority = trustme.CA(key_type=_KINDS[kind])
        leaf = authority.issue_cert("localhost", "127.0.0.1", "::1", key_type=_KINDS[kind])
        chain = b"".join(pem.bytes() for pem in leaf.cert_chain_pems)
        key = leaf.private_key_pem.bytes()
        encrypted = load_pem_private_key(key, None).private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(PASSWORD.encode())
        )
        files = {"cert": chain, "key": key, "encrypted_key": encrypted, "both": key + chain}
        folder.mkdir(parents=True, exist_ok=True)
        paths = {name: folder / f"{name}.pem" for name in files}
        for name, path in paths.items():
            path.write_bytes(files[name])
        der = ssl.PEM_cert_to_DER_cert(leaf.cert_chain_pems[0].bytes().decode())
        return cls(authority, der=der, **paths)

    @property
    def option(self) -> dict[str, str]:
        """The value of ``serve``'s ``tls``."""
        return {"cert": str(self.cert), "key": str(self.key)}

    def copied_to(self, folder: Path) -> Pair:
        """The same in files of their own, for a test that writes to them."""
        shutil.copytree(self.cert.parent, folder)
        return replace(
            self,
            cert=folder / self.cert.name,
            key=folder / self.key.name,
            encrypted_key=folder / self.encrypted_key.name,
            both=folder / self.both.name,
        )

    def put_at(self, other: Pair) -> None:
        """Write this certificate and key to the paths of another."""
        other.cert.write_bytes(self.cert.read_bytes())
        other.key.write_bytes(self.key.read_bytes())

    def client(self, *others: Pair) -> ssl.SSLContext:
        """A client's context that trusts this certificate's authority, and those of others."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        for pair in (self, *others):
            pair.authority.configure_trust(context)
        return context
