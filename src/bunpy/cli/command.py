"""``main``: what the arguments ask for is done, and a mistake is told in one sentence."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Sequence

from bunpy.cli import terminal
from bunpy.cli.parser import help_text, parse
from bunpy.cli.settings import Settings, settings_of
from bunpy.errors import ConfigError, ImportFailed

__all__ = ["main"]

#: Exit statuses: a port that cannot be had; a mistake in the command or in the program; what SIGINT makes of one.
_FAILED = 1
_MISTAKEN = 2
_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the arguments (by default the process's) ask for; the exit status.

    It serves until a signal ends it. It changes the process, as a command may: the environment, signals, ``sys.path``.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["doctor"]:
        from bunpy.doctor import main as doctor

        return doctor(words[1:])
    settings = None
    try:
        parsed = parse(words)
        if "pure" in parsed.texts:
            os.environ["BUNPY_PURE"] = parsed.texts["pure"]
        if parsed.asks_help:
            return _print(help_text())
        if parsed.asks_version:
            from bunpy.cli.version import version_text

            return _print(f"{version_text()}\n")
        if parsed.target is None:
            raise ConfigError(
                "which handler? Say its module and its name, as bunpy app:handler (bunpy --help tells more)"
            )
        settings = settings_of(parsed, os.environ)
        return _run(settings)
    except ConfigError as exc:
        _tell(str(exc) if settings is None else settings.in_flags(str(exc)), exc, settings)
        return _MISTAKEN
    except OSError as exc:
        _tell(_lack(exc, settings), exc, settings)
        return _FAILED
    except KeyboardInterrupt:  # before there was a server, whose signals are its own
        return _INTERRUPTED


def _run(settings: Settings) -> int:
    if settings.reloads:
        from bunpy.cli.reload import Supervisor

        return Supervisor(settings).run()
    # Not at the top: BUNPY_PURE must be set before.
    from bunpy.serve import serve
    from bunpy.server.importer import load

    # By its name: workers that replace others import what the file has in it by then.
    try:
        serve(settings.target, settings.port, settings.hostname, block=True, **settings.options)
    except ImportFailed as exc:
        if settings.shows_tracebacks and exc.__cause__ is None:
            load(settings.target)  # a worker's words come without its traceback: let it fail here
        raise
    return 0


def _tell(sentence: str, exc: BaseException, settings: Settings | None) -> None:
    """One sentence; the traceback for whoever asked for it, and a word of it where it tells more."""
    if settings is not None and settings.shows_tracebacks:
        traceback.print_exception(exc)
    elif isinstance(exc, ImportFailed) and not isinstance(exc.__cause__, (SyntaxError, type(None))):
        sentence = f"{sentence}; --debug shows the traceback"
    terminal.fail(sentence)


def _lack(exc: OSError, settings: Settings | None) -> str:
    if exc.errno == errno.EADDRINUSE and settings is not None and settings.port:
        return (
            f"port {settings.port} on {settings.hostname} is taken: stop what listens there, or choose another"
            " with --port (--port 0 finds a free one)"
        )
    return exc.strerror or str(exc)


def _print(text: str) -> int:
    sys.stdout.write(text)
    return 0
