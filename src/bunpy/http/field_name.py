"""Field names (RFC 9110 section 5.1) as handlers see them: str, in lower case."""

from __future__ import annotations

from typing import Final

__all__ = ["field_name"]

_USUAL: Final = (
    "accept accept-encoding accept-language authorization cache-control connection content-length content-type"
    " cookie dnt expect host if-modified-since if-none-match last-event-id origin pragma priority referer sec-ch-ua"
    " sec-ch-ua-mobile sec-ch-ua-platform sec-fetch-dest sec-fetch-mode sec-fetch-site sec-fetch-user"
    " transfer-encoding upgrade upgrade-insecure-requests user-agent via x-forwarded-for x-forwarded-host"
    " x-forwarded-proto x-real-ip x-request-id"
)

#: Usual names in the cases that clients write them in. Found here a name is not decoded, and one str for all requests.
_NAMES: Final = {
    spelling.encode(): name for name in _USUAL.split() for spelling in (name, name.title())
}


def field_name(name: bytes) -> str:
    """The lower-case name."""
    return _NAMES.get(name) or name.decode("latin-1").lower()
