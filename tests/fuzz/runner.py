"""The command line of a fuzzer, and coverage as its guide where atheris is there. Trying inputs is the campaign's."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib
import os
import random
import sys
from collections.abc import Callable, Hashable, Iterator
from pathlib import Path
from typing import Any, Final

from .campaign import Campaign, Target, say

__all__ = ["main"]

_FOLDER: Final = Path(__file__).parents[2] / "build" / "fuzz"


def main(name: str, make: Callable[[asyncio.AbstractEventLoop], Target]) -> int:
    """The command line of a fuzzer; ``make`` imports bunpy only when it is called."""
    parser = argparse.ArgumentParser(prog=f"python -m fuzz.{name}", description="See README.md.")
    parser.add_argument("--count", type=int, default=1_000_000, help="inputs to try (1000000)")
    parser.add_argument("--seed", type=int, default=1, help="of the random numbers (1)")
    parser.add_argument("--folder", type=Path, default=_FOLDER, help="where findings are kept")
    parser.add_argument("--guided", action="store_true", help="by coverage of the Python; atheris")
    parser.add_argument("--reproduce", type=Path, metavar="FILE", help="try the input in FILE only")
    options = parser.parse_args()
    with asyncio.Runner() if sys.version_info >= (3, 11) else _Runner() as runner:
        loop = runner.get_loop()
        with _instrumented() if options.guided else contextlib.nullcontext() as atheris:
            target = make(loop)
        if options.reproduce is not None:
            say(repr(runner.run(_reproduce(target, options.reproduce.read_bytes()))))
            return 0
        campaign = Campaign(name, target, options)
        if atheris is not None:
            _guide(atheris, campaign, target, options, runner.run)
        else:
            runner.run(campaign.run())
    return campaign.finish()


async def _reproduce(target: Target, data: bytes) -> Hashable:
    return await target.check(data)


class _Runner:
    """As much of ``asyncio.Runner`` as CPython 3.10 needs."""

    def __enter__(self) -> _Runner:
        self._loop = asyncio.new_event_loop()
        return self

    def __exit__(self, *exc: object) -> None:
        self._loop.close()

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def run(self, main: Any) -> Any:
        return self._loop.run_until_complete(main)


# Coverage


@contextlib.contextmanager
def _instrumented() -> Iterator[Any]:
    """Import bunpy so that atheris sees which branches are taken."""
    atheris = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["bunpy"]):
        yield atheris


def _guide(
    atheris: Any,
    campaign: Campaign,
    target: Target,
    options: argparse.Namespace,
    run: Callable[[Any], Any],
) -> None:
    """Let libFuzzer choose what is mutated, by coverage; how stays the target's. It ends the process itself."""
    corpus = list(target.seeds)

    def try_one(data: bytes) -> None:
        run(campaign.one(data))
        if campaign.is_over:
            os._exit(campaign.finish())

    def mutate(data: bytes, size: int, seed: int) -> bytes:
        return target.mutate(random.Random(seed), [data, data, data, random.choice(corpus)])[:size]

    arguments = [
        sys.argv[0],
        f"-seed={options.seed}",
        "-max_len=24576",
        "-len_control=0",
        "-runs=-1",
    ]
    folder = options.folder / "seeds"
    folder.mkdir(exist_ok=True)
    for number, data in enumerate(corpus):
        (folder / str(number)).write_bytes(data)
    atheris.Setup([*arguments, str(folder)], try_one, custom_mutator=mutate)
    atheris.Fuzz()
