# What is written to a TLS connection, its flow control, and its abrupt end.

from zerio_asyncio.core.layer cimport StreamLayer
from zerio_asyncio.core.stream cimport ProtocolKind, StreamTransport
from zerio_asyncio.core.tls_records cimport TLSRecords

# The life of a TLS transport, in this order; any may be followed by GONE.
cdef enum TLSLife:
    APART = 0        # the stream transport has not begun
    SHAKING = 1      # the handshake is under way
    WRAPPED = 2      # bytes go both ways
    CLOSING = 3      # nothing more is delivered; close_notify follows what was written
    GONE = 4         # nothing goes any way


cdef class TLSSending(StreamLayer):
    # --- asyncio's private names that its own modules and libraries read
    cdef readonly object _loop
    cdef readonly dict _extra
    # --- what it stands between
    cdef StreamTransport stream    # None before connection_made and after connection_lost
    cdef TLSRecords records
    cdef object protocol
    cdef ProtocolKind kind
    cdef object receiver           # bound data_received or view_received
    cdef object __weakref__

    # --- its state
    cdef TLSLife life
    cdef bint server_side
    cdef bint told                 # connection_made was called, connection_lost was not
    cdef bint told_end             # eof_received was called
    cdef bint heard_end            # the stream has ended
    cdef bint said_goodbye         # close_notify is sent
    cdef bint closed               # is_closing()
    cdef bint paused               # pause_reading, until it closes
    cdef bint asked_to_pause       # what the program asked last
    cdef bint writer_paused        # pause_writing was called, resume_writing was not
    cdef unsigned int dropped      # writes since the end
    cdef object waiter             # for the end of the handshake
    cdef object timer              # of the handshake, later of the shutdown
    cdef object handshake_timeout
    cdef object shutdown_timeout
    cdef double began              # the handshake, in debug mode

    # --- flow control
    cdef list backlog              # bytes that wait for the handshake, or for a renegotiation
    cdef size_t backlog_size
    cdef size_t high_water
    cdef size_t low_water
    cdef size_t reading_high       # shown, and without effect: see set_read_buffer_limits
    cdef size_t reading_low

    # writing
    cdef int _write(self, object data) except -1
    cdef int _encrypt(self, const char *memory, size_t length, size_t *done) except -1
    cdef int _keep(self, object data) except -1
    cdef int _flush(self) except -1
    cdef int _write_backlog(self) except -1
    cdef int _pause_writer(self) except -1
    cdef int _resume_writer(self) except -1
    cdef size_t _unsent(self) noexcept
    # ending
    cdef bint _passed_on(self, str method) except -1
    cdef int _say_goodbye(self) except -1
    cdef int _end_timer(self) except -1
    cdef int _wake(self, object exc) except -1
    cdef int _abort(self, object exc) except -1
    cdef int _fail(self, object exc, str message) except -1
