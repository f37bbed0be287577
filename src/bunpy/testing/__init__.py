"""Tools for testing handlers over real connections: the public face; the work is in the modules.

With pytest::

    import asyncio

    import pytest

    from bunpy.serve import SSEResponse
    from bunpy.testing import EventClient, request, serving


    async def count():
        for i in range(3):
            yield {"id": str(i), "data": {"count": i}}
            await asyncio.sleep(0)


    def handler(req):
        return SSEResponse(count()) if req.path == "/events" else {"status": 404}


    @pytest.fixture
    def server():
        with serving(handler) as server:
            yield server


    def test_counts_to_three(server):
        with EventClient(server, "/events") as client:
            assert client.headers["content-type"].startswith("text/event-stream")
            assert [event.id for event in client.read_all()] == ["0", "1", "2"]


    def test_elsewhere_is_nothing(server):
        assert request(server, "GET", "/elsewhere").status == 404

Everything here blocks: call it from a plain test function, or from a coroutine with
``asyncio.to_thread``. Every wait has a deadline of five seconds unless ``timeout`` says otherwise.
"""

from __future__ import annotations

from bunpy.testing.answer import Answer, parse_answers
from bunpy.testing.client import EventClient
from bunpy.testing.connection import Connection
from bunpy.testing.decoder import DecodedEvent, Decoder
from bunpy.testing.errors import IncompleteAnswer, InvalidAnswer, StreamEnded
from bunpy.testing.plain import request
from bunpy.testing.raw import Exchange, exchange
from bunpy.testing.server import serving

__all__ = [
    "Answer",
    "Connection",
    "DecodedEvent",
    "Decoder",
    "EventClient",
    "Exchange",
    "IncompleteAnswer",
    "InvalidAnswer",
    "StreamEnded",
    "exchange",
    "parse_answers",
    "request",
    "serving",
]
