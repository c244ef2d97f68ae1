# By a call or by a request?
#
# A call (send_now, receive_now) moves bytes while it runs and costs a system call. A request is
# submitted together with others and costs a result to fetch, and the first result ends the wait
# that was to follow. Every choice between the two is made here; the measurements are in
# docs/decisions/copies.md and docs/design.md.
#
#     write            by a call, if nothing is queued before it: programs write, then block or exit
#     write, gathered  by requests at the end of the tick, except for large writes
#     flush            by requests, if many connections share the system call; else by calls
#     receive          by a request; large messages by a call, once a zero-byte request reports
#                      that there is something
#     datagrams        by a call, if none is queued

from libc.stdint cimport uint32_t

from zerio_asyncio.core.rio cimport (
    RIO_CAP_BATCH, RIO_CAP_NOW, RIO_CAP_SEND_NOW, rio_provider)

cdef enum:
    # A write of this size is worth a system call of its own, even where writes are gathered: it is
    # in the cache now, and at the end of the tick it would have to be fetched again.
    CALL_MIN = 16384
    # From this many sends per tick on, requests beat calls.
    REQUESTS_MIN = 8


# A stream's writes, when nothing is queued before them.
cdef inline bint writes_by_call(const rio_provider *provider, bint gathers) noexcept:
    return provider.capabilities & RIO_CAP_SEND_NOW != 0 and not gathers


# A single write of this many bytes, where writes are gathered.
cdef inline bint calls_for_large(const rio_provider *provider, size_t length) noexcept:
    return provider.capabilities & RIO_CAP_SEND_NOW != 0 and length >= CALL_MIN


# What this many connections have queued at the end of a tick.
cdef inline bint flushes_by_call(const rio_provider *provider, Py_ssize_t count) noexcept:
    cdef uint32_t can = provider.capabilities
    return can & RIO_CAP_SEND_NOW != 0 and not (can & RIO_CAP_BATCH and count >= REQUESTS_MIN)


# What fills a slice once there is something, and datagrams both ways.
cdef inline bint moves_by_call(const rio_provider *provider) noexcept:
    return provider.capabilities & RIO_CAP_NOW != 0
