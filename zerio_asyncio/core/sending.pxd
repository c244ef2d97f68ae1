# What is written to a stream socket, until the system has taken it.

from libc.stdint cimport int32_t, int64_t, uint32_t

from zerio_asyncio.core.memory cimport PoolSlice
from zerio_asyncio.core.transport cimport Transport

# What the request context of each request says.
cdef enum Request:
    RECEIVE = 0
    SEND = 1
    PROBE = 2        # a receive of no bytes: there is something to receive

cdef enum:
    # One request's length is 32 bits wide; larger bytes go out as several.
    REQUEST_MAX = 1 << 30

# One piece of what was written: bytes kept alive and sent in place, or a slice they were copied to.
cdef struct Chunk:
    void *owner      # the bytes object, a reference of ours; null: the slice holds the bytes
    PoolSlice slice
    char *memory
    uint32_t length
    uint32_t messages    # framed ones that were gathered in the slice


# The length in front of a message on Zerio's wire: 4 bytes, little-endian.
cdef inline void store_length(char *place, uint32_t length) noexcept:
    place[0] = <char>(length & 0xFF)
    place[1] = <char>(length >> 8 & 0xFF)
    place[2] = <char>(length >> 16 & 0xFF)
    place[3] = <char>(length >> 24)


cdef class SendingTransport(Transport):
    # --- asyncio's private name that its own modules read
    cdef readonly bint _eof

    # --- chunks[head .. head + issued) are the provider's, those up to head + count wait
    cdef Chunk *chunks
    cdef uint32_t chunk_mask
    cdef uint32_t head
    cdef uint32_t issued
    cdef uint32_t count
    cdef object empty_waiter
    cdef bint prompt               # a write is tried at once; else the tick's go out together

    # writing
    cdef int _check_writable(self, str method) except -1
    cdef int _drop_write(self) except -1
    cdef int _written(self) except -1
    cdef int _write_one(self, object data, bint now) except -1
    cdef int _put(self, object owner, const char *memory, size_t length, bint now) except -1
    cdef int _send_now(self, const char **memory, size_t *length) except -1
    cdef int _queue(self, object owner, const char *memory, size_t length) except -1
    cdef int _queue_copy(self, const char *memory, size_t length) except -1
    cdef int _gather_last(self, const char *memory, size_t length) except -1
    cdef Chunk *_new_chunk(self) except NULL
    cdef int _push_first(self) except -1
    # messages: see framing.pyx
    cdef int _write_framed(self, object owner, const char *memory, size_t length,
                           uint32_t conflated_max) except -1
    cdef bint _has_room(self, size_t length, uint32_t conflated_max) noexcept
    cdef Chunk *_open_chunk(self, size_t length, uint32_t conflated_max) except NULL
    # requests and results
    cdef void _pop_chunk(self) noexcept
    cdef int _progressed(self) except -1
    cdef int _issue(self, Chunk *chunk, uint32_t flags) noexcept
    cdef int _sent(self, int32_t status, uint32_t count) except -1
    cdef int _all_sent(self) except -1
    cdef int _shut_down(self) except -1
    cdef int _end_sendfile(self) except -1
    cdef void _release_chunk(self, Chunk chunk) noexcept
