# What turns plain bytes into TLS records, and back.

from zerio_asyncio.core.memory cimport ReceivedMemory
from zerio_asyncio.core.sending cimport SendingTransport

cdef enum:
    # A record holds at most that many plain bytes.
    RECORD_MAX = 16384
    # So many records are read before the protocol is called.
    READING_ROOM = 5 * RECORD_MAX
    # What is encrypted at once, so that little waits in memory of ours.
    PIECE_MAX = 4 * RECORD_MAX

# What `read` and `write` return when they moved nothing.
cdef enum:
    ENDED_BY_PEER = 0    # close_notify
    NOTHING_NOW = -1     # bytes must be received first


# Where records are decrypted; a RegisteredProtocol looks at it.
cdef class DecryptedMemory(ReceivedMemory):
    pass

cdef DecryptedMemory take_memory()
cdef int give_memory(DecryptedMemory memory) except -1


# The interface of the two TLS engines.
cdef class TLSRecords:
    cdef readonly object sslobj      # the ssl.SSLObject: handshake, shutdown and what it tells

    # Received bytes, lent until `take_back`, which returns how many are unread.
    cdef int lend(self, const char *memory, size_t length) except -1
    cdef size_t take_back(self) noexcept
    # Go on with the handshake; whether it has ended. What `do_handshake` raises.
    cdef bint shake(self) except -1
    # Whether `read` may find something.
    cdef bint readable(self) except -1
    # Plain bytes that were read or written, ENDED_BY_PEER or NOTHING_NOW; ssl.SSLError.
    cdef Py_ssize_t read(self, char *memory, size_t room) except? -2
    cdef Py_ssize_t write(self, const char *memory, size_t length) except? -2
    # Put the records that were made where the stream transport sends from. The caller has to tell
    # it afterwards (`_written`): that may pause the protocol, which may write again.
    cdef int send(self, SendingTransport stream) except -1


cdef class PortableRecords(TLSRecords):
    cdef object incoming             # ssl.MemoryBIO
    cdef object outgoing
    cdef object reader               # bound methods of sslobj
    cdef object writer


# Records, whatever made them, on their way: several share a send while a delivery is going on.
cdef int hand_on(SendingTransport stream, object owner, const char *memory,
                 size_t length) except -1
