"""What Windows compiles is C11 that Microsoft's compiler knows: GNU C stands in two headers.

Microsoft's compiler is not here. Its dialect is: Clang takes its part over MinGW's headers, for the
two machines that Windows runs on, where the package that brings both is installed. Where Python's
headers for Windows are, too, it reads what Cython and cffi have written. And what is known to be
missing there is looked for by name everywhere.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
from pathlib import Path

import pytest

from tests.wine.places import default_cache
from zerio_asyncio.bench import build as bench
from zerio_asyncio.rio import build

from .sources import PACKAGE, ROOT, named, with_suffix

RIO = PACKAGE / "rio"
BENCH = PACKAGE / "bench"
EXEMPT = {"table/compiler.h", "table/atomics.h", "table/counts.h"}

# What GCC and Clang take and Microsoft's compiler does not, each with a line that has it.
ABSENT = {
    r"__attribute__": "static void f(void) __attribute__((noreturn));",
    r"__builtin_\w+": "if (__builtin_expect(x, 0))",
    r"\b(__typeof__|typeof)\b": "typeof(x) y = x;",
    r"__extension__": "__extension__ union { int a; };",
    r"\b(__thread|_Thread_local|thread_local)\b": "static _Thread_local int x;",
    r"\b_Atomic\b": "_Atomic(int) x;",
    r"\batomic_\w+\s*\(": "atomic_store(&x, 1);",
    r"\b__(atomic|sync)_\w+": "__sync_synchronize();",
    r"\b(asm|__asm__)\b": 'asm volatile("pause");',
    r"\(\{": "int x = ({ int y = 1; y; });",
    r"\?\s*:": "int x = y ?: 1;",
    r"=\s*\{\s*\}": "struct s x = {};",
    r"^[\w\s*]+\[0\];": "char rest[0];",
    r"\bcase\b[^:]*\.\.\.": "case 1 ... 3:",
    r"##\s*__VA_ARGS__": "#define F(a, ...) f(a, ##__VA_ARGS__)",
    r"\bmax_align_t\b": "_Alignas(max_align_t) char x[16];",
    r"\bssize_t\b": "ssize_t n = 0;",
    r"\balloca\b": "char *x = alloca(n);",
    r"\b0b[01]+": "int x = 0b11;",
    r"#\s*include_next": "#include_next <stdlib.h>",
    r"#\s*include\s*<(stdatomic|threads|unistd|pthread|sys/\w+)\.h>": "#include <unistd.h>",
}


def windows_files() -> list[Path]:
    """The sources of the Windows build and every header of ours that they include."""
    found: dict[str, None] = dict.fromkeys(
        [*build.SOURCES["win32"], "rio.h", "table/clock.h", "table/pages.h"]
    )
    todo = list(found)
    while todo:
        text = (RIO / todo.pop()).read_text(encoding="utf-8")
        new = [name for name in re.findall(r'#include "([\w./]+)"', text) if name not in found]
        found.update(dict.fromkeys(new))
        todo += new
    return [RIO / name for name in found if name not in EXEMPT]


def windows_files_of_the_benchmark() -> list[Path]:
    headers = [path for folder in (BENCH, BENCH / "windows") for path in folder.glob("*.h")]
    return [*(BENCH / name for name in bench.SOURCES["win32"]), *sorted(headers)]


def without_other_systems(text: str) -> str:
    """Comments blanked, and what stands between #else and #endif of an #ifdef _WIN32."""
    text = re.sub(r"/\*.*?\*/", lambda c: "\n" * c[0].count("\n"), text, flags=re.DOTALL)
    block = r"(#ifdef _WIN32\n(?:(?!#if|#endif).*\n)*?#else\n)((?:(?!#if|#endif).*\n)*?)(#endif)"
    return re.sub(block, lambda b: b[1] + "\n" * b[2].count("\n") + b[3], text)


@pytest.mark.parametrize("path", [*windows_files(), *windows_files_of_the_benchmark()], ids=named)
def test_no_word_that_microsofts_compiler_lacks(path):
    wrong = []
    text = without_other_systems(path.read_text(encoding="utf-8"))
    for number, line in enumerate(text.splitlines(), 1):
        wrong += [f"{number}: {line.strip()}" for word in ABSENT if re.search(word, line)]
    assert wrong == []


@pytest.mark.parametrize("word", ABSENT)
def test_the_words_are_found(word):
    assert re.search(word, ABSENT[word])


def test_the_windows_build_is_what_is_looked_at():
    names = {path.relative_to(RIO).as_posix() for path in windows_files()}
    assert {"windows/iocp.c", "windows/iocp_poll.c", "windows/sdk.h"} <= names
    assert {"windows/winsock.c", "windows/winsock_table.h", "windows/entries.h"} <= names
    assert {"table/handles.h", "table/emulation.h", "table/spin.h"} <= names
    assert not any(name.startswith("linux/") for name in names)


def zig() -> Path:
    """The folder of the package that brings Clang, and Windows' headers as MinGW has them."""
    found = importlib.util.find_spec("ziglang")
    if found is None or found.origin is None:
        pytest.skip("needs Clang: pip install 'zerio-asyncio[clang]'")
    return Path(found.origin).parent


MACHINES = ("x86_64", "aarch64")
AS_MICROSOFTS = [
    "-fms-compatibility", "-fms-extensions", "-fms-compatibility-version=19.39",
    "-fgnuc-version=4.2.1", # for MinGW's headers, which are GNU C
    "-std=c11", "-nostdinc", "-fsyntax-only",
    f"-I{ROOT / 'tests' / 'tidy' / 'msvc'}",
    f"-I{RIO}",
    "-isystem", str(ROOT / "tests" / "rio" / "abi" / "sdk"), # it knows Registered I/O
]  # fmt: skip
STRICT = ["-Wall", "-Wextra", "-Wgnu", "-Wvla", "-Wpedantic", "-Werror"]


def clang(machine: str, source: Path, *options: str) -> subprocess.CompletedProcess[str]:
    folder = zig()
    headers = ["include", "libc/include/any-windows-any"]
    command = [
        str(folder / "zig"), "clang", f"--target={machine}-pc-windows-msvc", *AS_MICROSOFTS,
        *options, *(f"-isystem{folder / 'lib' / name}" for name in headers), str(source),
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("name", [*build.SOURCES["win32"], "../../tests/rio/abi/abi.c"])
def test_clang_in_microsofts_place_takes_it(name, machine):
    done = clang(machine, RIO / name, *STRICT)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(
    "text",
    ["int f(int n) { return ({ int m = n; m; }); }", "int *f(char *x) { return x; }"],
    ids=["GNU C", "another pointer"],
)
def test_clang_in_microsofts_place_refuses_what_is_wrong(tmp_path, text, machine):
    source = tmp_path / "wrong.c"
    source.write_text(f"{text}\n")
    done = clang(machine, source, *STRICT)
    assert done.returncode != 0
    assert "wrong.c:1:" in done.stderr


# What tools write is for no reader, so only what does not compile is wrong in it.

PYTHON = default_cache() / "python" / "include"
FOR_PYTHON = [
    "-D_PID_T_", # Python says itself what a pid_t is
    f"-I{PACKAGE / 'core'}", "-isystem", str(PYTHON), "-w",
    "-Werror=incompatible-pointer-types", "-Werror=int-conversion",
    "-Werror=implicit-function-declaration", "-Werror=return-type",
]  # fmt: skip


def written() -> dict[str, Path]:
    """What Cython has written for the build of this system is the same for each; cffi's is not."""
    found = {named(path): path.with_suffix(".c") for path in with_suffix(".pyx")}
    return {**found, "cffi": default_cache() / "objects" / "_rio.c"}


def clang_with_python(machine: str, source: Path) -> subprocess.CompletedProcess[str]:
    if not (PYTHON / "Python.h").exists():
        pytest.skip("needs Python's headers for Windows: python -m tests.wine setup")
    if not source.exists():
        pytest.skip(
            f"{source.name} is not written yet: pip install -e ., python -m tests.wine build"
        )
    return clang(machine, source, *FOR_PYTHON)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("name", written())
def test_clang_in_microsofts_place_takes_what_tools_write(name, machine):
    done = clang_with_python(machine, written()[name])
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("machine", MACHINES)
def test_clang_in_microsofts_place_refuses_a_wrong_call_of_python(tmp_path, machine):
    source = tmp_path / "wrong.c"
    source.write_text("#include <Python.h>\nPyObject *f(int x) { return PyLong_AsLong(x); }\n")
    done = clang_with_python(machine, source)
    assert done.returncode != 0
    assert "wrong.c:2:" in done.stderr


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("name", bench.SOURCES["win32"])
def test_clang_in_microsofts_place_takes_the_benchmark(name, machine):
    included = [f"-I{BENCH / folder}" for folder in bench.INCLUDED["win32"]]
    done = clang(machine, BENCH / name, *STRICT, *included)
    assert done.returncode == 0, done.stderr
