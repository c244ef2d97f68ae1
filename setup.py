"""The compiled parts: the cffi binding, the bench's load generator, and what is Cython.

What is compiled from which C files is written in the two ``build.py`` files. ``ZERIO_SANITIZE=1``
in the environment builds everything with the address and undefined-behaviour sanitizers and with
C assertions on, ``ZERIO_SANITIZE=threads`` with the one that looks for races (docs/rio.md tells how
to run such builds).
"""

import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

JOBS = os.cpu_count() or 1
SANITIZERS = {"1": "-fsanitize=address,undefined", "threads": "-fsanitize=thread"}.get(
    os.environ.get("ZERIO_SANITIZE", "")
)

# Of C that is written by hand; Cython's own needs no standard and is not for reading.
CYTHON = ("zerio_asyncio.core.", "zerio_asyncio.messaging.")
STRICT = [
    "-std=gnu11",
    "-Wall",
    "-Wextra",
    "-Werror=implicit-function-declaration",  # it would end at the linker, or later
    "-fvisibility=hidden",
]


def compile_flags(module: str, compiler: str) -> list[str]:
    """Flags for a module with a compiler, by the name that setuptools has for its kind."""
    cython = module.startswith(CYTHON)
    if compiler == "msvc":  # setuptools itself tells it to optimise
        return ["/utf-8"] if cython else ["/utf-8", "/std:c11"]
    strict = [] if cython else STRICT
    if SANITIZERS:
        return [*strict, "-O1", "-g", SANITIZERS, "-fno-omit-frame-pointer", "-UNDEBUG"]
    return [*strict, "-O2"]


class BuildExtensions(build_ext):
    """The one place where compilers are told anything: only here is it known which one it is."""

    def build_extensions(self) -> None:
        """Compile and link every module, each with its flags."""
        for extension in self.extensions:
            extension.extra_compile_args = compile_flags(
                extension.name, self.compiler.compiler_type
            )
            extension.extra_link_args = [SANITIZERS] if SANITIZERS else []
        super().build_extensions()


def cffi_modules() -> list[str]:
    builders = ["zerio_asyncio/rio/build.py"]
    if Path("zerio_asyncio/bench/build.py").exists():
        builders.append("zerio_asyncio/bench/build.py")
    return [f"{builder}:ffibuilder" for builder in builders]


def cython_extensions() -> list[Extension]:
    folders = ("zerio_asyncio/rio", "zerio_asyncio/core")
    sources = [source for name in CYTHON for source in Path(*name.split(".")).glob("*.pyx")]
    headers = [str(header) for folder in folders for header in Path(folder).rglob("*.h")]
    return [
        Extension(
            ".".join(source.with_suffix("").parts),
            [str(source)],
            include_dirs=list(folders),
            depends=headers,
        )
        for source in sorted(sources)
    ]


if __name__ == "__main__":  # else one of the processes in which cythonize works
    extensions = cython_extensions()
    setup(
        cmdclass={"build_ext": BuildExtensions},
        cffi_modules=cffi_modules(),
        ext_modules=cythonize(
            extensions,
            include_path=["."],
            nthreads=min(JOBS, len(extensions)) if len(extensions) > 1 else 0,
            compiler_directives={
                "language_level": "3",
                "auto_pickle": False,
                "nonecheck": True,
                "freethreading_compatible": True,
            },
            annotate=False,
        ),
        options={"build_ext": {"parallel": JOBS}},
    )
