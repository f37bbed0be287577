"""Where bunpy's log lines go when the program has not said: to stderr. The lines are written where they arise."""

from __future__ import annotations

import logging
import sys
from typing import IO

from bunpy.logging import JSONFormatter
from bunpy.server.lines import LineFormatter, SentenceFormatter, has_colours

__all__ = ["ensure_handler"]


class _Fallback(logging.Handler):
    """Writes to stderr as long as the root logger has no handler of its own.

    Lines are JSON if ``is_json``; otherwise sentences where stderr is a terminal, and plain elsewhere.
    """

    def __init__(self) -> None:
        super().__init__()
        self.is_json = False
        self._json = JSONFormatter()
        self._stream: IO[str] | None = None  # the one that ``formatter`` is for

    def emit(self, record: logging.LogRecord) -> None:
        stream = sys.stderr
        if not logging.getLogger().handlers and stream is not None:
            try:
                stream.write(f"{self._formatter_for(stream).format(record)}\n")
                stream.flush()
            except Exception:
                self.handleError(record)

    def _formatter_for(self, stream: IO[str]) -> logging.Formatter:
        if self.is_json:
            return self._json
        if self.formatter is None or stream is not self._stream:
            self._stream = stream
            self.formatter = (
                SentenceFormatter(is_coloured=has_colours(stream))
                if stream.isatty()
                else LineFormatter()
            )
        return self.formatter


def ensure_handler(*, is_json: bool = False) -> None:
    """Let the ``bunpy`` logger be heard at level INFO, unless the program has set a level or a handler for it.

    With ``is_json`` its lines are JSON from then on, those of the servers that are there already as well.
    """
    log = logging.getLogger("bunpy")
    if log.level == logging.NOTSET:
        log.setLevel(logging.INFO)
    if not log.handlers:
        log.addHandler(_Fallback())
    for handler in log.handlers:
        if isinstance(handler, _Fallback) and is_json:
            handler.is_json = True
