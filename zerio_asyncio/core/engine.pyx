"""The engine: what a loop does all day, in one place.

One tick (``Engine.tick``):

    wait      submit what is queued and sleep, in one system call; none when callbacks are
              ready and the port has nothing to do
    dispatch  results of the completion queue in batches -> endpoints (transports);
              readiness, accepted connections -> the loop's Python methods
    run       due timers, then the callbacks that were ready at that moment; before the results,
              if some were ready when the tick began
    flush     endpoints with bytes that the system did not take yet turn them into requests

Hazards, and how they are handled:

* A callback may leave by KeyboardInterrupt or SystemExit in the middle of a batch. Results and
  events already fetched exist nowhere else, so they live in the engine, and the next tick continues
  where this one stopped.
* A result may arrive for a transport that nobody refers to any more. ``endpoints`` keeps each one
  alive until its requests are dequeued, because the kernel uses its memory until then.
* Other threads only append to the ready queue and post, and post only while the loop sleeps.
  Between the loop's last look and its sleep, a thread that finds it awake may add a handle: so
  ``waiting`` is set and the queue checked once more, in one step (the GIL, or the queue's lock).
* RIONotify is one-shot and fires at once if the queue is not empty, so it is armed right before the
  wait and the queue is checked after each wait, armed or not.

Its base classes have a file each: ready callbacks (scheduler.pyx), timers and the clock
(timers.pyx), what programs override (overrides.pyx), what loop classes must define (hooks.pyx).

The class comes first in the bases of a loop class. The standard library's loop, second, does all
the rest, and finds what it expects under its private names (``_stopping``, ``_closed`` …).
"""

cdef extern from "decref.h":
    pass



from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc
from libc.stdint cimport uintptr_t
from libc.string cimport memmove

from zerio_asyncio.core.addresses cimport name_of_ipv4
from zerio_asyncio.core.by_call cimport flushes_by_call
from zerio_asyncio.core.handles cimport new_handle, refuse_copies
from zerio_asyncio.core.memory cimport DATAGRAM_SLAB, DATAGRAM_SLICE, SliceCounts
from zerio_asyncio.core.overrides cimport OVERRIDE_RUN_ONCE, OVERRIDE_SELECT, overrides_of
from zerio_asyncio.core.rio cimport (
    RIO_CAP_PENDING, RIO_CORRUPT_CQ, RIO_INVALID_CQ, RIO_IOCP_COMPLETION, RIO_MAX_CQ_SIZE,
    RIO_NOTIFICATION_COMPLETION, RIO_PORT_ACCEPT, RIO_PORT_NOTIFY, RIO_PORT_PACKET, RIO_PORT_READY,
    rio_peer)
from zerio_asyncio.core.scheduler cimport ready_now
from zerio_asyncio.core.threads cimport (
    thread_load_int, thread_load_size, thread_lock_give, thread_lock_take, thread_store_int)

from zerio_asyncio.core.protocols import InvariantError

cdef extern from "Python.h":
    int PyErr_CheckSignals() except -1

cdef extern from "table/clock.h":
    double clock_seconds() noexcept nogil

# A day: asyncio's own limit, below every system's (MAXIMUM_SELECT_TIMEOUT in base_events).
cdef double LONGEST_WAIT = 24 * 3600.0

# While callbacks are always ready, a port that cannot tell whether the kernel has something is
# polled at least this often (seconds): far less than a socket's user would notice, and so rarely
# that the system calls do not matter. The turns after something arrived poll every time, as
# asyncio's do, so what one task sends or closes soon reaches another of this loop.
cdef double POLL_INTERVAL = 50e-6
cdef uint32_t GLANCES = 16

# A forgotten result would hang loop.close() for ever; the kernel cancels within microseconds.
cdef double DRAIN_LIMIT = 5.0
# Seconds that a closing loop gives peers to end, whose connections were closed in its last moments.
cdef double LINGER_LIMIT = 1.0


cdef inline int64_t _nanoseconds(double seconds) noexcept:
    # One more, so that rounding down to whole nanoseconds does not wake us a moment too early.
    return <int64_t>(seconds * 1e9) + 1 if seconds > 0 else <int64_t>seconds


cdef object _name_of(const rio_peer *peer):
    """The address that an accept reported: its name, or bytes if we cannot name it."""
    if peer is NULL:
        return b""
    name = name_of_ipv4(peer.address, peer.length)
    return peer.address[:peer.length] if name is None else name


cdef class Endpoint:
    """Anything with requests on the engine's completion queue. Transports derive from it."""

    cdef int completed(self, uint64_t request, int32_t status, uint32_t count) except -1:
        """One result; the engine has already deducted it from ``outstanding``."""
        raise NotImplementedError

    cdef int flush(self, bint now) except -1:
        """Pass what was written to the provider; ``now``: try without a request first."""
        raise NotImplementedError

    cdef int push(self) except -1:
        """Send what was gathered during a delivery."""
        raise NotImplementedError

    cdef int fail(self, object exc) except -1:
        """Something to be done for this one failed for lack of memory: end it, and only it."""
        raise exc

    cdef void let_go(self) noexcept:
        """The loop closes: retire, and do not touch the protocol any more."""
        pass

    cdef bint is_lingering(self) noexcept:
        """Closed for its program, and waiting for the peer's end."""
        return False


cdef class Engine(LoopHooks):
    """The half of a loop that the standard library does not provide; see the top of this module."""

    def __cinit__(self, *args, **kwargs):
        self.results = <RIORESULT *>PyMem_RawMalloc(RESULTS_A_BATCH * sizeof(RIORESULT))
        self.events = <rio_port_event *>PyMem_RawMalloc(EVENTS_A_WAIT * sizeof(rio_port_event))
        if self.results is NULL or self.events is NULL:
            raise MemoryError("no memory for a loop")
        self.endpoints = set()
        self.dirty = []
        self.clean = []
        self.gatherers = []
        self.spare_bytes = SpareBytes.__new__(SpareBytes)

    def __reduce_ex__(self, protocol):
        return refuse_copies(self)

    def __reduce__(self):
        return refuse_copies(self)

    def __dealloc__(self):
        PyMem_RawFree(self.results)
        PyMem_RawFree(self.events)

    # ---------------------------------------------------------------- wiring

    def _attach(self, uintptr_t provider, uintptr_t port, SlicePool pool not None,
                uint32_t queue_size, uint32_t send_depth, bint gathers, error_of, last_error):
        """Take the provider and the port (addresses) and create the completion queue.

        ``gathers``: the writes of a tick go out together at its end. ``error_of`` turns a Winsock
        code into an OSError, ``last_error`` returns the code of the last refused call. The caller
        keeps provider and port alive until ``_detach``.
        """
        cdef RIO_NOTIFICATION_COMPLETION notification
        if self.port is not NULL:
            raise RuntimeError("the engine is attached already")
        self.provider = <const rio_provider *>provider
        self.error_of = error_of
        self.last_error = last_error
        self.send_depth = send_depth
        self.gathers = gathers
        self.pool = pool
        pool.attach(self.provider)
        notification.Type = RIO_IOCP_COMPLETION
        notification.u.Iocp.IocpHandle = <void *>port
        notification.u.Iocp.CompletionKey = NULL
        notification.u.Iocp.Overlapped = <void *>self
        self.queue = self.provider.rio.RIOCreateCompletionQueue(queue_size, &notification)
        if self.queue == RIO_INVALID_CQ:
            raise self.refusal()
        self.queue_size = queue_size
        self.port = <rio_port *>port

    def _detach(self):
        """Retire every endpoint, fetch what is outstanding, release all memory."""
        cdef Endpoint endpoint
        cdef double limit = clock_seconds() + DRAIN_LIMIT
        cdef int64_t pause = 0
        self._check_here()
        self._keep_keywords(None)
        if self.port is NULL:
            return
        for endpoint in list(self.endpoints):
            if not endpoint.is_lingering():
                endpoint.let_go()
        self._drop_events()
        self._end_lingering()
        while self._outstanding() and clock_seconds() < limit:
            if not self._ask(pause):
                break  # the port is the parent's: nothing will reach this child
            self._drop_events()
            try:
                self._dispatch_results()
            except InvariantError:
                break  # the queue is corrupt: nothing more can be fetched
            pause = 10_000_000
        self.provider.rio.RIOCloseCompletionQueue(self.queue)
        self.endpoints.clear()
        self.dirty.clear()
        self.pool.close()
        if self.datagrams is not None:
            self.datagrams.close()
        self.port = NULL

    cdef int _end_lingering(self) except -1:
        """Give peers the time to read what was sent; they get a reset otherwise."""
        cdef Endpoint endpoint
        cdef double limit = clock_seconds() + LINGER_LIMIT
        cdef list those = [each for each in self.endpoints if (<Endpoint>each).is_lingering()]
        while any([(<Endpoint>each).is_lingering() for each in those]) and clock_seconds() < limit:
            if not self._ask(10_000_000):
                break
            self._drop_events()
            try:
                self._dispatch_results()
            except InvariantError:
                break
        for endpoint in those:
            endpoint.let_go()
        return 0

    cdef uint32_t _outstanding(self):
        cdef Endpoint endpoint
        cdef uint32_t count = 0
        for endpoint in self.endpoints:
            count += endpoint.outstanding
        return count

    def _drop_events(self):
        """Close what was accepted but never passed on; report operations that have ended."""
        cdef rio_port_event *event
        while self.event_next < self.event_count:
            event = &self.events[self.event_next]
            self.event_next += 1
            if event.kind == RIO_PORT_ACCEPT and event.status == 0:
                self._port_accepted(0, 0, event.value, b"")
            elif event.kind == RIO_PORT_PACKET:
                self._port_packet(event.status, event.value, event.key,
                                  <size_t>event.overlapped)

    cdef int _wake(self) except -1:
        # Nothing to do while the loop runs: it will find the handle before it sleeps.
        if thread_load_int(&self.waiting) and self.port is not NULL:
            self.provider.port.post(self.port, 0)
        return 0

    def _watch(self, int descriptor, uint32_t mask):
        """Report readiness of a descriptor (1 reading, 2 writing, 0 stop) to ``_port_ready``."""
        cdef int32_t refused
        if runs_elsewhere(self):
            self.call_soon_threadsafe(self._watch, descriptor, mask)
        elif self.port is not NULL:
            refused = self.provider.port.watch(self.port, <size_t>descriptor, mask, descriptor)
            if refused:
                raise self.error_of(refused)

    def _accept(self, int descriptor, uint64_t key, bint alone=False):
        """Report connections on a listening descriptor to ``_port_accepted``.

        ``alone``: no other process accepts on it.
        """
        cdef int32_t refused
        self._check_attached()
        self._check_here()
        refused = self.provider.port.accept(self.port, <size_t>descriptor, key)
        if not refused and alone:
            refused = self.provider.port.accept_alone(self.port, <size_t>descriptor, True)
        if refused:
            raise self.error_of(refused)

    def _accept_stop(self, int descriptor):
        self._check_here()
        if self.port is not NULL:
            self.provider.port.accept_stop(self.port, <size_t>descriptor)

    cdef int _check_attached(self) except -1:
        if self.port is NULL:
            raise RuntimeError("Event loop is closed")
        return 0

    cdef int _check_here(self) except -1:
        """Reject another thread while the loop's own is inside the port."""
        if runs_elsewhere(self):
            raise RuntimeError("Non-thread-safe operation invoked on an event loop other than the "
                               "current one")
        return 0

    cdef object refusal(self):
        """The OSError of the call that was just refused."""
        return self.error_of(self.last_error())

    cdef SlicePool datagram_pool(self):
        """Slices that hold any datagram: a connection's are too small for the largest."""
        if self.datagrams is None:
            self.datagrams = SlicePool(DATAGRAM_SLICE, DATAGRAM_SLAB)
            self.datagrams.attach(self.provider)
        return self.datagrams

    cdef int reserve(self, uint32_t results) except -1:
        """Make room in the completion queue before a request queue asks for it (rule 5)."""
        cdef uint64_t size = self.queue_size
        cdef uint64_t wanted = <uint64_t>self.queue_reserved + results
        cdef int32_t made
        while size < wanted:
            size *= 2
        if size > RIO_MAX_CQ_SIZE:
            size = RIO_MAX_CQ_SIZE
        if size != self.queue_size:
            made = self.provider.rio.RIOResizeCompletionQueue(self.queue, <uint32_t>size)
            if not made:
                raise self.refusal()
            self.queue_size = <uint32_t>size
        self.queue_reserved += results
        return 0

    cdef void unreserve(self, uint32_t results) noexcept:
        self.queue_reserved -= results

    # ------------------------------------------------------------- the tick

    cdef int tick(self) except -1:
        cdef double left
        cdef bint late
        if self.timer_view is not None:
            self._settle_timers()
        if self.copied_context is not None:
            self._forget_context()  # what its variables refer to is not kept alive by the loop
        if overrides_of(self) & OVERRIDE_SELECT:
            return self._turn_by_selector()
        if self.gatherers:
            self._push_gathered()  # the delivery in progress runs the loop itself
        if self.dirty:
            self._flush()
        # As in asyncio: what is ready by now runs before protocols hear of what arrives meanwhile.
        late = ready_now(self) > 0
        left = self._left()
        if left != 0 or self._must_poll():
            self._wait(_nanoseconds(left))
        PyErr_CheckSignals()
        if self.event_next < self.event_count:
            self._dispatch_events()
        if not late and self._fetch():
            self._dispatch_results()
        if thread_load_size(&self.timer_count):
            self._fire_timers()
        # The only place where callbacks are called.
        self._run_ready()
        if late and self._fetch():
            self._dispatch_results()
        return 0

    cdef bint _must_poll(self) noexcept:
        if self.provider.port.pending(self.port) or self._stopping:
            return True
        if self.polled == 0.0:
            return True  # the first tick of a run
        if self.provider.capabilities & RIO_CAP_PENDING:
            return False
        if self.glances:
            self.glances -= 1
            return True
        return clock_seconds() - self.polled >= POLL_INTERVAL

    cdef double _left(self) except? -2.0:
        """Seconds to sleep; -1 for ever, 0 not at all."""
        cdef double left
        if (ready_now(self) or self._stopping or self.more_results or self.dirty
                or self.result_next < self.result_count or self.event_next < self.event_count):
            return 0.0
        if not thread_load_size(&self.timer_count):
            return -1.0
        left = self._timer_next() - self._now()
        return min(max(left, 0.0), LONGEST_WAIT)

    cdef int _wait(self, int64_t timeout) except -1:
        cdef int32_t count
        cdef rio_port *port = self.port
        cdef const rio_provider *provider = self.provider
        if self.event_next < self.event_count:
            return 0
        if timeout != 0 and not self.armed:
            self.armed = provider.rio.RIONotify(self.queue) == 0
        if timeout == 0 and not provider.port.pending(port):
            # Polling takes less than a microsecond: not worth releasing the GIL.
            count = provider.port.wait(port, self.events, EVENTS_A_WAIT, 0)
        else:
            thread_lock_take(&self.lock)
            thread_store_int(&self.waiting, True)
            if self.ready_count:
                timeout = 0
            thread_lock_give(&self.lock)
            with nogil:
                count = provider.port.wait(port, self.events, EVENTS_A_WAIT, timeout)
            thread_store_int(&self.waiting, False)
        self.event_next = 0
        self.event_count = 0
        self.polled = clock_seconds()
        if count or timeout:
            self.glances = GLANCES
        if count < 0:
            raise self.error_of(-count)
        self.event_count = <uint32_t>count
        return 0

    cdef int _turn_by_selector(self) except -1:
        """A turn as the standard loop makes it, for programs that have replaced a part of it."""
        cdef double left = self._left()
        cdef double polled = self.polled
        events = self._selector.select(None if left < 0 else left)
        if self.polled == polled:
            self._wait(0)  # it was answered without us
        self._process_events(events)
        PyErr_CheckSignals()
        if self.event_next < self.event_count:
            self._dispatch_events()
        if thread_load_size(&self.timer_count):
            self._fire_timers()
        self._run_ready()
        return 0

    def _select(self, timeout):
        """Wait as ``select`` does; return the ready descriptors, paired with their masks.

        For programs that turn the loop by hand, or have put something between the loop and its
        selector. Events that concern no descriptor reach their protocols by a callback, as on the
        standard loop.
        """
        cdef double left = -1.0 if timeout is None else min(max(timeout, 0.0), LONGEST_WAIT)
        cdef list ready = []
        self._check_attached()
        if self.gatherers:
            self._push_gathered()
        if self.dirty:
            self._flush()
        if left != 0 and (self.more_results or self.dirty or self.result_next < self.result_count
                          or self.event_next < self.event_count):
            left = 0.0
        self._wait(_nanoseconds(left))
        self._park()
        PyErr_CheckSignals()
        self._take_ready(ready)
        if self.event_next < self.event_count or self._fetch():
            self.push(new_handle(self, self._dispatch, (), None))
        return ready

    cdef int _take_ready(self, list ready) except -1:
        """Take the ready descriptors; other events stay where they are."""
        cdef uint32_t i
        cdef uint32_t kept = 0
        cdef uint32_t mask
        cdef list taken = []
        for i in range(self.event_next, self.event_count):
            if self.events[i].kind == RIO_PORT_READY:
                taken.append((<int>self.events[i].key, self.events[i].value))
            else:
                self.events[kept] = self.events[i]
                kept += 1
        self.event_next = 0
        self.event_count = kept
        for descriptor, told in taken:
            mask = self.became_ready(descriptor, told)
            if mask:
                ready.append((descriptor, mask))
        return 0

    cdef bint _fetch(self) except -1:
        """Whether there are results to dispatch; fetches a batch of them."""
        cdef uint32_t count
        if self.result_next == self.result_count:
            count = self.provider.rio.RIODequeueCompletion(
                self.queue, self.results, RESULTS_A_BATCH)
            if count == RIO_CORRUPT_CQ:
                raise InvariantError("the completion queue is corrupt")
            self.result_next = 0
            self.result_count = count
            self.more_results = count == RESULTS_A_BATCH
        return self.result_count > self.result_next

    def _dispatch(self):
        """Report everything that has happened."""
        if self.port is not NULL:
            self._dispatch_events()
            self._dispatch_results()

    cdef int _dispatch_events(self) except -1:
        cdef rio_port_event *event
        cdef uint32_t mask
        cdef list ready = None
        while self.event_next < self.event_count:
            event = &self.events[self.event_next]
            self.event_next += 1
            if event.kind == RIO_PORT_NOTIFY:
                self.armed = False
            elif event.kind == RIO_PORT_READY:
                mask = self.became_ready(<int>event.key, <uint32_t>event.value)
                if mask:
                    ready = [] if ready is None else ready
                    ready.append((event.key, mask))
            elif event.kind == RIO_PORT_ACCEPT:
                self._port_accepted(event.key, event.status, event.value,
                                    _name_of(<const rio_peer *>event.overlapped))
            elif event.kind == RIO_PORT_PACKET:
                self._port_packet(event.status, event.value, event.key,
                                  <uintptr_t>event.overlapped)
        if ready is not None:
            self._port_ready(ready)
        return 0

    cdef uint32_t became_ready(self, int descriptor, uint32_t mask) except? 0xFFFFFFFF:
        return mask

    cdef int _dispatch_results(self) except -1:
        while True:
            try:
                return self._take_results()
            except (SystemExit, KeyboardInterrupt, InvariantError):
                self.served = None
                raise
            except BaseException as exc:
                self._fail(exc)

    cdef int _fail(self, object exc) except -1:
        cdef Endpoint endpoint = self.served
        self.served = None
        if endpoint is None:
            raise exc
        return endpoint.fail(exc)

    cdef int _take_results(self) except -1:
        cdef uint32_t batches = 0
        cdef uint32_t count
        cdef double start
        cdef RIORESULT *result
        cdef Endpoint endpoint
        while True:
            while self.result_next < self.result_count:
                result = &self.results[self.result_next]
                self.result_next += 1
                endpoint = <Endpoint><void *><uintptr_t>result.SocketContext
                # One request, one result (rule 1): any more would be for memory that is not ours.
                if endpoint.outstanding == 0:
                    raise InvariantError(f"a result for {endpoint!r}, which waits for none")
                endpoint.outstanding -= 1
                if endpoint.outstanding == 0 and not endpoint.attached:
                    self.endpoints.discard(endpoint)
                self.served = endpoint
                start = self._now() if self._debug else 0.0
                endpoint.completed(result.RequestContext, result.Status, result.BytesTransferred)
                if start:
                    self._tell_if_slow(start, endpoint)  # a protocol was called
            self.served = None
            if batches == BATCHES_A_TICK:
                return 0
            count = self.provider.rio.RIODequeueCompletion(
                self.queue, self.results, RESULTS_A_BATCH)
            if count == RIO_CORRUPT_CQ:
                raise InvariantError("the completion queue is corrupt")
            self.result_next = 0
            self.result_count = count
            self.more_results = count == RESULTS_A_BATCH
            if count == 0:
                return 0
            batches += 1

    cdef int mark_dirty(self, Endpoint endpoint) except -1:
        if not endpoint.dirty:
            self.dirty.append(endpoint)
            endpoint.dirty = True
            self._wake()  # if it sleeps, this is another thread
        return 0

    cdef int gather(self, Endpoint endpoint) except -1:
        """Have ``endpoint`` push what it has gathered when the current delivery ends."""
        if not endpoint.gathering:
            self.gatherers.append(endpoint)
            endpoint.gathering = True
        return 0

    cdef int end_delivery(self) except -1:
        """The protocol has been given everything: what it gathered meanwhile goes out."""
        cdef Endpoint endpoint
        self.deliveries -= 1
        return 0 if self.deliveries else self._push_gathered()

    cdef int _push_gathered(self) except -1:
        cdef Endpoint endpoint
        while self.gatherers:
            endpoint = self.gatherers.pop()
            endpoint.gathering = False
            endpoint.push()
        return 0

    cdef int _flush(self) except -1:
        cdef Endpoint endpoint
        cdef list dirty = self.dirty
        cdef bint now = flushes_by_call(self.provider, len(dirty))
        cdef Py_ssize_t done = 0
        # What a resumed protocol writes now waits for the next tick, since others wait for it.
        self.dirty = self.clean
        self.clean = []
        try:
            for endpoint in dirty:
                done += 1
                endpoint.dirty = False
                try:
                    endpoint.flush(now)
                except MemoryError as exc:
                    endpoint.fail(exc)
        except BaseException:
            self.dirty[:0] = dirty[done:]
            raise
        finally:
            dirty.clear()
            self.clean = dirty
        return 0

    # -------------------------------------------------------------- running

    def _run_whole(self):
        """Let the next ``_run_once`` continue until ``stop``, if it is ours.

        The standard library's ``run_forever`` calls it in a loop until ``_stopping``; staying
        inside saves it a Python call per turn.
        """
        self.whole_run = not overrides_of(self) & OVERRIDE_RUN_ONCE
        self.rests_later = True

    def _run_once(self):
        """One turn."""
        cdef bint whole = self.whole_run
        self.whole_run = False
        self._check_attached()
        self.polled = 0.0
        try:
            while True:
                self.tick()
                if not whole or self._stopping or overrides_of(self) & OVERRIDE_RUN_ONCE:
                    break
        finally:
            self._park()

    cdef void _park(self) noexcept:
        """After a turn by hand: another thread may run the next one (rule 10)."""
        if not self.rests_later and self.port is not NULL:
            self.provider.port.park(self.port)

    def _rest(self):
        """The loop stops running: send what was written, take back what the kernel holds.

        Another thread may run the loop next, and a ring serves one thread (rule 10), so the port is
        parked whatever a resumed protocol raises.
        """
        self.whole_run = False
        self.rests_later = False
        self._show_known()
        if self.port is NULL:
            return
        try:
            if self.dirty:
                self._flush()
        finally:
            self._ask(0)
            self.provider.port.park(self.port)

    cdef bint _ask(self, int64_t timeout) noexcept:
        """Wait, and append the events to those not yet handled."""
        cdef uint32_t kept = self.event_count - self.event_next
        cdef int32_t count = 0
        memmove(self.events, self.events + self.event_next, kept * sizeof(rio_port_event))
        if kept < EVENTS_A_WAIT:
            count = self.provider.port.wait(
                self.port, self.events + kept, EVENTS_A_WAIT - kept, timeout)
        self.event_next = 0
        self.event_count = kept + <uint32_t>max(count, 0)
        return count >= 0

    def _engine_counts(self):
        """Slices in use, their high-water mark, slabs, endpoints, gathered writes."""
        self._check_attached()
        cdef SliceCounts counts = self.pool.counts()
        cdef SliceCounts more
        if self.datagrams is not None:
            more = self.datagrams.counts()
            counts.in_use += more.in_use
            counts.high_water += more.high_water
            counts.slabs += more.slabs
        return (counts.in_use, counts.high_water, counts.slabs, len(self.endpoints),
                thread_load_size(&self.gathered))
