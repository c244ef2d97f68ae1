"""Signals: add_signal_handler, bursts of them, and the keyboard's interrupt."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import sys
import threading
import time
import warnings
import weakref

import pytest

from .marks import beyond_proactor, with_posix_signals, with_spare_wakeup
from .support import SECONDS, WINDOWS, spin

pytestmark = beyond_proactor

if WINDOWS:
    USR1, USR2, HUP = signal.SIGBREAK, signal.SIGTERM, signal.SIGABRT
    WATCHED = (signal.SIGINT, USR1, USR2, HUP)
else:
    USR1, USR2, HUP = signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP
    WATCHED = (signal.SIGINT, signal.SIGTERM, HUP, USR1, USR2, signal.SIGCHLD)


def send_from_outside(number):
    """To the process, from another thread; on Windows handlers are called in such a one, too."""
    if WINDOWS:
        signal.raise_signal(number)
    else:
        os.kill(os.getpid(), number)


def send_to_main_thread(number):
    if WINDOWS:
        signal.raise_signal(number)
    else:
        signal.pthread_kill(threading.main_thread().ident, number)


@pytest.fixture(autouse=True)
def as_before():
    """Handlers and the wake-up descriptor are the process's; each test must leave them alone."""

    def state():
        descriptor = signal.set_wakeup_fd(-1)
        signal.set_wakeup_fd(descriptor)
        return descriptor, [signal.getsignal(number) for number in WATCHED]

    # A shell's background has it ignored, and asyncio gives Python's handler back whatever it was.
    outside = signal.signal(signal.SIGINT, signal.default_int_handler)
    before = state()
    yield
    assert state() == before
    signal.signal(signal.SIGINT, outside)


async def until(condition):
    """Without timers, so that nothing but what is tested wakes the loop; the test has a limit."""
    while not condition():
        await asyncio.sleep(0)


async def test_a_signal_runs_its_callback_on_the_loop(loop):
    seen = loop.create_future()
    loop.add_signal_handler(USR1, lambda *args: seen.set_result((args, threading.get_ident())), 1)
    signal.raise_signal(USR1)
    assert not seen.done()
    assert await asyncio.wait_for(seen, SECONDS) == ((1,), threading.get_ident())
    assert loop.remove_signal_handler(USR1)
    assert not loop.remove_signal_handler(USR1)


async def test_each_signal_has_its_handler_and_the_last_one_given_counts(loop):
    seen = []
    loop.add_signal_handler(USR1, seen.append, "replaced")
    loop.add_signal_handler(USR1, seen.append, "usr1")
    loop.add_signal_handler(USR2, seen.append, "usr2")
    loop.add_signal_handler(HUP, seen.append, "hup")
    for number in (USR1, HUP, USR2):
        signal.raise_signal(number)
    await until(lambda: len(seen) == 3)
    assert seen == ["usr1", "hup", "usr2"]
    assert loop.remove_signal_handler(USR1)
    signal.raise_signal(USR2)
    await until(lambda: len(seen) == 4)
    assert signal.getsignal(USR1) == signal.SIG_DFL
    for number in (USR2, HUP):
        assert loop.remove_signal_handler(number)


def test_a_signal_wakes_a_sleeping_loop(loop):
    """Sent from outside, to a loop that has nothing else to wake for."""
    loop.add_signal_handler(USR1, loop.stop)
    sender = threading.Timer(0.05, send_from_outside, (USR1,))
    sender.start()
    loop.run_forever()
    sender.join()
    loop.remove_signal_handler(USR1)


@with_posix_signals
def test_a_signal_that_another_thread_takes_wakes_the_loop(loop):
    """The system may deliver to any thread; the handler runs on the main thread's loop."""
    loop.add_signal_handler(USR1, loop.stop)

    def work():
        time.sleep(0.05)
        signal.pthread_kill(threading.get_ident(), USR1)

    thread = threading.Thread(target=work)
    thread.start()
    loop.run_forever()
    thread.join()
    loop.remove_signal_handler(USR1)


def test_signals_between_two_runs_are_kept(loop):
    seen = []
    loop.add_signal_handler(USR1, seen.append, 1)
    signal.raise_signal(USR1)
    loop.run_until_complete(until(lambda: seen))
    assert seen == [1]
    loop.remove_signal_handler(USR1)


async def test_a_burst_calls_for_each(loop):
    """As many as the self-pipe certainly has room for."""
    seen = []
    loop.add_signal_handler(USR1, seen.append, 1)
    for _ in range(100):
        signal.raise_signal(USR1)
    await until(lambda: len(seen) == 100)
    await spin()
    assert len(seen) == 100
    loop.remove_signal_handler(USR1)


@pytest.mark.ours  # the standard loop loses what finds its self-pipe full, and complains
async def test_a_flood_hides_no_other_signal(loop, capfd):
    seen = []
    loop.add_signal_handler(USR1, seen.append, "usr1")
    loop.add_signal_handler(USR2, seen.append, "usr2")
    for _ in range(3000):
        signal.raise_signal(USR1)
    signal.raise_signal(USR2)
    await until(lambda: "usr2" in seen)
    await spin()
    assert seen.count("usr2") == 1
    assert 100 < seen.count("usr1") <= 3000
    assert capfd.readouterr().err == ""
    for number in (USR1, USR2):
        loop.remove_signal_handler(number)


@pytest.mark.ours  # the standard loop's threads write where signals are written
def test_wake_ups_of_threads_hide_no_signal(loop):
    """While the loop is kept from running, other threads call it as much as they like."""
    seen = []
    counted = []
    loop.add_signal_handler(USR1, seen.append, "usr1")

    def occupied():
        def call():
            for _ in range(5000):
                loop.call_soon_threadsafe(counted.append, 1)

        threads = [threading.Thread(target=call) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        signal.raise_signal(USR1)

    loop.call_soon(occupied)
    loop.run_until_complete(until(lambda: seen))
    assert seen == ["usr1"]
    loop.run_until_complete(until(lambda: len(counted) == 20_000))
    loop.remove_signal_handler(USR1)


async def test_handlers_that_add_and_remove_handlers(loop):
    seen = []

    def first():
        seen.append("first")
        loop.remove_signal_handler(USR1)
        loop.add_signal_handler(USR1, seen.append, "second")

    loop.add_signal_handler(USR1, first)
    signal.raise_signal(USR1)
    await until(lambda: seen)
    signal.raise_signal(USR1)
    await until(lambda: len(seen) == 2)
    assert seen == ["first", "second"]
    loop.remove_signal_handler(USR1)


async def test_an_exception_in_a_handler(loop, caught):
    seen = []
    loop.add_signal_handler(USR1, lambda: seen.append(1) or 1 / 0)
    for _ in range(2):
        signal.raise_signal(USR1)
    await until(lambda: len(seen) == 2)
    assert [type(context["exception"]) for context in caught.take()] == [ZeroDivisionError] * 2
    loop.remove_signal_handler(USR1)


# ---------------------------------------------------------------- refusals, ends


async def test_what_cannot_be_handled(loop):
    async def coroutine():
        raise AssertionError("not to be called")

    with pytest.raises(TypeError):
        loop.add_signal_handler(USR1, coroutine)
    with pytest.raises(ValueError):
        loop.add_signal_handler(signal.NSIG + 1000, print)
    with pytest.raises(TypeError):
        loop.add_signal_handler("SIGUSR1", print)
    with pytest.raises(ValueError):
        loop.remove_signal_handler(signal.NSIG + 1000)
    for number in () if WINDOWS else (signal.SIGKILL, signal.SIGSTOP):
        with pytest.raises((RuntimeError, OSError)):
            loop.add_signal_handler(number, print)


def test_handlers_belong_to_the_main_thread(loop):
    errors = []

    def work():
        with pytest.raises(RuntimeError) as caught:
            loop.add_signal_handler(USR1, print)
        errors.append(caught.value)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert "main thread" in str(errors[0])


def test_closing_the_loop_gives_signals_back(new_loop):
    loop = new_loop()
    loop.add_signal_handler(signal.SIGINT, print)
    loop.add_signal_handler(USR1, print)
    loop.close()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(USR1) == signal.SIG_DFL
    assert signal.set_wakeup_fd(-1) == -1
    with pytest.raises(RuntimeError):
        loop.add_signal_handler(USR1, print)


def test_a_handler_keeps_no_loop_alive(new_loop, kind):
    from .support import make_loop

    loop = make_loop(kind)
    loop.add_signal_handler(USR1, print)
    watch = weakref.ref(loop)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        del loop
        gc.collect()
    assert watch() is None
    signal.signal(USR1, signal.SIG_DFL)
    signal.set_wakeup_fd(-1)


@with_spare_wakeup
def test_a_wake_up_descriptor_of_somebody_else(loop):
    """Without signal handlers of its own the loop leaves it alone."""
    ours, theirs = socket.socketpair()
    for sock in (ours, theirs):
        sock.setblocking(False)
    before = signal.signal(USR1, lambda *_: None)
    assert signal.set_wakeup_fd(theirs.fileno()) == -1
    try:
        loop.run_until_complete(asyncio.sleep(0))
        signal.raise_signal(USR1)
        assert ours.recv(10) == bytes([USR1])
    finally:
        assert signal.set_wakeup_fd(-1) == theirs.fileno()
        signal.signal(USR1, before)
        ours.close()
        theirs.close()


OTHERS = {
    "ours": lambda new_loop: new_loop(),
    "standard": lambda new_loop: asyncio.SelectorEventLoop(),
}


@pytest.mark.ours  # the standard loop is deaf after that
@with_posix_signals
@pytest.mark.parametrize("how", ["closed", "without handlers", "still open"])
@pytest.mark.parametrize("other", OTHERS)
def test_another_loop_does_not_silence_this_one(new_loop, other, how):
    loop = new_loop()
    heard = []

    def hear():
        heard.append("here")
        loop.call_later(0.02, loop.stop)  # once, although it is told in two ways

    loop.add_signal_handler(USR1, hear)
    loop.run_until_complete(asyncio.sleep(0))
    second = OTHERS[other](new_loop)
    second.add_signal_handler(USR2, heard.append, "there")
    if how == "closed":
        second.close()
    elif how == "without handlers":
        second.remove_signal_handler(USR2)
    for count in range(1, 4):
        timer = threading.Timer(0.02, send_to_main_thread, (USR1,))
        timer.start()
        loop.run_forever()
        timer.join()
        assert heard == ["here"] * count
    if how == "still open":
        signal.raise_signal(USR2)
        second.run_until_complete(asyncio.sleep(0.01))
        assert heard[3:] == ["there"]
    second.close()
    loop.remove_signal_handler(USR1)


@pytest.mark.ours
@with_posix_signals
def test_who_takes_the_wake_up_descriptor_has_it_and_the_loop_hears_all_the_same(loop):
    heard = []
    loop.add_signal_handler(USR1, heard.append, "heard")
    ours, theirs = socket.socketpair()
    for sock in (ours, theirs):
        sock.setblocking(False)
    signal.set_wakeup_fd(theirs.fileno())
    signal.raise_signal(USR1)
    loop.run_until_complete(asyncio.sleep(0.01))
    signal.raise_signal(USR1)
    loop.run_until_complete(asyncio.sleep(0.01))
    assert heard == ["heard"] * 2
    assert ours.recv(10) == bytes([USR1, USR1])
    assert signal.set_wakeup_fd(-1) == theirs.fileno()
    loop.remove_signal_handler(USR1)
    ours.close()
    theirs.close()


@pytest.mark.ours
@with_posix_signals
def test_a_wake_up_descriptor_that_was_closed_hides_no_signal(loop, monkeypatch):
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)  # the interpreter complains
    heard = []
    loop.add_signal_handler(USR1, heard.append, "heard")
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    ours.close()
    theirs.close()
    for count in (1, 2):
        signal.raise_signal(USR1)
        loop.run_until_complete(asyncio.sleep(0.01))
        assert heard == ["heard"] * count
    loop.remove_signal_handler(USR1)


# ------------------------------------------------------------ KeyboardInterrupt


def interrupt_soon():
    timer = threading.Timer(0.05, send_to_main_thread, (signal.SIGINT,))
    timer.start()
    return timer


def test_an_interrupt_leaves_a_sleeping_loop_that_runs_on(loop):
    """KeyboardInterrupt must leave run_forever although nothing else ever happens."""
    timer = interrupt_soon()
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    timer.join()
    assert loop.run_until_complete(asyncio.sleep(0, "alive")) == "alive"


def test_interrupts_leave_a_loop_that_is_busy(loop):
    for _ in range(5):

        def again():
            loop.call_soon(again)

        loop.call_soon(again)
        timer = interrupt_soon()
        with pytest.raises(KeyboardInterrupt):
            loop.run_forever()
        timer.join()


def test_a_plain_python_handler_runs_while_the_loop_sleeps(loop):
    seen = []
    before = signal.signal(USR1, lambda *_: (seen.append(1), loop.call_soon_threadsafe(loop.stop)))
    timer = threading.Timer(0.05, send_to_main_thread, (USR1,))
    timer.start()
    try:
        loop.run_forever()
    finally:
        timer.join()
        signal.signal(USR1, before)
    assert seen == [1]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.Runner is new in 3.11")
class TestRunner:
    """The first interrupt cancels the main task, a second one ends it all."""

    def test_it_cancels_the_main_task(self, new_loop):
        ends = []

        async def main():
            signal.raise_signal(signal.SIGINT)
            try:
                await asyncio.sleep(SECONDS)
            except asyncio.CancelledError:
                await asyncio.sleep(0.001)  # a clean end may take its time
                ends.append("cancelled")
                raise

        with asyncio.Runner(loop_factory=new_loop) as runner:
            with pytest.raises(KeyboardInterrupt):
                runner.run(main())
            assert ends == ["cancelled"]
            assert runner.run(asyncio.sleep(0, "alive")) == "alive"

    def test_it_wakes_a_main_task_that_waits_for_ever(self, new_loop):
        async def main():
            timer = interrupt_soon()
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                timer.join()

        with asyncio.Runner(loop_factory=new_loop) as runner, pytest.raises(KeyboardInterrupt):
            runner.run(main())

    def test_a_task_that_swallows_it_returns(self, new_loop):
        async def main():
            try:
                signal.raise_signal(signal.SIGINT)
                await asyncio.sleep(SECONDS)
            except asyncio.CancelledError:
                asyncio.current_task().uncancel()
                return "swallowed"

        with asyncio.Runner(loop_factory=new_loop) as runner:
            assert runner.run(main()) == "swallowed"

    def test_the_second_one_does_not_wait(self, new_loop):
        async def main():
            while True:
                try:
                    signal.raise_signal(signal.SIGINT)
                    await asyncio.sleep(SECONDS)
                except asyncio.CancelledError:
                    signal.raise_signal(signal.SIGINT)

        with asyncio.Runner(loop_factory=new_loop) as runner, pytest.raises(KeyboardInterrupt):
            runner.run(main())
