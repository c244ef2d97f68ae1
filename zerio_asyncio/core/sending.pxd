# What is written to a stream socket, until the system takes it.

from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

from zerio_asyncio.core.memory cimport PoolSlice
from zerio_asyncio.core.threads cimport thread_load_word
from zerio_asyncio.core.transport cimport Transport

cdef extern from "pythread.h":
    unsigned long PyThread_get_thread_ident() noexcept

# What the request context of each request means.
cdef enum Request:
    RECEIVE = 0
    SEND = 1
    PROBE = 2        # a zero-byte receive: there is something to receive

cdef enum:
    # A request's length is 32 bits wide; larger bytes go out as several.
    REQUEST_MAX = 1 << 30

# One piece of what was written: bytes kept alive and sent in place, or a slice that has a copy.
cdef struct Chunk:
    void *owner      # the bytes object, we own a reference; null: the slice holds the bytes
    PoolSlice slice
    char *memory
    uint32_t length
    uint32_t pieces      # commits that the slice holds


cdef class SendingTransport(Transport):
    # --- asyncio's private name that its own modules read
    cdef readonly bint _eof

    # --- chunks[head .. head + issued) are the provider's, those up to head + count are queued
    cdef Chunk *chunks
    cdef uint32_t chunk_mask
    cdef uint32_t head
    cdef uint32_t issued
    cdef uint32_t count
    cdef object empty_waiter
    cdef bint prompt               # a write is tried at once; else the tick's leave together

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
    # --- For anyone with a wire format of its own who builds it where it is sent from: `room`, fill
    # it, `commit`. All of this belongs to the loop's thread; nothing else of the transport may be
    # called between the two.
    #
    # room: where the next `length` bytes go, at most room_max of them; null, and nothing to commit,
    # if what is written is dropped. Raises as write does. If `pieces_max` is not 0, no more than
    # that many commits share a slice.
    cdef char *room(self, size_t length, uint32_t pieces_max) except? NULL
    # commit: the `length` bytes of `room` are written, followed by `rest` bytes of `memory`, which
    # belongs to the bytes object `owner`, or is copied if that is None. If there is no memory for
    # the rest, the connection is lost: the peer must not take a part for the whole.
    cdef int commit(self, size_t length, object owner, const char *memory, size_t rest) except -1
    # Whatever is committed between the two, on any connection of the loop, shares slices and leaves
    # with the second call; inside a delivery, at its end. They nest.
    cdef int begin_gathering(self) except -1
    cdef int end_gathering(self) except -1

    cdef Chunk *_with_room(self, size_t length, uint32_t pieces_max) noexcept
    cdef Chunk *_open_chunk(self) except NULL
    # requests and results
    cdef void _pop_chunk(self) noexcept
    cdef int _progressed(self) except -1
    cdef int _issue(self, Chunk *chunk, uint32_t flags) noexcept
    cdef int _sent(self, int32_t status, uint32_t count) except -1
    cdef int _all_sent(self) except -1
    cdef int _shut_down(self) except -1
    cdef int _end_sendfile(self) except -1
    cdef void _release_chunk(self, Chunk chunk) noexcept


# The most that `room` returns at once.
cdef inline uint32_t room_max(SendingTransport transport) noexcept:
    return transport.pool.slice_size


# Whether another thread than this one runs the transport's loop; no, while none runs it.
cdef inline bint runs_elsewhere(SendingTransport transport) noexcept:
    cdef uint64_t runner = thread_load_word(&transport.engine.runner)
    return runner != PyThread_get_thread_ident() and runner != 0
