"""``python -m bunpy``: what it does is ``cli``'s."""

from __future__ import annotations

import sys

from bunpy.cli import main

if __name__ == "__main__":
    sys.exit(main())
