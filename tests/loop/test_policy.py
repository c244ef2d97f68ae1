"""How programs choose our loop: run, new_event_loop, install, policy, Runner."""

from __future__ import annotations

import asyncio
import sys
import warnings

import pytest

import zerio_asyncio

from .support import WINDOWS


async def current():
    await asyncio.sleep(0)
    return asyncio.get_running_loop()


def test_run_uses_our_loop_and_closes_it():
    loop = zerio_asyncio.run(current())
    assert isinstance(loop, zerio_asyncio.RioEventLoop)
    assert loop.is_closed()


def test_run_passes_debug_and_options():
    async def look():
        loop = asyncio.get_running_loop()
        return loop.get_debug(), loop.options.slice_size

    options = zerio_asyncio.LoopOptions(slice_size=8192)
    assert zerio_asyncio.run(look(), debug=True, options=options) == (True, 8192)


def test_run_takes_another_factory():
    loop = zerio_asyncio.run(current(), loop_factory=asyncio.SelectorEventLoop)
    assert not isinstance(loop, zerio_asyncio.RioEventLoop)


def test_run_cancels_what_is_left():
    ended = []

    async def forever():
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append(True)

    async def main():
        task = asyncio.ensure_future(forever())
        await asyncio.sleep(0)
        return task

    assert zerio_asyncio.run(main()).cancelled()
    assert ended == [True]


def test_run_refuses_what_is_no_coroutine():
    with pytest.raises((ValueError, TypeError)):
        zerio_asyncio.run(5)


def test_run_inside_a_running_loop_is_refused():
    async def main():
        inner = current()
        with pytest.raises(RuntimeError):
            zerio_asyncio.run(inner)
        inner.close()

    zerio_asyncio.run(main())


def test_run_raises_what_main_raises():
    async def main():
        raise LookupError("x")

    with pytest.raises(LookupError):
        zerio_asyncio.run(main())


def test_new_event_loop_is_an_asyncio_loop():
    loop = zerio_asyncio.new_event_loop()
    assert isinstance(loop, asyncio.AbstractEventLoop)
    if not WINDOWS:
        assert isinstance(loop, asyncio.SelectorEventLoop)
    else:  # libraries refuse an asyncio.ProactorEventLoop, for its lack of add_reader
        assert isinstance(loop, asyncio.proactor_events.BaseProactorEventLoop)
        assert not isinstance(loop, asyncio.ProactorEventLoop)
    assert type(loop) is zerio_asyncio.Loop is zerio_asyncio.RioEventLoop
    assert "RioEventLoop" in repr(loop)
    loop.close()


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.Runner is new in 3.11")
def test_runner():
    with asyncio.Runner(loop_factory=zerio_asyncio.new_event_loop) as runner:
        first = runner.run(current())
        assert isinstance(first, zerio_asyncio.RioEventLoop)
        assert runner.run(current()) is first


@pytest.mark.skipif(sys.version_info < (3, 12), reason="run(loop_factory=) is new in 3.12")
def test_asyncio_run():
    loop = asyncio.run(current(), loop_factory=zerio_asyncio.new_event_loop)
    assert isinstance(loop, zerio_asyncio.RioEventLoop)


@pytest.fixture
def policies():
    """Gives the standard policy back; policies warn of their end from 3.14."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield
        asyncio.set_event_loop_policy(None)


def test_the_policy(policies):
    asyncio.set_event_loop_policy(zerio_asyncio.EventLoopPolicy())
    assert isinstance(asyncio.run(current()), zerio_asyncio.RioEventLoop)
    loop = asyncio.new_event_loop()
    assert isinstance(loop, zerio_asyncio.RioEventLoop)
    loop.close()


def test_the_policy_takes_options(policies):
    options = zerio_asyncio.LoopOptions(slice_size=8192)
    asyncio.set_event_loop_policy(zerio_asyncio.EventLoopPolicy(options))
    loop = asyncio.new_event_loop()
    assert loop.options is options
    loop.close()


def test_install(policies):
    zerio_asyncio.install()
    assert isinstance(asyncio.run(current()), zerio_asyncio.RioEventLoop)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="before 3.12 nothing better exists")
def test_install_warns_where_something_better_exists():
    try:
        with pytest.warns(DeprecationWarning, match="install"):
            zerio_asyncio.install()
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            asyncio.set_event_loop_policy(None)


def test_what_the_package_offers():
    for name in zerio_asyncio.__all__:
        assert getattr(zerio_asyncio, name) is not None
    with pytest.raises(AttributeError):
        zerio_asyncio.nothing_of_that_name  # noqa: B018 - the look-up itself is under test


def test_the_statistics_are_frozen():
    import dataclasses

    loop = zerio_asyncio.new_event_loop()
    statistics = loop.rio_stats()
    with pytest.raises(dataclasses.FrozenInstanceError):
        statistics.submissions = 0
    names = {field.name for field in dataclasses.fields(statistics)}
    assert names >= {
        "submissions",
        "completions",
        "system_calls",
        "waits",
        "bytes_received",
        "bytes_sent",
        "gathered",
        "slices_in_use",
        "slices_high_water",
        "slabs",
        "connections",
    }
    loop.close()
