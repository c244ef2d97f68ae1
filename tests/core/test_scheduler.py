"""Ready queue and timers against a model: random programs, and the model says what runs when."""

from __future__ import annotations

import asyncio

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

BOUNDED = settings(
    max_examples=60,
    deadline=None,
    # One loop for all examples: what one leaves in heap and ring, the next one finds.
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

# When a timer is due, in steps of a microsecond, and which of the earlier ones it cancels.
TIMERS = st.lists(st.tuples(st.integers(0, 40), st.booleans(), st.integers(0, 200)), max_size=120)


@BOUNDED
@given(program=TIMERS)
def test_timers_fire_by_time_and_then_by_order(loop, program):
    fired: list[int] = []
    expected: dict[int, int] = {}
    made = []
    start = loop.time() + 0.0005
    for number, (step, cancels, which) in enumerate(program):
        made.append(loop.call_at(start + step * 1e-6, fired.append, number))
        expected[number] = step
        if cancels:
            victim = which % len(made)
            made[victim].cancel()
            expected.pop(victim, None)
    loop.run_until_complete(asyncio.sleep(0.0008))
    assert fired == sorted(expected, key=lambda number: (expected[number], number))


@BOUNDED
@given(bursts=st.lists(st.integers(0, 300), max_size=6))
def test_the_ready_queue_keeps_its_order_while_it_grows(loop, bursts):
    seen: list[int] = []
    numbers = iter(range(10_000))

    async def main():
        for burst in bursts:
            for _ in range(burst):
                loop.call_soon(seen.append, next(numbers))
            await asyncio.sleep(0)

    loop.run_until_complete(main())
    assert seen == list(range(sum(bursts)))


@BOUNDED
@given(tree=st.recursive(st.just([]), lambda inner: st.lists(inner, max_size=4), max_leaves=60))
def test_what_callbacks_add_runs_level_by_level(loop, tree):
    """A tree of callbacks, each of which adds its children, runs in breadth-first order."""
    seen: list[tuple[int, ...]] = []

    def visit(node, path):
        seen.append(path)
        for index, child in enumerate(node):
            loop.call_soon(visit, child, (*path, index))

    expected, level = [], [(tree, ())]
    while level:
        expected += [path for _, path in level]
        level = [(c, (*path, i)) for node, path in level for i, c in enumerate(node)]

    loop.call_soon(visit, tree, ())
    loop.run_until_complete(turns(len(expected) + 1))
    assert seen == expected


async def turns(count):
    for _ in range(count):
        await asyncio.sleep(0)


# Times in any order, and with few delays: what a timer is put into depends on those before it.
STEPS = st.one_of(st.integers(0, 2000), st.sampled_from([0, 500, 1000, 1500, 2000]))


@BOUNDED
@given(
    program=st.lists(
        st.tuples(st.sampled_from(["add", "add", "cancel", "move", "list"]), STEPS), max_size=300
    )
)
def test_timers_come_and_go_and_the_rest_fire_in_order(loop, program):
    fired: list[int] = []
    made: list[asyncio.TimerHandle] = []
    alive: dict[int, tuple[int, int]] = {}  # by number: its step, and when it got that
    start = loop.time() + 0.02

    async def main():
        for turn, (what, step) in enumerate(program):
            if what == "add":
                alive[len(made)] = (step, turn)
                made.append(loop.call_at(start + step * 1e-6, fired.append, len(made)))
            elif what == "list":
                shown = [made.index(handle) for handle in loop._scheduled if handle in made]
                assert shown == sorted(alive, key=alive.__getitem__)
            elif made:
                number = step % len(made)
                if what == "cancel":
                    made[number].cancel()
                    alive.pop(number, None)
                elif number in alive:
                    made[number]._when = start + step * 1e-6
                    alive[number] = (step, turn)
        await asyncio.sleep(0)

    loop.run_until_complete(main())
    loop.run_until_complete(asyncio.sleep(start + 0.003 - loop.time()))
    assert fired == sorted(alive, key=alive.__getitem__)


def test_timers_that_cancel_each_other(loop):
    fired = []
    handles = {}
    start = loop.time() + 0.0005

    def fire(number):
        fired.append(number)
        handles[number ^ 1].cancel()

    for number in range(200):
        handles[number] = loop.call_at(start + (number // 2) * 1e-6, fire, number)
    loop.run_until_complete(asyncio.sleep(0.005))
    # Both of a pair are due at one moment, so both were ready before either ran; a callback that
    # is cancelled while ready does not run.
    assert fired == list(range(0, 200, 2))


def test_a_hundred_thousand_timers(loop):
    fired = []
    start = loop.time()
    for number in range(100_000):
        loop.call_at(start + (number * 7919 % 100_000) * 1e-9, fired.append, number)
    loop.run_until_complete(asyncio.sleep(0.01))
    assert len(fired) == 100_000
    times = [number * 7919 % 100_000 for number in fired]
    assert times == sorted(times)


def test_not_a_number_is_no_time(loop):
    import pytest

    for wrong in (float("nan"),):
        with pytest.raises(ValueError, match="nan|NaN|number"):
            loop.call_later(wrong, print)
