"""``python -m bunpy.demo``: what it does is ``command``'s."""

from __future__ import annotations

import sys

from bunpy.demo.command import main

if __name__ == "__main__":
    sys.exit(main())
