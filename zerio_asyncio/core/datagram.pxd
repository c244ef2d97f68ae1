# The transport of a datagram socket.

from libc.stdint cimport int32_t, uint32_t

from zerio_asyncio.core.addresses cimport AddressBook
from zerio_asyncio.core.memory cimport PoolSlice, SlicePool
from zerio_asyncio.core.rio cimport RIO_SOCKADDR_INET
from zerio_asyncio.core.transport cimport Transport

cdef enum:
    # Receives posted ahead: a power of two. Two show that there may be more; 16 are what a provider
    # fetches with one system call.
    AHEAD_MIN = 2
    AHEAD_MAX = 16
    # Datagrams that one system call sends.
    TOGETHER = 16

# One receive: a slice with an address and a datagram, and its outcome.
cdef struct Letter:
    PoolSlice slice
    int32_t status
    uint32_t length

# One datagram that the system has not taken yet.
cdef struct Unsent:
    void *owner             # keeps its bytes alive; we hold a reference
    PoolSlice slice         # the copy that the provider sends; none if it sends from the owner
    bint large              # the slice belongs to the letters' pool
    RIO_SOCKADDR_INET remote
    bint addressed          # has an address; otherwise it is for the peer


cdef class DatagramTransport(Transport):
    cdef readonly object _address  # the only one that sendto accepts, if one was given
    cdef bint connected            # the system knows the peer
    cdef int family
    cdef AddressBook book
    cdef SlicePool letter_pool

    # --- letters[first .. first + held) wait for the protocol, the next `posted` are the
    # provider's, the next `spare` are not posted; together they are `ahead`
    cdef Letter letters[AHEAD_MAX]
    cdef uint32_t first
    cdef uint32_t held
    cdef uint32_t posted
    cdef uint32_t spare
    cdef bint all_used             # a burst used all that were posted

    # --- waiting[head .. head + issued) are the provider's, those up to head + count are queued
    cdef Unsent *waiting
    cdef uint32_t waiting_mask
    cdef uint32_t head
    cdef uint32_t issued
    cdef uint32_t count
    cdef bint amid                 # inside a burst of received datagrams

    # receiving
    cdef Letter *_letter(self, uint32_t index) noexcept
    cdef bint _more_follow(self) noexcept
    cdef int _received(self, int32_t status, uint32_t length) except -1
    cdef int _deliver(self) except -1
    cdef int _deliver_one(self) except -1
    cdef int _after_burst(self) except -1
    cdef uint32_t _take_letters(self) except? 0xFFFFFFFF
    cdef int _post(self) except -1
    cdef bint _post_one(self, Letter *letter, uint32_t flags) noexcept
    # sending
    cdef int _send(self, object data, const RIO_SOCKADDR_INET *remote) except -1
    cdef int _send_inherited(self, object data, const RIO_SOCKADDR_INET *remote) except -1
    cdef int _send_by_socket(self, object data, object address) except -1
    cdef int _put(self, object data, const RIO_SOCKADDR_INET *remote) except -1
    cdef int _grow_waiting(self) except -1
    cdef int _send_together(self) except -1
    cdef int _issue_all(self) except -1
    cdef int _issue(self, Unsent *unsent, uint32_t flags) except -1
    cdef int _sent(self, int32_t status) except -1
    cdef int _progressed(self) except -1
    cdef void _pop(self) noexcept
    cdef void _release(self, Unsent *unsent) noexcept
    # telling the protocol
    cdef int _tell_error(self, object error) except -1
