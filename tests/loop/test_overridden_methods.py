"""What programs put in the place of a loop's methods is used where the standard loop uses it."""

from __future__ import annotations

import asyncio
import decimal
import fractions
import sys
import time
from unittest import mock

import pytest

from .support import WINDOWS

YEAR = 365 * 24 * 3600.0


def subclass_of(kind):
    """The class of loops of this kind, to be inherited from, and the arguments to make one."""
    if kind == "std":
        return (asyncio.ProactorEventLoop if WINDOWS else asyncio.SelectorEventLoop), ()
    import zerio_asyncio

    return zerio_asyncio.RioEventLoop, (zerio_asyncio.LoopOptions(provider=kind),)


@pytest.fixture
def make_subclass(kind, new_loop):
    new_loop().close()  # skips where the provider is refused
    made = []

    def make(**methods):
        base, arguments = subclass_of(kind)
        loop = type("Overriding", (base,), methods)(*arguments)
        made.append(loop)
        return loop

    yield make
    for loop in made:
        loop.close()


class Clock:
    """Real time, and what a test adds to it."""

    def __init__(self):
        self.ahead = 0.0

    def __call__(self, *_):
        return time.monotonic() + self.ahead


# ------------------------------------------------------------------------------ the clock


def fires_when_the_clock_has_moved(loop, clock):
    """A timer of a year fires as soon as the clock says so."""
    fired = []
    loop.call_later(YEAR, fired.append, "timer")
    loop.call_soon(setattr, clock, "ahead", 2 * YEAR)
    for _ in range(3):
        loop.call_soon(loop.stop)
        loop.run_forever()
    return fired == ["timer"]


def test_a_clock_in_a_subclass(make_subclass):
    clock = Clock()
    assert fires_when_the_clock_has_moved(make_subclass(time=clock.__call__), clock)


def test_a_clock_on_the_instance(loop):
    clock = Clock()
    loop.time = clock
    assert fires_when_the_clock_has_moved(loop, clock)
    del loop.time
    assert abs(loop.time() - time.monotonic()) < 1.0


def test_a_clock_put_into_the_class_and_taken_away(loop):
    clock = Clock()
    with mock.patch.object(type(loop), "time", clock):  # no function: nothing is bound to it
        assert fires_when_the_clock_has_moved(loop, clock)
    assert abs(loop.time() - time.monotonic()) < 1.0
    later = []
    loop.call_later(YEAR, later.append, 1)
    loop.call_later(0.001, loop.stop)
    loop.run_forever()
    assert later == []


def test_a_clock_put_into_a_base_class(loop):
    """Ours does not inherit the method from there, but then nobody's clock is that one."""
    clock = Clock()
    original = type(loop).time
    type(loop).time = lambda self: clock()
    try:
        assert fires_when_the_clock_has_moved(loop, clock)
    finally:
        type(loop).time = original
    assert abs(loop.time() - time.monotonic()) < 1.0


def test_the_system_clock_replaced(loop, monkeypatch):
    clock = Clock()
    monotonic = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: monotonic() + clock.ahead)
    fired = []
    loop.call_later(YEAR, fired.append, 1)
    clock.ahead = 2 * YEAR
    assert loop.time() > YEAR
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert fired == [1]
    monkeypatch.undo()
    assert loop.time() < YEAR


async def test_a_clock_replaced_while_the_loop_runs(loop):
    fired = []
    with mock.patch.object(loop, "time") as clock:
        clock.return_value = 1000.0
        handle = loop.call_later(30, fired.append, "due")
        assert handle.when() == 1030.0
        clock.return_value = 1029.0
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert fired == []
        clock.return_value = 1031.0
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert fired == ["due"]


def test_timeouts_follow_the_clock(loop):
    clock = Clock()
    with mock.patch.object(loop, "time", clock):
        loop.call_soon(loop.call_soon, setattr, clock, "ahead", 3600.0)
        with pytest.raises(asyncio.TimeoutError):
            loop.run_until_complete(asyncio.wait_for(loop.create_future(), 1800))


def test_a_sleeping_loop_goes_by_the_clock(make_subclass):
    """Two hours of the clock pass in one real one: the loop looks again when it wakes."""
    start = time.monotonic()
    loop = make_subclass(time=lambda self: start + 1000 * (time.monotonic() - start))
    fired = []
    loop.call_later(10, fired.append, 1)
    loop.call_later(0.01, loop.stop)
    loop.run_forever()
    while not fired:
        loop.call_later(0.01, loop.stop)
        loop.run_forever()
    assert loop.time() >= start + 10


def test_a_clock_that_fails_ends_the_run(loop):
    loop.call_later(1, print)
    with mock.patch.object(loop, "time", side_effect=LookupError), pytest.raises(LookupError):
        loop.run_forever()


@pytest.mark.parametrize("now", [7, fractions.Fraction(7, 2), True])
def test_a_clock_of_other_numbers(loop, now):
    with mock.patch.object(loop, "time", return_value=now):
        handle = loop.call_later(1, print)
        assert handle.when() == now + 1
        assert type(handle.when()) is type(now + 1)
        handle.cancel()


# ------------------------------------------------------------- what a timer was asked for


@pytest.mark.parametrize(
    "when",
    [
        10**6,
        True,
        2**60 + 1,
        10**400,
        -(10**400),
        1.5,
        fractions.Fraction(10**7, 3),
        decimal.Decimal("1e30"),
    ],
    ids=lambda when: type(when).__name__ + str(when)[:8],
)
def test_when_gives_back_what_was_asked(loop, when):
    handle = loop.call_at(when, print)
    assert handle.when() is when
    assert handle._when is when
    assert repr(when) in repr(handle) or str(when) in repr(handle)
    handle.cancel()


def test_when_of_call_later_is_on_the_clock(loop):
    for delay in (60, 60.5, fractions.Fraction(121, 2), True):
        before = loop.time()
        handle = loop.call_later(delay, print)
        assert type(handle.when()) is float
        assert before + delay <= handle.when() <= loop.time() + delay
        handle.cancel()


@pytest.mark.parametrize(
    ("delay", "error"), [(10**400, OverflowError), (decimal.Decimal(1), TypeError)]
)
def test_delays_that_cannot_be_added_to_the_clock(loop, delay, error):
    with pytest.raises(error):
        loop.call_later(delay, print)
    assert len(loop._scheduled) == 0


def test_numbers_too_large_for_a_float_wait_for_ever(loop):
    fired = []
    loop.call_at(loop.time(), fired.append, "now")
    never = loop.call_at(10**400, fired.append, "never")
    loop.call_later(0.001, loop.stop)
    loop.run_forever()
    assert fired == ["now"]
    never.cancel()


@pytest.mark.ours
def test_the_same_when_nothing_else_waits(loop):
    """The standard loop fails on each: it subtracts its clock from the earliest timer."""
    fired = []
    handles = [loop.call_at(when, fired.append, 1) for when in (10**400, decimal.Decimal(10**9))]
    loop.call_soon_threadsafe(loop.call_soon, loop.call_soon, loop.stop)
    loop.run_forever()
    assert fired == []
    past = loop.call_at(decimal.Decimal(0), fired.append, 2)
    loop.call_soon(loop.call_soon, loop.stop)
    loop.run_forever()
    assert fired == [2]
    assert past.when() == 0
    for handle in handles:
        handle.cancel()


def test_a_time_set_anew(loop):
    fired = []
    handle = loop.call_later(YEAR, fired.append, 1)
    handle._when = loop.time()
    loop.call_soon(loop.call_soon, loop.stop)
    loop.run_forever()
    assert fired == [1]


# ----------------------------------------------------------------------------- scheduling


def recording(name, base, seen):
    """A method that notes its arguments and does as its base class."""

    def method(self, *args, **options):
        seen.append((name, args, options))
        return getattr(base, name)(self, *args, **options)

    return method


def overriding(kind, *names):
    seen = []
    base, _ = subclass_of(kind)
    return seen, {name: recording(name, base, seen) for name in names}


def test_call_later_goes_through_call_at(kind, make_subclass):
    seen, methods = overriding(kind, "call_at")
    loop = make_subclass(**methods)
    handle = loop.call_later(60, int, "7")
    ((_, (when, callback, *args), options),) = seen
    assert (when, callback, args) == (handle.when(), int, ["7"])
    assert set(options) <= {"context"}
    handle.cancel()


def test_call_at_on_the_instance(loop):
    with mock.patch.object(loop, "call_at", wraps=loop.call_at) as call_at:
        loop.call_later(60, print).cancel()
        assert call_at.call_count == 1
    loop.call_later(60, print).cancel()
    assert call_at.call_count == 1


async def test_transports_go_through_call_soon(loop, connect_pair):
    with mock.patch.object(loop, "call_soon", wraps=loop.call_soon) as call_soon:
        transport = await connect_pair()
        transport.close()
        await asyncio.sleep(0.01)
    called = [call.args[0].__name__ for call in call_soon.mock_calls if call.args]
    assert "_call_connection_lost" in called
    assert len(called) > 2


@pytest.fixture
def connect_pair(loop):
    import socket

    ends = socket.socketpair()

    async def connect():
        ends[0].setblocking(False)
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=ends[0])
        return transport

    yield connect
    for end in ends:
        end.close()


def test_ways_to_call_soon_that_go_through_the_private_one(kind, make_subclass):
    seen, methods = overriding(kind, "_call_soon")
    loop = make_subclass(**methods)
    ran = []
    loop.call_soon(ran.append, 1)
    loop.call_soon_threadsafe(ran.append, 2)
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert ran == [1, 2]
    # From 3.14 on a handle that threads share is made apart.
    expected = [(1,), (2,)] if sys.version_info < (3, 14) else [(1,)]
    assert [args[1] for _, args, _ in seen if args[0] == ran.append] == expected


def test_a_wake_up_of_somebody_elses(loop):
    """A toolkit's loop that must be woken, too."""
    with mock.patch.object(loop, "_write_to_self", wraps=loop._write_to_self) as wake:
        loop.call_soon_threadsafe(loop.stop)
        loop.run_forever()
    assert wake.call_count >= 1


def test_methods_put_back_by_hand_are_ours_again(kind, loop):
    cls = type(loop)
    for name in ("time", "call_at", "call_soon", "_run_once", "_process_events"):
        original = getattr(cls, name)
        own = name in vars(cls)
        setattr(cls, name, lambda self, *args, original=original, **o: original(self, *args, **o))
        loop.run_until_complete(asyncio.sleep(0))
        setattr(cls, name, original)
        loop.run_until_complete(asyncio.sleep(0))
        if not own:
            delattr(cls, name)
    loop.run_until_complete(asyncio.sleep(0))


def test_another_class_for_a_living_loop(kind, loop):
    """As looptime does: a subclass is put under a loop that exists."""
    clock = Clock()
    plain = type(loop)
    loop.__class__ = type("Virtual", (plain,), {"time": lambda self: clock()})
    assert fires_when_the_clock_has_moved(loop, clock)
    loop.__class__ = plain
    assert loop.time() < time.monotonic() + 1.0
