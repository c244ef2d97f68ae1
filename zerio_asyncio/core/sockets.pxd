# loop.sock_recv and its family on the engine.

from libc.stdint cimport int32_t, uint32_t

from zerio_asyncio.core.engine cimport Engine

cdef enum:
    # The most that a receive reads into reused memory, to be copied out of it: 64 KiB is what
    # programs usually ask for, and what stays in the second-level cache.
    SCRATCH_SIZE = 65536


# Who waits for one descriptor. Kept by number for the life of the loop.
cdef class Waiters:
    cdef uint32_t users    # what add_reader and add_writer want to hear, repeatedly
    cdef uint32_t once     # what calls want to hear: armed in the port and not reported yet
    cdef object reading    # None, a future, or a list of futures; some may be cancelled
    cdef object writing
    # a hint, so harmless if the descriptor is another socket's by now
    cdef bint large        # the last receive got so much that copying would be most of its cost


cdef class SocketEngine(Engine):
    cdef list table        # Waiters by descriptor, None if nobody ever waited
    cdef dict transports   # asyncio's descriptors of transports
    cdef char *scratch     # SCRATCH_SIZE bytes, made when first needed

    # waiting
    cdef Waiters _waiters(self, int descriptor)
    cdef Waiters _first_waiters(self, int descriptor)
    cdef int32_t _arm(self, int descriptor, Waiters waiters) noexcept
    cdef object _until(self, object sock, uint32_t mask)
    cdef object _until_at(self, int descriptor, uint32_t mask)
    cdef int _forget(self, object sock) except -1
    # calls
    cdef int _check(self, object sock) except -1
    cdef object _receive(self, object sock, object size)
    cdef object _receive_large(self, int descriptor, Waiters waiters, Py_ssize_t size)
    cdef object _receive_into(self, object sock, object buffer)
    cdef Py_ssize_t _send(self, object sock, object view, Py_ssize_t left) except -2
