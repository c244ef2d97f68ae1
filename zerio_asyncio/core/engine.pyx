"""The engine: what a loop does all day, in one place.

One tick (``Engine.tick``):

    wait      hand over what is queued and sleep, in one system call; none when callbacks are
              ready and the port has nothing to do
    dispatch  results of the completion queue in batches -> endpoints (transports);
              readiness, accepted connections -> the loop's Python methods
    run       due timers, then the callbacks that were ready at that moment; before the results,
              if some were ready when the tick began
    flush     endpoints with bytes that the system did not take yet make requests of them

Hazards, and what is done about them:

* A callback may leave by KeyboardInterrupt or SystemExit in the middle of a batch. Results and
  events already fetched exist nowhere else, so they live in the engine, and the next tick goes on
  where this one was left.
* A result may arrive for a transport that nobody refers to any more. ``endpoints`` keeps each one
  alive until its requests are dequeued, for its memory is the kernel's until then.
* Other threads only append to the ready queue (they hold the GIL) and post, and post only while
  the loop sleeps: ``waiting`` is set and cleared under the GIL on both sides of the wait.
* RIONotify is one-shot and fires at once when the queue is not empty, so it is armed right before
  the wait and the queue is looked at after each wait, armed or not.

The class comes first in the bases of a loop class; the standard library's loop, second, does all
the rest, and finds under its own private names (``_stopping``, ``_closed`` …) what it expects.
"""

cdef extern from "decref.h":
    pass



import sys
from asyncio import Future, base_events, format_helpers

from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc
from cpython.object cimport PyTypeObject, inquiry, traverseproc
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.math cimport isnan
from libc.stdint cimport uintptr_t
from libc.string cimport memmove

from zerio_asyncio.core.handles cimport new_handle, new_timer, refuse_copies
from zerio_asyncio.core.memory cimport DATAGRAM_SLAB, DATAGRAM_SLICE
from zerio_asyncio.core.rio cimport (
    RIO_CAP_BATCH, RIO_CAP_PENDING, RIO_CAP_SEND_NOW,
    RIO_CORRUPT_CQ, RIO_INVALID_CQ, RIO_IOCP_COMPLETION, RIO_MAX_CQ_SIZE,
    RIO_NOTIFICATION_COMPLETION, RIO_PORT_ACCEPT, RIO_PORT_NOTIFY, RIO_PORT_PACKET, RIO_PORT_READY,
    rio_peer)

from zerio_asyncio.core.protocols import InvariantError

cdef extern from "Python.h":
    int PyErr_CheckSignals() except -1
    object PyObject_Call(object, tuple, dict)

cdef extern from "clock.h":
    double clock_seconds() noexcept nogil

# A day: asyncio's own limit, below every system's (MAXIMUM_SELECT_TIMEOUT in base_events).
cdef double LONGEST_WAIT = 24 * 3600.0

# While callbacks are always ready, a port that cannot tell whether the kernel has something is
# asked at least this often (seconds): far below what a socket's user would notice, and so rarely
# that the system calls do not count.
cdef double POLL_INTERVAL = 50e-6

# A forgotten result would hang loop.close() for ever; the kernel cancels within microseconds.
cdef double DRAIN_LIMIT = 5.0

cdef enum:
    READY_ROOM = 64        # first size of the ready queue, a power of two
    # Sends of one tick from which on requests beat calls: each request is a result to fetch, and
    # the first of them ends the wait that was to follow.
    BATCH_MIN = 8


cdef class Endpoint:
    """What has requests on the engine's completion queue. Transports derive from it."""

    cdef int completed(self, uint64_t request, int32_t status, uint32_t count) except -1:
        """One result; the engine has already counted it off ``outstanding``."""
        raise NotImplementedError

    cdef int flush(self, bint now) except -1:
        """Hand what was written to the provider; ``now``: try without a request first."""
        raise NotImplementedError

    cdef int push(self) except -1:
        """Send what was gathered during a delivery."""
        raise NotImplementedError

    cdef int fail(self, object exc) except -1:
        """What was to be done for this one has failed, by want of memory: end it, and only it."""
        raise exc

    cdef void let_go(self) noexcept:
        """The loop closes: retire, and touch no protocol any more."""
        pass


cdef class Engine(Timers):
    """The scheduling half of a loop; see the top of this module."""

    def __cinit__(self, *args, **kwargs):
        self.results = <RIORESULT *>PyMem_RawMalloc(RESULTS_A_BATCH * sizeof(RIORESULT))
        self.events = <rio_port_event *>PyMem_RawMalloc(EVENTS_A_WAIT * sizeof(rio_port_event))
        self.ready = <PyObject **>PyMem_RawMalloc(READY_ROOM * sizeof(PyObject *))
        if self.results is NULL or self.events is NULL or self.ready is NULL:
            raise MemoryError("no memory for a loop")
        self.ready_mask = READY_ROOM - 1
        self.endpoints = set()
        self.dirty = []
        self.clean = []
        self.gatherers = []
        self.spare_bytes = SpareBytes.__new__(SpareBytes)
        # Opened by the standard library's __init__: one that never got there has nothing to close.
        self._closed = True
        self.slow_callback_duration = 0.1

    def __reduce_ex__(self, protocol):
        return refuse_copies(self)

    def __reduce__(self):
        return refuse_copies(self)

    def __dealloc__(self):
        while self.ready_count:
            self._pop()
        PyMem_RawFree(self.ready)
        PyMem_RawFree(self.results)
        PyMem_RawFree(self.events)

    # ---------------------------------------------------------------- wiring

    def _attach(self, uintptr_t provider, uintptr_t port, SlicePool pool not None,
                uint32_t queue_size, uint32_t send_depth, bint gathers, error_of, last_error):
        """Take the provider and the port (addresses), make the completion queue.

        ``gathers``: the writes of a tick go out together at its end.
        ``error_of`` turns a Winsock code into an OSError, ``last_error`` gives the code of the
        last refused call. The caller keeps provider and port alive until ``_detach``.
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
        """Retire every endpoint, fetch what is outstanding, give all memory back."""
        cdef Endpoint endpoint
        cdef double limit = clock_seconds() + DRAIN_LIMIT
        cdef int64_t pause = 0
        self._check_here()
        self.future_keywords = None
        if self.port is NULL:
            return
        for endpoint in list(self.endpoints):
            endpoint.let_go()
        self._drop_events()
        while self._outstanding() and clock_seconds() < limit:
            if not self._ask(pause):
                break  # the port is the parent's: nothing will come to this child
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

    cdef uint32_t _outstanding(self):
        cdef Endpoint endpoint
        cdef uint32_t count = 0
        for endpoint in self.endpoints:
            count += endpoint.outstanding
        return count

    def _drop_events(self):
        """Close what was accepted and never handed on; tell of operations that have ended."""
        cdef rio_port_event *event
        while self.event_next < self.event_count:
            event = &self.events[self.event_next]
            self.event_next += 1
            if event.kind == RIO_PORT_ACCEPT and event.status == 0:
                self._port_accepted(0, 0, event.value, b"")
            elif event.kind == RIO_PORT_PACKET:
                self._port_packet(event.status, event.value, event.key,
                                  <size_t>event.overlapped)

    cpdef int _forget_callbacks(self) except -1:
        while self.ready_count:
            self._pop()
        return self._forget_timers()

    def _watch(self, int descriptor, uint32_t mask):
        """Report readiness of a descriptor (1 reading, 2 writing, 0 stop) to ``_port_ready``."""
        cdef int32_t refused
        self._check_here()
        if self.port is not NULL:
            refused = self.provider.port.watch(self.port, <size_t>descriptor, mask, descriptor)
            if refused:
                raise self.error_of(refused)

    def _accept(self, int descriptor, uint64_t key):
        """Report connections on a listening descriptor to ``_port_accepted``."""
        cdef int32_t refused
        self._check_attached()
        self._check_here()
        refused = self.provider.port.accept(self.port, <size_t>descriptor, key)
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
        """Refuse another thread while the loop's own is inside the port."""
        if self.waiting:
            raise RuntimeError("Non-thread-safe operation invoked on an event loop other than the "
                               "current one")
        return 0

    cdef object refusal(self):
        """The OSError of the call that was refused just now."""
        return self.error_of(self.last_error())

    cdef SlicePool datagram_pool(self):
        """Slices of the size of any datagram: a connection's are too small for the largest."""
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

    # ----------------------------------------------------------- scheduling

    def get_debug(self):
        """Whether debug mode is on; each new future asks."""
        return self._debug

    def create_future(self):
        """A future of this loop."""
        if self.future_keywords is None:
            self.future_keywords = {"loop": self}
        return PyObject_Call(Future, (), self.future_keywords)

    def time(self):
        """Seconds on the loop's monotonic clock."""
        return clock_seconds()

    def call_soon(self, callback, *args, context=None):
        """Run ``callback(*args)`` in the next tick; see ``asyncio.loop.call_soon``."""
        if self._closed:
            raise RuntimeError("Event loop is closed")
        if self._debug:
            self._check_thread()
            self._check_callback(callback, "call_soon")
        cdef Handle handle = new_handle(self, callback, args, context)
        if self._debug:
            handle._source_traceback = format_helpers.extract_stack(sys._getframe())
        self.push(handle)
        return handle

    def call_soon_threadsafe(self, callback, *args, context=None):
        """As ``call_soon``, from any thread; wakes a sleeping loop."""
        if self._closed:
            raise RuntimeError("Event loop is closed")
        if self._debug:
            self._check_callback(callback, "call_soon_threadsafe")
        cdef Handle handle = new_handle(self, callback, args, context)
        if self._debug:
            handle._source_traceback = format_helpers.extract_stack(sys._getframe())
        self.push(handle)
        self._wake()
        return handle

    def call_later(self, delay, callback, *args, context=None):
        """Run ``callback(*args)`` after ``delay`` seconds; see ``asyncio.loop.call_later``."""
        if delay is None:
            raise TypeError("delay must not be None")
        cdef double when = clock_seconds() + <double>delay
        return self._call_at(when, callback, args, context, "call_later")

    def call_at(self, when, callback, *args, context=None):
        """Run ``callback(*args)`` at ``when`` (as ``time()``); see ``asyncio.loop.call_at``."""
        if when is None:
            raise TypeError("when cannot be None")
        return self._call_at(<double>when, callback, args, context, "call_at")

    cdef TimerHandle _call_at(self, double when, callback, tuple args, context, str method):
        if self._closed:
            raise RuntimeError("Event loop is closed")
        if isnan(when):
            raise ValueError("a timer needs a time, not NaN")
        if self._debug:
            self._check_thread()
            self._check_callback(callback, method)
        cdef TimerHandle timer = new_timer(when, self, callback, args, context)
        if self._debug:
            timer._source_traceback = format_helpers.extract_stack(sys._getframe())
        self._timer_add(timer)
        return timer

    def _add_callback(self, handle):
        """A ready file descriptor's handle, from the standard library's ``_process_events``."""
        if not handle._cancelled:
            self.push(handle)

    def _add_callback_signalsafe(self, handle):
        self._add_callback(handle)
        self._wake()

    def _write_to_self(self):
        self._wake()

    def _timer_handle_cancelled(self, handle):
        # asyncio.TimerHandle calls this; ours leave the heap by themselves.
        pass

    cdef int _wake(self) except -1:
        # Nothing to do while the loop runs: it will find the handle before it sleeps.
        if self.waiting and self.port is not NULL:
            self.provider.port.post(self.port, 0)
        return 0

    cdef object soon(self, object callback, tuple args, object context):
        if self._closed:
            raise RuntimeError("Event loop is closed")
        cdef Handle handle = new_handle(self, callback, args, context)
        if self._debug:
            handle._source_traceback = format_helpers.extract_stack(sys._getframe())
        self.push(handle)
        return handle

    # ---------------------------------------------------------- ready queue

    cdef int push(self, object handle) except -1:
        if self.ready_count > self.ready_mask:
            self._grow_ready()
        self.ready[(self.ready_head + self.ready_count) & self.ready_mask] = <PyObject *>handle
        Py_INCREF(handle)
        self.ready_count += 1
        return 0

    cdef int _grow_ready(self) except -1:
        cdef size_t room = (self.ready_mask + 1) * 2
        cdef PyObject **ready = <PyObject **>PyMem_RawMalloc(room * sizeof(PyObject *))
        cdef size_t i
        if ready is NULL:
            raise MemoryError("no memory for another callback")
        for i in range(self.ready_count):
            ready[i] = self.ready[(self.ready_head + i) & self.ready_mask]
        PyMem_RawFree(self.ready)
        self.ready = ready
        self.ready_mask = room - 1
        self.ready_head = 0
        return 0

    cdef object _pop(self):
        cdef PyObject *item = self.ready[self.ready_head]
        cdef object handle = <object>item
        Py_DECREF(handle)
        self.ready_head = (self.ready_head + 1) & self.ready_mask
        self.ready_count -= 1
        return handle

    cdef int _run_ready(self) except -1:
        # Exactly those that are ready now: what they add waits for the next tick.
        cdef size_t left = self.ready_count
        cdef object handle
        while left and self.ready_count:
            left -= 1
            handle = self._pop()
            if isinstance(handle, Handle):
                if not (<Handle>handle)._cancelled:
                    if self._debug:
                        self._run_timed(handle)
                    else:
                        (<Handle>handle).run()
            elif not handle._cancelled:  # the standard library's, of add_reader and signals
                if self._debug:
                    self._run_timed(handle)
                else:
                    handle._run()
        return 0

    cdef int _run_timed(self, object handle) except -1:
        cdef double start = clock_seconds()
        self._current_handle = handle
        try:
            handle._run()
        finally:
            self._current_handle = None
        self._tell_if_slow(start, handle)
        return 0

    cdef int _tell_if_slow(self, double start, object what) except -1:
        cdef double took = clock_seconds() - start
        if took >= self.slow_callback_duration:
            if not isinstance(what, Endpoint):
                what = base_events._format_handle(what)
            base_events.logger.warning("Executing %s took %.3f seconds", what, took)
        return 0

    # --------------------------------------------------------------- timers

    cdef int _fire_timers(self) except -1:
        # As asyncio: what falls due within the clock's resolution is due.
        cdef double end = clock_seconds() + self._clock_resolution
        cdef object handle
        while self.timer_count and self.timers[0].when < end:
            handle = <object>self.timers[0].handle
            self._timer_remove(0)
            self.push(handle)
        return 0

    # ------------------------------------------------------------- the tick

    cdef int tick(self) except -1:
        cdef int64_t timeout
        cdef bint late
        if self.gatherers:
            self._push_gathered()  # a delivery that is under way runs the loop itself
        if self.dirty:
            self._flush()
        # As asyncio: what is ready by now runs before protocols hear of what arrives meanwhile.
        late = self.ready_count > 0
        timeout = self._timeout()
        if timeout != 0 or self._must_poll():
            self._wait(timeout)
        PyErr_CheckSignals()
        if self.event_next < self.event_count:
            self._dispatch_events()
        if not late:
            self._dispatch_results()
        if self.timer_count:
            self._fire_timers()
        # The only place where callbacks are called.
        self._run_ready()
        if late:
            self._dispatch_results()
        return 0

    cdef bint _must_poll(self) noexcept:
        if self.provider.port.pending(self.port) or self._stopping:
            return True
        if self.polled == 0.0:
            return True  # the first tick of a run
        if self.provider.capabilities & RIO_CAP_PENDING:
            return False
        return clock_seconds() - self.polled >= POLL_INTERVAL

    cdef int64_t _timeout(self) noexcept:
        """Nanoseconds to sleep; negative for ever, 0 not at all."""
        cdef double left
        if (self.ready_count or self._stopping or self.more_results or self.dirty
                or self.result_next < self.result_count or self.event_next < self.event_count):
            return 0
        if not self.timer_count:
            return -1
        left = self.timers[0].when - clock_seconds()
        if left <= 0:
            return 0
        if left > LONGEST_WAIT:
            left = LONGEST_WAIT
        # One more, so that the cut to whole nanoseconds does not wake a moment too early.
        return <int64_t>(left * 1e9) + 1

    cdef int _wait(self, int64_t timeout) except -1:
        cdef int32_t count
        cdef rio_port *port = self.port
        cdef const rio_provider *provider = self.provider
        if self.event_next < self.event_count:
            return 0
        if timeout != 0 and not self.armed:
            self.armed = provider.rio.RIONotify(self.queue) == 0
        if timeout == 0 and not provider.port.pending(port):
            # A glance of less than a microsecond: not worth handing over the GIL.
            count = provider.port.wait(port, self.events, EVENTS_A_WAIT, 0)
        else:
            self.waiting = True
            with nogil:
                count = provider.port.wait(port, self.events, EVENTS_A_WAIT, timeout)
            self.waiting = False
        self.event_next = 0
        self.event_count = 0
        self.polled = clock_seconds()
        if count < 0:
            raise self.error_of(-count)
        self.event_count = <uint32_t>count
        return 0

    cdef int _dispatch_events(self) except -1:
        cdef rio_port_event *event
        cdef uint32_t mask
        cdef const rio_peer *peer
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
                peer = <const rio_peer *>event.overlapped
                self._port_accepted(event.key, event.status, event.value,
                                    b"" if peer is NULL else peer.address[:peer.length])
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
                # One request, one result (rule 1): more would be another's memory.
                if endpoint.outstanding == 0:
                    raise InvariantError(f"a result for {endpoint!r}, which waits for none")
                endpoint.outstanding -= 1
                if endpoint.outstanding == 0 and not endpoint.attached:
                    self.endpoints.discard(endpoint)
                self.served = endpoint
                start = clock_seconds() if self._debug else 0.0
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
        """Have ``endpoint`` push what it has gathered when the delivery under way is over."""
        if not endpoint.gathering:
            self.gatherers.append(endpoint)
            endpoint.gathering = True
        return 0

    cdef int end_delivery(self) except -1:
        """The protocol has been given what there was: what it gathered meanwhile goes out."""
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
        cdef uint32_t can = self.provider.capabilities
        cdef bint many = can & RIO_CAP_BATCH and len(dirty) >= BATCH_MIN
        cdef bint now = can & RIO_CAP_SEND_NOW and not many
        cdef Py_ssize_t done = 0
        # What a resumed protocol writes meanwhile waits for the next tick, as others wait for it.
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

    def _run_once(self):
        """Ticks until ``stop``.

        The standard library's ``run_forever`` calls this in a loop until ``_stopping``; staying
        in here saves it, and every tick, a Python call.
        """
        self._check_attached()
        self.polled = 0.0
        while True:
            self.tick()
            if self._stopping:
                break

    def _rest(self):
        """The loop stops running: hand over what was written, take back what the kernel holds.

        Another thread may run the loop next, and a ring serves one thread (rule 10), so whatever a
        resumed protocol raises, the port is parked.
        """
        if self.port is NULL:
            return
        try:
            if self.dirty:
                self._flush()
        finally:
            self._ask(0)
            self.provider.port.park(self.port)

    cdef bint _ask(self, int64_t timeout) noexcept:
        """Wait, and keep the events behind those that are not handled yet."""
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
        cdef SlicePool pool = self.pool
        cdef Py_ssize_t in_use = pool.slices_in_use
        cdef Py_ssize_t high_water = pool.slices_high_water
        cdef Py_ssize_t slabs = pool.slabs
        if self.datagrams is not None:
            in_use += self.datagrams.slices_in_use
            high_water += self.datagrams.slices_high_water
            slabs += self.datagrams.slabs
        return (in_use, high_water, slabs, len(self.endpoints), self.gathered)


# ------------------------------------------------------------------ what the collector sees

# The ready queue and the timers refer to objects that Cython knows nothing of. A list would be
# seen by the collector, but also by whoever asks it for its objects, with its free places null; and
# making a longer one may collect, in the middle of what calls it.

# As C declares them: an answer that is not 0 is the visitor's, no exception.
ctypedef int (*visit_function)(PyObject *, void *) noexcept
ctypedef int (*traverse_function)(PyObject *, visit_function, void *) noexcept
ctypedef int (*clear_function)(PyObject *) noexcept

cdef PyTypeObject *engine_type = <PyTypeObject *>Engine
cdef traverse_function traverse_fields = <traverse_function><void *>engine_type.tp_traverse
cdef clear_function clear_fields = <clear_function><void *>engine_type.tp_clear


cdef int traverse(PyObject *engine, visit_function visit, void *argument) noexcept:
    cdef size_t i
    cdef Py_ssize_t j
    cdef int answer
    for i in range((<Engine>engine).ready_count):
        answer = visit((<Engine>engine).ready[((<Engine>engine).ready_head + i)
                                              & (<Engine>engine).ready_mask], argument)
        if answer:
            return answer
    for j in range((<Engine>engine).timer_count):
        answer = visit((<Engine>engine).timers[j].handle, argument)
        if answer:
            return answer
    return traverse_fields(engine, visit, argument)


cdef int clear(PyObject *engine) noexcept:
    (<Engine>engine)._forget_callbacks()
    return clear_fields(engine)


engine_type.tp_traverse = <traverseproc><void *>traverse
engine_type.tp_clear = <inquiry><void *>clear
