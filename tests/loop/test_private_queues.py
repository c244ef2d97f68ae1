"""``_ready`` and ``_scheduled`` are what they are on the standard loop, to read and to change."""

from __future__ import annotations

import asyncio
import collections
import contextvars
import copy
import gc
import heapq
import sys

import pytest


def turn(loop):
    loop.call_soon(loop.stop)
    loop.run_forever()


@pytest.fixture
def handles(loop):
    """Three handles that are ready, in order, and what they have called."""
    ran = []
    made = [loop.call_soon(ran.append, number) for number in range(3)]
    return made, ran


@pytest.fixture
def timers(loop):
    """Three timers, asked for in another order than they are due in."""
    now = loop.time()
    ran = []
    later, soonest, last = (loop.call_at(now + t, ran.append, t) for t in (60, 30, 90))
    yield (soonest, later, last), ran
    for handle in (later, soonest, last):
        handle.cancel()


# ------------------------------------------------------------------------------- _ready


def test_what_is_ready_is_shown(loop, handles):
    made, _ = handles
    ready = loop._ready
    assert isinstance(ready, collections.deque)
    assert len(ready) == 3
    assert ready
    assert list(ready) == list(loop._ready) == made
    assert ready[0] is made[0]
    assert ready[-1] is made[2]
    assert made[1] in ready
    assert list(reversed(ready)) == made[::-1]
    assert ready.index(made[1]) == 1
    assert ready.count(made[1]) == 1
    assert ready == collections.deque(made)
    assert ready.copy() == copy.copy(ready) == collections.deque(made)
    more = loop.call_soon(int)
    assert len(ready) == 4
    assert ready[3] is more
    assert repr(made[0]) in repr(ready)
    turn(loop)
    assert not ready
    assert len(loop._ready) == 0
    with pytest.raises(IndexError):
        ready.popleft()
    with pytest.raises(IndexError):
        ready.pop()


CHANGES = {
    "popleft": (lambda ready, more: ready.popleft(), [1, 2]),
    "pop": (lambda ready, more: ready.pop(), [0, 1]),
    "clear": (lambda ready, more: ready.clear(), []),
    "append": (lambda ready, more: ready.append(more), [0, 1, 2, 9]),
    "appendleft": (lambda ready, more: ready.appendleft(more), [9, 0, 1, 2]),
    "extend": (lambda ready, more: ready.extend([more]), [0, 1, 2, 9]),
    "extendleft": (lambda ready, more: ready.extendleft([more]), [9, 0, 1, 2]),
    "insert": (lambda ready, more: ready.insert(1, more), [0, 9, 1, 2]),
    "remove": (lambda ready, more: ready.remove(ready[1]), [0, 2]),
    "reverse": (lambda ready, more: ready.reverse(), [2, 1, 0]),
    "rotate": (lambda ready, more: ready.rotate(1), [2, 0, 1]),
    "del": (lambda ready, more: ready.__delitem__(0), [1, 2]),
    "set": (lambda ready, more: ready.__setitem__(0, more), [9, 1, 2]),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_done_to_it_is_done(loop, handles, change):
    _, ran = handles
    function, expected = CHANGES[change]
    function(loop._ready, asyncio.Handle(ran.append, (9,), loop))
    turn(loop)
    assert ran == expected


def test_it_can_be_replaced_and_added_to(loop, handles):
    made, ran = handles
    loop._ready = collections.deque(made[::-1])
    loop._ready += [asyncio.Handle(ran.append, (9,), loop)]
    turn(loop)
    assert ran == [2, 1, 0, 9]


@pytest.mark.parametrize("kind_of", [collections.deque, list])
def test_nothing_of_the_type_is_left_to_an_empty_base(loop, kind_of):
    """A method that we forgot would answer from what the view itself holds, which is nothing."""
    loop.call_soon(int)
    loop.call_later(60, int).cancel()
    view = loop._ready if kind_of is collections.deque else loop._scheduled
    if type(view) is kind_of:
        return  # the standard loop's own
    # The rest is the type's, not the content's; `sort` has nothing to do.
    free = {"maxlen", "__class_getitem__", "__new__", "__hash__", "__getattribute__", "__doc__"}
    free |= {"__sizeof__", "__reduce_ex__"}
    for name, function in vars(kind_of).items():
        if name not in free and callable(function):
            assert name in vars(type(view)), name


# ---------------------------------------------------------------------------- _scheduled


def test_timers_are_shown(loop, timers):
    (first, second, third), _ = timers
    scheduled = loop._scheduled
    assert isinstance(scheduled, list)
    assert len(scheduled) == 3
    assert scheduled
    assert scheduled[0] is first
    assert sorted(scheduled) == [first, second, third]
    assert all(isinstance(handle, asyncio.TimerHandle) for handle in scheduled)
    assert second in scheduled
    assert heapq.nsmallest(2, scheduled) == [first, second]
    assert min(scheduled) is first
    assert len(list(scheduled)) == len([*scheduled]) == len(scheduled[:]) == 3
    assert len(scheduled.copy()) == 3
    fourth = loop.call_later(1, print)
    assert scheduled[0] is fourth
    assert len(scheduled) == 4
    fourth.cancel()


def test_no_timers(loop):
    assert not loop._scheduled
    assert list(loop._scheduled) == []
    with pytest.raises(IndexError):
        loop._scheduled[0]
    with pytest.raises(IndexError):
        heapq.heappop(loop._scheduled)


def test_popped_by_heapq_and_made_ready(loop, timers):
    """So do those who turn the loop by hand."""
    (first, _, _), ran = timers
    scheduled = loop._scheduled
    handle = heapq.heappop(scheduled)
    assert handle is first
    assert len(scheduled) == 2
    loop._ready.append(handle)
    turn(loop)
    assert ran == [30]
    assert len(loop._scheduled) == 2


def test_popped_in_order(loop, timers):
    expected, _ = timers
    scheduled = loop._scheduled
    assert [heapq.heappop(scheduled) for _ in range(3)] == list(expected)
    assert not loop._scheduled


def test_popped_and_dropped(loop):
    ran = []
    loop.call_later(0, ran.append, "popped")
    scheduled = loop._scheduled
    assert heapq.heappop(scheduled) is not None
    loop.call_later(0.001, loop.stop)
    loop.run_forever()
    assert ran == []
    del scheduled
    loop.call_later(0, ran.append, "popped")
    heapq.heappop(loop._scheduled)
    loop.call_later(0.001, loop.stop)
    loop.run_forever()
    assert ran == []


def test_pushed_by_heapq(loop):
    ran = []
    handle = loop.call_later(0, ran.append, "pushed")
    heapq.heappop(loop._scheduled)
    loop._scheduled  # noqa: B018  # looked at in between
    heapq.heappush(loop._scheduled, handle)
    assert len(loop._scheduled) == 1
    loop.call_later(0.001, loop.stop)
    loop.run_forever()
    assert ran == ["pushed"]


def test_timers_are_removed(loop, timers):
    (first, second, third), _ = timers
    loop._scheduled.remove(second)
    assert sorted(loop._scheduled) == [first, third]
    loop._scheduled.clear()
    assert len(loop._scheduled) == 0
    loop._scheduled.append(third)
    assert list(loop._scheduled) == [third]
    del loop._scheduled[0]
    assert not loop._scheduled
    loop._scheduled.extend([first])
    assert loop._scheduled.pop() is first
    loop._scheduled[:] = [second]
    assert list(loop._scheduled) == [second]
    loop._scheduled = []
    assert not loop._scheduled


def test_fired_by_hand_as_test_harnesses_do(loop, timers):
    """They run what would be due, cancel it, and go on."""
    (first, second, _), ran = timers
    for handle in list(loop._scheduled):
        if handle.when() <= second.when() and not handle.cancelled():
            handle._run()
            handle.cancel()
    assert sorted(ran) == [30, 60]
    assert first.cancelled()


def test_a_list_that_is_kept_keeps_no_loop_busy(loop):
    scheduled = loop._scheduled
    fired = []
    loop.call_later(0.001, fired.append, 1)
    loop.call_later(0.002, loop.stop)
    loop.run_forever()
    assert fired == [1]
    assert len(scheduled) == 0


@pytest.mark.ours
def test_views_hold_no_loop(new_loop):
    loop = new_loop()
    loop._ready.append(loop.call_soon(int))
    assert not loop._scheduled
    gc.collect()
    before = sys.getrefcount(loop)
    assert len(loop._ready) == 2
    assert len(loop._scheduled) == 0
    assert sys.getrefcount(loop) == before


@pytest.mark.ours
def test_many_timers(loop):
    handles = [loop.call_later(number, print) for number in range(1000)]
    assert len(loop._scheduled) == 1000
    assert list(loop._scheduled) == handles
    assert heapq.heappop(loop._scheduled) is handles[0]
    assert loop._scheduled[0] is handles[1]
    loop._scheduled.clear()
    assert not loop._scheduled


def test_a_handle_of_somebody_else(loop):
    seen = []
    context = contextvars.copy_context()
    loop._ready.append(asyncio.Handle(seen.append, (1,), loop, context))
    turn(loop)
    assert seen == [1]


def test_they_are_empty_after_closing(new_loop):
    loop = new_loop()
    loop.call_soon(int)
    loop.call_later(60, int)
    loop.close()
    assert not loop._ready
    assert not loop._scheduled
    loop._ready.clear()
    loop._scheduled.clear()
