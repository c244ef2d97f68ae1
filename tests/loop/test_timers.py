"""call_later and call_at: order, equal times, cancelling, and times beyond every clock."""

from __future__ import annotations

import asyncio

import pytest

CENTURY = 100 * 365 * 24 * 3600.0


async def test_timers_run_in_order_of_time(loop):
    seen = []
    now = loop.time()
    for delay in (3, 1, 2, 0):
        loop.call_at(now + delay / 1000, seen.append, delay)
    await asyncio.sleep(0.01)
    assert seen == [0, 1, 2, 3]


async def test_timers_of_one_moment_run_in_order_of_time_before_ready_order(loop):
    """Timers that are due together come by time; of the same time, each runs exactly once."""
    seen = []
    moment = loop.time() + 0.002
    for number in range(50):
        loop.call_at(moment, seen.append, number)
    await asyncio.sleep(0.01)
    assert sorted(seen) == list(range(50))


@pytest.mark.ours
async def test_timers_of_equal_time_keep_the_order_of_calls(loop):
    """More than asyncio promises: its heap is not stable."""
    seen = []
    moment = loop.time() + 0.002
    for number in range(200):
        loop.call_at(moment, seen.append, number)
    await asyncio.sleep(0.01)
    assert seen == list(range(200))


@pytest.mark.parametrize("delay", [0, -1, -0.0, -CENTURY, float("-inf")])
async def test_a_delay_that_is_over_runs_in_the_next_turn(loop, delay):
    seen = []
    loop.call_later(delay, seen.append, "timer")
    assert seen == []
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert seen == ["timer"]


async def test_a_callback_of_this_turn_runs_before_a_timer_made_in_it(loop):
    seen = []
    loop.call_soon(seen.append, "soon")
    loop.call_later(0, seen.append, "later")
    for _ in range(3):
        await asyncio.sleep(0)
    assert seen == ["soon", "later"]


@pytest.mark.parametrize("delay", [CENTURY, 100 * CENTURY, 1e15, float("inf")])
async def test_a_timer_of_a_century_sleeps(loop, delay):
    seen = []
    handle = loop.call_later(delay, seen.append, "too early")
    await asyncio.sleep(0.002)
    assert seen == []
    assert handle.when() >= loop.time() + delay - 1
    handle.cancel()


def test_a_loop_with_nothing_but_a_giant_timer_sleeps_until_it_is_woken(loop):
    handle = loop.call_later(CENTURY, print)
    waker = loop.run_in_executor(None, loop.call_soon_threadsafe, loop.stop)
    loop.run_forever()
    loop.run_until_complete(waker)
    handle.cancel()


@pytest.mark.parametrize("delay", [0.0, 0.00001, 0.0005, 0.0015, 0.01])
async def test_timers_never_run_early(loop, delay):
    for _ in range(20):
        ran = loop.create_future()
        due = loop.time() + delay
        loop.call_at(due, lambda ran=ran: ran.set_result(loop.time()))
        # The clock's own resolution is all that asyncio allows a timer to be early by.
        assert await ran >= due - loop._clock_resolution


@pytest.mark.ours  # the standard loop asks the system for whole milliseconds
async def test_short_delays_are_not_rounded_up(loop):
    """The quickest of many delays of a tenth of a millisecond: rounded up, none is below one."""
    quickest = 1.0
    for _ in range(500):
        start = loop.time()
        await asyncio.sleep(0.0001)
        quickest = min(quickest, loop.time() - start)
    assert quickest < 0.001


@pytest.mark.ours
@pytest.mark.parametrize("delay", [0.0001, 0.0005, 0.002])
async def test_a_delay_costs_one_sleep(loop, delay):
    """Not woken before its time, to sleep the rest or to spin; a glance at the port may follow."""
    before = loop.rio_stats().waits
    for _ in range(50):
        await asyncio.sleep(delay)
    assert loop.rio_stats().waits - before <= 2 * 50 + 10


async def test_a_cancelled_timer_does_not_run(loop):
    seen = []
    handle = loop.call_later(0.001, seen.append, 1)
    loop.call_later(0.001, seen.append, 2)
    handle.cancel()
    await asyncio.sleep(0.005)
    assert seen == [2]
    assert handle.cancelled()


async def test_cancelling_after_the_run_is_harmless(loop):
    seen = []
    handle = loop.call_later(0, seen.append, 1)
    await asyncio.sleep(0.001)
    handle.cancel()
    assert seen == [1]


async def test_a_timer_that_cancels_another_of_the_same_moment(loop):
    seen = []
    moment = loop.time() + 0.001
    second = loop.call_at(moment + 0.0001, seen.append, "cancelled")
    loop.call_at(moment, second.cancel)
    await asyncio.sleep(0.005)
    assert seen == []


async def test_thousands_of_cancelled_timers_leave_the_others_in_order(loop):
    seen = []
    now = loop.time()
    handles = [loop.call_at(now + n / 1e6, seen.append, n) for n in range(5000)]
    for number, handle in enumerate(handles):
        if number % 10:
            handle.cancel()
    await asyncio.sleep(0.02)
    assert seen == list(range(0, 5000, 10))


async def test_cancelled_timers_are_forgotten(loop):
    """A server that sets and cancels a time-out for each request must not grow."""

    class Payload:
        alive = 0

        def __init__(self):
            Payload.alive += 1

        def __del__(self):
            Payload.alive -= 1

    for _ in range(20):
        for _ in range(500):
            loop.call_later(3600, print, Payload()).cancel()
        await asyncio.sleep(0)
    assert Payload.alive < 1000


async def test_call_later_takes_any_real_number(loop):
    seen = []
    from fractions import Fraction

    loop.call_later(True, seen.append, "bool").cancel()
    loop.call_later(Fraction(1, 1000), seen.append, "fraction")
    await asyncio.sleep(0.005)
    assert seen == ["fraction"]


@pytest.mark.parametrize("delay", [None, "1", object()])
async def test_a_delay_that_is_no_number_is_a_type_error(loop, delay):
    with pytest.raises(TypeError):
        loop.call_later(delay, print)


async def test_call_at_takes_the_time_of_the_loop(loop):
    seen = []
    handle = loop.call_at(loop.time() + 0.001, seen.append, 1)
    assert isinstance(handle, asyncio.TimerHandle)
    await asyncio.sleep(0.005)
    assert seen == [1]


def test_time_is_monotonic(loop):
    before = loop.time()
    assert isinstance(before, float)
    assert loop.time() >= before


async def test_an_exception_in_a_timer_goes_to_the_handler(loop, caught):
    seen = []
    loop.call_later(0.001, lambda: 1 / 0)
    loop.call_later(0.001, seen.append, 1)
    await asyncio.sleep(0.005)
    assert seen == [1]
    caught.take_one(ZeroDivisionError)


async def test_wait_for_times_out_and_leaves_no_timer(loop):
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(loop.create_future(), 0.001)
