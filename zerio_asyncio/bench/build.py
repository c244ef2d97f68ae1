"""The cffi builder of ``zerio_asyncio.bench._native``: generators and limit servers.

This file alone chooses which C files a system gets: what all share, and ``linux/`` or ``windows/``,
which have the same files. ``setup.py`` compiles it for the wheel;
``python setup.py build_ext --inplace`` next to its sources.
"""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path
from typing import Any

import cffi

# Relative to setup.py, where every build runs: setuptools requires it.
HERE = "zerio_asyncio/bench"
ROOT = Path(__file__).resolve().parent
GENERATED = "_native.c"

FOLDERS = {"linux": "linux", "win32": "windows"}

SOURCES = {
    platform: [
        path.relative_to(ROOT).as_posix()
        for folder in (".", own)
        for path in sorted(ROOT.joinpath(folder).glob("*.c"))
        if path.name != GENERATED
    ]
    for platform, own in FOLDERS.items()
}

# Where headers are looked for, from this file's folder; rio lends its atomics.
INCLUDED = {platform: (".", own, "../rio") for platform, own in FOLDERS.items()}

# Before glibc 2.34, libraries are opened by one of their own.
LIBRARIES = {"linux": ["dl"], "win32": ["ws2_32", "winmm"]}

# Without the GIL there is no stable ABI, and cffi before 2.0 must be told twice.
ABI: dict[str, Any] = {}
if sysconfig.get_config_var("Py_GIL_DISABLED"):
    ABI = {"py_limited_api": False, "define_macros": [("_CFFI_NO_LIMITED_API", None)]}


def declarations() -> str:
    """The header in a form that cffi can read: without the preprocessor's lines."""
    header = (ROOT / "native.h").read_text(encoding="utf-8")
    return "\n".join(line for line in header.splitlines() if not line.startswith("#"))


def _builder() -> cffi.FFI:
    builder = cffi.FFI()
    builder.cdef(declarations())
    builder.set_source(
        "zerio_asyncio.bench._native",
        '#include "native.h"',
        sources=[f"{HERE}/{name}" for name in SOURCES[sys.platform]],
        include_dirs=[str(Path(HERE, name)) for name in INCLUDED[sys.platform]],
        depends=sorted(str(path) for path in Path(HERE).rglob("*.h")),
        libraries=LIBRARIES.get(sys.platform, []),
        **ABI,
    )
    return builder


# The lists are importable from anywhere; the builder needs the source tree around it.
if __name__ in {"__cffi__", "__main__"}:
    ffibuilder = _builder()
