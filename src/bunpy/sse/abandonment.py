"""Whether a coroutine ends because nobody runs it any more. What it then leaves undone is not decided here."""

from __future__ import annotations

import asyncio
from asyncio import Task
from typing import Any

__all__ = ["is_abandoned"]


def is_abandoned(task: Task[Any] | None) -> bool:
    """Whether a ``GeneratorExit`` in the coroutine of ``task`` closes it, because its loop has gone.

    What the coroutine awaits may raise one as well. But that is in a step of the task.
    """
    try:
        return asyncio.current_task() is not task
    except RuntimeError:  # no loop runs in this thread
        return True
