"""The command ``bunpy``: ``bunpy app:handler`` serves a handler, ``bunpy doctor URL`` follows a stream.

Nothing here or below imports the byte work before the options are read: one of them chooses it.
"""

from __future__ import annotations

from bunpy.cli.command import main

__all__ = ["main"]
