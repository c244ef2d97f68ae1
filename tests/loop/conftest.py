"""Every test of this folder runs on the standard loop and on ours over each provider.

The standard loop is the oracle: what a test demands, it must show first. A test that takes ``kind``
(or anything built on it, such as ``loop``) runs once for each loop, named in its id: ``std``,
``uring``, ``epoll``, on Windows ``std``, ``overlapped``. The mark ``ours`` excludes the standard
loop, for what only we have. The mark ``tls`` has our loops run once with each TLS engine, such as
``epoll/portable``. In the environment, ``ZERIO_PROVIDER`` restricts our loops to that
provider, and ``ZERIO_STD=no`` excludes the standard loop everywhere. What a system lacks has its
mark in marks.py.

An ``async def`` test runs on the fixture ``loop``, bounded by ``limit_of``. After each test no
descriptor may be left open and no exception may have reached the exception handler unclaimed.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from .support import (
    PROTOCOLS,
    PROVIDERS,
    WINDOWS,
    Caught,
    Peer,
    descriptors,
    listener,
    make_loop,
    provider_refusal,
    tls_engines,
)

LIMIT = 30.0
"""Seconds for one asynchronous test; the slowest needs about five on two cores. A test with its own
``timeout`` mark gets that, less a margin in which the failure can still be reported."""

MARGIN = 10.0


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "ours: runs on zerio's loops alone")
    config.addinivalue_line("markers", "tls: speaks TLS, and so runs with each TLS engine of ours")
    config.addinivalue_line("markers", "beyond_proactor: on Windows the standard loop lacks it")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "kind" not in metafunc.fixturenames:
        return
    kinds = our_kinds(metafunc)
    alone = "ours", *(["beyond_proactor"] if WINDOWS else [])
    if any(metafunc.definition.get_closest_marker(name) for name in alone):
        pass
    elif os.environ.get("ZERIO_STD") != "no":
        kinds.insert(0, "std")
    if "protocol" in metafunc.fixturenames:
        # RegisteredProtocol is ours: the standard loop offers no comparison.
        pairs = [(k, p) for k in kinds for p in PROTOCOLS if (k, p) != ("std", "registered")]
        metafunc.parametrize("kind,protocol", pairs)
    else:
        metafunc.parametrize("kind", kinds)


def our_kinds(metafunc: pytest.Metafunc) -> list[str]:
    """Our loops that this test runs on, by name."""
    wanted = os.environ.get("ZERIO_PROVIDER")
    kinds = [wanted] if wanted else list(PROVIDERS)
    if metafunc.definition.get_closest_marker("tls"):
        return [f"{kind}/{engine}" for kind in kinds for engine in tls_engines()]
    return kinds


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = os.path.dirname(__file__)
    for item in items:
        if str(item.path).startswith(here):
            item.add_marker(pytest.mark.timeout(40))
            # A warning is a failure: unclosed sockets and transports, coroutines never awaited. A
            # test's own marks come later and so take precedence.
            item.add_marker(pytest.mark.filterwarnings("error"), append=False)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    loop = pyfuncitem.funcargs["loop"]
    test = pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names})
    loop.run_until_complete(asyncio.wait_for(test, limit_of(pyfuncitem)))
    return True


def limit_of(item: pytest.Item) -> float:
    """Seconds for this test."""
    mark = item.get_closest_marker("timeout")
    return max(LIMIT, float(mark.args[0]) - MARGIN if mark is not None and mark.args else 0.0)


@given(st.none())
def draw_nothing(_: None) -> None:
    """Where Hypothesis draws the same each time, as in CI, it asks the collector on first use who
    holds its generator: it must ask before that holder is frozen."""


@pytest.fixture(scope="session", autouse=True)
def warm() -> None:
    """What a first loop opens for the whole process is open before we count descriptors."""
    for kind in ("std", *PROVIDERS):
        try:
            loop = make_loop(kind)
        except Exception:
            continue
        loop.run_until_complete(loop.run_in_executor(None, os.getpid))
        loop.close()
    draw_nothing()
    # Each test collects garbage. What exists already, pytest and the libraries, is excluded from
    # that from now on; otherwise it would take most of the time of the whole suite.
    gc.collect()
    gc.freeze()


@pytest.fixture
def no_leaks() -> Iterator[None]:
    gc.collect()
    before = descriptors()
    yield
    if descriptors() != before:
        gc.collect()
    left = {number: name for number, name in descriptors().items() if number not in before}
    assert not left, f"descriptors left open: {left}"


@pytest.fixture
def caught() -> Caught:
    """Contexts that reached the exception handler; ``take()`` claims them."""
    return Caught()


@pytest.fixture
def new_loop(kind: str, no_leaks: None, caught: Caught) -> Iterator[Callable[..., Any]]:
    """Makes loops of the kind under test, and closes them afterwards."""
    refusal = provider_refusal(kind)
    if refusal:
        pytest.skip(f"the system refuses the provider {kind}: {refusal}")
    made: list[asyncio.AbstractEventLoop] = []

    def make(**options: Any) -> asyncio.AbstractEventLoop:
        loop = make_loop(kind, **options)
        loop.set_exception_handler(caught)
        made.append(loop)
        return loop

    yield make
    for loop in made:
        finish(loop)
    assert not caught, f"reached the exception handler: {list(caught)}"


def finish(loop: asyncio.AbstractEventLoop) -> None:
    """Little more than asyncio.run() does at its end."""
    if loop.is_closed():
        return
    loop.run_until_complete(end(asyncio.all_tasks(loop)))
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


async def end(tasks: set[asyncio.Task[Any]]) -> None:
    if tasks:  # servers' handlers that are about to end may do so
        await asyncio.wait(tasks, timeout=0.2)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.sleep(0)


@pytest.fixture
def loop(new_loop: Callable[..., Any]) -> asyncio.AbstractEventLoop:
    return new_loop()


@pytest.fixture
def tcp() -> Iterator[tuple[socket.socket, Peer]]:
    """A connected, non-blocking socket without a transport, and the plain other end."""
    with listener() as server:
        ours = socket.create_connection(server.getsockname())
        theirs, _ = server.accept()
    ours.setblocking(False)
    peer = Peer(theirs)
    yield ours, peer
    ours.close()
    peer.close()


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Issues certificates for the TLS tests."""
    from .issuing import Authority

    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def certificate(authority: Any) -> Any:
    """For localhost and 127.0.0.1."""
    return authority.issue()


@pytest.fixture
def contexts(authority: Any, certificate: Any) -> Any:
    """A server's context, and a client's that trusts it."""
    from .tls import client_context, server_context

    return server_context(certificate), client_context(authority)
