"""TLS: the context that listeners hold, and another certificate for new handshakes. No sockets here."""

from __future__ import annotations

import contextlib
import ssl
import threading
from collections.abc import Mapping
from typing import Any

from bunpy.errors import ConfigError
from bunpy.server.certificate import CertificateFiles

__all__ = ["TLS"]


class TLS:
    """What a server needs for TLS 1.2 and 1.3; ``of`` makes it from the option ``tls`` of ``serve``.

    ``context`` is for ``create_server``, and stays the same; ``reload`` has effect on it.
    """

    def __init__(self, context: ssl.SSLContext, files: CertificateFiles | None = None) -> None:
        self.context = context
        self._files = files
        # Reentrant: the handler of a signal may reload while its thread does.
        self._lock = threading.RLock()

    @classmethod
    def of(cls, value: Mapping[str, Any] | ssl.SSLContext | None) -> TLS | None:
        """Read ``{"cert": path, "key": path, "password": ...}``, or take an ``SSLContext``; for None it is None.

        ``cert`` is a file with the certificate and its chain, in PEM; ``key`` may be left out if that file holds
        the private key too; ``password`` is the key's: a str, bytes, or a function that returns one. A context that
        is given offers HTTP/1.1 by ALPN (RFC 7301) from now on, and is otherwise left as it is.

        Raises ``ConfigError`` for files that cannot be used, and for a context that is a client's or accepts a TLS
        version before 1.2.
        """
        if value is None:
            return None
        if isinstance(value, ssl.SSLContext):
            _check(value)
            _offer_http(value)
            return cls(value)
        if isinstance(value, Mapping):
            files = CertificateFiles.of(value)
            return cls(_Front(_loaded(files)), files)
        raise ConfigError(
            f"tls is of type {type(value).__name__}: it is a dict with the paths 'cert' and 'key',"
            " or a server's ssl.SSLContext"
        )

    def reload(self) -> None:
        """Read the files again, for handshakes from now on; connections that there are go on. From any thread.

        Sessions that began with the old certificate are not resumed: they begin anew, with the new one. Raises
        ``ConfigError`` when the files cannot be used, and then the old certificate stays in effect; or when there are
        none, because an ``SSLContext`` was given.
        """
        if self._files is None or not isinstance(self.context, _Front):
            raise ConfigError(
                "tls was given as an SSLContext, and only a certificate that was given as files can be reloaded:"
                " call load_cert_chain of that context, or give tls as a dict with 'cert' and 'key'"
            )
        with self._lock:
            try:
                self.context.current = _loaded(self._files)
            except ConfigError as exc:
                raise ConfigError(
                    f"the certificate is not reloaded, and the old one stays in effect: {exc}"
                ) from exc


class _Front(ssl.SSLContext):
    """Has each connection made by the context that is in effect at that moment.

    To load another certificate into one that is in use would not do: beside one of another type (EC after RSA) the
    old one stays; while its key is read, handshakes fail; and CPythons without the lock of gh-134698 may crash when
    another thread makes a connection meanwhile.
    """

    current: ssl.SSLContext

    def __new__(cls, current: ssl.SSLContext) -> _Front:
        front = super().__new__(cls, ssl.PROTOCOL_TLS_SERVER)
        _restrict(front)
        front.current = current
        return front

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        return self.current.wrap_bio(*args, **kwargs)

    def wrap_socket(self, *args: Any, **kwargs: Any) -> ssl.SSLSocket:
        return self.current.wrap_socket(*args, **kwargs)


def _loaded(files: CertificateFiles) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    _restrict(context)
    files.load_into(context)
    return context


def _check(context: ssl.SSLContext) -> None:
    """``ConfigError`` for a context that cannot serve, or would serve what is not to be used any more (RFC 8996)."""
    if context.protocol is ssl.PROTOCOL_TLS_CLIENT:
        raise ConfigError(
            "tls is a client's SSLContext: make it with ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)"
        )
    without_old = ssl.OP_NO_TLSv1 | ssl.OP_NO_TLSv1_1
    is_old = context.minimum_version < ssl.TLSVersion.TLSv1_2
    if is_old and context.options & without_old != without_old:
        raise ConfigError(
            "tls is an SSLContext that accepts TLS before 1.2: set its minimum_version to"
            " ssl.TLSVersion.TLSv1_2"
        )


def _restrict(context: ssl.SSLContext) -> None:
    """TLS 1.2 at least, no compression (CRIME), no renegotiation (CVE-2011-1473), HTTP/1.1."""
    context.minimum_version = max(context.minimum_version, ssl.TLSVersion.TLSv1_2)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    _offer_http(context)


def _offer_http(context: ssl.SSLContext) -> None:
    with contextlib.suppress(NotImplementedError):  # a TLS library without ALPN
        context.set_alpn_protocols(["http/1.1"])
