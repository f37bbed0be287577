"""The demo's page: one file, and the headers that confine it."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

from bunpy.file import read
from bunpy.serve import Response

__all__ = ["page"]

_POLICY = (
    "default-src 'none'",
    "connect-src 'self'",
    "img-src data:",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
)


def page() -> Response:
    """``page.html`` under a Content-Security-Policy that lets its own script and style run, by hash, and nothing else.

    ``require-trusted-types-for`` makes the browser refuse any text that the script would turn into markup.
    """
    html = read(Path(__file__).with_name("page.html"))
    policy = [
        *_POLICY,
        f"script-src {_hashes(html, 'script')}",
        f"style-src {_hashes(html, 'style')}",
    ]
    return Response(
        html,
        headers={
            "Content-Type": "text/html; charset=utf-8",
            "Content-Security-Policy": "; ".join(policy),
            "Cache-Control": "no-cache",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        },
    )


def _hashes(html: str, tag: str) -> str:
    """The CSP sources that allow the page's ``tag`` elements as they stand (CSP Level 3, section 8.3)."""
    contents = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
    digests = [hashlib.sha256(content.encode()).digest() for content in contents]
    return " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
