# What stands between a stream transport and a program's protocol.

cdef class StreamLayer:
    # How many bytes of the last `feed` it has taken; the rest is offered again.
    cdef size_t taken

    # Bytes have been received. They belong to the transport, and may be read until this returns.
    cdef int feed(self, const char *memory, size_t count) except -1
