"""foreign.py and _rio.pyi tell what cffi has compiled: the same names, the same arguments."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

from zerio_asyncio.rio import foreign
from zerio_asyncio.rio._rio import ffi, lib

STRUCTURES = {
    name: value
    for name, value in vars(foreign).items()
    if inspect.isclass(value) and value.__module__ == foreign.__name__
}


@pytest.mark.parametrize("name", sorted(STRUCTURES))
def test_structures(name):
    compiled = dict(ffi.typeof(name).fields)
    told = STRUCTURES[name]
    functions = {n: f for n, f in vars(told).items() if inspect.isfunction(f) and n[0] != "_"}
    assert {*functions, *told.__annotations__} == set(compiled)
    for field, function in functions.items():
        c = compiled[field].type
        parameters = list(inspect.signature(function).parameters)[1:]
        assert len(parameters) == len(c.args), field
        assert (function.__annotations__["return"] == "None") == (c.result.cname == "void"), field


def test_the_library():
    stub = ast.parse(Path(foreign.__file__).with_name("_rio.pyi").read_text(encoding="utf-8"))
    (library,) = (node for node in stub.body if isinstance(node, ast.ClassDef))
    told = {
        node.target.id if isinstance(node, ast.AnnAssign) else node.name
        for node in library.body
        if isinstance(node, (ast.AnnAssign, ast.FunctionDef))
    }
    assert told == set(dir(lib))
