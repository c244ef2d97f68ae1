"""What rio.h and the Windows files take for Windows' binary interface is what Windows says it is.

abi/abi.c has the comparisons. MinGW compiles it anywhere, for 64 and for 32 bits (where the calling
convention shows); under Windows, or Wine, the program runs and tells its values.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys

import pytest

from zerio_asyncio.rio._rio import ffi

from . import abi

MACHINES = ["x86_64", "i686"]


def compiler_for(machine: str) -> str:
    compiler = abi.mingw(machine)
    if compiler is None:
        package = f"gcc-mingw-w64-{machine.replace('_', '-')}"
        pytest.skip(f"no MinGW for {machine} here (Debian: {package}); tests.wine build needs one")
    return compiler


def compiled(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.parametrize("machine", MACHINES)
def test_our_c_agrees_with_windows_headers(machine):
    done = compiled(abi.command(compiler_for(machine)))
    assert done.returncode == 0, done.stderr


DEREGISTER = "void(RIO_CALL *RIODeregisterBuffer)(RIO_BUFFERID);"
NOTIFY = "int32_t(RIO_CALL *RIONotify)(RIO_CQ);"

# Of each: the machine, the file, what is replaced in it, and by what.
MISTAKES = {
    "a constant": ("x86_64", "rio.h", "RIO_MSG_DEFER 2u", "RIO_MSG_DEFER 4u"),
    "an invalid handle": ("x86_64", "rio.h", "RIO_CORRUPT_CQ 0xFFFFFFFFu", "RIO_CORRUPT_CQ 0u"),
    "a Winsock code": ("x86_64", "rio.h", "RIO_ECONNRESET 10054", "RIO_ECONNRESET 10053"),
    "a member's width": (
        "x86_64", "rio.h",
        "uint32_t Offset; /* bytes from the start of the registered memory */",
        "uint16_t Offset;",
    ),
    "two entries swapped": (
        "x86_64", "rio.h", f"{DEREGISTER}\n    {NOTIFY}", f"{NOTIFY}\n    {DEREGISTER}",
    ),
    "a parameter's width": (
        "x86_64", "rio.h",
        "RIORegisterBuffer)(char *memory, uint32_t length)",
        "RIORegisterBuffer)(char *memory, uint64_t length)",
    ),
    "the result of an entry": (
        "x86_64", "rio.h", "uint32_t(RIO_CALL *RIODequeueC", "int32_t(RIO_CALL *RIODequeueC",
    ),
    "the calling convention": ("i686", "rio.h", "#define RIO_CALL __stdcall", "#define RIO_CALL"),
    "how the table is asked for": (
        "x86_64", "windows/winsock_table.h", "_WSAIORW(IOC_WS2, 36)", "_WSAIORW(IOC_WS2, 6)",
    ),
    "the entries that are looked at": (
        "x86_64", "windows/winsock_table.h",
        "#define WINSOCK_ENTRIES 13", "#define WINSOCK_ENTRIES 12",
    ),
    "the driver's question": (
        "x86_64", "windows/iocp_poll.h", "ULONG exclusive;", "ULONGLONG exclusive;",
    ),
    "the driver's request": (
        "x86_64", abi.INCLUDED, "AFD_POLL 0x00012024u", "AFD_POLL 0x00012020u",
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_does_not_compile(tmp_path, mistake):
    machine, name, right, wrong = MISTAKES[mistake]
    compiler = compiler_for(machine)
    for path in [*abi.RIO.rglob("*.c"), *abi.RIO.rglob("*.h")]:
        copy = tmp_path / path.relative_to(abi.RIO)
        copy.parent.mkdir(exist_ok=True)
        shutil.copy(path, copy)
    text = (tmp_path / name).read_text(encoding="utf-8")
    assert text.count(right) == 1
    (tmp_path / name).write_text(text.replace(right, wrong), encoding="utf-8")
    # Of the header, the layouts' own check would be enough in some cases; it is not what is tested.
    header = (tmp_path / "rio.h").read_text(encoding="utf-8")
    header = re.sub(r"^RIO_LAYOUT\(.*?\);$", "", header, flags=re.MULTILINE | re.DOTALL)
    (tmp_path / "rio.h").write_text(header, encoding="utf-8")
    done = compiled(abi.command(compiler, tmp_path))
    assert done.returncode != 0
    assert "static assertion failed" in done.stderr, done.stderr


OURS = {"RIO_BUF", "RIORESULT", "RIO_NOTIFICATION_COMPLETION", "RIO_EXTENSION_FUNCTION_TABLE"}


@pytest.fixture(scope="module")
def told(tmp_path_factory) -> dict[str, tuple[str, str]]:
    """What the program says under Windows: of each name, our value and theirs."""
    if sys.platform != "win32":
        pytest.skip("a program for Windows: run by python -m tests.wine test, and on Windows")
    program = abi.PROGRAM
    if not program.exists():
        if importlib.util.find_spec("setuptools") is None:
            pytest.skip("not built, and there is no setuptools to build it with")
        program = abi.build_with_the_packages_compiler(tmp_path_factory.mktemp("abi"))
    done = subprocess.run([str(program)], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    return {name: (ours, theirs) for name, ours, theirs in lines}


def test_the_program_finds_no_difference(told):
    assert len(told) > 100
    assert {name: pair for name, pair in told.items() if pair[0] != pair[1]} == {}


def test_the_program_saw_what_the_package_was_built_with(told):
    """cffi's view of the compiled module, beside the program's."""
    seen = 0
    for name, (_, theirs) in told.items():
        structure, _, member = name.removeprefix("sizeof ").partition(".")
        if structure not in OURS or ", SDK" in name:
            continue
        if name.startswith("sizeof "):
            have = ffi.sizeof(
                dict(ffi.typeof(structure).fields)[member].type if member else structure
            )
        else:
            path = member.split(".")
            have = ffi.offsetof(structure, *(["u", *path] if len(path) == 2 else path))
        assert have == int(theirs), name
        seen += 1
    assert seen > 30
