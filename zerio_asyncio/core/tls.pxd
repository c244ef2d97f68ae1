# TLS over a stream transport.

from zerio_asyncio.core.tls_records cimport DecryptedMemory
from zerio_asyncio.core.tls_sending cimport TLSSending


cdef class TLSTransport(TLSSending):
    # handshake
    cdef int _shake(self) except -1
    cdef int _shaken(self) except -1
    # receiving
    cdef int _advance(self) except -1
    cdef int _read(self) except -1
    cdef int _read_once(self) except -1
    cdef Py_ssize_t _gather(self, char *memory, size_t *count) except? -2
    cdef int _read_buffered(self) except -1
    cdef int _deliver(self, DecryptedMemory memory, size_t count) except -1
    cdef int _discard(self) except -1
    cdef int _tell_end(self) except -1
    # closing
    cdef int _start_closing(self) except -1
    cdef int _finish(self) except -1
