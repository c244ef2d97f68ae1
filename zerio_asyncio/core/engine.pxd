# The tick: one wait, completion dispatch, callbacks, flush.

from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

from zerio_asyncio.core.hooks cimport LoopHooks
from zerio_asyncio.core.memory cimport SlicePool, SpareBytes
from zerio_asyncio.core.rio cimport RIO_CQ, RIORESULT, rio_port, rio_port_event, rio_provider
from zerio_asyncio.core.threads cimport FREE_THREADED, thread_load_int, thread_load_word

cdef extern from "pythread.h":
    unsigned long PyThread_get_thread_ident() noexcept

cdef enum:
    # Results per dequeue: 6 KiB of stack-like memory, a batch that stays in the first-level cache;
    # more gains nothing measurable.
    RESULTS_A_BATCH = 256
    # Batches before callbacks get their turn again: a flood of input must not starve timers.
    BATCHES_A_TICK = 4
    EVENTS_A_WAIT = 256    # as many as the epoll provider fetches at once


# Anything with requests on the completion queue: a transport.
cdef class Endpoint:
    cdef Engine engine
    # requests accepted and not dequeued; the engine keeps the endpoint alive until it is 0
    cdef uint32_t outstanding
    cdef bint dirty        # is in the engine's list of endpoints to flush
    cdef bint gathering    # is in its list of those that push at the end of a delivery
    cdef bint attached     # has a request queue that takes up room in the completion queue

    cdef int completed(self, uint64_t request, int32_t status, uint32_t count) except -1
    cdef int flush(self, bint now) except -1
    cdef int push(self) except -1
    cdef int fail(self, object exc) except -1
    cdef void let_go(self) noexcept
    cdef bint is_lingering(self) noexcept


cdef class Engine(LoopHooks):
    # --- provider and port; null before attach and after detach
    cdef const rio_provider *provider
    cdef rio_port *port
    cdef RIO_CQ queue
    cdef uint32_t queue_size       # results it holds
    cdef uint32_t queue_reserved   # results that request queues may have outstanding
    cdef bint armed                # RIONotify has been called and has not fired
    cdef double polled             # when the port was last polled, seconds
    cdef uint32_t glances          # turns that must poll the port, however recently that was done
    cdef int waiting               # the loop's thread sleeps, or is about to: others must post
    cdef SlicePool pool
    cdef SlicePool datagrams       # slices that hold a datagram; None until there is such a socket
    cdef SpareBytes spare_bytes
    cdef uint32_t send_depth
    cdef bint gathers              # the writes of a tick go out together at its end
    cdef object error_of           # Winsock code -> OSError
    cdef object last_error         # () -> Winsock code of the last refusal

    # --- results and events fetched but not yet handled: a callback may leave by an exception
    cdef RIORESULT *results
    cdef uint32_t result_next
    cdef uint32_t result_count
    cdef bint more_results         # the last batch was full
    cdef rio_port_event *events
    cdef uint32_t event_next
    cdef uint32_t event_count

    # --- endpoints
    cdef set endpoints             # all that have requests outstanding or a request queue
    cdef list dirty                # those with bytes to hand to the provider
    cdef list clean                # an empty list that replaces it while it is processed
    cdef Endpoint served           # whose result is being handled
    cdef uint32_t deliveries       # of views, in progress: messages sent meanwhile are gathered
    cdef list gatherers            # those with such messages

    # --- statistics
    cdef Py_ssize_t gathered       # writes that joined another's slice

    # readiness: takes what concerns the engine itself, returns the rest of the mask
    cdef uint32_t became_ready(self, int descriptor, uint32_t mask) except? 0xFFFFFFFF

    # the tick
    cdef int tick(self) except -1
    cdef int _turn_by_selector(self) except -1
    cdef int _take_ready(self, list ready) except -1
    cdef void _park(self) noexcept
    cdef bint _fetch(self) except -1
    cdef bint _must_poll(self) noexcept
    cdef bint _ask(self, int64_t timeout) noexcept
    cdef double _left(self) except? -2.0
    cdef int _wait(self, int64_t timeout) except -1
    cdef int _dispatch_events(self) except -1
    cdef int _dispatch_results(self) except -1
    cdef int _take_results(self) except -1
    cdef int _fail(self, object exc) except -1
    cdef int _flush(self) except -1

    cdef int _end_lingering(self) except -1
    cdef uint32_t _outstanding(self)
    cdef int _check_attached(self) except -1
    cdef int _check_here(self) except -1

    # for endpoints
    cdef int reserve(self, uint32_t results) except -1
    cdef void unreserve(self, uint32_t results) noexcept
    cdef int mark_dirty(self, Endpoint endpoint) except -1
    cdef int gather(self, Endpoint endpoint) except -1
    cdef int end_delivery(self) except -1
    cdef int _push_gathered(self) except -1
    cdef object refusal(self)
    cdef SlicePool datagram_pool(self)


# Whether another thread has the loop. With the GIL: it sleeps in its port, or we would not run.
cdef inline bint runs_elsewhere(Engine engine) noexcept:
    cdef uint64_t runner
    if engine is None:
        return False
    if not FREE_THREADED or thread_load_int(&engine.waiting):
        return engine.waiting
    runner = thread_load_word(&engine.runner)
    return runner != 0 and runner != PyThread_get_thread_ident()


# Reject another thread where it would do harm: without the GIL, while the loop runs.
cdef inline int check_thread(Engine engine) except -1:
    if FREE_THREADED and engine is not None and runs_elsewhere(engine):
        raise RuntimeError("Non-thread-safe operation invoked on an event loop other than the "
                           "current one")
    return 0
