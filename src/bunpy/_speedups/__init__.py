"""The byte work that exists twice: this module chooses which twin runs, and holds nothing else.

Each ``*_c.pyx`` has a twin ``*_py.py``, which is its specification: the same input gives the same bytes, or
the same exception, from both. The environment is read once, here: ``BUNPY_PURE=1`` chooses Python ("0" and
"" mean that the variable is not set), and so does an extension that was not built.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

__all__ = ["IMPLEMENTATION", "BytesBuffer", "EventBuffer", "Outlet", "Pump", "encode"]


def _is_extension_usable() -> bool:
    if os.environ.get("BUNPY_PURE", "") not in ("", "0"):
        return False
    try:
        import bunpy._speedups.encoder_c
        import bunpy._speedups.outlet_c
        import bunpy._speedups.pump_c  # noqa: F401
    except ImportError:
        return False
    return True


IMPLEMENTATION: Final = "cython" if _is_extension_usable() else "python"

if TYPE_CHECKING or IMPLEMENTATION == "python":
    from bunpy._speedups.encoder_py import BytesBuffer, EventBuffer, encode
    from bunpy._speedups.outlet_py import Outlet
    from bunpy._speedups.pump_py import Pump
else:
    from bunpy._speedups.encoder_c import BytesBuffer, EventBuffer, encode
    from bunpy._speedups.outlet_c import Outlet
    from bunpy._speedups.pump_c import Pump
