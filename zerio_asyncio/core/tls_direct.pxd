# The TLS engine that calls OpenSSL itself.

from zerio_asyncio.core.tls_records cimport TLSRecords

# What a BIO of ours reads from and writes to. It belongs to the BIO, and is freed with it.
cdef struct Wire:
    const char *incoming
    size_t incoming_left
    char *outgoing
    size_t outgoing_room
    size_t outgoing_length


cdef class DirectRecords(TLSRecords):
    cdef void *ssl                 # SSL *, the _SSLSocket's of sslobj
    cdef void *bio                 # BIO *, one reference is ours
    cdef Wire *wire

    cdef object _error(self)
