"""Applications that know nothing of this loop, doing real work on it.

As in ``tests/loop``, a test that takes ``loop`` runs on the standard loop, which is the oracle, and
on ours over each provider, and must leave no descriptor open and nothing in the exception handler.
The applications come with the extra ``apps``. A run of all tests leaves this folder out where they
are not installed, and says so; asked for by name, the folder fails without them.
"""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import inspect
import os
import pathlib
import time
from collections.abc import Iterator

import pytest

from ..loop.conftest import (  # noqa: F401  # fixtures and hooks are found by their names here
    caught,
    loop,
    new_loop,
    pytest_generate_tests,
)
from ..loop.support import descriptors, make_loop
from .certificates import Certificate
from .servers import Postgres, Redis
from .support import SECONDS
from .tls_programs import Identities

HERE = pathlib.Path(__file__).parent

LIMIT = 100.0
"""Seconds for one test; the slowest needs about ten on two cores."""

MODULES = (
    "aiodebug",
    "aiofiles",
    "aiohttp",
    "anyio",
    "asyncpg",
    "freezegun",
    "granian",
    "grpc",
    "gunicorn",
    "h2",
    "httptools",
    "httpx",
    "hypercorn",
    "ipykernel",
    "looptime",
    "nest_asyncio",
    "nest_asyncio2",
    "redis",
    "uvicorn",
    "websockets",
    "wsproto",
    "zmq",
)


def missing() -> list[str]:
    return [name for name in MODULES if importlib.util.find_spec(name) is None]


def asked_for(config: pytest.Config) -> bool:
    """Named on the command line, not merely found below what was named."""
    base = config.invocation_params.dir
    named = (base / str(argument).split("::")[0] for argument in config.args)
    return any(path.resolve().is_relative_to(HERE) for path in named)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "ours: runs on zerio's loops alone")


def pytest_ignore_collect(collection_path: pathlib.Path, config: pytest.Config) -> bool | None:
    if collection_path.is_relative_to(HERE) and missing() and not asked_for(config):
        return True
    return None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if absent := missing():
        names = ", ".join(absent)
        terminalreporter.write_line(
            f"tests/apps left out: no {names} here; install this package with the extra 'apps'"
        )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.timeout(LIMIT + 20))


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    event_loop = pyfuncitem.funcargs["loop"]
    kind = pyfuncitem.funcargs["kind"]
    test = pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names})

    async def on_this_loop() -> None:
        running = asyncio.get_running_loop()
        assert getattr(running, "provider", "std") == kind
        if kind != "std":
            from zerio_asyncio import RioEventLoop

            assert type(running) is RioEventLoop
        await asyncio.wait_for(test, LIMIT)

    event_loop.run_until_complete(on_this_loop())
    return True


@pytest.fixture
def no_leaks() -> Iterator[None]:
    """No descriptor is left; libraries with threads of their own are waited for."""
    gc.collect()
    before = descriptors()
    yield
    deadline = time.monotonic() + SECONDS
    while left := {n: name for n, name in descriptors().items() if n not in before}:
        assert time.monotonic() < deadline, f"descriptors left open: {left}"
        gc.collect()
        time.sleep(0.01)


@pytest.fixture(scope="session", autouse=True)
def warm() -> None:
    """What the first loop, and libraries at their first use, open for the whole process."""
    for kind in ("std", "uring", "epoll"):
        try:
            first = make_loop(kind)
        except OSError:
            continue
        first.run_until_complete(first.run_in_executor(None, os.getpid))
        first.close()
    gc.collect()
    gc.freeze()  # or collecting the libraries' own objects would take most of the time


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return Certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="session")
def identities(tmp_path_factory: pytest.TempPathFactory) -> Identities:
    return Identities(tmp_path_factory.mktemp("identities"))


@pytest.fixture(scope="session")
def redis_server(
    certificate: Certificate, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Redis]:
    with Redis(tmp_path_factory.mktemp("redis"), certificate) as server:
        yield server


@pytest.fixture(scope="session")
def postgres(certificate: Certificate) -> Iterator[Postgres]:
    with Postgres(certificate) as server:
        yield server
