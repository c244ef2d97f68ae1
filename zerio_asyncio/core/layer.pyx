"""StreamLayer: what stands between a stream transport and a program's protocol, such as TLS.

It takes the place of the transport's protocol, and is handed the received memory itself: no call of
Python, no view. Everything else of a protocol, it has under asyncio's names: ``connection_made``,
``eof_received``, ``pause_writing``, ``resume_writing``, ``connection_lost``.
"""


cdef class StreamLayer:
    """The base of layers; the stream transport knows no more of them."""

    cdef int feed(self, const char *memory, size_t count) except -1:
        raise NotImplementedError
