"""Our handles beside asyncio's: same attributes, same text, same answers."""

from __future__ import annotations

import asyncio
import contextvars
import functools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerio_asyncio.core import handles


class Loop:
    """As much of a loop as a handle asks for."""

    def __init__(self, debug=False):
        self.debug = debug
        self.contexts = []

    def get_debug(self):
        return self.debug

    def call_exception_handler(self, context):
        self.contexts.append(context)

    def _timer_handle_cancelled(self, handle):
        pass


def function(*arguments):
    return arguments


class Method:
    def method(self):
        pass


CALLBACKS = [
    (function, ()),
    (function, (1, "two", None)),
    (functools.partial(function, 1), (2,)),
    (Method().method, ()),
    (print, ("x",)),
    (lambda: None, ()),
]


@pytest.mark.parametrize(("callback", "arguments"), CALLBACKS)
@pytest.mark.parametrize("cancelled", [False, True])
def test_handles_read_as_asyncios(callback, arguments, cancelled):
    loop = Loop()
    ours = handles.Handle(callback, arguments, loop)
    theirs = asyncio.Handle(callback, arguments, loop)
    if cancelled:
        ours.cancel()
        theirs.cancel()
    assert repr(ours) == repr(theirs)
    for name in ("_callback", "_args", "_loop", "_cancelled", "_source_traceback", "_repr"):
        assert getattr(ours, name) == getattr(theirs, name), name


@pytest.mark.parametrize("cancelled", [False, True])
def test_timers_read_as_asyncios(cancelled):
    loop = Loop()
    ours = handles.TimerHandle(12.5, function, (1,), loop)
    theirs = asyncio.TimerHandle(12.5, function, (1,), loop)
    if cancelled:
        ours.cancel()
        theirs.cancel()
    assert repr(ours) == repr(theirs)
    assert ours.when() == theirs.when()
    assert hash(ours) == hash(theirs)


def test_all_public_names_of_asyncios_handles_exist():
    for ours, theirs in (
        (handles.Handle, asyncio.Handle),
        (handles.TimerHandle, asyncio.TimerHandle),
    ):
        missing = {name for name in dir(theirs) if not name.startswith("__")} - set(dir(ours))
        assert missing <= {"_run"}, missing


TIMES = st.floats(min_value=-5, max_value=5)


@given(one=TIMES, other=TIMES, cancel=st.booleans())
def test_timers_compare_as_asyncios(one, other, cancel):
    loop = Loop()
    ours = [handles.TimerHandle(when, function, (), loop) for when in (one, other)]
    theirs = [asyncio.TimerHandle(when, function, (), loop) for when in (one, other)]
    if cancel:
        ours[0].cancel()
        theirs[0].cancel()
    for operation in ("__lt__", "__le__", "__gt__", "__ge__", "__eq__", "__ne__"):
        answers = [getattr(pair[0], operation)(pair[1]) for pair in (ours, theirs)]
        assert answers[0] == answers[1], operation


def test_run_by_hand():
    loop = Loop()
    seen = []
    handles.Handle(seen.append, (1,), loop)._run()
    assert seen == [1]
    handle = handles.Handle(lambda: 1 / 0, (), loop)
    handle._run()
    assert isinstance(loop.contexts[0]["exception"], ZeroDivisionError)
    assert loop.contexts[0]["handle"] is handle


@pytest.mark.parametrize("leave", [KeyboardInterrupt, SystemExit])
def test_exceptions_that_leave_the_loop_leave_the_handle(leave):
    def callback():
        raise leave

    loop = Loop()
    with pytest.raises(leave):
        handles.Handle(callback, (), loop)._run()
    assert loop.contexts == []


def test_the_context_is_left_after_a_failure():
    mark = contextvars.ContextVar("mark", default="outside")
    context = contextvars.copy_context()

    def fail():
        mark.set("inside")
        raise LookupError

    handle = handles.Handle(fail, (), Loop(), context)
    handle._run()
    handle._run()  # entering again works only if it was left
    assert mark.get() == "outside"
    assert context[mark] == "inside"


def test_arguments_that_are_no_tuple():
    """Nobody of asyncio's makes such a handle, but its class takes one."""
    seen = []
    handles.Handle(lambda *arguments: seen.append(arguments), [1, 2], Loop())._run()
    assert seen == [(1, 2)]


def test_the_source_is_remembered_in_debug_mode_alone():
    assert handles.Handle(function, (), Loop())._source_traceback is None
    handle = handles.Handle(function, (), Loop(debug=True))
    assert "test_handles.py" in repr(handle)


@pytest.mark.parametrize("arguments", [(), (function,), (function, ()), (1, 2, 3, 4, 5, 6)])
def test_wrong_arguments(arguments):
    with pytest.raises(TypeError):
        handles.Handle(*arguments)


def test_a_timer_needs_a_time():
    with pytest.raises((TypeError, AssertionError)):
        handles.TimerHandle(None, function, (), Loop())
