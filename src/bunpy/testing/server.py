"""A server for the length of a test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bunpy.http.service import Handler
    from bunpy.serve import Server

__all__ = ["serving"]


@contextmanager
def serving(handler: Handler, *, grace: float = 0.5, **options: Any) -> Iterator[Server]:
    """Serve ``handler`` on a free port of the loopback interface; yield the running ``Server``.

    ``options`` are those of ``bunpy.serve.serve``; ``port=0`` and ``quiet=True`` unless given.
    At the end, also after an exception, it is stopped within ``grace`` seconds. On a running event
    loop it serves on that, and the end only begins to stop it: ``await server.wait_closed()``.
    Raises what ``serve`` raises.
    """
    # Not at the top: the decoder and the clients judge the server, and must not need it to load.
    from bunpy.serve import serve

    server = serve(handler, **{"port": 0, "quiet": True, **options})
    try:
        yield server
    finally:
        server.stop(grace=grace)
