"""The command line of ``bunpy doctor``: its arguments, what is printed, and the exit status."""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Sequence

from bunpy.doctor.examination import Examination
from bunpy.doctor.question import Question
from bunpy.doctor.report import as_json, as_text
from bunpy.doctor.settings import NAMES

__all__ = ["run"]

_PROGRAM = "bunpy doctor"


def run(arguments: Sequence[str]) -> int:
    """Examine the URL that the arguments name, and print the report. Returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        question = _question(options)
    except ValueError as exc:
        return _failed(str(exc))
    if sys.stderr.isatty():
        sys.stderr.write(f"Watching for up to {question.seconds:g} s; Ctrl-C ends it sooner.\n")
    examination = Examination(question)
    try:
        examination.run()
    except OSError as exc:
        return _failed(exc.strerror or str(exc))
    if options.json:
        report = as_json(examination)
    else:
        is_coloured = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        report = as_text(examination, is_coloured=is_coloured, has_all=options.all)
    sys.stdout.write(f"{report}\n")
    sys.stdout.flush()
    return int(any(finding.level == "problem" for finding in examination.findings))


def _failed(sentence: str) -> int:
    sys.stderr.write(f"{_PROGRAM}: {sentence}\n")
    return 2


def _question(options: argparse.Namespace) -> Question:
    return Question(
        options.url,
        method=options.method or ("GET" if options.data is None else "POST"),
        headers=dict(options.header),
        body=None if options.data is None else options.data.encode(),
        origin=options.origin,
        seconds=options.seconds,
        connect_timeout=options.connect_timeout,
        is_insecure=options.insecure,
    )


def _parser() -> argparse.ArgumentParser:
    names = ", ".join(name for key, name in NAMES.items() if key != "bunpy")
    parser = argparse.ArgumentParser(
        prog=_PROGRAM,
        description="Follow an event stream through whatever proxies lie between, and say what they do to it: "
        f"buffering, compression, cut-offs, reconnection, each with the setting that mends it ({names}).",
        epilog="The exit status is 0 when nothing is worse than a warning, 1 when there is a problem, 2 when the "
        "URL cannot be reached.",
    )
    parser.add_argument("url", metavar="URL", help="http://..., https://... or unix:/path")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--all",
        action="store_true",
        help="show every proxy's settings, also where it is known which one it is",
    )
    parser.add_argument(
        "--seconds",
        type=_seconds,
        default=20.0,
        metavar="N",
        help="how long to watch the stream (default: 20)",
    )
    parser.add_argument(
        "--header",
        type=_header,
        action="append",
        default=[],
        metavar="'NAME: VALUE'",
        help="send this header too, or in place of a browser's; may be repeated",
    )
    parser.add_argument("--method", type=str.upper, help="default: GET, or POST with --data")
    parser.add_argument(
        "--data",
        metavar="TEXT",
        help="send this body; its Content-Type is application/json by default",
    )
    parser.add_argument("--origin", help="ask as a page of this origin does, https://example.org")
    parser.add_argument("--insecure", action="store_true", help="go on whatever the certificate is")
    parser.add_argument(
        "--connect-timeout",
        type=_seconds,
        default=10.0,
        metavar="N",
        help="seconds for a connection and its TLS (default: 10)",
    )
    return parser


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds, more than 0")
    return value


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip() or " " in name.strip():
        raise argparse.ArgumentTypeError(f"{text!r} is no header: it is 'Name: value'")
    return name.strip(), value.strip()
