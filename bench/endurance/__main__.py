"""``python -m bench.endurance [NAME...] [--minutes M] [--pure]``: exit status 1 if something does not hold."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from bench.endurance import cut, ends, fleet, many, slow
from bench.endurance.check import Check
from bench.endurance.soak import soak
from bench.errors import BenchError
from bench.load.cores import pin_client
from bench.load.process import ServerProcess
from bench.machine import this_machine, versions
from bunpy.server.sockets import raise_descriptor_limit


@dataclass(frozen=True)
class _Trial:
    run: Callable[[ServerProcess], Iterator[Check]]
    options: dict[str, Any] = field(default_factory=dict)
    before: tuple[str, ...] = ()
    #: What it is, where its function does not say.
    words: str | None = None


_TRIALS: Final = {
    "many": _Trial(many.many),
    "churn": _Trial(many.churn),
    "resets": _Trial(many.resets),
    "stalled": _Trial(slow.stalled),
    "slowloris": _Trial(slow.slowloris),
    "drain": _Trial(ends.drain),
    "quit": _Trial(ends.quit_now),
    "descriptors": _Trial(cut.descriptors, before=("prlimit", "--nofile=128:128")),
    "link": _Trial(cut.link, {"hostname": "0.0.0.0"}),
    "masses": _Trial(fleet.masses, {"workers": 2, "metrics": "/metrics"}),
    "rolls": _Trial(fleet.rolls, {"workers": 2}),
}


def main() -> int:
    """Run the trials, and say what holds."""
    parser = argparse.ArgumentParser(prog="python -m bench.endurance", description=__doc__)
    parser.add_argument(
        "names", nargs="*", help=f"of {', '.join([*_TRIALS, 'soak'])}; all but soak if none"
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="of soak")
    parser.add_argument("--pure", action="store_true", help="without the extension")
    parser.add_argument("--results", type=Path, help="a folder to keep the numbers in")
    arguments = parser.parse_args()
    trials = {
        **_TRIALS,
        "soak": _Trial(partial(soak, seconds=arguments.minutes * 60), words=soak.__doc__),
    }
    unknown = [name for name in arguments.names if name not in trials]
    if unknown:
        parser.error(f"there is no {', '.join(unknown)}")
    raise_descriptor_limit()
    pin_client()
    variant = "python" if arguments.pure else "cython"
    found: dict[str, list[dict[str, Any]]] = {}
    failed = False
    for name in arguments.names or list(_TRIALS):
        trial = trials[name]
        print(f"{name}: {(trial.words or trial.run.__doc__ or '').splitlines()[0]}", flush=True)
        found[name] = []
        try:
            with ServerProcess(
                json.dumps(trial.options), variant, "bench.endurance.server", trial.before
            ) as server:
                for check in trial.run(server):
                    print(f"  {check}", flush=True)
                    found[name].append({**asdict(check), "holds": check.holds})
                    failed = failed or not check.holds
        except BenchError as exc:
            print(f"  FAILED: {exc}", flush=True)
            failed = True
    if arguments.results is not None:
        arguments.results.mkdir(parents=True, exist_ok=True)
        path = arguments.results / f"endurance-{this_machine().id}.json"
        path.write_text(
            json.dumps(
                {"implementation": variant, "versions": versions(), "trials": found}, indent=1
            )
        )
        print(f"stored in {path}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
