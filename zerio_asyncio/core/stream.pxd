# The transport of a connected stream socket.

from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

from zerio_asyncio.core.engine cimport Endpoint
from zerio_asyncio.core.memory cimport LARGE_SIZE, Slice, SlicePool
from zerio_asyncio.core.rio cimport RIO_RQ, rio_provider

# What the request context of each request says.
cdef enum Request:
    RECEIVE = 0
    SEND = 1
    PROBE = 2        # a receive of no bytes: there is something to receive

# How received bytes are handed over.
cdef enum ProtocolKind:
    PLAIN = 0        # bytes to data_received
    BUFFERED = 1     # copied into get_buffer
    REGISTERED = 2   # a view on the slice to view_received

# One piece of what was written: bytes kept alive and sent in place, or a slice they were copied to.
cdef struct Chunk:
    void *owner      # the bytes object, a reference of ours; null: the slice holds the bytes
    Slice slice
    char *memory
    uint32_t length


# Read-only memory of a slice, exported to views that a RegisteredProtocol may keep.
cdef class SliceView:
    cdef SlicePool pool
    cdef Slice slice
    cdef Py_ssize_t length
    cdef int exports
    cdef bint owner          # the slice is this object's to give back
    cdef Py_ssize_t shape[1]


cdef class StreamTransport(Endpoint):
    # --- asyncio's private names that its own modules and libraries read
    cdef readonly object _loop
    cdef readonly object _sock
    cdef readonly object _server
    cdef readonly dict _extra
    cdef readonly bint _closing
    cdef readonly bint _paused
    cdef readonly bint _eof
    cdef readonly bint _protocol_paused
    cdef object _protocol
    cdef object context        # of the task that made the transport: callbacks run in it
    cdef object __weakref__

    # --- the request queue; invalid before attach and after retire
    cdef RIO_RQ queue
    cdef int descriptor
    cdef const rio_provider *provider
    cdef SlicePool pool

    # --- protocol
    cdef ProtocolKind kind
    cdef bint protocol_connected   # connection_made was called, connection_lost was not
    cdef bint lost                 # closed for the protocol; results only return memory
    cdef unsigned int dropped      # writes after the connection was lost
    cdef object receiver           # bound data_received, or view_received
    cdef str calling               # the method that is being called, for the report if it raises

    # --- receiving: `receiving` while the provider has the slice
    cdef bint receiving
    cdef bint started              # connection_made is done, reading may begin
    cdef bint ended                # the peer sends no more
    cdef bint held                 # bytes [held_from, held_to) wait for resume_reading
    cdef bint readable             # held, but still in the kernel: see _fetch
    cdef uint32_t held_from
    cdef uint32_t held_to
    cdef int32_t held_status
    cdef Slice slice
    cdef SliceView view
    cdef uint32_t large_left       # large messages are expected, until so many small ones came
    cdef object large              # LARGE_SIZE bytes that hold one; nobody else has seen them

    # --- sending: chunks[head .. head + issued) are the provider's, up to head + count waiting
    cdef Chunk *chunks
    cdef uint32_t chunk_mask
    cdef uint32_t head
    cdef uint32_t issued
    cdef uint32_t count
    cdef size_t unsent             # bytes of all chunks: what get_write_buffer_size says
    cdef size_t high_water
    cdef size_t low_water
    cdef object empty_waiter

    # receiving
    cdef int _post(self) except -1
    cdef int _received(self, int32_t status, uint32_t count) except -1
    cdef int _deliver(self) except -1
    cdef int _deliver_plain(self, uint32_t count) except -1
    cdef int _deliver_buffered(self) except -1
    cdef int _deliver_view(self, uint32_t count) except -1
    cdef int _end_of_stream(self) except -1
    cdef char *_memory(self) noexcept
    cdef int _fetch(self) except -1
    cdef int _fetch_buffered(self) except -1
    cdef int _fetched(self, int64_t count) except -1
    cdef void _drop_large(self) noexcept
    cdef void _drop_receive_memory(self) noexcept
    # sending
    cdef int _send_now(self, const char **memory, size_t *length) except -1
    cdef int _add_bytes(self, object data, const char *memory, size_t length) except -1
    cdef int _add_copy(self, const char *memory, size_t length) except -1
    cdef int _write_one(self, object data) except -1
    cdef Chunk *_new_chunk(self) except NULL
    cdef int _check_writable(self, str method) except -1
    cdef int _drop_write(self) except -1
    cdef int _written(self) except -1
    cdef int _shut_down(self) except -1
    cdef int _resume_protocol(self) except -1
    cdef int _gather_last(self, const char *memory, size_t length) except -1
    cdef int _issue(self, Chunk *chunk, uint32_t flags) noexcept
    cdef int _sent(self, int32_t status, uint32_t count) except -1
    cdef int _all_sent(self) except -1
    cdef void _release_chunk(self, Chunk *chunk) noexcept
    cdef void _drop_unissued(self) noexcept
    # life
    cdef int _attach(self) except -1
    cdef int _close(self, object context) except -1
    cdef int _lose(self, object exc, object context) except -1
    cdef int _break(self, object exc, str message, object context) except -1
    cdef void _retire(self) noexcept
    cdef void _finished(self) noexcept
    cdef int _call(self, object function, object argument) except -1
