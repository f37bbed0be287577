"""What a server answers itself, if it is asked to: health and metrics. Everything else is the handler's."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from bunpy.http.metrics import exposition, load
from bunpy.http.response import Response

if TYPE_CHECKING:
    from bunpy.http.request import Request
    from bunpy.http.service import Service
    from bunpy.server.config import Config

__all__ = ["Page", "pages"]

Page = Callable[["Service", "Request"], Response]

_FRESH: Final = {"Cache-Control": "no-store"}


def pages(config: Config) -> dict[str, Page]:
    """The pages that the options ask for, by path."""
    found: dict[str, Page] = {}
    if config.health:
        found["/healthz"] = _alive
        found["/readyz"] = _ready
    if config.metrics is not None:
        load()
        found[config.metrics] = _metrics
    return found


def _alive(service: Service, request: Request) -> Response:
    """Whether the loop turns: whoever reads this has seen it."""
    return Response("ok\n", headers=_FRESH)


def _ready(service: Service, request: Request) -> Response:
    """Whether more requests are welcome: not to one that drains, unless another has taken its place on the port."""
    is_draining = service.is_stopping and not service.is_retiring
    status, text = (503, "draining\n") if is_draining else (200, "ready\n")
    return Response(text, status, _FRESH)


def _metrics(service: Service, request: Request) -> Response:
    # How it is now in this process; of others that is up to a tick old.
    service.look_around(service.counters.loop_lag)
    body, kind = exposition(service.stats(), request.headers.get("accept", ""))
    return Response(body, headers={**_FRESH, "Content-Type": kind})
