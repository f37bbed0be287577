"""The request target (RFC 9112 section 3.2): whichever form it has, a handler sees a path and a query."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from bunpy.errors import RequestRefused

if TYPE_CHECKING:
    from bunpy.http.host import HostList

__all__ = ["origin_form"]

_ABSOLUTE = re.compile(r"https?://([^/?]*)(.*)", re.IGNORECASE)


def origin_form(
    url: str, method: str, version: str, headers: dict[str, str], hosts: HostList
) -> str:
    """The target as path and query; absolute form gives up its host to the headers, "*" stays for OPTIONS.

    ``RequestRefused`` for any other form, and where the Host that absolute form replaces is missing or wrong.
    """
    if "#" in url:
        raise RequestRefused(400, "The request target has a fragment (RFC 9112 section 3.2)")
    if url == "*" and method == "OPTIONS":
        return url
    match = _ABSOLUTE.fullmatch(url)
    if match is None:
        raise RequestRefused(
            400, 'The request target is a path from "/" on, an http URL, or * for OPTIONS'
        )
    if "host" in headers:
        if (
            hosts.status(headers["host"]) == 400
        ):  # it has to be one, and is not heeded (section 3.2.2)
            hosts.check(headers["host"])
    elif version == "1.1":
        raise RequestRefused(400, "The request has no Host (RFC 9112 section 3.2)")
    headers["host"], rest = match.groups()
    return rest if rest.startswith("/") else f"/{rest}"
