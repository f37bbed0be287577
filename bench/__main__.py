"""``python -m bench``: run the benchmarks, show them beside their targets, and store them or compare them."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from bench.campaign import Kind, measure, retry_lost, select
from bench.errors import BenchError
from bench.judge import LIMIT, judge_all
from bench.load.cores import pin_client
from bench.machine import this_machine, versions
from bench.micro.kind import MicroKind
from bench.results import FOLDER, Results
from bench.series import Series
from bench.table import comparison_table, results_table

__all__ = ["main"]


def main(arguments: list[str], kinds: Mapping[str, Kind]) -> int:
    """Run the program on these kinds of benchmark, "micro" and "load"; gives the status to exit with."""
    options = _parse(arguments)
    chosen = [kind for name, kind in kinds.items() if name in _kind_names(options)]
    try:
        return compare(options, chosen) if options.compare else store(options, chosen)
    except BenchError as exc:
        print(f"bench: {exc}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def store(options: argparse.Namespace, kinds: Sequence[Kind]) -> int:
    """Measure, show, and store in the place of this machine's earlier results."""
    names = _names(options, kinds)
    date, run = _run(options)
    found = _measure(kinds, names, options.rounds)
    print(results_table(found))
    is_whole = not options.k and options.micro == options.load
    results = None if is_whole else Results.load(options.results, this_machine())
    results = results or Results(this_machine())
    results.take(date, run, found)
    path = results.save(options.results)
    print(f"\nstored in {os.path.relpath(path)}")
    return 0


def compare(options: argparse.Namespace, kinds: Sequence[Kind]) -> int:
    """Measure and hold against this machine's stored results: 1 if something is lost."""
    machine = this_machine()
    stored = Results.load(options.results, machine)
    if stored is None:
        path = os.path.relpath(Results.path(options.results, machine))
        print(
            f"nothing is stored for this machine, so there is nothing to compare with: {path} is not there.\n"
            "Run `make bench` while the machine has nothing else to do, and commit that file."
        )
        return 0
    names = _names(options, kinds)
    prefixes = tuple(f"{kind}/" for kind in _kind_names(options))
    expected = select([n for n in stored.benchmarks if n.startswith(prefixes)], options.k)
    _, run = _run(options)
    _say_changes(stored, run["versions"])
    found = _measure(kinds, names, options.rounds)
    again = retry_lost(
        stored.benchmarks, found, lambda lost: _measure(kinds, lost, options.rounds, "again, ")
    )
    everything = list(dict.fromkeys([*names, *expected]))
    verdicts = judge_all(everything, stored.benchmarks, found)
    print(comparison_table(verdicts))
    if again:
        print(f"\nmeasured twice, the second time counts: {', '.join(again)}")
    failed = [verdict for verdict in verdicts if verdict.is_lost or verdict.is_missing]
    for verdict in failed:
        if verdict.is_missing:
            print(f"\n{verdict.name} is stored but could not be measured; is the extension built?")
        else:
            print(
                f"\n{verdict.name} lost over {LIMIT:.0%}, also relative to the floor, and again on a retry"
            )
    return 1 if failed else 0


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="See bench/README.md.")
    parser.add_argument(
        "-k",
        action="append",
        default=[],
        metavar="TEXT",
        help="only names that contain TEXT; repeatable",
    )
    parser.add_argument("--micro", action="store_true", help="only the pieces in one process")
    parser.add_argument("--load", action="store_true", help="only the servers over sockets")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured (5)")
    parser.add_argument(
        "--compare", action="store_true", help="compare with the stored result; exit 1 on a loss"
    )
    parser.add_argument(
        "--results", type=Path, default=FOLDER, metavar="FOLDER", help="where results are kept"
    )
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        parser.error(f"--rounds is {options.rounds}: it is 1 or more")
    return options


def _kind_names(options: argparse.Namespace) -> list[str]:
    if options.micro == options.load:
        return ["micro", "load"]
    return ["micro"] if options.micro else ["load"]


def _names(options: argparse.Namespace, kinds: Sequence[Kind]) -> list[str]:
    names = select([name for kind in kinds for name in kind.names()], options.k)
    if not names:
        raise BenchError(f"no benchmark's name contains {' or '.join(map(repr, options.k))}")
    return names


def _measure(
    kinds: Sequence[Kind], names: Sequence[str], rounds: int, prefix: str = ""
) -> dict[str, Series]:
    return measure(
        kinds, names, rounds, lambda text: print(prefix + text, file=sys.stderr, flush=True)
    )


def _run(options: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """When this is, and what else there is to know of it; says so if the machine is not idle."""
    busy = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if busy > 0.5:
        print(f"the load average is {busy:.2f}: something else runs here", file=sys.stderr)
    date = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    return date, {"versions": versions(), "rounds": options.rounds, "load_average": busy}


def _say_changes(stored: Results, now: dict[str, str]) -> None:
    """Name what else has changed since the results were stored: it may be what a loss is due to."""
    for date, run in stored.runs.items():
        for name, version in run["versions"].items():
            if name != "bunpy" and now.get(name, "none") != version:
                print(f"since {date}: {name} {version} -> {now.get(name, 'none')}")


def _kinds() -> dict[str, Kind]:
    kinds: dict[str, Kind] = {"micro": MicroKind()}
    if sys.platform != "win32":  # it has no poll
        from bench.load.kind import LoadKind

        kinds["load"] = LoadKind()
    return kinds


if __name__ == "__main__":
    pin_client()
    sys.exit(main(sys.argv[1:], _kinds()))
