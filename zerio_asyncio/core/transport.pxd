# What every transport on a request queue has: a socket, a protocol, flow control, an end.

from libc.stdint cimport uint32_t, uint64_t

from zerio_asyncio.core.engine cimport Endpoint, Engine
from zerio_asyncio.core.memory cimport SlicePool
from zerio_asyncio.core.rio cimport RIO_RQ, rio_provider

# The life of a transport, in the order of the table in life.py.
cdef enum Life:
    NEW = 0
    OPEN = 1
    CLOSING = 2
    LOST = 3
    RETIRED = 4

# The same for its reading.
cdef enum Reading:
    UNBEGUN = 0
    BEGUN = 1
    ENDED = 2


cdef class Transport(Endpoint):
    # --- asyncio's private names that its own modules and libraries read
    cdef readonly object _loop
    cdef readonly object _sock
    cdef readonly dict _extra
    cdef readonly bint _protocol_paused
    cdef readonly object _protocol
    cdef readonly bint _paused     # pause_reading was called, resume_reading was not
    # --- its state
    cdef Life life
    cdef Reading reading
    cdef object paused             # waits for resume_writing: (context, protocol), or None
    cdef object context            # the connection's: its protocol's callbacks run in it
    cdef bint one_context          # all of them, whatever caused them
    cdef bint protocol_connected   # connection_made was called, connection_lost was not
    cdef int descriptor
    cdef uint64_t identity         # of the socket that the descriptor referred to
    cdef bint given                # the program has the socket, too, and may close it
    cdef bint registered           # the socket is for Registered I/O alone, see RegisteredSocket
    cdef bint resets               # abort() was called: the peer is not waited for
    cdef object __weakref__

    # --- the request queue; invalid before attach and after retire
    cdef RIO_RQ queue
    cdef uint32_t results          # the room it takes in the completion queue
    cdef const rio_provider *provider
    cdef SlicePool pool
    cdef bint shut                 # close() was called: what is written after it is dropped
    cdef unsigned int dropped      # asyncio's _conn_lost: 1, plus the writes since; 0 before

    # --- flow control
    cdef size_t unsent             # bytes written and not yet taken by the system
    cdef size_t high_water
    cdef size_t low_water

    # life
    cdef int _turn(self, Life life) except -1
    cdef int _turn_reading(self, Reading reading) except -1
    cdef int _take_socket(self, Engine loop, object sock, object extra, bint given) except -1
    cdef bint _is_gone(self) except -1
    cdef bint _has_socket(self) noexcept
    cdef object _bad_descriptor(self)
    cdef int _close_socket(self) except -1
    cdef int _close_at_last(self, object sock) except -1
    cdef int _attach(self, uint32_t receives, uint32_t sends) except -1
    cdef object _transport_before(self)
    cdef int _enter_transports(self) except -1
    cdef int _leave_transports(self) except -1
    cdef int _own(self, object sock, object context) except -1
    cdef void _disown(self) noexcept
    cdef void _retire(self) noexcept
    cdef void _finished(self) noexcept
    # what a subclass holds: unsent data, receive memory, references kept for the protocol
    cdef void _drop_unissued(self) noexcept
    cdef bint _receives(self) noexcept
    cdef int _recall(self) except -1
    cdef void _drop_receive_memory(self) noexcept
    cdef int _forget(self) except -1
    cdef bint _lingers(self) except -1
    # datagrams that wait for the end of a burst
    cdef int _push_on(self) except -1
    cdef bint _passed_on(self, str method) except -1
    # ending
    cdef int _close(self, object context) except -1
    cdef int _lose(self, object exc, object context) except -1
    cdef int _end(self, object exc, object context) except -1
    cdef int _break(self, object exc, str message, object context) except -1
    # calling the protocol
    cdef object _protocols(self, str name)
    cdef int _call(self, object function, object argument) except -1
    cdef object _ask(self, object function, tuple arguments)
    cdef object _ask_in(self, object context, object function, tuple arguments)
    cdef int _resume_protocol(self) except -1


# Whether what is written still goes out; otherwise it is dropped.
cdef inline bint is_live(Transport transport) noexcept:
    return transport.life == OPEN or transport.life == CLOSING


# Enter a connection's context; False if it is already entered: a protocol's call sent something, or
# ran the loop. `leave` undoes it.
cdef bint enter(object context) noexcept
cdef void leave(object context, bint entered) noexcept
