# Callbacks that are ready, timers, and what programs put in the place of ours.

from libc.stdint cimport uint32_t, uint64_t

from cpython.object cimport PyObject

from zerio_asyncio.core.handles cimport Handle, TimerHandle
from zerio_asyncio.core.threads cimport thread_load_size, thread_load_word
from zerio_asyncio.core.timers cimport Timers

cdef extern from "Python.h":
    ctypedef struct Type "PyTypeObject":
        unsigned int tp_version_tag
    Type *type_of "Py_TYPE"(object)

# What programs put in the place of a loop's own methods, in a class or on an instance.
cdef enum Hook:
    HOOK_TIME = 1
    HOOK_CALL_AT = 2
    HOOK_CALL_SOON = 4
    HOOK_PRIVATE_CALL_SOON = 8     # _call_soon, through which the standard library's two go
    HOOK_WRITE_TO_SELF = 16
    HOOK_RUN_ONCE = 32
    HOOK_SELECT = 64               # the selector's select, or the loop's _process_events


cdef class Scheduler(Timers):
    # --- asyncio's private names, which the standard library's loop reads and sets
    cdef public bint _stopping
    cdef public bint _debug
    cdef public double slow_callback_duration
    cdef public double _clock_resolution
    cdef public object _current_handle
    cdef int closed                # `_closed`
    cdef uint64_t runner           # the thread that runs the loop, `_thread_id`; 0 is none
    cdef dict future_keywords      # loop=self, made once

    # --- what programs have put in the place of our own, looked up anew when the class's version
    # tag is not the one noted here, and after any such attribute of the instance was set
    cdef uint64_t hooks_seen       # the tag, above the 32 bits of what was found
    cdef bint whole_run            # the next _run_once is run_forever's: ticks until stop
    cdef object timer_view         # a weak reference to the list that `_scheduled` has shown

    # --- ready queue: a ring; 0 <= ready_count <= ready_mask + 1. The references are raw pointers
    # in malloc's memory; the engine shows them to the collector itself.
    cdef PyObject **ready
    cdef Py_ssize_t ready_mask
    cdef Py_ssize_t ready_head
    cdef Py_ssize_t ready_count    # `ready_now` reads it without the lock

    # ready queue
    cdef int push(self, object handle) except -1
    cdef object _pop(self)
    cdef bint _grow_ready(self) noexcept
    cdef object _ready_at(self, Py_ssize_t index)
    cpdef int _forget_callbacks(self) except -1
    cdef int _run_ready(self) except -1
    cdef int _run_timed(self, object handle) except -1
    cdef int _tell_if_slow(self, double start, object what) except -1

    # timers
    cdef int _fire_timers(self) except -1
    cdef double _now(self) except? -1.0
    cdef int _settle_timers(self) except -1

    # what programs override
    cdef uint32_t _look_for_hooks(self) except? 0xFFFFFFFF
    cdef object _overridden_soon(self, object callback, tuple args, object context)

    # for endpoints
    cdef object soon(self, object callback, tuple args, object context)

    cdef int _keep_keywords(self, dict keywords) except -1
    cdef int _wake(self) except -1
    cdef TimerHandle _call_at(
        self, double due, object asked, callback, tuple args, context, str method)


# How many callbacks are ready: at least so many, for other threads only add to them.
cdef inline Py_ssize_t ready_now(Scheduler scheduler) noexcept:
    return thread_load_size(&scheduler.ready_count)


cdef inline uint32_t hooks_of(Scheduler scheduler) except? 0xFFFFFFFF:
    cdef uint64_t seen = thread_load_word(&scheduler.hooks_seen)
    if seen >> 32 == 0 or seen >> 32 != type_of(scheduler).tp_version_tag:
        return scheduler._look_for_hooks()
    return <uint32_t>seen
