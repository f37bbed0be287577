"""Event loops: which one to serve on, and how one is closed. What runs on them is elsewhere."""

from __future__ import annotations

import asyncio

__all__ = ["close_loop", "new_loop"]


def new_loop() -> asyncio.AbstractEventLoop:
    """A loop of uvloop's, or of asyncio's where uvloop is not to be had (Windows, PyPy)."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def close_loop(loop: asyncio.AbstractEventLoop) -> None:
    """Close a loop that nobody serves on any more; tasks that will not end are left behind, and have been named."""
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
        task._log_destroy_pending = False  # type: ignore[attr-defined]
    if tasks:
        _, tasks = loop.run_until_complete(asyncio.wait(tasks, timeout=0.1))
    if not tasks:
        loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
