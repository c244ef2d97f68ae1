"""One contract, three readers: the C compiler, cffi and Cython must see the same structures."""

from __future__ import annotations

import re
import shutil
import subprocess
import sysconfig

import pytest

from zerio_asyncio.rio._rio import ffi

from .sources import PACKAGE

HEADER = PACKAGE / "rio" / "rio.h"
PXD = (PACKAGE / "core" / "rio.pxd").read_text()

STRUCTURES = [
    "RIO_BUF",
    "RIORESULT",
    "RIO_NOTIFICATION_COMPLETION",
    "RIO_SOCKADDR_INET",
    "RIO_EXTENSION_FUNCTION_TABLE",
    "rio_peer",
    "rio_port_event",
    "rio_port_options",
    "rio_port_statistics",
    "rio_port_table",
    "rio_datagram",
    "rio_provider",
]


def fields(structure: str) -> list[str]:
    return [name for name, _ in ffi.typeof(structure).fields]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """Sizes and offsets as the C compiler sees them, from the header alone."""
    compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
    compiler = shutil.which(compiler) or shutil.which("gcc") or shutil.which("cc")
    assert compiler, "a C compiler is needed: the package itself is built with it"
    lines = []
    for structure in STRUCTURES:
        lines.append(f'printf("{structure} %zu\\n", sizeof({structure}));')
        for name in fields(structure):
            lines.append(f'printf("{structure}.{name} %zu\\n", offsetof({structure}, {name}));')
    folder = tmp_path_factory.mktemp("layout")
    program = folder / "layout.c"
    main = "int main(void) {\n" + "\n".join(lines) + "\nreturn 0;\n}\n"
    program.write_text('#include <stdio.h>\n#include "rio.h"\n' + main)
    binary = folder / "layout"
    command = [compiler, "-std=c11", "-Wall", "-Wextra", "-Werror", f"-I{HEADER.parent}"]
    subprocess.run([*command, str(program), "-o", str(binary)], check=True)
    output = subprocess.run([str(binary)], capture_output=True, text=True, check=True).stdout
    return {name: int(value) for name, value in (line.split() for line in output.splitlines())}


def test_the_header_compiles_alone_and_without_a_warning(compiled):
    assert compiled["RIO_BUF"] == 16


@pytest.mark.parametrize("structure", STRUCTURES)
def test_cffi_sees_what_the_compiler_sees(compiled, structure):
    assert ffi.sizeof(structure) == compiled[structure]
    for name in fields(structure):
        assert ffi.offsetof(structure, name) == compiled[f"{structure}.{name}"], name


def declared_in_cython() -> dict[str, list[str]]:
    """Structures of core/rio.pxd and their members' declarations."""
    found: dict[str, list[str]] = {}
    text = re.sub(r"#.*", "", PXD)
    text = re.sub(r",\s*\n\s*", ", ", text)
    current = None
    for line in text.splitlines():
        heading = re.match(r"    ctypedef (?:struct|union) (\w+):", line)
        if heading:
            current = heading[1]
            found[current] = []
        elif current and line.startswith("        ") and line.strip() != "pass":
            found[current].append(line.strip())
        elif line.strip():
            current = None
    return {name: members for name, members in found.items() if members}


def split(member: str) -> tuple[str, str]:
    """A member's name, and its type as C writes it."""
    member = re.sub(r"\)\s*noexcept.*$", ")", member)
    function = re.match(r"(.*)\(\*(\w+)\)(\(.*\))$", member)
    if function:
        return function[2], f"{function[1].strip()}(*){function[3]}"
    plain = re.match(r"(.*?)(\w+)((?:\[\d+\])?)$", member)
    return plain[2], plain[1].strip() + plain[3]


CYTHON = declared_in_cython()


@pytest.mark.parametrize("structure", sorted(set(CYTHON) & set(STRUCTURES)))
def test_cython_declares_what_the_header_has(structure):
    """Cython may leave members out; what it declares must be of the header's type."""
    have = dict(ffi.typeof(structure).fields)
    for member in CYTHON[structure]:
        name, kind = split(member)
        assert name in have, f"{structure}.{name} is not in the header"
        if kind.startswith("rio_notification"):
            continue  # the header's members without a name, looked at below
        assert have[name].type is ffi.typeof(kind), f"{structure}.{name}: {kind}"


def test_cython_declares_the_notification_as_the_header_has_it():
    inner = dict(ffi.typeof("RIO_NOTIFICATION_COMPLETION").fields)["u"].type
    iocp = dict(dict(inner.fields)["Iocp"].type.fields)
    for member in CYTHON["rio_notification_iocp"]:
        name, kind = split(member)
        assert iocp[name].type is ffi.typeof(kind)


def test_every_structure_of_cython_is_known_here():
    helpers = {"rio_notification_iocp", "rio_notification_union"}
    assert set(CYTHON) - helpers <= set(STRUCTURES)


def test_every_structure_of_the_header_is_known_here():
    declared = re.findall(r"^typedef struct (\w+) \{", HEADER.read_text(), re.MULTILINE)
    assert sorted(declared) == sorted(STRUCTURES)


def test_cython_names_only_constants_that_the_header_has():
    text = HEADER.read_text()
    for name in re.findall(r"^    (?:u?int\d*(?:_t)?|RIO_\w+) (RIO_\w+)$", PXD, re.MULTILINE):
        assert re.search(rf"\b{name}\b", text), name
