"""A client's end of TLS: bytes of the application on one side, records on the other. No I/O here."""

from __future__ import annotations

import contextlib
import ssl

__all__ = ["Tunnel"]

_READ_SIZE = 64 * 1024


class Tunnel:
    """One TLS connection, as a client that means to reach ``hostname`` with the certificates ``context`` trusts.

    Attributes: ``tls``, the ``SSLObject``: it knows the version, the server's certificate and the
    protocol chosen; ``has_ended``, whether the server's close_notify has come (RFC 8446 section
    6.1). All methods raise ``ssl.SSLError`` for what is not TLS, and for the server's alerts.
    """

    def __init__(self, context: ssl.SSLContext, hostname: str) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._is_shut = False
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=hostname)
        self.has_ended = False

    def shake_hands(self, received: bytes = b"") -> bool:
        """Take what was received, and go on as far as that goes; whether the handshake is done.

        In any case there may be records to send: see ``records``.
        """
        self._incoming.write(received)
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def records(self) -> bytes:
        """What is to be sent now; b"" for nothing."""
        return self._outgoing.read()

    def seal(self, data: bytes) -> bytes:
        """The records of some data."""
        if data:
            self.tls.write(data)
        return self.records()

    def open(self, received: bytes) -> bytes:
        """The data in the records that were received; b"" as long as one is not complete."""
        self._incoming.write(received)
        data = bytearray()
        with contextlib.suppress(ssl.SSLWantReadError):
            try:
                while piece := self.tls.read(_READ_SIZE):
                    data += piece
            except ssl.SSLZeroReturnError:  # both have said close_notify
                pass
            self.has_ended = True
        return bytes(data)

    def shut(self) -> bytes:
        """The record that says that nothing more will be sent: close_notify. Again: b""."""
        if not self._is_shut:
            self._is_shut = True
            with contextlib.suppress(ssl.SSLError):  # the server's own close_notify is not awaited
                self.tls.unwrap()
        return self.records()
