# A reentrant lock that costs nothing until two threads want it: a word says which thread has it,
# and only who finds another one there makes something to wait at.

from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from libc.stdint cimport uint64_t

from zerio_asyncio.core.threads cimport thread_lock, thread_lock_give, thread_lock_take

cdef extern from "pythread.h":
    unsigned long PyThread_get_thread_ident() noexcept


cdef struct lazy_lock:
    thread_lock guard       # of the other three
    uint64_t holder
    int depth               # 0: nobody has it
    PyObject *gate          # shut until the holder leaves; null: nobody waits


cdef inline int lazy_lock_take(lazy_lock *self) except -1:
    cdef uint64_t me = PyThread_get_thread_ident()
    while True:
        thread_lock_take(&self.guard)
        if self.depth == 0 or self.holder == me:
            self.holder = me
            self.depth += 1
            thread_lock_give(&self.guard)
            return 0
        thread_lock_give(&self.guard)
        lazy_lock__wait(self)


cdef inline int lazy_lock__wait(lazy_lock *self) except -1:
    """Until its holder has left, if there still is one."""
    from threading import Lock
    cdef object own = Lock()
    cdef object gate = None
    own.acquire()
    thread_lock_take(&self.guard)
    if self.depth:
        if self.gate is NULL:
            Py_INCREF(own)
            self.gate = <PyObject *>own
        gate = <object>self.gate
    thread_lock_give(&self.guard)
    if gate is not None:
        with gate:
            pass
    return 0


cdef inline int lazy_lock_give(lazy_lock *self) except -1:
    cdef PyObject *gate = NULL
    thread_lock_take(&self.guard)
    self.depth -= 1
    if self.depth == 0:
        gate, self.gate = self.gate, NULL
    thread_lock_give(&self.guard)
    if gate is not NULL:
        (<object>gate).release()
        Py_XDECREF(gate)
    return 0
