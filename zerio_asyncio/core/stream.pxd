# The transport of a connected stream socket.

from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

from zerio_asyncio.core.memory cimport (
    LARGE_SIZE, LAYERED_SIZE, PoolSlice, ReceivedMemory, SlicePool)
from zerio_asyncio.core.sending cimport PROBE, RECEIVE, REQUEST_MAX, SEND, SendingTransport

# How received bytes are delivered.
cdef enum ProtocolKind:
    PLAIN = 0        # bytes to data_received
    BUFFERED = 1     # copied into get_buffer
    REGISTERED = 2   # a view on the slice to view_received
    LAYERED = 3      # the memory itself to a layer's feed

# Who owns the memory that the transport receives into. It has one owner at any time, and each
# hand-over names the previous one (`_hand`).
cdef enum Owner:
    NOBODY = 0       # a receive may be posted into it
    KERNEL = 1       # a receive is posted, and has no result yet
    TRANSPORT = 2    # bytes [held_from, held_to), an error or an end wait for delivery
    PROTOCOL = 3     # it looks at the bytes, or is asked where it wants them

# A slice, shown to views that a RegisteredProtocol may keep.
cdef class SliceView(ReceivedMemory):
    cdef SlicePool pool
    cdef PoolSlice slice
    cdef bint owner          # this object must return the slice


cdef class StreamTransport(SendingTransport):
    # --- asyncio's private names that its own modules and libraries read
    cdef readonly object _server

    # --- protocol
    cdef ProtocolKind kind
    cdef object receiver           # bound data_received, or view_received
    cdef str calling               # the method being called, for the report if it raises

    # --- receiving
    cdef Owner owner
    cdef bint readable             # what waits is still in the kernel: see _fetch
    cdef uint32_t held_from
    cdef uint32_t held_to
    cdef int32_t held_status
    cdef PoolSlice slice
    cdef SliceView view
    cdef uint32_t large_left       # large messages are expected, until this many small ones came
    cdef object large              # LARGE_SIZE bytes that hold one; nobody else has seen them
    cdef bint heard_end            # the peer has ended its side, or the connection is broken

    # --- closed, while the peer has not ended: see _lingers
    cdef object lingering          # the socket, or None
    cdef object linger_timer

    # receiving
    cdef int _hand(self, Owner giver, Owner taker) except -1
    cdef int _post(self) except -1
    cdef bint _request(self) noexcept
    cdef int _drain(self) except -1
    cdef int _drained(self, int32_t status, uint32_t count) except -1
    cdef int _received(self, int32_t status, uint32_t count) except -1
    cdef int _deliver(self) except -1
    cdef int _deliver_once(self) except -1
    cdef int _deliver_plain(self, uint32_t count) except -1
    cdef int _deliver_buffered(self) except -1
    cdef int _deliver_layered(self, uint32_t count) except -1
    cdef int _deliver_view(self, uint32_t count) except -1
    cdef int _end_of_stream(self) except -1
    cdef char *_memory(self) noexcept
    cdef int _fetch(self) except -1
    cdef int _fetch_buffered(self) except -1
    cdef int _fetched(self, int64_t count) except -1
    cdef void _drop_large(self) noexcept
