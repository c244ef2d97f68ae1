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

    cdef int _cancel(self, bint forgets) except -1
    cdef int run(self) except -1
    cdef int _run_loosely(self) except -1
    cdef int _failed(self) except -1
    cdef int report(self, BaseException exc) except -1
    cdef object described(self)


cdef class ThreadSafeHandle(Handle):
    cdef object _lock              # reentrant: held while the callback runs


cdef class TimerHandle(Handle):
    cdef double due                # on the loop's clock
    cdef object asked              # what `when` returns; None: `due`, as a float
    cdef public bint _scheduled
    cdef Py_ssize_t index          # place in the engine's heap, -1 outside
    cdef TimerOwner owner


# The object a timer notifies when it is cancelled or its time changes; the engine is one.
cdef class TimerOwner:
    cdef int timer_cancelled(self, TimerHandle timer) except -1
    cdef int timer_moved(self, TimerHandle timer) except -1
    cdef bint runs_elsewhere(self) noexcept


cdef bint HANDLES_ARE_SHARED       # those of call_soon_threadsafe


cdef object refuse_copies(object original)
cdef Handle new_handle(object loop, object callback, tuple args, object context)
cdef Handle new_shared_handle(object loop, object callback, tuple args, object context)
cdef TimerHandle new_timer(
    double due, object asked, object loop, object callback, tuple args, object context)
# Seconds as a double; infinity for a number too large for one.
cdef double seconds_of(object when) except? -1.0
# Whether a program has replaced asyncio.Handle._run.
cdef bint run_is_patched() except -1
