"""Handle and TimerHandle: the attributes, the text and the order that programs rely on."""

from __future__ import annotations

import asyncio
import contextvars
import sys
import threading
import time

import pytest


def callback(*arguments):
    pass  # pragma: no cover


def test_handles_are_asyncio_handles(loop):
    soon = loop.call_soon(callback)
    later = loop.call_later(1, callback)
    assert isinstance(soon, asyncio.Handle)
    assert not isinstance(soon, asyncio.TimerHandle)
    assert isinstance(later, asyncio.Handle)
    assert isinstance(later, asyncio.TimerHandle)


def test_attributes_that_debuggers_and_libraries_read(loop):
    handle = loop.call_soon(callback, 1, 2)
    assert handle._callback is callback
    assert tuple(handle._args) == (1, 2)
    assert handle._loop is loop
    assert handle._cancelled is False
    assert isinstance(handle._context, contextvars.Context)
    timer = loop.call_at(5.5, callback)
    assert timer.when() == 5.5
    assert timer._scheduled is True


def test_cancelling_lets_go_of_the_callback_and_its_arguments(loop):
    handle = loop.call_soon(callback, 1)
    assert not handle.cancelled()
    handle.cancel()
    assert handle.cancelled()
    assert handle._callback is None
    assert handle._args is None


def test_repr_names_the_function_and_where_it_stands(loop):
    text = repr(loop.call_soon(callback, 1, "two"))
    assert text.startswith("<Handle ")
    # From 3.13 on arguments are shown in debug mode alone.
    shown = "callback()" if sys.version_info >= (3, 13) else "callback(1, 'two')"
    assert shown in text
    assert "test_handles.py" in text
    loop.set_debug(True)
    assert "callback(1, 'two')" in repr(loop.call_soon(callback, 1, "two"))
    loop.set_debug(False)
    timer = repr(loop.call_at(123456.5, callback))
    assert timer.startswith("<TimerHandle when=123456.5")


def test_repr_of_a_cancelled_handle(loop):
    loop.set_debug(False)
    handle = loop.call_soon(callback)
    handle.cancel()
    assert repr(handle) == "<Handle cancelled>"
    timer = loop.call_later(1, callback)
    timer.cancel()
    assert "cancelled" in repr(timer)


def test_debug_mode_keeps_the_traceback_of_the_call(loop):
    loop.set_debug(False)
    assert loop.call_soon(callback)._source_traceback is None
    loop.set_debug(True)
    handle = loop.call_soon(callback)
    assert handle._source_traceback[-1].name == "test_debug_mode_keeps_the_traceback_of_the_call"
    assert "created at" in repr(handle)
    assert "test_handles.py" in repr(handle)
    timer = loop.call_later(1, callback)
    assert timer._source_traceback[-1].filename == __file__


def test_debug_mode_remembers_what_a_cancelled_handle_was(loop):
    loop.set_debug(True)
    handle = loop.call_soon(callback)
    handle.cancel()
    assert "cancelled" in repr(handle)
    assert "callback" in repr(handle)


def test_timers_compare_by_time(loop):
    early, late, same = (loop.call_at(when, callback) for when in (1.0, 2.0, 1.0))
    assert early < late
    assert early <= late
    assert late > early
    assert late >= early
    assert early <= same
    assert early >= same
    assert early == early
    assert early != late
    with pytest.raises(TypeError):
        early < 3  # noqa: B015 - the comparison itself is under test


def test_handles_hash(loop):
    handle = loop.call_soon(callback)
    timer = loop.call_later(1, callback)
    assert {handle: 1, timer: 2}[handle] == 1
    assert {handle: 1, timer: 2}[timer] == 2


@pytest.mark.skipif(sys.version_info < (3, 12), reason="Handle.get_context() is new in 3.12")
def test_get_context_answers_the_context_that_was_given(loop):
    context = contextvars.copy_context()
    assert loop.call_soon(callback, context=context).get_context() is context
    assert loop.call_later(1, callback, context=context).get_context() is context


async def test_a_handle_lets_go_of_its_arguments_after_the_run(loop):
    class Thing:
        alive = 0

        def __init__(self):
            Thing.alive += 1

        def __del__(self):
            Thing.alive -= 1

    loop.call_soon(callback, Thing())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert Thing.alive == 0


async def test_handles_kept_by_the_caller_are_never_reused(loop):
    """A free list must not hand out a handle that somebody still holds."""
    seen = []
    kept = loop.call_soon(seen.append, "first")
    await asyncio.sleep(0)
    others = [loop.call_soon(seen.append, n) for n in range(10)]
    assert kept not in others
    kept.cancel()
    await asyncio.sleep(0)
    assert seen == ["first", *range(10)]


@pytest.mark.skipif(sys.version_info < (3, 14), reason="such handles may be shared from 3.14 on")
@pytest.mark.parametrize("question", ["cancel", "cancelled"])
async def test_who_asks_a_threadsafe_handle_waits_for_its_callback(loop, question):
    began, ended = threading.Event(), threading.Event()

    def slow():
        began.set()
        time.sleep(0.05)
        ended.set()

    def ask():
        handle = loop.call_soon_threadsafe(slow)
        began.wait()
        answer = getattr(handle, question)()
        return answer, ended.is_set()

    assert await asyncio.to_thread(ask) == (None if question == "cancel" else False, True)


async def test_a_threadsafe_handle_that_is_cancelled_in_time_and_by_its_own_callback(loop):
    seen = []
    loop.call_soon_threadsafe(seen.append, "cancelled").cancel()

    def cancel_itself():
        handle.cancel()
        seen.append("ran")

    handle = loop.call_soon_threadsafe(cancel_itself)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert seen == ["ran"]
    assert handle.cancelled()
