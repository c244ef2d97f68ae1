"""Builds and loads failing.c: allocations that fail by their number."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import cffi

NAME = "_zerio_failing"


def build(folder: Path) -> Path:
    """Compile for this Python; the module's file."""
    builder = cffi.FFI()
    builder.cdef(
        "void failing_install(void); void failing_begin(long long); long long failing_end(void);"
    )
    source = Path(__file__).with_suffix(".c").read_text(encoding="utf-8")
    # Allocators are not in the limited interface, which cffi keeps to otherwise.
    whole: list[tuple[str, str | None]] = [("_CFFI_NO_LIMITED_API", None)]
    builder.set_source(NAME, source, py_limited_api=False, define_macros=whole)
    return Path(builder.compile(tmpdir=str(folder)))


def load(path: str) -> Any:
    """The C functions of a built module."""
    spec = importlib.util.spec_from_file_location(NAME, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[NAME] = module
    spec.loader.exec_module(module)
    return module.lib
