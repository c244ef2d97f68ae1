# The loop's clock, and the timers that are not yet due.

from cpython.object cimport PyObject
from libc.stdint cimport int32_t, uint32_t, uint64_t

from zerio_asyncio.core.handles cimport TimerHandle
from zerio_asyncio.core.overrides cimport Overridable
from zerio_asyncio.core.threads cimport thread_lock

cdef enum:
    RUNS = 8


cdef struct Timer:
    double when
    uint32_t order       # breaks ties in call order, among the last two billion
    uint32_t slot        # where the rest of it is


cdef struct Slot:
    Timer timer
    PyObject *handle     # a reference that the slot owns; null if it is free
    uint32_t next        # in its run; if it is free: the next free one
    uint32_t previous    # in its run
    uint32_t place       # in the heap, or IN_RUN and the number of its run


cdef struct Run:
    double last_when     # minus infinity if it is empty
    uint32_t first
    uint32_t last


cdef class Timers(Overridable):
    # --- asyncio's private names, which the standard library's loop reads and sets
    cdef int closed              # `_closed`
    cdef public bint _debug
    cdef public double _clock_resolution

    cdef Slot *slots
    cdef Run runs[RUNS]
    cdef Py_ssize_t runs_used    # none beyond so many is in use
    # A 4-ary heap. A timer that moves in it changes its slot's `place`, not the handle: hundreds of
    # thousands of those are in no cache.
    cdef Timer *heap             # in `heap_block`, so that four siblings are in one cache line
    cdef void *heap_block
    cdef Py_ssize_t heap_count
    cdef Py_ssize_t heap_room
    cdef uint64_t *unseen        # a bit for each slot: filled since the loop began to run
    cdef bint any_unseen
    cdef Py_ssize_t timer_count  # read without the lock, too
    cdef Py_ssize_t slot_room
    cdef uint32_t slots_used     # at most so many timers were there at a time
    cdef uint32_t free_slot
    cdef uint32_t timer_order
    cdef thread_lock lock  # guards the heap, and the ready queue of the derived class
    cdef object timer_view # a weak reference to the list that `_scheduled` returned

    cdef double _now(self) except? -1.0
    cdef TimerHandle _call_at(
        self, double due, object asked, callback, tuple args, context, str method)
    cdef int _settle_timers(self) except -1

    cdef int _timer_add(self, TimerHandle timer) except -1
    cdef bint _take_slot(self, TimerHandle timer) noexcept
    cdef bint _grow_timers(self) noexcept
    cdef bint _grow_heap(self) noexcept
    cdef bint _append_to_run(self, Timer timer) noexcept
    cdef void _leave_run(self, Py_ssize_t number, uint32_t slot) noexcept
    cdef bint _heap_add(self, Timer timer) noexcept
    cdef void _heap_remove(self, Py_ssize_t place) noexcept
    cdef uint32_t _earliest(self) noexcept
    cdef PyObject *_timer_take(self, uint32_t slot) noexcept
    cdef bint _timer_remove(self, TimerHandle timer) noexcept
    cdef PyObject *_timer_due(self, double end) noexcept
    cdef TimerHandle _timer_first(self)
    cdef double _timer_next(self) noexcept
    cdef void _heap_up(self, Py_ssize_t place, Timer timer) noexcept
    cdef void _heap_down(self, Py_ssize_t place, Timer timer) noexcept
    cdef void _show_known_timers(self) noexcept
    cdef list _timer_list(self)
    cdef int _forget_timers(self) except -1
