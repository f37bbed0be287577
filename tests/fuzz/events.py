"""Fuzz the events of a stream: ``python -m fuzz.events --count 1000000 --seed 1``."""

from __future__ import annotations

import asyncio
import random
import sys
import warnings
from collections.abc import Hashable, Sequence
from importlib import import_module
from types import AsyncGeneratorType, SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

from .campaign import Target, say
from .choices import mutate
from .finding import Finding
from .runner import main

if TYPE_CHECKING:
    from .encoding import Encoders
    from .pumping import Pumps

#: One input in so many goes through the pump.
_PUMPED: Final = 7


def twins() -> list[SimpleNamespace]:
    """The public names of both implementations; only Python's where there is no extension."""
    found = []
    for suffix in ("py", "c"):
        names: dict[str, Any] = {"name": suffix}
        try:
            for module in ("encoder", "outlet", "pump"):
                names.update(vars(import_module(f"bunpy._speedups.{module}_{suffix}")))
        except ImportError:
            say(f"the twins *_{suffix} are not there: nothing is compared with them")
            continue
        found.append(SimpleNamespace(**names))
    return found


class Events:
    """Bytes that stand for events, and for what generators and transports do."""

    seeds: Sequence[bytes] = [b"", *(bytes([n, n]) + bytes(range(n, n + 60)) for n in range(60))]

    def __init__(self, encoders: Encoders, pumps: Pumps) -> None:
        self._encoders = encoders
        self._pumps = pumps
        self._unraisable: list[str] = []
        sys.unraisablehook = self._on_unraisable

    def mutate(self, rng: random.Random, corpus: Sequence[bytes]) -> bytes:
        return mutate(rng, corpus)

    async def check(self, data: bytes) -> Hashable:
        is_pumped = data != b"" and data[0] % _PUMPED == 1
        outcome = self._pumps.check(data[1:]) if is_pumped else self._encoders.check(data)
        if self._unraisable:
            unraisable, self._unraisable = self._unraisable, []
            raise Finding("unraisable", "; ".join(unraisable))
        return outcome

    def _on_unraisable(self, unraisable: Any) -> None:
        """What the interpreter only prints: it must be the made-up generators' own."""
        text = str(unraisable.exc_value)
        if "made up" not in text and not isinstance(unraisable.object, AsyncGeneratorType):
            self._unraisable.append(f"{unraisable.exc_type}: {text} in {unraisable.object!r}")

    def empty(self) -> None:
        self._encoders.empty()

    def close(self) -> None:
        self.empty()
        self._pumps.close()
        sys.unraisablehook = sys.__unraisablehook__


def make(loop: asyncio.AbstractEventLoop) -> Target:
    from .encoding import Encoders
    from .pumping import Pumps

    warnings.simplefilter("ignore")  # what is made to misbehave is dropped half-way
    return Events(Encoders(twins()), Pumps(twins()))


if __name__ == "__main__":
    sys.exit(main("events", make))
