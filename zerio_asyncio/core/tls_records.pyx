"""TLSRecords: what turns plain bytes into TLS records and back; and its portable kind.

Two kinds have one interface. ``DirectRecords`` (tls_direct.pyx) calls the OpenSSL that the
interpreter's ``ssl`` has loaded. ``PortableRecords``, here, needs only what ``ssl`` documents: an
``SSLObject`` between two ``MemoryBIO``. It works with every interpreter, at the price of a copy and
a few Python objects per call.

The end of a handshake and the shutdown are the ``SSLObject``'s own in both, so errors, host names
and texts are the interpreter's.
"""

import ssl

cimport cython
from cpython.buffer cimport PyBUF_READ, PyBUF_WRITE
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc
from cpython.memoryview cimport PyMemoryView_FromMemory

cdef object ZERO_RETURN = ssl.SSLZeroReturnError
cdef object AGAIN = (ssl.SSLWantReadError, ssl.SSLSyscallError)

cdef enum:
    SPARE_MAX = 4

# Deliveries nest if a protocol runs the loop, so one is not always enough.
cdef list spare_memories = []


# It refers to nothing: it is in no cycle.
@cython.no_gc
cdef class DecryptedMemory(ReceivedMemory):
    """Room for what is read before the protocol is called."""

    def __cinit__(self):
        self.memory = <char *>PyMem_RawMalloc(READING_ROOM)
        if self.memory is NULL:
            raise MemoryError

    def __dealloc__(self):
        # Every export holds a reference, so nobody looks at it any more.
        PyMem_RawFree(self.memory)


cdef DecryptedMemory take_memory():
    try:
        return spare_memories.pop()
    except IndexError:
        return DecryptedMemory.__new__(DecryptedMemory)


cdef int give_memory(DecryptedMemory memory) except -1:
    """Nobody looks at it any more."""
    if len(spare_memories) < SPARE_MAX:
        spare_memories.append(memory)
    return 0


cdef int hand_on(SendingTransport stream, object owner, const char *memory,
                 size_t length) except -1:
    if stream.engine.deliveries and length <= RECORD_MAX:
        stream._put(owner, memory, length, False)
        stream.engine.gather(stream)
    else:
        stream._put(owner, memory, length, True)
    return 0


cdef class TLSRecords:
    """The base of both kinds."""

    cdef int lend(self, const char *memory, size_t length) except -1:
        raise NotImplementedError

    cdef size_t take_back(self) noexcept:
        return 0

    cdef bint shake(self) except -1:
        try:
            self.sslobj.do_handshake()
        except AGAIN:
            return False
        return True

    cdef bint readable(self) except -1:
        return True

    cdef Py_ssize_t read(self, char *memory, size_t room) except? -2:
        raise NotImplementedError

    cdef Py_ssize_t write(self, const char *memory, size_t length) except? -2:
        raise NotImplementedError

    cdef int send(self, SendingTransport stream) except -1:
        raise NotImplementedError


cdef class PortableRecords(TLSRecords):
    """Over what ``ssl`` documents; ``options`` are those of ``SSLContext.wrap_bio``."""

    def __init__(self, context, **options):
        if self.sslobj is not None:
            raise RuntimeError("made once")
        self.incoming = ssl.MemoryBIO()
        self.outgoing = ssl.MemoryBIO()
        self.sslobj = context.wrap_bio(self.incoming, self.outgoing, **options)
        self.reader = self.sslobj.read
        self.writer = self.sslobj.write

    cdef int lend(self, const char *memory, size_t length) except -1:
        if length:
            self.incoming.write(PyMemoryView_FromMemory(<char *>memory, length, PyBUF_READ))
        return 0

    cdef bint readable(self) except -1:
        return self.incoming.pending > 0 or self.sslobj.pending() > 0

    cdef Py_ssize_t read(self, char *memory, size_t room) except? -2:
        if not self.readable():  # asking costs less than the exception
            return NOTHING_NOW
        try:
            return self.reader(room, PyMemoryView_FromMemory(memory, room, PyBUF_WRITE))
        except AGAIN:
            return NOTHING_NOW
        except ZERO_RETURN:
            return ENDED_BY_PEER  # we have ended, too

    cdef Py_ssize_t write(self, const char *memory, size_t length) except? -2:
        try:
            return self.writer(PyMemoryView_FromMemory(<char *>memory, length, PyBUF_READ))
        except AGAIN:
            return NOTHING_NOW

    cdef int send(self, SendingTransport stream) except -1:
        cdef object data
        if self.outgoing.pending:
            data = self.outgoing.read()
            hand_on(stream, data, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
        return 0
