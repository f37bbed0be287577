"""The event streams of this process that an ASGI server runs: what those of a loop share, and how all are ended."""

from __future__ import annotations

import threading
from asyncio import AbstractEventLoop
from typing import TYPE_CHECKING, Final, NoReturn

from bunpy.http.host import HostList
from bunpy.http.service import Service
from bunpy.server.config import Config

if TYPE_CHECKING:
    from bunpy.asgi.relay import Relay

__all__ = ["end_streams", "enter", "is_stopping", "leave", "service_of", "stop"]

_relays: Final[set[Relay]] = set()
_stopping: Final[set[AbstractEventLoop]] = set()


class _Local(threading.local):
    def __init__(self) -> None:
        self.services: dict[float, Service] = {}


_local: Final = _Local()


def service_of(loop: AbstractEventLoop, close_timeout: float) -> Service:
    """What a stream needs of a server: its options, and the buffer that all streams of a loop share."""
    service = _local.services.get(close_timeout)
    if service is None or service.loop is not loop:
        config = Config(close_timeout=close_timeout)
        service = Service(_handle_nothing, config, loop, HostList(None, ()))
        _local.services[close_timeout] = service
    return service


def enter(relay: Relay) -> None:
    """A stream begins."""
    _relays.add(relay)


def leave(relay: Relay) -> None:
    """It has ended."""
    _relays.discard(relay)


def end_streams() -> None:
    """End all event streams of this process, as the stop of their server does; may be called from any thread."""
    for relay in list(_relays):
        relay.loop.call_soon_threadsafe(relay.shut_down)


def stop(loop: AbstractEventLoop, is_over: bool = False) -> None:
    """The server on that loop stops, and those of its streams end that begin later as well; or that ``is_over``."""
    if is_over:
        _stopping.discard(loop)
        return
    _stopping.add(loop)
    for relay in list(_relays):
        if relay.loop is loop:
            loop.call_soon_threadsafe(relay.shut_down)


def is_stopping(loop: AbstractEventLoop) -> bool:
    """Whether the server on that loop is known to stop."""
    return loop in _stopping


def _handle_nothing(request: object) -> NoReturn:
    raise AssertionError("this service has no connections")
