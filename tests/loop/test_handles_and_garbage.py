"""Cycles through handles are garbage like any others, whatever queue a handle is or was in.

Our loops hide a handle from the collector while only a queue has it. So here every way in which a
program can get hold of one is followed by a collection: what is unreachable is gone after it, and
what is reachable is whole.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import sys
import threading
import warnings
import weakref

import pytest

from .support import make_loop, provider_refusal

FAR = 1000.0


class Holder:
    """Has a handle whose callback is its own method: a cycle."""

    def __init__(self):
        self.calls = 0
        self.handle = None

    def call(self):
        self.calls += 1


MAKE = {
    "call_soon": lambda loop, callback: loop.call_soon(callback),
    "threadsafe": lambda loop, callback: loop.call_soon_threadsafe(callback),
    "call_later": lambda loop, callback: loop.call_later(0.001, callback),
    "call_at": lambda loop, callback: loop.call_at(loop.time() + 0.001, callback),
    "far": lambda loop, callback: loop.call_later(FAR, callback),
}
SOON = {name: make for name, make in MAKE.items() if name != "far"}
made = pytest.mark.parametrize("make", MAKE.values(), ids=MAKE.keys())
made_soon = pytest.mark.parametrize("make", SOON.values(), ids=SOON.keys())


def gone(watch):
    gc.collect()
    return watch() is None


@pytest.fixture
def abandoned(kind):
    """A loop that only its own test has, which leaves it unclosed."""
    refusal = provider_refusal(kind)
    if refusal:
        pytest.skip(f"the system refuses the provider {kind}: {refusal}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        yield lambda: make_loop(kind)
        gc.collect()


@made_soon
async def test_a_cycle_whose_callback_has_run(loop, make):
    holder = Holder()
    holder.handle = make(loop, holder.call)
    gc.collect()
    await asyncio.sleep(0.05)
    assert holder.calls == 1
    watch = weakref.ref(holder)
    holder = None
    assert gone(watch)


@made_soon
async def test_a_cycle_through_a_cancelled_handles_context(loop, make):
    """Cancelling clears the callback; the context stays, and what its variables refer to.

    A timer that is far off is left out: the standard loop has it until it would be due.
    """
    variable = contextvars.ContextVar("variable")
    holder = Holder()
    context = contextvars.copy_context()
    context.run(variable.set, holder)
    holder.handle = context.run(make, loop, lambda: None)
    holder.handle.cancel()
    await asyncio.sleep(0.01)
    watch = weakref.ref(holder)
    holder = context = None
    assert gone(watch)


@made
@pytest.mark.parametrize("within", [True, False], ids=["within", "without"])
def test_a_loop_that_is_dropped_with_handles_that_others_have(abandoned, make, within):
    """Made within a run that then ends, or without one: the loop, the handle and its holder."""
    loop = abandoned()
    holder = Holder()

    if within:
        loop.call_soon(lambda: setattr(holder, "handle", make(loop, holder.call)))
        loop.call_soon(loop.stop)
        loop.run_forever()
    else:
        holder.handle = make(loop, holder.call)
    holder.loop = loop
    watches = weakref.ref(loop), weakref.ref(holder)
    loop = holder = None
    gc.collect()
    assert [watch() for watch in watches] == [None, None]


def test_a_loop_that_is_dropped_with_many_timers(abandoned):
    loop = abandoned()
    holders = [Holder() for _ in range(300)]

    async def main():
        for holder in holders:
            holder.loop = loop
            holder.handle = loop.call_later(FAR, holder.call)
        for holder in holders[::3]:
            holder.handle.cancel()
        for holder in holders[1::3]:
            holder.handle = None

    loop.run_until_complete(main())
    watches = [weakref.ref(loop), *map(weakref.ref, holders)]
    loop = holders = main = None
    gc.collect()
    assert not any(watch() for watch in watches)


async def test_what_is_reachable_survives(loop):
    """Collections while hundreds wait: by name, by a weak reference, by nothing but the queue."""
    calls = []
    kept = [loop.call_later(0.02, calls.append, number) for number in range(100)]
    watched = [
        weakref.ref(loop.call_later(0.02, calls.append, number)) for number in range(100, 200)
    ]
    for number in range(200, 300):
        loop.call_later(0.02, calls.append, number)
        loop.call_soon(calls.append, number)
        gc.collect(0)
    gc.collect()
    assert all(handle._callback is not None for handle in kept)
    assert all(watch() is not None for watch in watched)
    await asyncio.sleep(0.1)
    assert sorted(calls) == sorted([*range(300), *range(200, 300)])


async def test_a_handle_seen_by_its_exception_handler(loop):
    holder = Holder()

    def fail():
        raise ValueError(holder)

    def handler(loop, context):
        holder.handle = context["handle"]

    loop.set_exception_handler(handler)
    loop.call_soon(fail)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert holder.handle is not None
    watch = weakref.ref(holder)
    holder = fail = handler = None
    loop.set_exception_handler(None)
    assert gone(watch)


@pytest.mark.ours
async def test_a_handle_taken_from_a_queue(loop):
    for queue in (lambda: loop._ready, lambda: loop._scheduled):
        holder = Holder()
        loop.call_soon(holder.call)
        loop.call_later(FAR, holder.call)
        holder.handle = next(
            handle for handle in queue() if getattr(handle, "_callback", None) == holder.call
        )
        holder.handle.cancel()
        await asyncio.sleep(0)
        loop._scheduled.clear()
        watch = weakref.ref(holder)
        holder = None
        assert gone(watch)


async def test_callbacks_in_a_burst_do_not_see_each_others_variables(loop):
    variable = contextvars.ContextVar("variable", default="outside")
    seen = []

    def callback(number):
        seen.append(variable.get())
        variable.set(number)

    for number in range(10):
        loop.call_soon(callback, number)
    variable.set("within")
    for number in range(10, 20):
        loop.call_soon(callback, number)
        loop.call_later(0.001, callback, number)
    await asyncio.sleep(0.05)
    assert seen == ["outside"] * 10 + ["within"] * 20
    assert variable.get() == "within"


@pytest.mark.skipif(sys.version_info < (3, 12), reason="get_context is new in 3.12")
async def test_what_is_done_to_a_handles_context_stays_in_it(loop):
    variable = contextvars.ContextVar("variable", default="outside")
    seen = []
    handles = [loop.call_soon(lambda: seen.append(variable.get())) for _ in range(3)]
    handles[1].get_context().run(variable.set, "changed")
    assert len({id(handle.get_context()) for handle in handles}) == 3
    await asyncio.sleep(0)
    assert seen == ["outside", "changed", "outside"]
    assert handles[1].get_context() is handles[1].get_context()


async def test_a_handles_own_context_before_and_after_it_ran(loop):
    variable = contextvars.ContextVar("variable", default="outside")
    handles = [loop.call_soon(variable.set, number) for number in range(3)]
    before = [handle._context for handle in handles[:2]]
    await asyncio.sleep(0)
    assert [handle._context[variable] for handle in handles] == [0, 1, 2]
    assert [handle._context for handle in handles[:2]] == before
    assert handles[0]._context is before[0]


async def test_a_turn_within_a_callback(loop):
    """Another callback of the same burst runs while the first has not returned."""
    seen = []

    def nested():
        seen.append("begins")
        loop._ready.popleft()._run()
        seen.append("ends")

    loop.call_soon(nested)
    loop.call_soon(seen.append, "inner")
    await asyncio.sleep(0)
    assert seen == ["begins", "inner", "ends"]


def test_a_loop_keeps_no_variables_alive(loop):
    variable = contextvars.ContextVar("variable")
    watches = []

    async def main():
        value = Holder()
        watches.append(weakref.ref(value))
        variable.set(value)
        loop.call_soon(lambda: None)
        loop.call_later(FAR, lambda: None).cancel()

    loop.run_until_complete(main())
    loop.run_until_complete(asyncio.sleep(0))
    gc.collect()
    assert watches[0]() is None


async def test_handles_made_by_other_threads(loop):
    holders = [Holder() for _ in range(200)]

    def make():
        for holder in holders:
            holder.handle = loop.call_soon_threadsafe(holder.call)

    thread = threading.Thread(target=make)
    thread.start()
    while any(not holder.calls for holder in holders):
        await asyncio.sleep(0.001)
    thread.join()
    assert {holder.calls for holder in holders} == {1}
    watches = [weakref.ref(holder) for holder in holders]
    holders = make = thread = None
    gc.collect()
    assert not any(watch() for watch in watches)


async def test_timers_that_come_and_go_in_any_order(loop):
    """Places of cancelled timers are taken by new ones; those that are left fire in order."""
    fired = []
    handles = {}
    start = loop.time() + 0.05
    for number in range(2000):
        at = number * 7919 % 2000
        handles[at] = loop.call_at(start + at * 1e-6, fired.append, at)
        if number % 3 == 2:
            handles.pop(next(iter(handles))).cancel()
    await asyncio.sleep(0.1)
    assert fired == sorted(handles)


@made_soon
@pytest.mark.skipif(
    sys.version_info >= (3, 12), reason="collects between two instructions of Python, not here"
)
async def test_cancelled_from_inside_the_collector(loop, kind, caught, make):
    """The collector may come between a handle's turn and its callback."""
    ran = []
    handles = []

    def cancel(phase, info):
        for number, handle in enumerate(handles):
            if number not in ran and not handle.cancelled():
                handle.cancel()
                return  # one each time: each collection finds the next callback not begun

    def collect_often():
        gc.callbacks.append(cancel)
        gc.set_threshold(1)

    before = gc.get_threshold()
    loop.call_soon(collect_often)
    # What is called allocates nothing itself.
    handles += [make(loop, functools.partial(ran.append, number)) for number in range(20)]
    try:
        await asyncio.sleep(0.05)
    finally:
        gc.set_threshold(*before)
        gc.callbacks.remove(cancel)
    cancelled = [number for number, handle in enumerate(handles) if handle.cancelled()]
    assert cancelled
    assert not set(ran) & set(cancelled)
    if kind == "std":  # it fails to call a callback that is gone, and says so
        caught.take()
