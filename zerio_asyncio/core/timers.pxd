# The loop's clock, and the timers that are not yet due.

from cpython.object cimport PyObject

from zerio_asyncio.core.handles cimport TimerHandle
from zerio_asyncio.core.overrides cimport Overridable
from zerio_asyncio.core.threads cimport thread_lock

cdef struct Timer:
    double when
    unsigned long long order   # breaks ties in call order
    PyObject *handle           # a reference that the heap owns


cdef class Timers(Overridable):
    # --- asyncio's private names, which the standard library's loop reads and sets
    cdef int closed              # `_closed`
    cdef public bint _debug
    cdef public double _clock_resolution

    # a 4-ary heap; handle.index is each one's place in it
    cdef Timer *timers
    cdef Py_ssize_t timer_count  # read without the lock, too
    cdef Py_ssize_t timer_room
    cdef unsigned long long timer_order
    cdef thread_lock lock  # guards the heap, and the ready queue of the derived class
    cdef object timer_view # a weak reference to the list that `_scheduled` returned

    cdef double _now(self) except? -1.0
    cdef TimerHandle _call_at(
        self, double due, object asked, callback, tuple args, context, str method)
    cdef int _settle_timers(self) except -1

    cdef int _timer_add(self, TimerHandle timer) except -1
    cdef bint _grow_timers(self) noexcept
    cdef PyObject *_timer_take(self, Py_ssize_t index) noexcept
    cdef bint _timer_remove(self, TimerHandle timer) noexcept
    cdef TimerHandle _timer_due(self, double end)
    cdef TimerHandle _timer_first(self)
    cdef double _timer_next(self) noexcept
    cdef void _timer_put(self, Py_ssize_t index, Timer timer) noexcept
    cdef void _timer_up(self, Py_ssize_t index, Timer timer) noexcept
    cdef void _timer_down(self, Py_ssize_t index, Timer timer) noexcept
    cdef list _timer_list(self)
    cdef int _forget_timers(self) except -1
