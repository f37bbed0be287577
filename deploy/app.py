"""What the files in this folder serve, until there is something of yours: numbers, once a second, that resume."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from bunpy.serve import Request, SSEResponse


async def numbers(last_id: int) -> AsyncIterator[dict[str, Any]]:
    while True:
        last_id += 1
        yield {"id": last_id, "data": {"number": last_id}}
        await asyncio.sleep(1)


def handler(req: Request) -> Any:
    if req.path != "/events":
        return {"status": 404}
    return SSEResponse(numbers(int(req.last_event_id or 0)))
