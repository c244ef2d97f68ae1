# What a callback is while it waits for its turn.

cdef class Handle:
    # Python-visible, with the names and meanings of asyncio.Handle
    cdef public object _callback
    cdef public object _args
    cdef public object _context
    cdef public object _loop
    cdef public object _source_traceback
    cdef public object _repr
    cdef public bint _cancelled
    cdef object __weakref__

    cdef int run(self) except -1
    cdef int _run_loosely(self) except -1
    cdef int _failed(self) except -1
    cdef int report(self, BaseException exc) except -1


cdef class TimerHandle(Handle):
    cdef public double _when
    cdef public bint _scheduled
    # place in the engine's heap, -1 outside; `order` breaks ties in the order of the calls
    cdef Py_ssize_t index
    cdef unsigned long long order
    cdef TimerOwner owner


# What a timer tells when it is cancelled; the engine is one.
cdef class TimerOwner:
    cdef int timer_cancelled(self, TimerHandle timer) except -1


cdef object refuse_copies(object original)
cdef Handle new_handle(object loop, object callback, tuple args, object context)
cdef TimerHandle new_timer(double when, object loop, object callback, tuple args, object context)
