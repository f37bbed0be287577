"""Who lies between, as far as an answer's header tells. What they do to it is seen elsewhere."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

__all__ = ["guess"]

#: A header field, what its value has when the answer came through the proxy, and which that is.
_MARKS: Final = tuple(
    (field, re.compile(pattern, re.IGNORECASE), name)
    for field, pattern, name in (
        ("cf-ray", "", "cloudflare"),
        ("server", "cloudflare", "cloudflare"),
        ("x-azure-ref", "", "azure"),
        ("server", "Microsoft-Azure", "azure"),
        ("via", r"\bgoogle\b", "google_cloud"),
        ("server", r"^(Google Frontend|gws|GSE)\b", "google_cloud"),
        ("server", r"^awselb\b", "aws_alb"),
        ("set-cookie", r"\bAWSALB", "aws_alb"),
        ("server", r"^(nginx|openresty)\b", "nginx"),
        ("via", r"\bnginx\b", "nginx"),
        ("server", r"\bCaddy\b", "caddy"),
        ("via", r"\bCaddy\b", "caddy"),
        ("server", r"^Apache\b", "apache"),
        ("via", r"\(Apache\b", "apache"),
    )
)


def guess(headers: Mapping[str, str]) -> tuple[str, ...]:
    """The proxies that an answer has come through, the nearest to the client first, by their keys in ``NAMES``.

    ``headers`` are by lower-case name. A proxy that leaves no mark is not among them.
    """
    found = (
        name
        for field, pattern, name in _MARKS
        if field in headers and pattern.search(headers[field])
    )
    return tuple(dict.fromkeys(found))
