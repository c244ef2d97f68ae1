"""The module graph: who imports whom, what points back up, what goes in a circle.

    python -m tests.tidy.graph      prints it, a line for each room

A room is a package; a module and its declarations (.pxd, .pyi) are one. What is imported for type
checkers alone counts, too: who must know another's type must know the other.
"""

from __future__ import annotations

import functools
import pathlib

from .sources import PACKAGE, imports, module_of, with_suffix

NAME = PACKAGE.name

ORDER = ("rio", "core", "loop", "messaging", "bench")
"""The rooms, from the ground up; `rio` and `core` stand side by side."""


@functools.cache
def sources() -> dict[str, list[pathlib.Path]]:
    """Module by module, the files that it is made of; a package is its ``__init__``."""
    found: dict[str, list[pathlib.Path]] = {}
    for path in with_suffix(".py", ".pyx", ".pxd", ".pyi", under=f"{NAME}/"):
        found.setdefault(module_of(path), []).append(path)
    return found


@functools.cache
def arrows(types: bool = True) -> dict[str, frozenset[str]]:
    """Module by module, the modules of ours that it imports, whether at its top or later."""
    known = sources()
    found = {}
    for module, paths in known.items():
        named = {name for path in paths for name in imports(path, types)}
        taken: dict[str, set[str]] = {}
        for name in named:
            taken.setdefault(name.rpartition(".")[0], set()).add(name)
        found[module] = frozenset(
            name
            for name in named & known.keys() - {module}
            # `from package import module` is about the module, not about the package.
            if name not in taken or taken[name] - known.keys()
        )
    return found


def circles(types: bool = True) -> list[list[str]]:
    """The strongly connected parts of more than one module, by Tarjan's algorithm."""
    graph = arrows(types)
    numbers: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(module: str) -> None:
        numbers[module] = lowest[module] = len(numbers)
        stack.append(module)
        for other in sorted(graph[module]):
            if other not in numbers:
                visit(other)
                lowest[module] = min(lowest[module], lowest[other])
            elif other in stack:
                lowest[module] = min(lowest[module], numbers[other])
        if lowest[module] == numbers[module]:
            part = stack[stack.index(module) :]
            del stack[stack.index(module) :]
            if len(part) > 1:
                found.append(sorted(part))

    for module in sorted(graph):
        if module not in numbers:
            visit(module)
    return found


def room_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def upward() -> list[str]:
    """Arrows from a room to one above it."""
    return [
        f"{module} -> {other}"
        for module, others in sorted(arrows().items())
        for other in sorted(others)
        if room_of(module) in ORDER
        and room_of(other) in ORDER
        and ORDER.index(room_of(other)) > ORDER.index(room_of(module))
    ]


def main() -> None:
    graph = arrows()
    for room in ORDER:
        inside = [module for module in sorted(graph) if room_of(module) == room]
        print(f"{room}: {len(inside)} modules")
        for module in inside:
            others = [other.removeprefix(f"{NAME}.") for other in sorted(graph[module])]
            print(f"  {module.removeprefix(f'{NAME}.')} -> {', '.join(others) or '-'}")
    print(f"arrows up: {len(upward())}", *upward(), sep="\n  ")
    print(f"circles: {len(circles())}", *map(" <-> ".join, circles()), sep="\n  ")


if __name__ == "__main__":
    main()
