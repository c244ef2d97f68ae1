"""Name resolution, executors, and what other threads hand to the loop."""

from __future__ import annotations

import asyncio
import concurrent.futures
import socket
import sys
import threading

import pytest

from .support import SECONDS, Recorder, listener, shut, spin

# --------------------------------------------------------------------- names


async def test_names(loop):
    found = await loop.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM)
    assert any(address[0] in ("127.0.0.1", "::1") for *_, address in found)
    name, port = await loop.getnameinfo(("127.0.0.1", 80), socket.NI_NUMERICHOST)
    assert name == "127.0.0.1"
    assert port in ("80", "http")
    assert await loop.getnameinfo(
        ("127.0.0.1", 65000), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
    ) == ("127.0.0.1", "65000")


async def test_options_of_getaddrinfo(loop):
    found = await loop.getaddrinfo(
        "127.0.0.1", "80", family=socket.AF_INET, proto=socket.IPPROTO_TCP, flags=socket.AI_PASSIVE
    )
    assert found == [
        (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", 80))
    ]
    everywhere = await loop.getaddrinfo(
        None, 0, family=socket.AF_INET, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    assert everywhere[0][4] == ("0.0.0.0", 0)


@pytest.mark.parametrize(
    ("host", "options"),
    [
        ("127.0.0.1", {"flags": socket.AI_NUMERICHOST, "family": socket.AF_INET6}),
        ("no number", {"flags": socket.AI_NUMERICHOST}),
        ("127.0.0.1", {"type": 12345}),
    ],
)
async def test_failures_are_gaierrors(loop, host, options):
    with pytest.raises(socket.gaierror):
        await loop.getaddrinfo(host, 80, **options)


async def test_a_connection_to_a_name_that_does_not_exist(loop, monkeypatch):
    """As the system says it, without waiting for any server of names."""

    def unknown(*arguments, **options):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(socket.gaierror):
        await loop.create_connection(Recorder, "nowhere.invalid", 80)
    with pytest.raises(socket.gaierror):
        await loop.create_server(Recorder, "nowhere.invalid", 0)


async def test_numbers_are_not_looked_up(loop, monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("an address needs no resolver")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    with listener() as server:
        transport, recorder = await loop.create_connection(Recorder, *server.getsockname())
        accepted, _ = server.accept()
        await shut(transport, recorder)
        accepted.close()


async def test_a_resolver_is_used_by_connections(loop, monkeypatch):
    """``getaddrinfo`` of the loop may be replaced, as libraries with resolvers of their own do."""
    with listener() as server:
        address = server.getsockname()
        asked = []

        async def resolve(host, port, **options):
            asked.append(host)
            return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", address)]

        monkeypatch.setattr(loop, "getaddrinfo", resolve)
        transport, recorder = await loop.create_connection(Recorder, "some.name", 1)
        accepted, _ = server.accept()
        await shut(transport, recorder)
        accepted.close()
    assert asked == ["some.name"]


# ----------------------------------------------------------------- executors


async def test_executors(loop):
    assert await loop.run_in_executor(None, sum, range(100)) == 4950
    assert await asyncio.to_thread(threading.get_ident) != threading.get_ident()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        results = [loop.run_in_executor(pool, pow, 2, n) for n in range(200)]
        assert await asyncio.gather(*results) == [2**n for n in range(200)]


async def test_exceptions_come_back(loop):
    with pytest.raises(ZeroDivisionError):
        await loop.run_in_executor(None, divmod, 1, 0)


async def test_a_cancelled_call_never_starts_if_it_has_not_yet(loop):
    started = []
    hold = threading.Event()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        first = loop.run_in_executor(pool, hold.wait, SECONDS)
        second = loop.run_in_executor(pool, started.append, 1)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        await spin()  # the executor is told in the next turn
        hold.set()
        assert await first
    assert started == []


async def test_a_default_executor_of_our_own(loop):
    with concurrent.futures.ThreadPoolExecutor(1, "mine") as pool:
        loop.set_default_executor(pool)
        name = await loop.run_in_executor(None, lambda: threading.current_thread().name)
        assert name.startswith("mine")
        if sys.version_info >= (3, 11):  # before it was only deprecated
            with pytest.raises(TypeError):
                loop.set_default_executor("no executor")


def test_shutdown_waits_for_what_runs(new_loop):
    loop = new_loop()
    done = []
    release = threading.Event()

    async def main():
        def work():
            release.wait(SECONDS)
            done.append(1)

        loop.run_in_executor(None, work)
        loop.call_later(0.01, release.set)
        await loop.shutdown_default_executor()
        assert done == [1]
        with pytest.raises(RuntimeError):
            loop.run_in_executor(None, print)

    loop.run_until_complete(main())
    loop.run_until_complete(loop.shutdown_default_executor())  # harmless when done


@pytest.mark.skipif(
    sys.version_info < (3, 12, 2), reason="new in 3.12, of which the first two wait without limit"
)
def test_shutdown_has_a_limit(new_loop):
    loop = new_loop()
    release = threading.Event()

    async def main():
        loop.run_in_executor(None, release.wait, SECONDS)
        with pytest.warns(RuntimeWarning, match="did not finish"):
            await loop.shutdown_default_executor(0.01)

    loop.run_until_complete(main())
    release.set()


@pytest.mark.ours  # CPython from 3.13 on
def test_a_cancelled_shutdown_is_quiet(new_loop):
    """Its end comes later than that of whoever asked for it."""
    loop = new_loop()
    go_on = threading.Event()

    async def main():
        working = loop.run_in_executor(None, go_on.wait)
        shutting = loop.create_task(loop.shutdown_default_executor())
        await asyncio.sleep(0.01)
        shutting.cancel()
        loop.call_later(0.01, go_on.set)
        threading.Timer(0.05, go_on.set).start()  # before 3.13 the loop waits for its thread
        with pytest.raises(asyncio.CancelledError):
            await shutting
        await working
        await asyncio.sleep(0.05)

    loop.run_until_complete(main())


def test_an_executor_that_outlives_the_loop(new_loop):
    """``close`` does not wait; a result that comes after it must not hurt anybody."""
    loop = new_loop()
    release = threading.Event()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:

        async def main():
            loop.run_in_executor(pool, release.wait, SECONDS)

        loop.run_until_complete(main())
        loop.close()
        release.set()


def test_closing_shuts_the_default_executor_down(new_loop):
    loop = new_loop()
    loop.run_until_complete(loop.run_in_executor(None, int))
    executor = loop._default_executor
    loop.close()
    with pytest.raises(RuntimeError):
        executor.submit(print)
    with pytest.raises(RuntimeError):
        loop.run_in_executor(None, print)


async def test_debug_mode_refuses_coroutine_functions(loop):
    async def coroutine():
        raise AssertionError("not to be called")

    loop.set_debug(True)
    with pytest.raises(TypeError):
        loop.run_in_executor(None, coroutine)
    with pytest.raises(TypeError):
        loop.run_in_executor(None, "not callable")


# -------------------------------------------------------------- other threads


async def test_run_coroutine_threadsafe(loop):
    async def add(a, b):
        await asyncio.sleep(0.001)
        return a + b

    def work():
        return asyncio.run_coroutine_threadsafe(add(1, 2), loop).result(SECONDS)

    assert await asyncio.to_thread(work) == 3


async def test_a_thread_cancels_what_it_started(loop):
    cancelled = []

    async def wait():
        try:
            await asyncio.sleep(SECONDS)
        except asyncio.CancelledError:
            cancelled.append(1)
            raise

    def work():
        future = asyncio.run_coroutine_threadsafe(wait(), loop)
        with pytest.raises(concurrent.futures.TimeoutError):
            future.result(0.01)
        future.cancel()

    await asyncio.to_thread(work)
    while not cancelled:
        await asyncio.sleep(0)


async def test_context_variables_reach_threads(loop):
    import contextvars

    variable = contextvars.ContextVar("variable", default=0)
    variable.set(7)
    assert await asyncio.to_thread(variable.get) == 7
    assert await loop.run_in_executor(None, variable.get) == 0
