"""StreamTransport: a connected stream socket on a RIO request queue.

Receiving. One receive is posted at a time, into a slice of registered memory, so an idle connection
costs a slice whose pages are untouched. A receive that fills its slice indicates large messages:
the connection then only asks to be told when there is something (a zero-byte receive), and reads it
when its turn comes, into fresh ``bytes`` or the protocol's own buffer. So it is still in the cache
when the protocol, or the send that answers, reads it. What arrives while reading is paused is held,
not delivered.

Who owns the receive memory:

    NOBODY ─_post─▶ KERNEL ─_received─▶ TRANSPORT ─_deliver_*─▶ PROTOCOL ─▶ NOBODY
                                            └── bytes: copied, or given whole ──▶ NOBODY

A receive is posted only into memory that nobody owns. While a protocol looks (PROTOCOL) nothing
else may happen to the memory, whatever the protocol calls: resume_reading posts when its call has
returned, and a connection that ends meanwhile keeps the slice until then.

The base class handles sending (sending.pyx), and its own base the end of a connection
(transport.pyx).

Closing. A socket for Registered I/O always has a receive outstanding, and Windows may reset a
connection that is closed so, before the peer has read what was sent last. Therefore ``close``
ends the sending side, and waits for the peer's end, LINGER seconds at most, in the background: to
the program the connection is closed. ``abort`` waits for nothing, and resets.

Behaviour and wording follow asyncio's ``_SelectorSocketTransport`` (checked: 3.10 to 3.15).
"""

cdef extern from "decref.h":
    pass


import asyncio
import logging
import sys
from asyncio import base_events, constants, transports
import socket

cimport cython
from cpython.buffer cimport PyBUF_WRITABLE, Py_buffer, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.string cimport memcpy

from zerio_asyncio.core.by_call cimport moves_by_call
from zerio_asyncio.core.engine cimport Engine, check_thread, runs_elsewhere
from zerio_asyncio.core.layer cimport StreamLayer
from zerio_asyncio.core.memory cimport release_view
from zerio_asyncio.core.rio cimport (
    RIO_BUF, RIO_EWOULDBLOCK, RIO_INVALID_SOCKET, RIO_OPERATION_ABORTED)
from zerio_asyncio.core.threads cimport thread_load_int, thread_made
from zerio_asyncio.core.transport cimport BEGUN, ENDED, OPEN, enter, leave

from zerio_asyncio.core.protocols import InvariantError, RegisteredProtocol

logger = logging.getLogger("asyncio")

cdef extern from "Python.h":
    int _PyBytes_Resize(PyObject **, Py_ssize_t) except -1

cdef enum:
    # After this many small messages a connection no longer expects large ones.
    LARGE_PATIENCE = 8

# Seconds for the peer to end its side, after close().
cdef double LINGER = 1.0

# From 3.13 on a Server is told which transport comes and goes.
cdef bint SERVER_KNOWS_TRANSPORTS = sys.version_info >= (3, 13)


# It refers only to the pool, which refers to nothing: it is in no cycle, and the collector must not
# clear the pool before __dealloc__ returns the slice.
@cython.no_gc
cdef class SliceView(ReceivedMemory):
    """Shows the received bytes of one slice to the views of a RegisteredProtocol."""

    def __dealloc__(self):
        # Every export holds a reference, so nobody looks at the slice any more.
        if self.owner and self.slice.slab is not NULL:
            self.pool.give(&self.slice)


cdef class StreamTransport(SendingTransport):
    """The transport of a connected stream socket. The loop makes it, never users.

    ``sock`` is non-blocking and now belongs to the transport; ``given``: the program has it, too,
    and may close it; ``known``: see ``know_stream``. ``OSError`` if it cannot get a request queue.
    """

    _sendfile_compatible = constants._SendfileMode.TRY_NATIVE
    _start_tls_compatible = True

    def __init__(self, Engine loop not None, sock, protocol, waiter=None, extra=None,
                 server=None, bint given=False, context=None, bint known=False):
        self._take_socket(loop, sock, extra, given)
        self.set_protocol(protocol)
        # Small writes must not wait for the acknowledgement of others, as in asyncio. A server's
        # listeners do this themselves, since they know the kind of their connections.
        if server is None:
            base_events._set_nodelay(sock)
        if known:
            self.provider.know_stream(loop.port, <size_t>self.descriptor)
        try:
            self._attach(1, loop.send_depth)
        finally:
            self.provider.know_stream(loop.port, RIO_INVALID_SOCKET)
        try:
            if server is not None:  # refuses if it was closed meanwhile
                server._attach(self) if SERVER_KNOWS_TRANSPORTS else server._attach()
            self._server = server
            self._own(sock, context)
            loop.soon(self._begin, (waiter,), context)
        except BaseException:
            self._disown()
            self._forget()
            raise

    @property
    def __class__(self):
        # asyncio promises a Transport, its sendfile asks for this subclass, and we cannot inherit
        # from either here: they lay out their slots themselves.
        return transports._FlowControlMixin

    # ----------------------------------------------------------------- life

    def _begin(self, waiter):
        try:
            protocol = self._protocol
            if protocol is not None:
                protocol.connection_made(self)
        finally:
            self._turn_reading(BEGUN)
            if waiter is None:
                self._post()
            else:
                if not waiter.cancelled():
                    waiter.set_result(None)
                # After the waiter's callbacks: whoever made the connection has the transport before
                # the first byte comes.
                self.engine.soon(self._start_receiving, (), None)

    def _start_receiving(self):
        self._post()

    cdef bint _receives(self) noexcept:
        return self.owner == KERNEL

    cdef bint _lingers(self) except -1:
        cdef object sock = self._sock
        if (not self.registered or self.resets or self.heard_end or not self.attached
                or self.owner == PROTOCOL or sock is None):
            return False
        try:
            sock.shutdown(socket.SHUT_WR)
        except OSError:
            return False  # the connection is broken
        self.lingering = sock
        self.linger_timer = self._loop.call_later(LINGER, self._linger_over)
        if self.owner != KERNEL:
            self.owner = NOBODY  # what is held has nobody to go to
            self._drain()
        return True

    cdef int _drain(self) except -1:
        """Receive what the peer still sends, for nobody."""
        if self.slice.slab is NULL:
            try:
                self.pool.take(&self.slice)
            except MemoryError:
                self._end_linger()
                return 0
        if not self._request():
            self._end_linger()
            return 0
        self.owner = KERNEL
        self.outstanding += 1
        return 0

    cdef int _drained(self, int32_t status, uint32_t count) except -1:
        if status != 0 or count == 0:
            self._end_linger()
        else:
            self._drain()
        return 0

    def _linger_over(self):
        # After a look at what has come: the loop may have been held up.
        self.linger_timer = self._loop.call_later(0, self._end_linger)

    def _end_linger(self):
        cdef object sock = self.lingering
        if sock is not None:
            self.lingering = None
            self.linger_timer.cancel()
            self.linger_timer = None
            self._retire()
            sock.close()

    cdef bint is_lingering(self) noexcept:
        return self.lingering is not None

    def _end_requests(self):
        cdef object sock = self.lingering
        if sock is None:
            SendingTransport._end_requests(self)
        else:
            self.lingering = None
            self.linger_timer = None
            self._close_at_last(sock)

    cdef int _forget(self) except -1:
        server = self._server
        self.receiver = None
        if self.empty_waiter is not None:
            self._end_sendfile()
        if server is not None:
            self._server = None
            server._detach(self) if SERVER_KNOWS_TRANSPORTS else server._detach()
        return 0

    # ------------------------------------------------------------- protocol

    def set_protocol(self, protocol):
        """Deliver what arrives from now on to ``protocol``."""
        check_thread(self.engine)
        self._protocol = protocol
        self.protocol_connected = True
        if isinstance(protocol, StreamLayer):
            self.kind = LAYERED
            self.receiver = None
        elif isinstance(protocol, RegisteredProtocol):
            self.kind = REGISTERED
            self.receiver = protocol.view_received
        elif isinstance(protocol, asyncio.BufferedProtocol):
            self.kind = BUFFERED
            self.receiver = None
        else:
            self.kind = PLAIN
            # Kept bound: one look-up per connection, not per message. A protocol without it is
            # reported when something arrives, as in asyncio.
            self.receiver = getattr(protocol, "data_received", None)

    # ------------------------------------------------------------ receiving

    def is_reading(self):
        """True while received bytes are delivered to the protocol."""
        return self.life == OPEN and not self._paused

    def pause_reading(self):
        """Deliver nothing to the protocol and take nothing from the system until
        ``resume_reading``.

        What arrives from now on is for whoever reads the socket next: a child, or a copy of it.
        """
        check_thread(self.engine)
        if self.life == OPEN:
            self._paused = True
            self._recall()

    def resume_reading(self):
        """Continue after ``pause_reading``."""
        check_thread(self.engine)
        if self.life != OPEN or not self._paused:
            return
        self._paused = False
        if self.owner == TRANSPORT:
            # Not from inside the caller: its protocol may be in the middle of a state change.
            self._loop.call_soon(self._deliver_held)
        else:
            self._post()

    def _deliver_held(self):
        if self.owner == TRANSPORT:
            self._deliver()

    cdef inline int _hand(self, Owner giver, Owner taker) except -1:
        if self.owner != giver:
            raise InvariantError(
                f"{self!r}: received memory is {<int>self.owner}'s, not {<int>giver}'s to give")
        self.owner = taker
        return 0

    cdef char *_memory(self) noexcept:
        return self.slice.memory if self.large is None else PyBytes_AS_STRING(self.large)

    cdef int _post(self) except -1:
        """Post the receive, unless one is posted or something forbids it."""
        cdef int32_t accepted
        if (self.owner != NOBODY or self._paused or self.life != OPEN or not self.attached
                or self.reading != BEGUN):
            return 0
        if runs_elsewhere(self.engine):
            self._loop.call_soon_threadsafe(self._start_receiving)
            return 0
        if self._is_gone():
            return self._break(self._bad_descriptor(), "Fatal read error on socket transport",
                               self.context)
        if self.large is not None:
            self._drop_large()
        if self.large_left and self.kind != REGISTERED:
            if self.slice.slab is not NULL:
                self.pool.give(&self.slice)
            accepted = self.provider.receive_memory(
                self.queue, NULL, 0, 0, <void *><size_t>PROBE)
        else:
            if self.slice.slab is NULL:
                try:
                    self.pool.take(&self.slice)
                except MemoryError as exc:
                    self._break(exc, "Fatal read error on socket transport", self.context)
                    return 0
            accepted = self._request()
        if not accepted:
            self._break(self.engine.refusal(), "Fatal read error on socket transport",
                        self.context)
            return 0
        self.owner = KERNEL
        self.outstanding += 1
        return 0

    cdef inline bint _request(self) noexcept:
        """Ask for a receive into the slice; whether it was accepted."""
        cdef RIO_BUF buffer
        buffer.BufferId = self.slice.slab.id
        buffer.Offset = self.slice.offset
        buffer.Length = self.pool.slice_size
        return self.provider.rio.RIOReceive(self.queue, &buffer, 1, 0, <void *><size_t>RECEIVE)

    cdef int completed(self, uint64_t request, int32_t status, uint32_t count) except -1:
        if request == SEND:
            self._sent(status, count)
        else:
            self._hand(KERNEL, NOBODY)
            self.readable = request == PROBE and status == 0
            self.heard_end = not self.readable and (status != 0 or count == 0)
            if self.lingering is not None:
                self._drained(status, count)
            elif status == RIO_OPERATION_ABORTED:
                self.heard_end = False
                self._post()  # cancelled by _recall; reading may have been resumed since
            elif self.life == OPEN and self.attached:
                self._received(status, count)
        if self.outstanding == 0 and not self.attached:
            self._finished()
        return 0

    cdef int _recall(self) except -1:
        """Cancel the posted receive; its result brings what had arrived, or nothing."""
        if self.owner == KERNEL and not runs_elsewhere(self.engine):
            self.provider.recall_receives(self.queue)
        return 0

    cdef int _received(self, int32_t status, uint32_t count) except -1:
        if (count == self.pool.slice_size and self.pool.slice_size < LARGE_SIZE
                and moves_by_call(self.provider)):
            self.large_left = LARGE_PATIENCE
        self._hand(NOBODY, TRANSPORT)
        self.held_status = status
        self.held_from = 0
        self.held_to = count
        if not self._paused:
            self._deliver()
        return 0

    cdef int _deliver(self) except -1:
        """Deliver what is held, as long as the protocol accepts it, and post the next receive."""
        try:
            while self.owner == TRANSPORT and not self._paused and self.life == OPEN:
                self._deliver_once()
        except (SystemExit, KeyboardInterrupt):
            # The loop may be run again, and the connection is unharmed.
            if not self.attached:
                self._drop_receive_memory()
            elif self.owner == TRANSPORT:
                self.engine.soon(self._deliver_held, (), None)
            else:
                self._post()
            raise
        except InvariantError:
            raise
        except BaseException as exc:
            if self.owner == TRANSPORT:
                self.owner = NOBODY
            self._break(exc, f"Fatal error: protocol.{self.calling}() call failed.", self.context)
        if not self.attached:
            self._drop_receive_memory()  # the connection ended while the protocol looked
        else:
            self._post()
        return 0

    cdef int _deliver_once(self) except -1:
        cdef uint32_t count = self.held_to - self.held_from
        if self.held_status != 0:
            self._hand(TRANSPORT, NOBODY)
            return self._break(self.engine.error_of(self.held_status),
                               "Fatal read error on socket transport", self.context)
        if self.readable:
            self.calling = "data_received"
            return self._fetch_buffered() if self.kind == BUFFERED else self._fetch()
        if self.held_to == 0:
            return self._end_of_stream()
        if self.kind == PLAIN:
            self.calling = "data_received"
            return self._deliver_plain(count)
        if self.kind == BUFFERED:
            return self._deliver_buffered()
        if self.kind == LAYERED:
            return self._deliver_layered(count)
        self.calling = "view_received"
        return self._deliver_view(count)

    cdef int _fetch(self) except -1:
        """There is something to receive: take it, and hold it for ``_deliver``."""
        cdef int64_t count = LAYERED_SIZE if self.kind == LAYERED else LARGE_SIZE
        self.large = self.engine.spare_bytes.make_large(count)
        count = self.provider.receive_now(
            self.queue, PyBytes_AS_STRING(self.large), <uint32_t>count)
        self.readable = False
        if not self._fetched(count):
            self._hand(TRANSPORT, NOBODY)
        return 0

    cdef int _fetch_buffered(self) except -1:
        """The same, straight into the protocol's own buffer."""
        cdef Py_buffer view
        cdef int64_t count
        cdef object protocol = self._protocol
        self.calling = "get_buffer"
        self._hand(TRANSPORT, PROTOCOL)
        try:
            buffer = self._ask(protocol.get_buffer, (LARGE_SIZE,))
            PyObject_GetBuffer(buffer, &view, PyBUF_WRITABLE)
            try:
                if view.len == 0:
                    raise RuntimeError("get_buffer() returned an empty buffer")
                if not self.attached:
                    return 0
                count = self.provider.receive_now(
                    self.queue, view.buf, <uint32_t>min(view.len, <Py_ssize_t>REQUEST_MAX))
                self.readable = False
            finally:
                PyBuffer_Release(&view)
        finally:
            self._hand(PROTOCOL, TRANSPORT)
        if not self._fetched(count) or count > 0:
            self._hand(TRANSPORT, NOBODY)
        if count > 0:
            self.calling = "buffer_updated"
            self._call(protocol.buffer_updated, count)
        return 0

    cdef int _fetched(self, int64_t count) except -1:
        """Hold what ``receive_now`` returned; 0 if there was nothing after all."""
        if count == -RIO_EWOULDBLOCK:
            return 0
        self.held_status = <int32_t>-count if count < 0 else 0
        self.held_from = 0
        self.held_to = <uint32_t>count if count > 0 else 0
        if count > self.pool.slice_size:
            self.large_left = LARGE_PATIENCE
        elif self.large_left:
            self.large_left -= 1
        return 1

    cdef int _deliver_plain(self, uint32_t count) except -1:
        cdef object data
        cdef PyObject *raw
        if (self.large is not None and self.held_from == 0 and 2 * count >= LARGE_SIZE
                and thread_made(<PyObject *>self.large)):
            # Nobody else has seen it, so it may still be cut to what arrived.
            data = self.large
            self.large = None
            if count != PyBytes_GET_SIZE(data):
                raw = <PyObject *>data
                Py_INCREF(data)
                data = None
                _PyBytes_Resize(&raw, count)
                data = <object>raw
                Py_DECREF(data)
        else:
            data = self.engine.spare_bytes.make(self._memory() + self.held_from, count)
        self._hand(TRANSPORT, NOBODY)
        if self.receiver is None:
            # Raises asyncio's AttributeError, or finds a method added later.
            self.receiver = self._protocols("data_received")
        return self._call(self.receiver, data)

    cdef int _deliver_buffered(self) except -1:
        """Copy into the protocol's buffer as much as fits; the rest stays held."""
        cdef Py_buffer view
        cdef Py_ssize_t count = self.held_to - self.held_from
        cdef object protocol = self._protocol
        self.calling = "get_buffer"
        self._hand(TRANSPORT, PROTOCOL)
        try:
            buffer = self._ask(protocol.get_buffer, (count,))
            PyObject_GetBuffer(buffer, &view, PyBUF_WRITABLE)
            try:
                if view.len == 0:
                    raise RuntimeError("get_buffer() returned an empty buffer")
                count = min(count, view.len)
                memcpy(view.buf, self._memory() + self.held_from, count)
                self.held_from += <uint32_t>count
            finally:
                PyBuffer_Release(&view)
        finally:
            self._hand(PROTOCOL, TRANSPORT if self.held_from < self.held_to else NOBODY)
        self.calling = "buffer_updated"
        return self._call(protocol.buffer_updated, count)

    cdef int _deliver_layered(self, uint32_t count) except -1:
        """The layer takes as much as it wants; the rest stays held."""
        cdef StreamLayer layer = self._protocol
        cdef object context = self.context
        cdef bint entered = enter(context)
        self.calling = "data_received"
        self._hand(TRANSPORT, PROTOCOL)
        try:
            layer.feed(self._memory() + self.held_from, count)
        finally:
            leave(context, entered)
            self.held_from += <uint32_t>layer.taken
            self._hand(PROTOCOL, TRANSPORT if self.held_from < self.held_to else NOBODY)
        return 0

    cdef int _deliver_view(self, uint32_t count) except -1:
        cdef SliceView exporter
        cdef object view
        if self.large is not None or self.held_from:
            # Arrived while another kind of protocol was set.
            view = memoryview(PyBytes_FromStringAndSize(self._memory() + self.held_from, count))
            if self.kind != REGISTERED:
                return 0  # as below
            self._hand(TRANSPORT, NOBODY)
            try:
                return self._call(self.receiver, view)
            finally:
                release_view(view)
        if self.view is None:
            self.view = SliceView.__new__(SliceView)
            self.view.pool = self.pool
        exporter = self.view
        exporter.slice = self.slice
        exporter.memory = self.slice.memory
        exporter.length = count
        view = exporter.show()
        if self.kind != REGISTERED or self._paused or self.life != OPEN:
            release_view(view)  # making it collected, and a finalizer interfered: check again
            exporter.hide()
            return 0
        self._hand(TRANSPORT, PROTOCOL)
        self.engine.deliveries += 1
        try:
            return self._call(self.receiver, view)
        finally:
            release_view(view)
            view = None
            if exporter.hide():
                self.view = None
                if thread_load_int(&exporter.exports):
                    # Somebody kept a part: the slice stays with it, this connection takes another.
                    exporter.owner = True
                    self.slice.slab = NULL
            self._hand(PROTOCOL, NOBODY)
            self.engine.end_delivery()

    cdef int _end_of_stream(self) except -1:
        if self._loop.get_debug():
            logger.debug("%r received EOF", self)
        self.calling = "eof_received"
        # No receive is posted after the end, even if reading is paused and resumed later.
        if self.reading != ENDED:  # a call that KeyboardInterrupt left is repeated
            self._turn_reading(ENDED)
        self._hand(TRANSPORT, PROTOCOL)
        try:
            keep_open = self._ask(self._protocols("eof_received"), ())
        except BaseException:
            self._hand(PROTOCOL, TRANSPORT)  # a call that KeyboardInterrupt left is repeated
            raise
        self._hand(PROTOCOL, NOBODY)
        if not keep_open:
            self._close(self.context)
        return 0

    cdef void _drop_large(self) noexcept:
        cdef PyObject *large = <PyObject *>self.large
        Py_INCREF(self.large)
        self.large = None
        self.engine.spare_bytes.release(large)

    cdef void _drop_receive_memory(self) noexcept:
        if self.owner == PROTOCOL:
            return  # it is returned when its call returns
        self.owner = NOBODY
        self.large = None
        if self.slice.slab is not NULL:
            self.pool.give(&self.slice)
