"""The token scene: a stand-in for a language model, which answers from a few paragraphs at a model's pace."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import AsyncGenerator
from typing import Any

__all__ = ["answer", "tokens"]

_FIRST_DELAY = 0.35  # seconds
_DELAYS = (0.012, 0.055)  # seconds, shortest and longest

#: Tokens are a few letters long, with the blank that stands before them, as a model's are.
_TOKEN = re.compile(r"\s*\S{1,6}")

_RESUME = """
    Give each event an id. The browser keeps the last one that it has seen, and when the connection breaks it waits
    for the retry time and asks again, with that id in the Last-Event-ID header. The server sends what came after it,
    so that nothing is lost and nothing comes twice. The card named Resume does just that: cut it, and watch the tally.
"""
_WEBSOCKET = """
    A WebSocket is a two-way pipe with a protocol of its own. Where only the server has news, an event stream does
    with less: it is a plain HTTP response that does not end, so that cookies, proxies and logs work as ever, and the
    browser brings reconnection along. What the client has to say it says by POST, as this prompt was sent.
"""
_PROXY = """
    A proxy that collects a response before it passes it on turns a stream into silence. So streams say
    X-Accel-Buffering: no and Cache-Control: no-store, and in a lull they send a comment every fifteen seconds, so
    that nobody takes them for dead. The rest is HTTP: no upgrade, and no second port.
"""
_PYTHON = """
    In bunpy a stream is an async generator. The handler returns SSEResponse(generator), each dict that the generator
    yields becomes an event, and when the client leaves, its finally block runs. The first event leaves at once;
    those that follow without a pause leave together, in one write.
"""
_EVENTS = """
    Server-Sent Events are lines of text in an HTTP response that stays open. A line that begins with data: carries
    the news, event: names its type, id: marks the place, and an empty line sends it off. The browser reads them with
    EventSource, in three lines of code, and reconnects by itself. I am no model, only a few paragraphs with pauses,
    but the stream that brings me is a real one.
"""

#: What to look for in a prompt, and what to say then; the first that fits.
_ANSWERS = (
    (r"resum|last-event-id|reconnect|retry|\blost\b|\bcut\b", _RESUME),
    (r"websocket|instead|versus|\bvs\b|\bwhy\b", _WEBSOCKET),
    (r"proxy|proxies|nginx|buffer|deploy|production", _PROXY),
    (r"python|bunpy|generator|\bcode\b", _PYTHON),
    (r"", _EVENTS),
)


def answer(prompt: str) -> str:
    """The paragraph that fits ``prompt`` best."""
    text = next(text for sign, text in _ANSWERS if re.search(sign, prompt, re.IGNORECASE))
    return " ".join(text.split())


async def tokens(prompt: str) -> AsyncGenerator[dict[str, Any], None]:
    """The answer as events: ``start``, one ``token`` each, ``done`` with their number."""
    yield {"event": "start", "data": {"prompt": prompt}}
    await asyncio.sleep(_FIRST_DELAY)
    pieces = _TOKEN.findall(answer(prompt))
    for piece in pieces:
        yield {"event": "token", "data": {"token": piece}}
        await asyncio.sleep(random.uniform(*_DELAYS))
    yield {"event": "done", "data": {"tokens": len(pieces)}}
