"""``run_threads``: a loop in each of several threads, begun together, ended together.

What is told to them and what they tell is checked on each loop; that nothing is left of them, by
``no_leaks`` and by counting threads after each test.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

import zerio_asyncio
from zerio_asyncio.loop import run_threads as threads_module

from .marks import with_posix_signals
from .support import SECONDS, WINDOWS, make_loop, provider_refusal

THREADS = 3

NEVER = 3 * SECONDS
"""What sleeps that long is cancelled, or its test fails by time."""


@pytest.fixture
def run(kind, no_leaks):
    """run_threads on the loops under test, which leaves no thread behind."""
    refusal = provider_refusal(kind)
    if refusal:
        pytest.skip(f"the system refuses the provider {kind}: {refusal}")
    before = threading.active_count()
    yield functools.partial(zerio_asyncio.run_threads, loop_factory=lambda: make_loop(kind))
    assert threading.active_count() == before


def raised_by(call):
    """The exceptions that a call raises together, in order."""
    try:
        call()
    except BaseException as failure:
        if isinstance(failure, Exception) and hasattr(failure, "exceptions"):
            return list(failure.exceptions)
        found, at = [], failure
        while at is not None:  # Python 3.10 chains them
            found.append(at)
            at = at.__context__
        return found
    pytest.fail("nothing was raised")


class Meeting:
    """Lets mains wait for each other, however slow one is."""

    def __init__(self, count):
        self.barrier = threading.Barrier(count)

    async def come(self):
        await asyncio.to_thread(self.barrier.wait, SECONDS)


def test_results_come_in_order(run):
    async def main(number):
        await asyncio.sleep(0.01 * (THREADS - number))
        return number, threading.current_thread(), asyncio.get_running_loop()

    results = run(main, THREADS)
    numbers, where, loops = zip(*results, strict=True)
    assert numbers == tuple(range(THREADS))
    assert where[0] is threading.current_thread()
    assert len(set(where)) == len(set(map(id, loops))) == THREADS
    assert all(loop.is_closed() for loop in loops)


def test_all_run_at_once(run):
    meeting = Meeting(THREADS)

    async def main(number):
        await meeting.come()
        return number

    assert run(main, threads=THREADS) == list(range(THREADS))


def test_one_thread_is_the_callers(run):
    async def main(number):
        return threading.get_ident()

    assert run(main, 1) == [threading.get_ident()]


def test_as_many_threads_as_cpus(run):
    async def main(number):
        return number

    assert run(main) == list(range(threads_module.cpus()))


@pytest.mark.ours
def test_options_go_to_every_loop(kind, run):
    async def main(number):
        loop = asyncio.get_running_loop()
        return loop.provider, loop.options.gather, loop.get_debug()

    options = zerio_asyncio.LoopOptions(provider=kind, gather=True)
    found = zerio_asyncio.run_threads(main, 2, options=options, debug=True)
    assert found == [(kind, True, True)] * 2


def test_each_main_has_a_copy_of_the_callers_context(run):
    variable = contextvars.ContextVar("variable", default="nobody's")
    variable.set("the caller's")
    meeting = Meeting(THREADS)

    async def main(number):
        before = variable.get()
        variable.set(str(number))
        await meeting.come()
        return before, variable.get()

    assert run(main, THREADS) == [("the caller's", str(n)) for n in range(THREADS)]
    assert variable.get() == "the caller's"


@pytest.mark.parametrize("failing", range(THREADS))
def test_one_exception_cancels_all_others_and_is_raised(run, failing):
    meeting = Meeting(THREADS)
    cancelled = []

    async def main(number):
        try:
            await meeting.come()
            if number == failing:
                raise OSError("the one")
            await asyncio.sleep(NEVER)
        except asyncio.CancelledError:
            await asyncio.sleep(0.01)  # an end that takes its time is waited for
            cancelled.append(number)
            raise

    with pytest.raises(OSError, match="the one") as caught:
        run(main, THREADS)
    assert caught.value.__context__ is None, caught.value.__context__
    assert sorted(cancelled) == [n for n in range(THREADS) if n != failing]


def test_two_exceptions_are_raised_together(run):
    meeting = Meeting(2)

    async def main(number):
        try:
            await meeting.come()
            if number == 1:
                raise OSError("first")
            await asyncio.sleep(NEVER)
        except asyncio.CancelledError:
            raise KeyError("second") from None

    first, second, *_ = raised_by(lambda: run(main, 2))
    assert isinstance(first, OSError)
    assert isinstance(second, KeyError)


def test_who_has_ended_is_not_cancelled_and_who_ends_early_is_waited_for(run):
    meeting = Meeting(2)

    async def main(number):
        if number == 0:
            return "early"
        await asyncio.sleep(0.05)
        return "late"

    assert run(main, 2) == ["early", "late"]

    async def failing(number):
        await meeting.come()
        if number:
            await asyncio.sleep(0.02)
            raise LookupError("after the first had ended")

    with pytest.raises(LookupError):
        run(failing, 2)


def test_a_main_that_takes_no_notice_of_being_cancelled(run):
    meeting = Meeting(2)

    async def main(number):
        with contextlib.suppress(asyncio.CancelledError):
            await meeting.come()
            if number == 0:
                raise OSError("the one")
            await asyncio.sleep(NEVER)
        return "all the same"

    with pytest.raises(OSError, match="the one"):
        run(main, 2)


@pytest.mark.parametrize("number_of_it", [0, 1])
def test_a_main_that_is_cancelled_by_itself(run, number_of_it):
    async def main(number):
        if number == number_of_it:
            asyncio.current_task().cancel()
        await asyncio.sleep(NEVER)

    with pytest.raises(asyncio.CancelledError):
        run(main, 2)


@pytest.mark.parametrize("number_of_it", [0, 1])
@pytest.mark.parametrize("leaving", [SystemExit, KeyboardInterrupt])
def test_leaving_from_a_main(run, number_of_it, leaving):
    meeting = Meeting(2)

    async def main(number):
        await meeting.come()
        if number == number_of_it:
            raise leaving
        try:
            await asyncio.sleep(NEVER)
        finally:
            raise ValueError("is not what is raised")

    with pytest.raises(leaving):
        run(main, 2)


@pytest.mark.parametrize("failing", range(THREADS))
def test_a_loop_that_cannot_be_made_ends_all_before_any_main(kind, run, failing):
    begun, made = [], []
    lock = threading.Lock()

    def factory():
        with lock:
            made.append(None)
            last = len(made) == failing + 1
        if last:
            raise OSError("no loop")
        return make_loop(kind)

    async def main(number):
        begun.append(number)

    with pytest.raises(OSError, match="no loop"):
        run(main, THREADS, loop_factory=factory)
    assert begun == []


def test_a_thread_that_cannot_be_started(run, monkeypatch):
    begun = []
    start = threading.Thread.start

    def refuse(thread):
        if thread.name == "zerio-loop-2":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)

    async def main(number):
        begun.append(number)

    with pytest.raises(RuntimeError, match="start new thread"):
        run(main, THREADS)
    assert begun == []


def test_what_is_refused():
    async def main(number):
        pytest.fail("it ran")

    def plain(number):
        pytest.fail("it ran")

    for wrong in (0, -1):
        with pytest.raises(ValueError, match="at least 1"):
            zerio_asyncio.run_threads(main, wrong)
    with pytest.raises(TypeError):
        zerio_asyncio.run_threads(main, "2")
    for none in (plain, None, int):
        with pytest.raises(TypeError, match="coroutine function"):
            zerio_asyncio.run_threads(none, 2)
    options = zerio_asyncio.LoopOptions()
    with pytest.raises(ValueError, match="factory"):
        zerio_asyncio.run_threads(main, 2, options=options, loop_factory=asyncio.new_event_loop)


async def test_from_a_running_loop(loop):
    async def main(number):
        pytest.fail("it ran")

    with pytest.raises(RuntimeError, match="running event loop"):
        zerio_asyncio.run_threads(main, 2)


def test_whatever_makes_coroutines_is_a_main(run):
    class Program:
        async def __call__(self, number):
            return number

        async def method(self, number):
            return number

    async def more(name, number):
        return number

    for main in (Program(), Program().method, functools.partial(more, "name")):
        assert run(main, 2) == [0, 1]


def test_from_a_thread_that_is_not_the_main_one(run):
    async def main(number):
        return number

    found = []
    caller = threading.Thread(target=lambda: found.extend(run(main, 2)))
    caller.start()
    caller.join(SECONDS)
    assert found == [0, 1]


@with_posix_signals
def test_signals_are_the_first_loops_until_all_have_ended(run):
    meeting = Meeting(2)

    async def main(number):
        loop = asyncio.get_running_loop()
        stop = threading.Event()
        if number == 0:
            loop.add_signal_handler(signal.SIGUSR1, seen.append, "heard")
            await meeting.come()
            return
        await meeting.come()
        await asyncio.sleep(0.02)  # the first main has ended by now, or ends now
        os.kill(os.getpid(), signal.SIGUSR1)
        deadline = time.monotonic() + SECONDS
        while not seen and time.monotonic() < deadline:
            await asyncio.to_thread(stop.wait, 0.001)

    seen: list[str] = []
    run(main, 2)
    assert seen == ["heard"]


PROGRAM = """
import asyncio, sys, threading
import zerio_asyncio
from tests.loop.support import make_loop

ended = []
everybody = threading.Barrier({threads})

async def main(number):
    try:
        await asyncio.to_thread(everybody.wait)
        if number == 0:
            print("ready", flush=True)
            if {early}:
                return
        await asyncio.sleep(60)
    finally:
        ended.append(number)

try:
    zerio_asyncio.run_threads(main, {threads}, loop_factory=lambda: make_loop("{kind}"))
except KeyboardInterrupt:
    print("interrupted", sorted(ended), threading.active_count(), flush=True)
"""


@pytest.mark.skipif(WINDOWS, reason="no SIGINT can be sent to another process here")
@pytest.mark.parametrize("early", [False, True], ids=["first runs", "first has ended"])
def test_ctrl_c_ends_all(kind, early):
    refusal = provider_refusal(kind)
    if refusal:
        pytest.skip(f"the system refuses the provider {kind}: {refusal}")
    program = PROGRAM.format(threads=THREADS, kind=kind, early=early)
    child = subprocess.Popen(
        [sys.executable, "-X", "dev", "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert child.stdout.readline() == "ready\n"
        child.send_signal(signal.SIGINT)
        output, errors = child.communicate(timeout=2 * SECONDS)
    finally:
        if child.poll() is None:
            child.kill()
            child.communicate()
    assert output == f"interrupted {list(range(THREADS))} 1\n", errors
    assert child.returncode == 0
    complaints = [line for line in errors.splitlines() if not line.startswith("Executing <")]
    assert complaints == []
