# The callbacks that are ready, and how they are made and run.

from libc.stdint cimport uint64_t

from cpython.object cimport PyObject

from zerio_asyncio.core.threads cimport thread_load_size
from zerio_asyncio.core.timers cimport Timers


cdef class Scheduler(Timers):
    # --- asyncio's private names, which the standard library's loop reads and sets
    cdef public bint _stopping
    cdef public double slow_callback_duration
    cdef public object _current_handle
    cdef uint64_t runner           # the thread that runs the loop, `_thread_id`; 0 if none
    cdef dict future_keywords      # loop=self, made once

    cdef bint whole_run            # the next _run_once is run_forever's: ticks until stop

    # ready queue, in a circular array; 0 <= ready_count <= ready_mask + 1. The references are raw
    # pointers in malloc's memory; this class itself shows them to the collector.
    cdef PyObject **ready
    cdef Py_ssize_t ready_mask
    cdef Py_ssize_t ready_head
    cdef Py_ssize_t ready_count    # `ready_now` reads it without the lock

    # ready queue
    cdef int push(self, object handle) except -1
    cdef int _push_owned(self, PyObject *handle) except -1
    cdef object _take_first(self)
    cdef object _pop(self)
    cdef bint _grow_ready(self) noexcept
    cdef object _ready_at(self, Py_ssize_t index)
    cdef int _drop_callbacks(self) except -1
    cdef int _forget_context(self) except -1
    cdef void _show_known(self) noexcept
    cdef int _run_ready(self) except -1
    cdef int _run_timed(self, object handle) except -1
    cdef int _tell_if_slow(self, double start, object what) except -1

    cdef int _fire_timers(self) except -1

    cdef object _overridden_soon(self, object callback, tuple args, object context)

    # for endpoints
    cdef object soon(self, object callback, tuple args, object context)

    cdef int _keep_keywords(self, dict keywords) except -1
    cdef int _wake(self) except -1


# How many callbacks are ready: at least this many, since other threads only add to them.
cdef inline Py_ssize_t ready_now(Scheduler scheduler) noexcept:
    return thread_load_size(&scheduler.ready_count)
