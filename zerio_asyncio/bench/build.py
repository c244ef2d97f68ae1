"""The cffi builder of ``zerio_asyncio.bench._native``: load generator and limit server. Linux only.

``setup.py`` compiles it with the wheel; ``python setup.py build_ext --inplace`` beside its sources.
"""

from __future__ import annotations

import pathlib

import cffi

HERE = pathlib.Path(__file__).resolve().parent
# Setuptools insists on paths relative to the top of the tree, where every build starts.
SOURCES = [f"zerio_asyncio/bench/{name}.c" for name in ("load", "limit", "process")]


def declarations() -> str:
    """The header as cffi can read it: without the preprocessor's lines."""
    lines = (HERE / "native.h").read_text(encoding="utf-8").splitlines()
    return "\n".join(line for line in lines if not line.startswith("#"))


ffibuilder = cffi.FFI()
ffibuilder.cdef(declarations())
ffibuilder.set_source(
    "zerio_asyncio.bench._native",
    '#include "native.h"',
    sources=SOURCES,
    include_dirs=["zerio_asyncio/bench"],
    depends=["zerio_asyncio/bench/native.h"],
    extra_compile_args=["-O2", "-Wall", "-Wextra"],
)
