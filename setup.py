"""The C extensions of bunpy; everything else about the package is in pyproject.toml.

BUNPY_PURE=1 builds none of them; BUNPY_EXT=require turns a failed build from a warning into an error.
"""

import os

from setuptools import Extension, setup

PURE = os.environ.get("BUNPY_PURE", "") not in ("", "0")
REQUIRED = os.environ.get("BUNPY_EXT") == "require"

EXTENSIONS = [
    Extension(
        f"bunpy._speedups.{name}",
        [f"src/bunpy/_speedups/{name}.pyx"],
        optional=not REQUIRED,
    )
    for name in ("encoder_c", "outlet_c", "pump_c")
]

setup(ext_modules=[] if PURE else EXTENSIONS)
