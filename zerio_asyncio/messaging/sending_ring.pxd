# Messages from other threads, on their way to the loop's.

from cpython.buffer cimport Py_buffer
from cpython.object cimport PyObject
from libc.stdint cimport uint32_t, uint64_t

from zerio_asyncio.core.threads cimport thread_lock
from zerio_asyncio.messaging.framing cimport MessageWriter

# The header of a message in the ring.
cdef struct Record:
    PyObject *writer       # a reference that the ring owns; null: nothing to send here
    size_t length          # bytes of the message
    uint32_t slots         # how many the record takes


cdef class SendingRing:
    # --- slots [head .. head + used) are taken, modulo count; a record never wraps
    cdef char *memory
    cdef readonly uint32_t count
    cdef readonly uint32_t slot_length
    cdef uint32_t head
    cdef uint32_t used
    cdef readonly uint64_t messages
    cdef bint closed       # nothing more is taken
    cdef readonly bint sending  # a call of send is in progress
    cdef uint32_t held     # slots of the first record, while it is being sent
    cdef thread_lock lock  # guards the slots, and each writer's count of waiting bytes

    cdef int _put(self, MessageWriter writer, size_t unsent, Py_buffer *view,
                  size_t slots) noexcept
    cdef bint _send(self, size_t messages_max) except -1
    cdef uint32_t _in_use(self) noexcept
    cdef bint _skip(self) noexcept
    cdef MessageWriter _take(self, uint32_t slot)
    cdef int _send_first(self, MessageWriter writer, Record *record) except -1
    cdef Record *_at(self, uint32_t slot) noexcept
    cdef int _claim(self, uint32_t slots) noexcept
    cdef void _free(self, uint32_t slots) noexcept
