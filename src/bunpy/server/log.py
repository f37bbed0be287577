"""Where bunpy's log lines go when the program has not said: to stderr. The lines are written where they arise."""

from __future__ import annotations

import logging
import sys

__all__ = ["ensure_handler"]


class _Fallback(logging.Handler):
    """Writes to stderr as long as the root logger has no handler of its own."""

    def emit(self, record: logging.LogRecord) -> None:
        if not logging.getLogger().handlers and sys.stderr is not None:
            try:
                sys.stderr.write(f"{self.format(record)}\n")
                sys.stderr.flush()
            except Exception:
                self.handleError(record)


def ensure_handler() -> None:
    """Let the ``bunpy`` logger be heard at level INFO, unless the program has set a level or a handler for it."""
    log = logging.getLogger("bunpy")
    if log.level == logging.NOTSET:
        log.setLevel(logging.INFO)
    if not log.handlers:
        handler = _Fallback()
        handler.setFormatter(logging.Formatter("bunpy: %(message)s"))
        log.addHandler(handler)
