"""Messaging runs on our loop alone, over each provider; otherwise the rules of tests/loop hold."""

from __future__ import annotations

import os

import pytest

from ..loop.conftest import (  # noqa: F401  # fixtures and hooks are found by their names here
    authority,
    caught,
    loop,
    new_loop,
    no_leaks,
    our_kinds,
    pytest_configure,
    pytest_pyfunc_call,
    warm,
)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "kind" in metafunc.fixturenames:
        metafunc.parametrize("kind", our_kinds(metafunc))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = os.path.dirname(__file__)
    for item in items:
        if str(item.path).startswith(here):
            item.add_marker(pytest.mark.timeout(60))
