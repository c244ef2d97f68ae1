"""The table of the standard library's private parts: whole, right on this Python, and heard."""

from __future__ import annotations

import ast
import asyncio
import importlib
import inspect
import pathlib
import re
import subprocess
import sys
import textwrap
from asyncio import base_events

import pytest

import zerio_asyncio
from zerio_asyncio.loop import private_names
from zerio_asyncio.loop.private_names import PrivateName, check, fault_of

from .support import SECONDS, WINDOWS

STANDARD = asyncio.ProactorEventLoop if WINDOWS else asyncio.SelectorEventLoop
HERE = (
    private_names.OVERRIDDEN
    + private_names.CALLED
    + (private_names.ON_PROACTORS if WINDOWS else private_names.ON_SELECTORS)
)
ALL = (
    private_names.OVERRIDDEN
    + private_names.CALLED
    + private_names.ON_PROACTORS
    + private_names.ON_SELECTORS
)

PACKAGE = pathlib.Path(zerio_asyncio.__file__).parent


@pytest.mark.parametrize("entry", [pytest.param(entry, id=entry.path) for entry in HERE])
def test_this_python_has_it_as_the_table_says(entry):
    assert fault_of(entry, STANDARD) is None


def test_each_stands_in_the_table_once():
    paths = [entry.path for entry in ALL]
    assert len(paths) == len(set(paths))


def private(names) -> set[str]:
    return {name for name in names if name.startswith("_") and not name.startswith("__")}


def names_of(cls: type) -> set[str]:
    """The private functions that a class of the standard library has."""
    return private(
        name for each in cls.__mro__ for name, is_ in vars(each).items() if callable(is_)
    )


def named() -> set[str]:
    return {re.split("[:.]", entry.path)[-1] for entry in ALL}


def test_all_that_is_overridden_is_in_the_table():
    ours = [
        each
        for each in zerio_asyncio.RioEventLoop.__mro__
        if each.__module__.startswith("zerio_asyncio")
    ]
    overridden = {name for each in ours for name in private(vars(each))} & names_of(STANDARD)
    assert overridden - named() == set()


def used(path: pathlib.Path) -> set[str]:
    """The private attributes that a module names."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".pyx":
        return private(re.findall(r"\.(_\w+)\(", text))
    return {
        node.attr
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Attribute) and private([node.attr])
    }


# What our own classes call so as well.
OURS_TOO = {"_check_signal", "_read_ready"}


def test_all_of_the_loops_that_is_called_is_in_the_table():
    calls = {name for path in (PACKAGE / "loop").rglob("*.py") for name in used(path)} | {
        name for path in (PACKAGE / "core").glob("*.pyx") for name in used(path)
    }
    functions = private(
        name for name, is_ in vars(base_events).items() if callable(is_)
    ) | names_of(STANDARD)
    assert (calls & functions) - named() - OURS_TOO == set()


ATTRIBUTES = [
    (path, name)
    for table in (
        private_names.ATTRIBUTES,
        private_names.PROACTORS_ATTRIBUTES if WINDOWS else private_names.SELECTORS_ATTRIBUTES,
    )
    for path, listed in table.items()
    for name in listed.split()
]


@pytest.mark.parametrize(("path", "name"), ATTRIBUTES)
def test_this_python_gives_its_objects_that_attribute(path, name):
    module, _, cls = path.partition(":")
    owner = STANDARD if module == "loop" else None
    if owner is None:
        owner = getattr(importlib.import_module(f"asyncio.{module}"), cls)
    sources = [inspect.getsource(each) for each in owner.__mro__ if each is not object]
    # assigned, annotated, or a property
    assert any(re.search(rf"\b(self\.|def )?{name}( *[=:]|\()", source) for source in sources)


@pytest.mark.parametrize(("path", "name"), ATTRIBUTES)
def test_each_attribute_of_the_table_is_used(path, name):
    files = [*(PACKAGE / "loop").rglob("*.py"), *(PACKAGE / "core").glob("*.pyx")]
    assert any(re.search(rf"\.{name}\b", file.read_text(encoding="utf-8")) for file in files)


class Changed(STANDARD):
    def _write_to_self(self, loudly):
        """Takes more than it did."""

    _check_closed = None


CHANGED = (
    PrivateName("loop:_write_to_self", {(3, 10): ""}),
    PrivateName("loop:_no_such", {(3, 10): "a b"}),
)


def test_a_change_is_told_by_name_and_both_versions():
    with pytest.raises(ImportError) as caught:
        check((*CHANGED, *HERE[:1]), Changed)
    assert str(caught.value) == (
        f"zerio_asyncio {zerio_asyncio.__version__} does not fit Python "
        f"{sys.version.split()[0]}, whose asyncio has changed: "
        "Changed._write_to_self takes (loudly), not (); Changed._no_such is missing"
    )


def test_a_change_that_was_known_before_its_python_is_none():
    later = PrivateName("loop:_write_to_self", {(3, 10): "", (9, 9): "loudly"})
    assert fault_of(later, Changed) is None


def test_the_first_import_tells(tmp_path):
    program = """
        import asyncio
        def changed(self, sock, protocol, waiter=None, *, color): ...
        asyncio.SelectorEventLoop._make_socket_transport = changed
        asyncio.BaseEventLoop._make_socket_transport = changed
        if hasattr(asyncio, "ProactorEventLoop"):
            asyncio.ProactorEventLoop._make_socket_transport = changed
        try:
            import zerio_asyncio
        except ImportError as error:
            print(error)
        """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        cwd=PACKAGE.parent,
    )
    assert done.stderr == ""
    assert "EventLoop._make_socket_transport takes (sock, protocol, waiter, color)" in done.stdout
