"""The stock scene: invented prices that wander, the same for all who watch."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from typing import Any

__all__ = ["SYMBOLS", "Market"]

SYMBOLS = ("AAPL", "AMZN", "GOOG", "MSFT", "TSLA")

_PAUSE = 0.25  # seconds
_HISTORY = 40  # prices of each symbol
_STEP = 0.004  # of a price, the standard deviation of one move


class Market:
    """Prices of ``SYMBOLS``; each stream of ``ticks`` moves the ones that it is asked for."""

    def __init__(self) -> None:
        self._prices = {symbol: deque([random.uniform(100, 500)], _HISTORY) for symbol in SYMBOLS}
        for symbol in SYMBOLS * _HISTORY:
            self._move(symbol)

    async def ticks(self, symbols: Sequence[str]) -> AsyncGenerator[dict[str, Any], None]:
        """The last prices of each of ``symbols`` as one ``prices`` event, then each move as a ``tick``."""
        prices = {symbol: list(self._prices[symbol]) for symbol in symbols}
        yield {"retry": 2000, "event": "prices", "data": prices}
        while True:
            await asyncio.sleep(_PAUSE)
            symbol = random.choice(symbols)
            price, delta = self._move(symbol)
            yield {"event": "tick", "data": {"symbol": symbol, "price": price, "delta": delta}}

    def _move(self, symbol: str) -> tuple[float, float]:
        old = self._prices[symbol][-1]
        price = round(max(1.0, old * (1 + random.gauss(0, _STEP))), 2)
        self._prices[symbol].append(price)
        return price, round(price - old, 2)
