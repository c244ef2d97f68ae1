"""The cffi builder of ``zerio_asyncio.rio._rio``: API mode, one abi3 module a platform.

This file alone chooses which C files a platform gets. What Python sees of them is not written a
second time: `declarations` reads it out of ``rio.h``. cffi then has the C compiler check every
type and value, so a declaration that this reader got wrong does not compile.
"""

from __future__ import annotations

import re
import sys
import sysconfig
from pathlib import Path
from typing import Any

from cffi import FFI

# Relative to setup.py, from where every build runs: setuptools wants it so.
HERE = "zerio_asyncio/rio"
ROOT = Path(__file__).resolve().parent

# What is compiled where: what all emulated tables share, and one system's own.
FOLDERS = {"linux": ("table", "linux"), "win32": ("table", "windows")}

SOURCES = {
    platform: [
        path.relative_to(ROOT).as_posix()
        for folder in folders
        for path in sorted(ROOT.glob(f"{folder}/*.c"))
    ]
    for platform, folders in FOLDERS.items()
}

# Without the GIL there is no stable ABI, and cffi before 2.0 must be told so twice.
ABI: dict[str, Any] = {}
if sysconfig.get_config_var("Py_GIL_DISABLED"):
    ABI = {"py_limited_api": False, "define_macros": [("_CFFI_NO_LIMITED_API", None)]}

LIBRARIES = {"win32": ["ws2_32", "ntdll"]}

# Constants that are no integers; cffi wants their type, and the header has it only as a cast.
TYPED = {
    "RIO_INVALID_BUFFERID": "RIO_BUFFERID",
    "RIO_INVALID_CQ": "RIO_CQ",
    "RIO_INVALID_RQ": "RIO_RQ",
}


def declarations(header: str, call: str = "") -> str:
    """Read ``rio.h`` for cffi: its declarations, and its constants by name.

    ``header`` is the file's text, ``call`` the calling convention of the table's entries. The
    values of constants stay with the C compiler (``#define NAME ...``). Conditional blocks are
    dropped: the header has them for the calling convention and for its layout checks alone.
    """
    text = re.sub(r"/\*.*?\*/", "", header, flags=re.DOTALL)
    text = re.sub(r"\\\n", " ", text)
    text = re.sub(r"^#ifndef ZERIO_RIO_H\n#define ZERIO_RIO_H\n", "", text, flags=re.MULTILINE)
    text = re.sub(r"^#if.*?^#endif *$", "", text, flags=re.MULTILINE | re.DOTALL)
    kept = []
    for line in text.splitlines():
        constant = re.match(r"#define (\w+)\s+\S", line)
        if constant:
            kept.append(_constant(constant[1]))
        elif line.strip() and not line.startswith("#"):
            kept.append(line.replace("RIO_CALL", call))
    return "\n".join(kept) + "\n"


def _constant(name: str) -> str:
    if name in TYPED:
        return f"static const {TYPED[name]} {name};"
    return f"#define {name} ..."


def _builder() -> FFI:
    if sys.platform not in SOURCES:
        raise SystemExit(
            f"zerio_asyncio has no Registered I/O provider for {sys.platform} yet; "
            f"it builds on {', '.join(SOURCES)}"
        )
    builder = FFI()
    header = Path(HERE, "rio.h").read_text(encoding="utf-8")
    builder.cdef(declarations(header, "__stdcall" if sys.platform == "win32" else ""))
    builder.set_source(
        "zerio_asyncio.rio._rio",
        '#include "rio.h"',
        sources=[f"{HERE}/{name}" for name in SOURCES[sys.platform]],
        depends=sorted(str(name) for name in Path(HERE).rglob("*.h")),
        include_dirs=[HERE],
        libraries=LIBRARIES.get(sys.platform, []),
        **ABI,
    )
    return builder


# `declarations` is importable from anywhere; the builder needs the source tree around it.
if __name__ in {"__cffi__", "__main__"}:
    ffibuilder = _builder()
