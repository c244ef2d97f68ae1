"""The compiled parts: the cffi binding, the bench's load generator, and the Cython core.

What is compiled from which C files is written in the two ``build.py`` files. ``ZERIO_SANITIZE=1``
in the environment builds everything with the address and undefined-behaviour sanitizers and with
C assertions on (docs/rio.md tells how to run such a build).
"""

import os
import sys
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

JOBS = os.cpu_count() or 1
SANITIZE = os.environ.get("ZERIO_SANITIZE") == "1"
FLAGS = (
    ["-O1", "-g", "-fsanitize=address,undefined", "-fno-omit-frame-pointer", "-UNDEBUG"]
    if SANITIZE
    else ["-O2"]
)
LINK_FLAGS = ["-fsanitize=address,undefined"] if SANITIZE else []


def cffi_modules() -> list[str]:
    builders = ["zerio_asyncio/rio/build.py"]
    if sys.platform == "linux" and Path("zerio_asyncio/bench/build.py").exists():
        builders.append("zerio_asyncio/bench/build.py")
    return [f"{builder}:ffibuilder" for builder in builders]


def core_extensions() -> list[Extension]:
    header = "zerio_asyncio/rio/rio.h"
    return [
        Extension(
            ".".join(source.with_suffix("").parts),
            [str(source)],
            include_dirs=["zerio_asyncio/rio"],
            depends=[header],
            extra_compile_args=FLAGS if sys.platform != "win32" else [],
            extra_link_args=LINK_FLAGS if sys.platform != "win32" else [],
        )
        for source in sorted(Path("zerio_asyncio/core").glob("*.pyx"))
    ]


extensions = core_extensions()
setup(
    cffi_modules=cffi_modules(),
    ext_modules=cythonize(
        extensions,
        include_path=["."],
        nthreads=min(JOBS, len(extensions)) if len(extensions) > 1 else 0,
        compiler_directives={"language_level": "3"},
        annotate=False,
    ),
    options={"build_ext": {"parallel": JOBS}},
)
