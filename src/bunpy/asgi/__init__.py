"""bunpy's event streams inside Starlette, FastAPI or any other ASGI application: the public face."""

from __future__ import annotations

from bunpy.asgi import servers
from bunpy.asgi.event import JSONServerSentEvent, ServerSentEvent
from bunpy.asgi.response import EventSourceResponse
from bunpy.asgi.streams import end_streams

__all__ = ["EventSourceResponse", "JSONServerSentEvent", "ServerSentEvent", "end_streams"]

servers.prepare()
