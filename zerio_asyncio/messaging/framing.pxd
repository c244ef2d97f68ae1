# Messages in Zerio's wire format: cut out of received bytes, framed for sending.

from libc.stdint cimport uint32_t, uint64_t

from zerio_asyncio.core.memory cimport ReceivedMemory
from zerio_asyncio.core.sending cimport SendingTransport

# Memory in which a message is assembled, shown to views that a handler may keep.
cdef class Assembly(ReceivedMemory):
    cdef Py_ssize_t room


cdef class MessageFramer:
    # --- who receives the messages: handler(first, view), or handler(view) if first is None
    cdef object handler
    cdef object first
    cdef readonly uint32_t length_max
    cdef readonly uint64_t messages
    cdef readonly bint stopped
    cdef bint feeding

    # --- a message that straddles: 0 <= header_have <= 4; the rest counts once it is 4
    cdef unsigned char header[4]
    cdef Py_ssize_t header_have
    cdef Py_ssize_t need
    cdef Py_ssize_t have
    cdef Assembly assembly

    # --- who receives those that begin with the mark; None: they are like any other
    cdef object control

    # --- what a handler that KeyboardInterrupt left has not seen
    cdef bytes rest

    cdef void _forget(self) noexcept
    cdef int _feed(self, object view) except -1
    cdef int _feed_bytes(self, object view, const char *place, Py_ssize_t length) except -1
    cdef int _walk(self, object view, const char **place, const char *end) except -1
    cdef int _begin(self, const unsigned char *header) except -1
    cdef Py_ssize_t _assemble(self, const char *memory, Py_ssize_t left) except -1
    cdef int _reserve(self, Py_ssize_t room) except -1
    cdef int _deliver_assembled(self) except -1
    cdef int _call_control(self, object view) except -1
    cdef int _call(self, object view) except -1


# Bytes that wait for all peers of a server together.
cdef class UnsentTotal:
    cdef readonly size_t most
    cdef readonly size_t bytes     # at least what waits for those that are counted
    cdef public size_t held        # what sessions keep from slow peers' transports
    cdef set counted               # writers for which more waits than is free of charge
    cdef size_t skips              # answers to give before the next recount

    cdef bint takes(self, MessageWriter writer, size_t unsent) except -1
    cdef int _recount(self) except -1


cdef class MessageWriter:
    cdef object transport
    cdef SendingTransport direct   # the same, if messages go straight into its send slice
    cdef object overflow           # called if the unsent bytes would pass unsent_max
    cdef readonly size_t length_max
    cdef public size_t unsent_max
    cdef public bint lenient       # what other threads send is measured when the loop takes it
    cdef public object elsewhere   # called with a message that another thread sends
    cdef unsigned long thread      # that made it; of use where the transport cannot tell
    cdef bint marks                # messages that begin with the mark are told apart
    cdef UnsentTotal total
    cdef size_t share              # what it has in the total
    cdef public bint shut          # nothing more is taken from other threads
    cdef readonly bint closed
    cdef object reason             # why, once it is closed
    cdef readonly Py_ssize_t waiting  # bytes in the ring of other threads' messages
    cdef readonly uint64_t messages

    cdef int _write(self, object owner, const char *memory, size_t length) except -1
    cdef int _check_length(self, size_t length) except -1
    cdef bint _has_room(self, size_t length) except -1
    cdef bint _has_room_behind(self, size_t unsent, size_t length) noexcept
    cdef int _write_waited(self, const char *memory, size_t length) except -1
    cdef int _send_elsewhere(self, object message) except -1
    cdef bint _is_elsewhere(self) noexcept
    cdef bint _takes_no_more(self) noexcept
    cdef int _hand_over(self, object owner, const char *memory, size_t length) except -1
    cdef int _escape(self, const char *memory, size_t length) except -1
    cdef int _hand_on(self, object owner, const char *memory, size_t length) except -1
    cdef int _hand_in(self, SendingTransport direct, object owner, const char *memory,
                      size_t length) except -1
    cdef size_t _unsent(self) except? 0
