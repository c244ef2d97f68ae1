"""Makes what cffi would make of the C types when they are first asked for.

It parses their names, lays out structures and looks up functions late, and before 2.0 without a
lock: loops that the first threads of a process make at the same moment would crash there. So where
no GIL keeps them apart, all of it is made with the module, which only one thread imports.
"""

from __future__ import annotations

import sysconfig

from zerio_asyncio.rio._rio import ffi, lib

WRITTEN = (
    "RIORESULT[]",
    "RIO_BUF *",
    "RIO_NOTIFICATION_COMPLETION *",
    "char[1]",
    "char[]",
    "rio_peer *",
    "rio_port_event[]",
    "rio_port_options *",
    "rio_port_statistics *",
    "uint32_t *",
    "uintptr_t",
    "void *",
)
"""The types that Python code names; a test compares them with what is written there."""


def realize() -> None:
    """Make them all."""
    for name in dir(lib):
        getattr(lib, name)
    for name in (*ffi.list_types()[0], *WRITTEN):
        found = ffi.typeof(name)
        if found.kind == "struct":
            _ = found.fields


if sysconfig.get_config_var("Py_GIL_DISABLED"):
    realize()
