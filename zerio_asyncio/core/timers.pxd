# Timers that wait for their time.

from cpython.object cimport PyObject

from zerio_asyncio.core.handles cimport TimerHandle, TimerOwner

cdef struct Timer:
    double when
    unsigned long long order   # breaks ties in the order of the calls
    PyObject *handle           # a reference of the heap's


cdef class Timers(TimerOwner):
    # a 4-ary heap; handle.index is the place of each in it
    cdef Timer *timers
    cdef Py_ssize_t timer_count
    cdef Py_ssize_t timer_room
    cdef unsigned long long timer_order

    cdef int _timer_add(self, TimerHandle timer) except -1
    cdef int _grow_timers(self) except -1
    cdef TimerHandle _timer_remove(self, Py_ssize_t index)
    cdef void _timer_put(self, Py_ssize_t index, Timer timer) noexcept
    cdef void _timer_up(self, Py_ssize_t index, Timer timer) noexcept
    cdef void _timer_down(self, Py_ssize_t index, Timer timer) noexcept
    cdef bint _timer_is_here(self, TimerHandle timer) noexcept
    cdef list _timer_list(self)
    cdef int _forget_timers(self) except -1
