# By a call or by a request?
#
# A call (send_now, receive_now) moves bytes while it runs, and costs a system call. A request is
# handed over with others, and costs a result to fetch, the first of which ends the wait that was to
# follow. Everything that chooses between the two is here; the measurements are in
# docs/decisions/copies.md and docs/design.md.
#
#     write            by a call, if nothing waits before it: programs write and then block or exit
#     write, gathered  by requests at the end of the tick, but for what is large
#     flush            by requests, if many connections share the system call; else by calls
#     receive          by a request; large messages by a call, once a request of no bytes says that
#                      there is something
#     datagrams        by a call, if none waits

from libc.stdint cimport uint32_t

from zerio_asyncio.core.rio cimport (
    RIO_CAP_BATCH, RIO_CAP_NOW, RIO_CAP_SEND_NOW, rio_provider)

cdef enum:
    # A write of this size is worth a system call of its own, also where writes are gathered: it is
    # in the cache now, at the end of the tick it would have to be fetched again.
    CALL_MIN = 16384
    # Sends of one tick from which on requests beat calls.
    REQUESTS_MIN = 8


# A stream's writes, where nothing waits before them.
cdef inline bint writes_by_call(const rio_provider *provider, bint gathers) noexcept:
    return provider.capabilities & RIO_CAP_SEND_NOW != 0 and not gathers


# One write of so many bytes, where writes are gathered.
cdef inline bint calls_for_large(const rio_provider *provider, size_t length) noexcept:
    return provider.capabilities & RIO_CAP_SEND_NOW != 0 and length >= CALL_MIN


# What waits at the end of a tick, of so many connections.
cdef inline bint flushes_by_call(const rio_provider *provider, Py_ssize_t count) noexcept:
    cdef uint32_t can = provider.capabilities
    return can & RIO_CAP_SEND_NOW != 0 and not (can & RIO_CAP_BATCH and count >= REQUESTS_MIN)


# What fills a slice, once there is something; and datagrams, both ways.
cdef inline bint moves_by_call(const rio_provider *provider) noexcept:
    return provider.capabilities & RIO_CAP_NOW != 0
