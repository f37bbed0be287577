"""Asynchronous iterators that are no generators, and awaitables that are none. What they yield is another's."""

from __future__ import annotations

import types
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from typing import Any

from .choices import Choices

__all__ = ["Iterator", "suspend"]


@types.coroutine
def suspend(value: object) -> Generator[object, object, object]:
    """Hand ``value`` to whoever steps the coroutine."""
    return (yield value)


class Iterator:
    """An asynchronous iterator that is no generator; what its steps are varies."""

    def __init__(self, steps: AsyncGenerator[Any, None], choices: Choices) -> None:
        self._steps = steps
        self._kind = choices.below(8)
        if choices.below(2):
            self.athrow = self._steps.athrow

    def __aiter__(self) -> Iterator:
        return self

    def __anext__(self) -> Any:
        kind = self._kind
        if kind == 0:
            return self._steps.__anext__()
        if kind == 1:
            return _Awaitable(self._steps.__anext__)
        if kind == 2:
            return 7
        if kind == 3:
            return _Awaitable(lambda: iter([1, 2]))
        if kind == 4:
            return _Awaitable(lambda: 7)
        if kind == 5:
            raise RuntimeError("no step")
        return self._coroutine()

    async def _coroutine(self) -> Any:
        return await self._steps.__anext__()

    def aclose(self) -> Any:
        return self._steps.aclose()


class _Awaitable:
    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make

    def __await__(self) -> Any:
        made = self._make()
        return made.__await__() if isinstance(made, Awaitable) else made
