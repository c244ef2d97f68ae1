"""Cross-build the extension modules of the working tree and install it into the site folder."""

from __future__ import annotations

import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cffi import FFI
from Cython.Build import cythonize
from setuptools import Extension

from tests.rio import abi
from zerio_asyncio.bench import build as bench
from zerio_asyncio.rio import build as rio

from .places import COMPILER, TREE, Places, RigError, program

FLAGS = [
    "-shared", "-O2", "-std=gnu11", "-DMS_WIN64", "-D_WIN32_WINNT=0x0602", "-static-libgcc",
]  # fmt: skip
RIO = TREE / "zerio_asyncio" / "rio"
BENCH = TREE / "zerio_asyncio" / "bench"
CORE = TREE / "zerio_asyncio" / "core"
CYTHON = ("core", "messaging")
LEFT_OUT = shutil.ignore_patterns("*.so", "*.pyd", "*.c", "__pycache__")


def _compile(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RigError(f"{' '.join(command)}\n{done.stderr[-4000:]}")


def _compiler(places: Places) -> list[str]:
    return [program(COMPILER), *FLAGS, f"-I{RIO}", f"-I{CORE}", f"-I{places.python / 'include'}"]


def _rio_module(places: Places) -> list[str]:
    """The compiler's command line for the cffi module, whose C file is written here."""
    ffi = FFI()
    ffi.cdef(rio.declarations((RIO / "rio.h").read_text(encoding="utf-8"), "__stdcall"))
    ffi.set_source("zerio_asyncio.rio._rio", '#include "rio.h"')
    source = places.objects / "_rio.c"
    ffi.emit_c_code(str(source))
    target = places.site / "zerio_asyncio" / "rio" / "_rio.pyd"
    return [
        *_compiler(places), "-Wall", "-Wextra", "-Werror=implicit-function-declaration",
        "-DPy_LIMITED_API=0x030a0000",
        str(source), *[str(RIO / name) for name in rio.SOURCES["win32"]],
        "-o", str(target), str(places.python / "python3.dll"),
        *[f"-l{name}" for name in rio.LIBRARIES["win32"]],
    ]  # fmt: skip


def _bench_module(places: Places) -> list[str]:
    """The same for the benchmark's module."""
    ffi = FFI()
    ffi.cdef(bench.declarations())
    ffi.set_source("zerio_asyncio.bench._native", '#include "native.h"')
    source = places.objects / "_native.c"
    ffi.emit_c_code(str(source))
    target = places.site / "zerio_asyncio" / "bench" / "_native.pyd"
    return [
        *_compiler(places), "-Wall", "-Wextra", "-DPy_LIMITED_API=0x030a0000",
        *[f"-I{BENCH / name}" for name in bench.INCLUDED["win32"]],
        str(source), *[str(BENCH / name) for name in bench.SOURCES["win32"]],
        "-o", str(target), str(places.python / "python3.dll"),
        *[f"-l{name}" for name in bench.LIBRARIES["win32"]],
    ]  # fmt: skip


def _cython_modules(places: Places) -> list[list[str]]:
    """A command line for each Cython module."""
    modules = [
        Extension(f"zerio_asyncio.{part}.{source.stem}", [str(source.relative_to(TREE))])
        for part in CYTHON
        for source in sorted((TREE / "zerio_asyncio" / part).glob("*.pyx"))
    ]
    before = Path.cwd()
    os.chdir(TREE)
    try:
        made = cythonize(
            modules,
            include_path=["."],
            build_dir=str(places.objects.absolute()),
            compiler_directives={"language_level": "3"},
            quiet=True,
        )
    finally:
        os.chdir(before)
    commands = []
    for module in made:
        (source,) = module.sources
        target = places.site.joinpath(*module.name.split(".")).with_suffix(".pyd")
        commands.append([
            *_compiler(places), "-w", str(TREE / source), "-o", str(target),
            str(places.python / "python313.dll"),
        ])  # fmt: skip
    return commands


def _fake_rio(places: Places) -> list[str]:
    """The command line for the Registered I/O that tests put in the place of Windows' own."""
    sources = sorted(map(str, (TREE / "tests" / "wine").glob("fake_rio*.c")))
    target = places.site / "tests" / "wine" / "fake_rio.dll"
    strict = ["-Wall", "-Wextra", "-Werror=implicit-function-declaration"]
    return [*_compiler(places), *strict, *sources, "-o", str(target), "-lws2_32"]


def build(places: Places) -> None:
    """Make the site folder anew."""
    if not places.python.exists():
        raise RigError(f"there is no Python in {places.cache}: run python -m tests.wine setup")
    shutil.rmtree(places.site, ignore_errors=True)
    places.objects.mkdir(parents=True, exist_ok=True)
    for name in ("zerio_asyncio", "tests", "examples"):
        shutil.copytree(TREE / name, places.site / name, ignore=LEFT_OUT)
    shutil.copy(TREE / "pyproject.toml", places.site)
    checks = places.site / "tests" / "rio" / "abi" / abi.PROGRAM.name
    commands = [
        _rio_module(places),
        _bench_module(places),
        *_cython_modules(places),
        abi.command(program(COMPILER), target=checks),
        _fake_rio(places),
    ]
    with ThreadPoolExecutor(os.cpu_count()) as workers:
        list(workers.map(_compile, commands))
    print(f"{len(commands) - 2} modules and the tools of tests in {places.site}")
