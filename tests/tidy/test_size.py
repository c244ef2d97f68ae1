"""Files, functions and lines stay small enough to be read; exceptions have a reason each."""

from __future__ import annotations

import ast
import re

import pytest

from .sources import named, with_suffix

FILE_LINES_MAX = 600
FUNCTION_LINES_MAX = 70
LINE_LENGTH_MAX = 100

CODE = (".py", ".pyx", ".pxd", ".pyi", ".c", ".h", ".sh")

# Name of the file, or file:function: how long it may be instead, and why.
EXCEPTIONS: dict[str, tuple[int, str]] = {
    "zerio_asyncio/core/engine.pyx": (690, "one class again: the tick is read in one place"),
}

# What tools want at the end of a line, and addresses, cannot be broken.
UNBREAKABLE = re.compile(r"  # (noqa|type: ignore|pragma:).*$|https?://\S+$")


@pytest.mark.parametrize("path", with_suffix(*CODE), ids=named)
def test_lines_and_files(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    most, _ = EXCEPTIONS.get(named(path), (FILE_LINES_MAX, ""))
    assert len(lines) <= most, f"{len(lines)} lines"
    breakable = [UNBREAKABLE.sub("", line) for line in lines]
    long = [n for n, line in enumerate(breakable, 1) if len(line) > LINE_LENGTH_MAX]
    assert long == [], f"lines longer than {LINE_LENGTH_MAX}"
    assert not any(line.rstrip() != line for line in lines), "blanks at the end of a line"
    assert not any("\t" in line for line in lines), "tabs"


def functions_of_python(text: str) -> list[tuple[str, int]]:
    return [
        (node.name, node.end_lineno - node.lineno + 1)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    ]


def functions_of_cython(text: str) -> list[tuple[str, int]]:
    """By indentation: from the line of def or cdef to the last line that is deeper."""
    lines = text.splitlines()
    found = []
    for start, line in enumerate(lines):
        opening = re.match(r"( *)(?:async )?(?:c|cp)?def (?!class|enum|struct)[^=]*?(\w+)\(", line)
        if not opening:
            continue
        end = start
        for number in range(start + 1, len(lines)):
            if lines[number].strip():
                depth = len(lines[number]) - len(lines[number].lstrip())
                if depth <= len(opening[1]) and not lines[number].lstrip().startswith(")"):
                    break
                end = number
        found.append((opening[2], end - start + 1))
    return found


def functions_of_c(text: str) -> list[tuple[str, int]]:
    """A brace in the first column opens or closes; the name stands before the arguments."""
    found = []
    lines = text.splitlines()
    name, start = "", 0
    for number, line in enumerate(lines):
        head = re.match(r"[A-Za-z_][\w \*]*?\**(\w+)\(", line)
        if head:
            name, start = head[1], number
        if line.startswith("}") and name:
            found.append((name, number - start + 1))
            name = ""
    return found


READERS = {
    ".py": functions_of_python,
    ".pyx": functions_of_cython,
    ".c": functions_of_c,
    ".h": functions_of_c,
}


@pytest.mark.parametrize("path", with_suffix(*READERS), ids=named)
def test_functions(path):
    long = [
        f"{name}: {size} lines"
        for name, size in READERS[path.suffix](path.read_text(encoding="utf-8"))
        if size > EXCEPTIONS.get(f"{named(path)}:{name}", (FUNCTION_LINES_MAX, ""))[0]
    ]
    assert long == []


def test_the_readers_find_functions():
    """A reader that sees nothing would let everything pass."""
    cython = "cdef class A:\n    cdef int b(self) except -1:\n        return 1\n\n    def c(x):\n"
    assert functions_of_cython(cython) == [("b", 2), ("c", 1)]
    assert functions_of_c("static int f(int a)\n{\n  return a;\n}\n") == [("f", 4)]
    for path in with_suffix(".pyx", ".c", under="zerio_asyncio/"):
        assert READERS[path.suffix](path.read_text()), f"no function found in {named(path)}"


def test_exceptions_are_needed():
    names = {named(path) for path in with_suffix(*CODE)}
    for exception, (_, reason) in EXCEPTIONS.items():
        assert exception.split(":")[0] in names, f"{exception} does not exist"
        assert len(reason) > 20
