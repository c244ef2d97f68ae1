"""Scheduler: the callbacks that are ready, and how they are made and run.

The ready queue is a circular array of raw pointers, the timers are a heap (timers.pyx). Both refer
to objects that Cython does not know, so this class shows them to the collector itself (at the end).
The collector would see a list, too, but so would anyone who asks it for its objects, with null in
the free places; and growing a list may trigger a collection in the middle of what calls it.

Without the GIL a lock guards the queues; anything else that several threads use is one word.

asyncio's own name for the ready queue, ``_ready``, shows it as a view (views.py).
"""

import asyncio
import sys
from asyncio import Future, base_events, format_helpers, tasks

from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc
from cpython.object cimport PyObject, PyTypeObject, inquiry, traverseproc
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport uint32_t, uint64_t

from zerio_asyncio.core.handles cimport (
    Handle, TimerHandle, is_hidden, is_known, new_handle, new_shared_handle, run_is_patched, show,
    show_if_known)
from zerio_asyncio.core.overrides cimport (
    OVERRIDE_CALL_SOON, OVERRIDE_PRIVATE_CALL_SOON, OVERRIDE_WRITE_TO_SELF, overrides_of)
from zerio_asyncio.core.threads cimport (
    FREE_THREADED, thread_load_int, thread_load_size, thread_load_word, thread_lock_give,
    thread_lock_take, thread_store_int, thread_store_size, thread_store_word)
from zerio_asyncio.core.timers cimport Timers

from zerio_asyncio.core.views import ReadyQueue

cdef extern from "Python.h":
    object PyObject_Call(object, tuple, dict)
    void Py_DECREF_ "Py_DECREF"(PyObject *) noexcept
    PyTypeObject *Py_TYPE(PyObject *) noexcept

cdef extern from "pythread.h":
    unsigned long PyThread_get_thread_ident() noexcept

# What a task takes from create_task, in each version's; more is for that version's own method.
# None: whatever a task takes.
cdef frozenset TASK_OPTIONS = None
if base_events.BaseEventLoop.create_task.__kwdefaults__ is not None:
    TASK_OPTIONS = frozenset(base_events.BaseEventLoop.create_task.__kwdefaults__)
# Some programs replace the class, so it is looked up each time.
cdef dict tasks_module = vars(tasks)

# From 3.14 on, asyncio does not make the handles of call_soon_threadsafe by _call_soon.
cdef bint MADE_APART = sys.version_info >= (3, 14)

cdef enum:
    READY_ROOM = 64        # first size of the ready queue, a power of two


cdef class Scheduler(Timers):
    """Ready handles; see the top of this module."""

    def __cinit__(self, *args, **kwargs):
        self.ready = <PyObject **>PyMem_RawMalloc(READY_ROOM * sizeof(PyObject *))
        if self.ready is NULL:
            raise MemoryError("no memory for a loop")
        self.ready_mask = READY_ROOM - 1
        # Opened by the standard library's __init__: before that there is nothing to close.
        self.closed = True
        self.slow_callback_duration = 0.1

    def __dealloc__(self):
        while ready_now(self):
            self._pop()
        PyMem_RawFree(self.ready)

    cdef int _wake(self) except -1:
        """Something was made ready, perhaps by another thread: end the loop's sleep."""
        return 0

    def _forget_callbacks(self):
        self._drop_callbacks()

    cdef int _drop_callbacks(self) except -1:
        self._forget_context()
        while ready_now(self):
            self._pop()
        return self._forget_timers()

    cdef int _forget_context(self) except -1:
        cdef object before = None
        self.copied_variables = NULL
        before, self.copied_context = self.copied_context, None
        return 0  # it is released here

    cdef void _show_known(self) noexcept:
        """The loop stops: the collector must know of the handles that others may have."""
        cdef Py_ssize_t i
        for i in range(0 if FREE_THREADED else self.ready_count):
            show_if_known(self.ready[(self.ready_head + i) & self.ready_mask], 1)
        self._show_known_timers()

    cdef object _overridden_soon(self, object callback, tuple args, object context):
        handle = self._call_soon(callback, args, context)
        if handle._source_traceback:
            del handle._source_traceback[-1]
        return handle

    cdef bint runs_elsewhere(self) noexcept:
        cdef uint64_t runner = thread_load_word(&self.runner)
        return runner != 0 and runner != PyThread_get_thread_ident()

    # ----------------------------------------------------------- scheduling

    def get_debug(self):
        """Whether debug mode is on; each new future asks."""
        return self._debug

    def is_running(self):
        """Whether the loop runs; each eager task asks."""
        return thread_load_word(&self.runner) != 0

    def create_future(self):
        """A future of this loop."""
        cdef dict keywords
        thread_lock_take(&self.lock)
        keywords = self.future_keywords
        thread_lock_give(&self.lock)
        if keywords is None:
            keywords = {"loop": self}
            self._keep_keywords(keywords)
        return PyObject_Call(Future, (), keywords)

    def create_task(self, coro, **options):
        """Make a task of a coroutine; see ``asyncio.loop.create_task``."""
        if (self._debug or self._task_factory is not None
                or (options and ("loop" in options if TASK_OPTIONS is None
                                 else not TASK_OPTIONS.issuperset(options)))):
            return super(Scheduler, self).create_task(coro, **options)
        if thread_load_int(&self.closed):
            raise RuntimeError("Event loop is closed")
        options["loop"] = self
        return PyObject_Call(tasks_module["Task"], (coro,), options)

    cdef int _keep_keywords(self, dict keywords) except -1:
        cdef dict before = None
        thread_lock_take(&self.lock)
        before, self.future_keywords = self.future_keywords, keywords
        thread_lock_give(&self.lock)
        return 0  # what was there is released here

    @property
    def _thread_id(self):
        cdef uint64_t runner = thread_load_word(&self.runner)
        return runner if runner else None

    @_thread_id.setter
    def _thread_id(self, ident):
        thread_store_word(&self.runner, 0 if ident is None else ident)

    def call_soon(self, callback, *args, context=None):
        """Run ``callback(*args)`` in the next tick; see ``asyncio.loop.call_soon``."""
        if thread_load_int(&self.closed):
            raise RuntimeError("Event loop is closed")
        if self._debug:
            self._check_thread()
            self._check_callback(callback, "call_soon")
        if overrides_of(self) & OVERRIDE_PRIVATE_CALL_SOON:
            return self._overridden_soon(callback, args, context)
        cdef Handle handle = new_handle(self, callback, args, context)
        if self._debug:
            handle._source_traceback = format_helpers.extract_stack(sys._getframe())
        self.push(handle)
        return handle

    def call_soon_threadsafe(self, callback, *args, context=None):
        """Like ``call_soon``, from any thread; wakes a sleeping loop."""
        if thread_load_int(&self.closed):
            raise RuntimeError("Event loop is closed")
        if self._debug:
            self._check_callback(callback, "call_soon_threadsafe")
        cdef uint32_t overrides = overrides_of(self)
        cdef object handle
        if overrides & OVERRIDE_PRIVATE_CALL_SOON and not MADE_APART:
            handle = self._overridden_soon(callback, args, context)
        else:
            handle = new_shared_handle(self, callback, args, context)
            if self._debug:
                handle._source_traceback = format_helpers.extract_stack(sys._getframe())
            self.push(handle)
        if overrides & OVERRIDE_WRITE_TO_SELF:
            self._write_to_self()
        else:
            self._wake()
        return handle

    def _add_callback(self, handle):
        """A ready file descriptor's handle, from the standard library's ``_process_events``."""
        if not handle._cancelled:
            self.push(handle)

    def _add_callback_signalsafe(self, handle):
        self._add_callback(handle)
        self._write_to_self()

    def _write_to_self(self):
        self._wake()

    cdef object soon(self, object callback, tuple args, object context):
        if overrides_of(self) & (OVERRIDE_CALL_SOON | OVERRIDE_PRIVATE_CALL_SOON):
            return self.call_soon(callback, *args, context=context)
        if thread_load_int(&self.closed):
            raise RuntimeError("Event loop is closed")
        cdef Handle handle = new_handle(self, callback, args, context)
        if self._debug:
            handle._source_traceback = format_helpers.extract_stack(sys._getframe())
        self.push(handle)
        return handle

    # ---------------------------------------------------------- ready queue

    cdef int push(self, object handle) except -1:
        Py_INCREF(handle)
        return self._push_owned(<PyObject *>handle)

    cdef int _push_owned(self, PyObject *handle) except -1:
        """With the caller's reference."""
        cdef bint room
        thread_lock_take(&self.lock)
        room = self.ready_count <= self.ready_mask or self._grow_ready()
        if room:
            self.ready[(self.ready_head + self.ready_count) & self.ready_mask] = handle
            thread_store_size(&self.ready_count, self.ready_count + 1)
        thread_lock_give(&self.lock)
        if not room:
            show_if_known(handle, 1)
            Py_DECREF_(handle)
            raise MemoryError("no memory for another callback")
        return 0

    cdef bint _grow_ready(self) noexcept:
        cdef Py_ssize_t room = (self.ready_mask + 1) * 2
        cdef PyObject **ready = <PyObject **>PyMem_RawMalloc(room * sizeof(PyObject *))
        cdef Py_ssize_t i
        if ready is NULL:
            return False
        for i in range(self.ready_count):
            ready[i] = self.ready[(self.ready_head + i) & self.ready_mask]
        PyMem_RawFree(self.ready)
        self.ready = ready
        self.ready_mask = room - 1
        self.ready_head = 0
        return True

    cdef object _pop(self):
        """Take out the first one; there must be one."""
        cdef object handle = self._take_first()
        show(<PyObject *>handle)
        return handle

    cdef object _take_first(self):
        cdef PyObject *item
        cdef object handle
        thread_lock_take(&self.lock)
        item = self.ready[self.ready_head]
        self.ready_head = (self.ready_head + 1) & self.ready_mask
        thread_store_size(&self.ready_count, self.ready_count - 1)
        thread_lock_give(&self.lock)
        handle = <object>item
        Py_DECREF(handle)
        return handle

    cdef object _ready_at(self, Py_ssize_t index):
        cdef object handle = None
        thread_lock_take(&self.lock)
        if index < self.ready_count:
            handle = <object>self.ready[(self.ready_head + index) & self.ready_mask]
            show(<PyObject *>handle)
        thread_lock_give(&self.lock)
        return handle

    cdef int _run_ready(self) except -1:
        # Exactly those ready now: what they add waits for the next tick.
        cdef Py_ssize_t left = ready_now(self)
        cdef bint patched = run_is_patched()
        cdef object handle
        while left and ready_now(self):
            left -= 1
            handle = self._take_first()
            if isinstance(handle, Handle):
                if self._debug:
                    show(<PyObject *>handle)
                else:
                    show_if_known(<PyObject *>handle, 1)
                if not thread_load_int(<int *>&(<Handle>handle)._cancelled):
                    if self._debug:
                        self._run_timed(handle)
                    elif patched:
                        handle._run()
                    else:
                        (<Handle>handle).run()
            elif not handle._cancelled:  # the standard library's, from add_reader and signals
                if self._debug:
                    self._run_timed(handle)
                else:
                    handle._run()
        return 0

    cdef int _run_timed(self, object handle) except -1:
        cdef double start = self._now()
        self._current_handle = handle
        try:
            handle._run()
        finally:
            self._current_handle = None
        self._tell_if_slow(start, handle)
        return 0

    cdef int _tell_if_slow(self, double start, object what) except -1:
        cdef double took = self._now() - start
        if took >= self.slow_callback_duration:
            if isinstance(what, Handle):
                what = (<Handle>what).described()
            elif isinstance(what, asyncio.Handle):
                what = base_events._format_handle(what)
            base_events.logger.warning("Executing %s took %.3f seconds", what, took)
        return 0

    # --------------------------------------------------------------- timers

    cdef int _fire_timers(self) except -1:
        # As in asyncio: what falls due within the clock's resolution is due.
        cdef double end = self._now() + self._clock_resolution
        cdef PyObject *handle
        while True:
            handle = self._timer_due(end)
            if handle is NULL:
                return 0
            self._push_owned(handle)

    # --------------------------------------- asyncio's name for the ready queue

    @property
    def _ready(self):
        """The ready handles, live; see views.py."""
        return ReadyQueue(self)

    @_ready.setter
    def _ready(self, handles):
        self._ready_replace(ready_now(self), list(handles))

    def _ready_list(self):
        """The ready handles, the first one first."""
        cdef list handles = []
        cdef Py_ssize_t i
        for i in range(ready_now(self)):  # nothing here triggers a collection: the list exists
            handles.append(self._ready_at(i))
        return handles

    def _ready_total(self):
        return ready_now(self)

    def _ready_add(self, handle):
        """Append it; a timer's handle leaves the timers."""
        if isinstance(handle, TimerHandle):
            self.timer_cancelled(handle)
        self.push(handle)

    def _ready_first(self):
        """Take the first one out."""
        if not ready_now(self):
            raise IndexError("pop from an empty deque")
        return self._pop()

    def _ready_replace(self, Py_ssize_t count, list handles):
        """Replace the first ``count`` with ``handles``."""
        cdef list before = []
        while ready_now(self):
            before.append(self._pop())
        for handle in handles:
            self._ready_add(handle)
        for handle in before[count:]:
            self.push(handle)

# ------------------------------------------------------------------ what the collector sees

# The ready queue and the timers refer to objects that Cython does not know. The collector would see
# a list, but so would anyone who asks it for its objects, with null in the free places; and growing
# a list may trigger a collection in the middle of what calls it.

# As C declares them: a result other than 0 is the visitor's, not an exception.
ctypedef int (*visit_function)(PyObject *, void *) noexcept
ctypedef int (*traverse_function)(PyObject *, visit_function, void *) noexcept
ctypedef int (*clear_function)(PyObject *) noexcept

cdef PyTypeObject *scheduler_type = <PyTypeObject *>Scheduler
cdef traverse_function traverse_fields = <traverse_function><void *>scheduler_type.tp_traverse
cdef clear_function clear_fields = <clear_function><void *>scheduler_type.tp_clear


cdef int visit_handle(PyObject *handle, visit_function visit, void *argument) noexcept:
    if not is_hidden(handle):
        return visit(handle, argument)
    if is_known(handle, 1):
        return 0  # somebody has it: what it refers to counts as referred to from outside
    return (<traverse_function><void *>Py_TYPE(handle).tp_traverse)(handle, visit, argument)


cdef int traverse(PyObject *scheduler, visit_function visit, void *argument) noexcept:
    cdef Py_ssize_t i, j
    cdef int answer
    for i in range((<Scheduler>scheduler).ready_count):
        answer = visit_handle(
            (<Scheduler>scheduler).ready[((<Scheduler>scheduler).ready_head + i)
                                         & (<Scheduler>scheduler).ready_mask], visit, argument)
        if answer:
            return answer
    for j in range((<Scheduler>scheduler).slots_used):
        if (<Scheduler>scheduler).slots[j].handle is not NULL:
            answer = visit_handle((<Scheduler>scheduler).slots[j].handle, visit, argument)
            if answer:
                return answer
    return traverse_fields(scheduler, visit, argument)


cdef int clear(PyObject *scheduler) noexcept:
    # Not by a name: the collector may have cleared the class already.
    (<Scheduler>scheduler)._drop_callbacks()
    return clear_fields(scheduler)


scheduler_type.tp_traverse = <traverseproc><void *>traverse
scheduler_type.tp_clear = <inquiry><void *>clear
