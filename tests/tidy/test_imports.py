"""The import law of docs/design.md: arrows point down, and each layer knows its neighbours alone.

front page → messaging → loop → core → rio.h ← rio → providers in C

A room's modules form no circle either, so each can be read after those that it rests on. The whole
graph: python -m tests.tidy.graph.
"""

from __future__ import annotations

import sys

import pytest

from . import graph
from .sources import files, imports, module_of, named, with_suffix

ours = "zerio_asyncio"

# For each part: what it may import of ours, and what it may not import of others.
LAW = {
    "rio": ({f"{ours}.rio"}, {"asyncio", "selectors"}),
    "core": ({f"{ours}.core"}, {"cffi"}),
    "loop": ({f"{ours}.loop", f"{ours}.core", f"{ours}.rio"}, set()),
    # Of the core what a transport offers for formats of one's own, and what that speaks of.
    "messaging": (
        {
            f"{ours}.messaging",
            f"{ours}.loop",
            f"{ours}.core.memory",
            f"{ours}.core.protocols",
            f"{ours}.core.sending",
            f"{ours}.core.threads",
        },
        {"cffi"},
    ),
}


def inside(module: str, packages: set[str]) -> bool:
    return any(module == package or module.startswith(package + ".") for package in packages)


@pytest.mark.parametrize("part", sorted(LAW))
def test_arrows_of_import_point_down(part):
    allowed, forbidden = LAW[part]
    wrong = []
    for path in with_suffix(".py", ".pyx", ".pxd", ".pyi", under=f"{ours}/{part}/"):
        for module in imports(path):
            if inside(module, forbidden):
                wrong.append(f"{named(path)} imports {module}")
            if module.split(".")[0] == ours and not inside(module, allowed):
                wrong.append(f"{named(path)} imports {module}")
    assert wrong == []


def test_no_circle():
    assert graph.circles(graph.graph_of_python()) == []


def test_no_circle_of_types_either():
    """But for what "Registered I/O for Python" shows as one: a port and the queues on it."""
    groups = graph.circles(graph.graph_of_python(types=True))
    assert [group for group in groups if {*map(graph.part_of, group)} != {"rio"}] == []


def test_the_front_page_is_for_programs_alone():
    modules = graph.graph_of_python(types=True)
    inner = [module for module in modules if graph.part_of(module) in LAW]
    assert len(inner) > 50
    assert [module for module in inner if ours in modules[module]] == []


def test_the_core_reaches_the_system_through_the_header_alone():
    wrong = [
        f"{named(path)} imports {module}"
        for path in with_suffix(".pyx", ".pxd", under=f"{ours}/core/")
        for module in imports(path)
        if inside(module, {"posix", "selectors", "select", "libc.errno"})
    ]
    assert wrong == []


def test_nothing_that_ships_imports_the_tests():
    wrong = [
        named(path)
        for path in with_suffix(".py", ".pyx", ".pxd", under=f"{ours}/")
        if any(inside(module, {"tests", "pytest", "hypothesis"}) for module in imports(path))
    ]
    assert wrong == []


def test_examples_use_the_public_interface_alone():
    public = {ours, f"{ours}.messaging", f"{ours}.rio"}
    for path in with_suffix(".py", under="examples/"):
        for module in imports(path):
            if module.split(".")[0] == ours:
                assert module in public or module.rsplit(".", 1)[0] in public, named(path)


def test_the_front_page_of_the_package_stays_short():
    path = next(p for p in files() if named(p) == f"{ours}/__init__.py")
    assert len(path.read_text().splitlines()) < 60


OTHER_PLATFORM = tuple(
    f"{ours}/{folder}/"
    for folder in (
        ("loop/unix", "bench/linux")
        if sys.platform == "win32"
        else ("loop/windows", "bench/windows")
    )
)
"""What only loads on the platform that it is about."""


def test_every_module_imports():
    """Catches a file that only looks alive: it must at least load."""
    import importlib

    for path in with_suffix(".py", under=f"{ours}/"):
        if path.name == "__main__.py" or named(path).startswith(OTHER_PLATFORM):
            continue
        try:
            importlib.import_module(module_of(path))
        except ModuleNotFoundError as missing:
            # The extra `bench` need not be installed to run the tests.
            assert missing.name.split(".")[0] in {"matplotlib", "rich", "hdrh"}, path
