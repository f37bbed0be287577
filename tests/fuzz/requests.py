"""Fuzz the requests of a connection: ``python -m fuzz.requests --count 1000000 --seed 1``."""

from __future__ import annotations

import asyncio
import random
import sys
import warnings
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any

from . import grammar
from .campaign import Target
from .finding import Finding
from .runner import main

if TYPE_CHECKING:
    from .connection import Server


class Requests:
    """The bytes that a connection gets."""

    seeds: Sequence[bytes] = grammar.SEEDS

    def __init__(self, server: Server) -> None:
        self._server = server
        self._warnings: list[str] = []
        warnings.simplefilter("always")
        warnings.showwarning = self._on_warning

    def mutate(self, rng: random.Random, corpus: Sequence[bytes]) -> bytes:
        return grammar.mutate(rng, corpus)

    async def check(self, data: bytes) -> Hashable:
        outcome = await self._server.check(data)
        if self._warnings:
            messages, self._warnings = self._warnings, []
            raise Finding("warning", "; ".join(messages))
        return outcome

    def _on_warning(self, message: Warning | str, *arguments: Any, **options: Any) -> None:
        """As of a coroutine of the handler's that was never awaited."""
        self._warnings.append(str(message))

    def empty(self) -> None:
        pass

    def close(self) -> None:
        self._server.close()


def make(loop: asyncio.AbstractEventLoop) -> Target:
    from .connection import Server

    return Requests(Server(loop))


if __name__ == "__main__":
    sys.exit(main("requests", make))
