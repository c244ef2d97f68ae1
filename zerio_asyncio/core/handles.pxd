# What a callback is while it waits for its turn.

from cpython.object cimport PyObject
from libc.stdint cimport int32_t

from zerio_asyncio.core.lazy_lock cimport lazy_lock
from zerio_asyncio.core.threads cimport FREE_THREADED

cdef extern from "Python.h":
    ctypedef struct HandleType "PyTypeObject":
        Py_ssize_t tp_weaklistoffset
    Py_ssize_t Py_REFCNT(PyObject *) noexcept
    HandleType *type_of_handle "Py_TYPE"(PyObject *) noexcept
    int PyObject_GC_IsTracked(PyObject *) noexcept
    void PyObject_GC_Track(PyObject *) noexcept

cdef class Handle:
    # Python-visible, with the names and meanings of asyncio.Handle
    cdef public object _callback
    cdef public object _args
    cdef object context            # `_context`
    cdef public object _loop
    cdef public object _source_traceback
    cdef public object _repr
    cdef public bint _cancelled
    cdef bint shares_context       # `context` is other handles', too: a copy is made to run in
    cdef object __weakref__

    cdef object _own_context(self)
    cdef int _cancel(self, bint forgets) except -1
    cdef int run(self) except -1
    cdef int _run_loosely(self) except -1
    cdef int _failed(self) except -1
    cdef int report(self, BaseException exc) except -1
    cdef object described(self)


cdef class ThreadSafeHandle(Handle):
    cdef lazy_lock lock            # held while the callback runs


cdef class TimerHandle(Handle):
    cdef double due                # on the loop's clock
    cdef object asked              # what `when` returns; None: `due`, as a float
    cdef public bint _scheduled
    cdef int32_t slot              # among the engine's timers, -1 outside
    cdef TimerOwner owner


# The object a timer notifies when it is cancelled or its time changes, and for which handles are
# made; the engine is one.
cdef class TimerOwner:
    cdef bint rests_later          # run_forever is running, and calls _rest when it ends
    # a copy of the context that was current when a handle was made, for the next ones
    cdef object copied_context
    cdef PyObject *copied_variables    # null: not asked yet

    cdef int _give_context(self, Handle handle, object context) except -1
    cdef bint _variables_are_copied(self) noexcept
    cdef int timer_cancelled(self, TimerHandle timer) except -1
    cdef int timer_moved(self, TimerHandle timer) except -1
    cdef bint runs_elsewhere(self) noexcept


cdef bint HANDLES_ARE_SHARED       # those of call_soon_threadsafe


cdef object refuse_copies(object original)
cdef Handle new_handle(TimerOwner loop, object callback, tuple args, object context)
cdef Handle new_shared_handle(TimerOwner loop, object callback, tuple args, object context)
cdef TimerHandle new_timer(
    double due, object asked, TimerOwner loop, object callback, tuple args, object context)
# Seconds as a double; infinity for a number too large for one.
cdef double seconds_of(object when) except? -1.0
# Whether a program has replaced asyncio.Handle._run.
cdef bint run_is_patched() except -1


# Whether the collector is not told of this handle, because a queue alone has it. What it refers to
# is then the queue's; see the top of handles.pyx.
cdef inline bint is_hidden(PyObject *handle) noexcept:
    return not FREE_THREADED and not PyObject_GC_IsTracked(handle) and (
        type_of_handle(handle) is <HandleType *><PyObject *>Handle
        or type_of_handle(handle) is <HandleType *><PyObject *>ThreadSafeHandle
        or type_of_handle(handle) is <HandleType *><PyObject *>TimerHandle)


cdef inline bint has_weak_references(PyObject *handle) noexcept:
    return (<PyObject **>(<char *>handle + type_of_handle(handle).tp_weaklistoffset))[0] is not NULL


# Whether somebody else may have a hidden handle, beside so many references.
cdef inline bint is_known(PyObject *handle, Py_ssize_t references) noexcept:
    return Py_REFCNT(handle) > references or has_weak_references(handle)


# Tell the collector of it, if somebody else may have it.
cdef inline void show_if_known(PyObject *handle, Py_ssize_t references) noexcept:
    if is_hidden(handle) and is_known(handle, references):
        PyObject_GC_Track(handle)


# Tell the collector of it: it leaves the queue, or somebody gets it.
cdef inline void show(PyObject *handle) noexcept:
    if is_hidden(handle):
        PyObject_GC_Track(handle)
