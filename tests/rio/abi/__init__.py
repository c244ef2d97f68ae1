"""abi.c compares what our C takes for Windows' binary interface with what Windows says it is.

Built by MinGW on another system (``python -m tests.wine build`` puts the program beside this file),
or by the compiler that builds the package on Windows.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from zerio_asyncio.rio import build

HERE = Path(__file__).resolve().parent
RIO = Path(build.__file__).resolve().parent
PROGRAM = HERE / "abi.exe"

# abi.c includes this one; the rest is what that needs.
INCLUDED = "windows/iocp_poll.c"
OTHERS = [name for name in build.SOURCES["win32"] if name != INCLUDED]


def mingw(machine: str) -> str | None:
    """MinGW's compiler for Windows on this machine type, if there is one here."""
    return shutil.which(f"{machine}-w64-mingw32-gcc")


def command(compiler: str, rio: Path = RIO, target: Path | None = None) -> list[str]:
    """MinGW's command line: abi.c against the C files in ``rio``, checked or made a program."""
    flags = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-D_WIN32_WINNT=0x0602"]
    line = [compiler, *flags, f"-I{HERE / 'sdk'}", f"-I{rio}", str(HERE / "abi.c")]
    if target is None:
        return [*line, "-fsyntax-only"]
    libraries = [f"-l{name}" for name in build.LIBRARIES["win32"]]
    return [*line, *(str(rio / name) for name in OTHERS), "-o", str(target), *libraries]


def build_with_the_packages_compiler(folder: Path) -> Path:
    """On Windows, with the compiler and the headers that the package itself is built with."""
    import importlib

    import setuptools  # noqa: F401  # brings distutils, which Python 3.12 no longer has

    compiler = importlib.import_module("distutils.ccompiler").new_compiler()
    objects = compiler.compile(
        [str(HERE / "abi.c"), *(str(RIO / name) for name in OTHERS)],
        output_dir=str(folder),
        include_dirs=[str(RIO)],
        extra_preargs=["/std:c11", "/utf-8"] if compiler.compiler_type == "msvc" else [],
    )
    compiler.link_executable(
        objects, "abi", output_dir=str(folder), libraries=build.LIBRARIES["win32"]
    )
    return folder / "abi.exe"
