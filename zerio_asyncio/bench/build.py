"""The cffi builder of ``zerio_asyncio.bench._native``: generators and limit servers. Linux only.

``setup.py`` compiles it for the wheel; ``python setup.py build_ext --inplace`` next to its sources.
"""

from __future__ import annotations

import sysconfig
from pathlib import Path
from typing import Any

import cffi

# Relative to setup.py, where every build runs: setuptools requires it.
HERE = "zerio_asyncio/bench"

SOURCES = (
    *("load", "courier", "dial", "histogram", "pattern"),
    *("limit", "frames", "process", "distance"),
)

# Without the GIL there is no stable ABI, and cffi before 2.0 must be told twice.
ABI: dict[str, Any] = {}
if sysconfig.get_config_var("Py_GIL_DISABLED"):
    ABI = {"py_limited_api": False, "define_macros": [("_CFFI_NO_LIMITED_API", None)]}


def declarations() -> str:
    """The header in a form that cffi can read: without the preprocessor's lines."""
    header = Path(__file__).resolve().with_name("native.h").read_text(encoding="utf-8")
    return "\n".join(line for line in header.splitlines() if not line.startswith("#"))


ffibuilder = cffi.FFI()
ffibuilder.cdef(declarations())
ffibuilder.set_source(
    "zerio_asyncio.bench._native",
    '#include "native.h"',
    sources=[f"{HERE}/{name}.c" for name in SOURCES],
    include_dirs=[HERE],
    depends=[f"{HERE}/native.h", f"{HERE}/parts.h"],
    **ABI,
)
