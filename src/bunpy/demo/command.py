"""The demo's command line: which port, what is said, and how it ends."""

from __future__ import annotations

import argparse
import errno
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from bunpy.demo.app import App
from bunpy.demo.tape import Cut
from bunpy.serve import serve

__all__ = ["main"]

_PROGRAM = "python -m bunpy.demo"


def main(argv: Sequence[str] | None = None) -> int:
    """Serve the demo until a signal ends it. Returns the exit status: 1 if the port cannot be had."""
    options = _parser().parse_args(argv)
    logging.getLogger("bunpy").addFilter(_is_news)
    with TemporaryDirectory(prefix="bunpy-demo-", ignore_cleanup_errors=True) as folder:
        app = App(Path(folder, "demo.log"))
        try:
            server = serve(app, options.port, options.host, quiet=True)
        except OSError as exc:
            sys.stderr.write(f"{_refusal(exc, options.port, options.host)}\n")
            return 1
        url = server.url.replace("//127.0.0.1:", "//localhost:")
        sys.stdout.write(f"The demo is at {url} (Ctrl-C ends it)\n")
        sys.stdout.flush()
        server.wait()
        app.journal.close()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=_PROGRAM, description="The live demo of bunpy.")
    parser.add_argument(
        "port",
        nargs="?",
        type=_port,
        default=os.environ.get("PORT") or "3000",
        help="0 to 65535; 0 takes a free one (default: the variable PORT, else 3000)",
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="an address of this machine; 0.0.0.0 lets others in (default: %(default)s)",
    )
    return parser


def _port(text: str) -> int:
    if not text.isdecimal() or not text.isascii() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: ports are 0 to 65535")
    return int(text)


def _refusal(exc: OSError, port: int, host: str) -> str:
    if exc.errno == errno.EADDRINUSE:
        other = port + 1 if port < 65535 else 3000
        return f"Port {port} on {host} is taken: stop what listens there, or choose another: {_PROGRAM} {other}"
    return exc.strerror or str(exc)


def _is_news(record: logging.LogRecord) -> bool:
    """Whether a log record tells more than that a visitor of the demo has pressed its button."""
    return not (record.exc_info and isinstance(record.exc_info[1], Cut))
