"""DatagramTransport: a UDP socket on a RIO request queue.

Receiving. Several receives are posted ahead, each into a slice that holds the sender's address and
the largest possible datagram: two at first, up to 16 if bursts use them all. Their results come in
order and are delivered one by one; then all are posted again with one commit, so a provider may
fetch a burst with one system call.

Sending. A datagram is tried at once, as in asyncio: errors are reported inside ``sendto`` and
nothing is buffered unless the system has no room. With ``LoopOptions(gather=True)``, inside a
burst, while more received datagrams are about to be delivered, answers are kept until its end; they
leave together, and fail there. Datagrams that the system has no room for wait here, the first of
them as the provider's requests (RIOSendEx).

    waiting[head .. head + issued) is the provider's; up to head + count is queued

An error concerns one datagram, not the socket: ``error_received``, and the next.

Behaviour and wording follow asyncio's ``_SelectorDatagramTransport`` (checked: 3.10 to 3.15).
"""

cdef extern from "decref.h":
    pass


import contextlib
import logging
import socket
import sys
from asyncio import constants, transports

from cpython.buffer cimport PyBUF_SIMPLE, Py_buffer, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport int64_t, uint64_t, uintptr_t
from libc.string cimport memcpy

from zerio_asyncio.core.by_call cimport moves_by_call
from zerio_asyncio.core.engine cimport Engine, check_thread, runs_elsewhere
from zerio_asyncio.core.memory cimport ADDRESS_ROOM, DATAGRAM_MAX
from zerio_asyncio.core.rio cimport (
    RIO_BUF, RIO_CAP_SEND_MEMORY, RIO_ENETDOWN, RIO_EWOULDBLOCK, RIO_MSG_COMMIT_ONLY, RIO_MSG_DEFER,
    RIO_OPERATION_ABORTED, rio_datagram)
from zerio_asyncio.core.transport cimport BEGUN, NEW, OPEN, is_live

from zerio_asyncio.core.protocols import InvariantError

logger = logging.getLogger("asyncio")

# What the request context of each request means.
cdef enum Request:
    RECEIVE = 0
    SEND = 1

cdef enum:
    WAITING_ROOM = 8

cdef unsigned int WARN_AFTER = constants.LOG_THRESHOLD_FOR_CONNLOST_WRITES

# From 3.13 on, an empty datagram is sent, and each datagram counts as 8 bytes more than it holds.
cdef bint SENDS_EMPTY = sys.version_info >= (3, 13)
cdef size_t HEADER = 8 if sys.version_info >= (3, 13) else 0


class _Promised(transports._FlowControlMixin, transports.DatagramTransport):
    """For isinstance(): what asyncio promises of a datagram transport."""


cdef class DatagramTransport(Transport):
    """The transport of a UDP socket. The loop makes it, never users.

    ``sock`` is non-blocking and now belongs to the transport. ``OSError`` if it cannot get a
    request queue.
    """

    def __init__(self, Engine loop not None, sock, protocol, address=None, waiter=None,
                 extra=None, bint given=False):
        self._take_socket(loop, sock, extra, given)
        self._address = address
        self.family = sock.family
        self.connected = bool(self._extra["peername"])
        self.book = AddressBook.__new__(AddressBook)
        self.letter_pool = loop.datagram_pool()
        self.set_protocol(protocol)
        self._attach(AHEAD_MAX, loop.send_depth)
        try:
            self._own(sock, None)
            loop.soon(self._begin, (waiter,), None)
        except BaseException:
            self._disown()
            raise

    def __dealloc__(self):
        # What the kernel still considers issued (a child of fork, whose results never come) stays.
        self._drop_unissued()
        PyMem_RawFree(self.waiting)

    @property
    def __class__(self):
        # asyncio's classes lay out their slots themselves, so we cannot inherit from them here.
        return _Promised

    # ----------------------------------------------------------------- life

    def _begin(self, waiter):
        try:
            protocol = self._protocol
            if protocol is not None:
                protocol.connection_made(self)
        finally:
            self._turn_reading(BEGUN)
            self._post()
            if waiter is not None and not waiter.cancelled():
                waiter.set_result(None)

    cdef bint _receives(self) noexcept:
        return self.posted != 0

    def set_protocol(self, protocol):
        """Deliver what arrives from now on to ``protocol``."""
        check_thread(self.engine)
        self._protocol = protocol
        self.protocol_connected = True

    cdef int completed(self, uint64_t request, int32_t status, uint32_t count) except -1:
        self.amid = self._more_follow()
        if request == SEND:
            self._sent(status)
        else:
            self._received(status, count)
        if not self.amid:
            self._after_burst()
        if self.outstanding == 0 and not self.attached:
            self._finished()
        return 0

    cdef int flush(self, bint now) except -1:
        self.amid = False
        self._push_on()
        return self._post()

    # ------------------------------------------------------------ receiving

    def is_reading(self):
        """True while received datagrams are delivered to the protocol."""
        return self.life == OPEN and not self._paused

    def pause_reading(self):
        """Deliver nothing, and take nothing from the system, until ``resume_reading``."""
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
        # Not from inside the caller: its protocol may be in the middle of a state change.
        self._loop.call_soon(self._deliver_held)

    def _deliver_held(self):
        self._deliver()
        self._post()

    cdef int _recall(self) except -1:
        """Cancel the posted receives; each has its result, some may have a datagram."""
        if self.posted and not runs_elsewhere(self.engine):
            self.provider.recall_receives(self.queue)
        return 0

    cdef inline Letter *_letter(self, uint32_t index) noexcept:
        return &self.letters[(self.first + index) & (AHEAD_MAX - 1)]

    cdef inline bint _more_follow(self) noexcept:
        """Whether the next result that the engine delivers is also this transport's."""
        cdef Engine engine = self.engine
        return (engine.result_next < engine.result_count
                and engine.results[engine.result_next].SocketContext
                == <uint64_t><uintptr_t><void *>self)

    cdef int _received(self, int32_t status, uint32_t length) except -1:
        cdef Letter *letter = self._letter(self.held)
        if self.posted == 0:
            raise InvariantError(f"{self!r}: a receive that was not posted has ended")
        self.posted -= 1
        self.held += 1
        letter.status = status
        letter.length = length
        self.all_used = self.all_used or self.posted == 0
        # A retired queue ends its receives: nothing to tell the protocol.
        return self._deliver() if self.attached else 0

    cdef int _deliver(self) except -1:
        """Deliver what is held, as long as the protocol accepts it."""
        while self.held and not self._paused and self.life == OPEN and self.attached:
            try:
                self._deliver_one()
            except BaseException:
                # KeyboardInterrupt or SystemExit: the loop may be run again.
                self.engine.mark_dirty(self)
                self.engine.soon(self._deliver_held, (), None)
                raise
        return 0

    cdef int _deliver_one(self) except -1:
        """Deliver the first one held."""
        cdef object data, sender
        cdef PyObject *raw
        cdef RIO_SOCKADDR_INET remote
        cdef Letter letter = self._letter(0)[0]
        if letter.status == 0:
            data = self.engine.spare_bytes.make(letter.slice.memory + ADDRESS_ROOM, letter.length)
            remote = (<const RIO_SOCKADDR_INET *>letter.slice.memory)[0]
        # Behind the others, to be posted again: all that we still need of it was copied.
        self.first = (self.first + 1) & (AHEAD_MAX - 1)
        self.held -= 1
        self._letter(self.held + self.posted + self.spare)[0] = letter
        self.spare += 1
        if letter.status == RIO_OPERATION_ABORTED:
            return 0  # cancelled by _recall
        if letter.status != 0:
            return self._tell_error(self.engine.error_of(letter.status))
        sender = self.book.name_of(&remote)
        try:
            self._ask(self._protocols("datagram_received"), (data, sender))
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self._report(exc, "Exception in callback protocol.datagram_received()")
        # If nobody kept it, the next one reuses its memory.
        raw = <PyObject *>data
        Py_INCREF(data)
        data = None
        self.engine.spare_bytes.release(raw)
        return 0

    cdef int _after_burst(self) except -1:
        """Everything was delivered: send the answers, post the receives."""
        if not self.attached:
            return 0
        if self.count > self.issued:
            self._push_on()
        self._progressed()
        if self.spare:
            self._post()
        return 0

    cdef int _post(self) except -1:
        """Post all receives that are not posted, unless something forbids it."""
        cdef uint32_t done = 0
        cdef uint32_t flags
        if (self._paused or self.life != OPEN or not self.attached
                or self.reading != BEGUN):
            return 0
        if self._is_gone():
            return self._break(self._bad_descriptor(), "Fatal read error on datagram transport",
                               self.context)
        if self._take_letters() == 0:
            return 0
        flags = RIO_MSG_DEFER if self.spare > 1 else 0
        while self.spare and self._post_one(self._letter(self.held + self.posted), flags):
            self.spare -= 1
            self.posted += 1
            self.outstanding += 1
            done += 1
        if flags and done:
            self.provider.rio.RIOReceive(self.queue, NULL, 0, RIO_MSG_COMMIT_ONLY, NULL)
        if self.posted == 0:
            self._break(self.engine.refusal(), "Fatal read error on datagram transport",
                        self.context)
        return 0

    cdef uint32_t _take_letters(self) except? 0xFFFFFFFF:
        """How many may be posted; bursts raise it."""
        cdef uint32_t ahead = self.held + self.posted + self.spare
        cdef uint32_t wanted = ahead
        if ahead == 0:
            wanted = AHEAD_MIN
        elif self.all_used and self.spare > 1:
            wanted = min(2 * ahead, <uint32_t>AHEAD_MAX)
        self.all_used = False
        try:
            while ahead < wanted:
                self.letter_pool.take(&self._letter(ahead).slice)
                ahead += 1
                self.spare += 1
        except MemoryError as exc:
            if ahead == 0:
                self._break(exc, "Fatal read error on datagram transport", self.context)
        return self.spare

    cdef bint _post_one(self, Letter *letter, uint32_t flags) noexcept:
        cdef RIO_BUF data, remote
        cdef PoolSlice *slice = &letter.slice
        remote.BufferId = data.BufferId = slice.slab.id
        remote.Offset = slice.offset
        remote.Length = sizeof(RIO_SOCKADDR_INET)
        data.Offset = slice.offset + ADDRESS_ROOM
        data.Length = DATAGRAM_MAX
        return self.provider.rio.RIOReceiveEx(
            self.queue, &data, 1, NULL, &remote, NULL, NULL, flags,
            <void *><size_t>RECEIVE) != 0

    cdef void _drop_receive_memory(self) noexcept:
        cdef uint32_t i
        if self.posted:
            return
        for i in range(self.held + self.spare):
            self.letter_pool.give(&self._letter(i).slice)
        self.held = self.spare = 0

    # -------------------------------------------------------------- sending

    def sendto(self, data, addr=None):
        """Send ``data`` (bytes, bytearray or memoryview) as one datagram to ``addr``.

        ``addr`` is omitted if the socket is connected. Errors from the network go to
        ``error_received``. ``TypeError`` for other data, ``ValueError`` for an address other than
        the one the transport was made with. Returns at once; a mutable buffer may be changed as
        soon as it does.
        """
        cdef RIO_SOCKADDR_INET remote
        check_thread(self.engine)
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError("data argument must be a bytes-like object, "
                            f"not {type(data).__name__!r}")
        if not data and not SENDS_EMPTY:
            return
        if self._address:
            if addr is not None and addr != self._address:
                raise ValueError(f"Invalid address: must be None or {self._address}")
            addr = self._address
        if not self.attached and self.life != NEW or self._address and not is_live(self):
            if self.dropped >= WARN_AFTER:
                logger.warning("socket.send() raised exception.")
            self.dropped += 1
        elif self.connected:
            self._send(data, NULL)
        elif self.book.raw_of(self.family, addr, &remote):
            self._send(data, &remote)
        else:
            self._send_by_socket(data, addr)

    cdef int _send(self, object data, const RIO_SOCKADDR_INET *remote) except -1:
        cdef rio_datagram one
        cdef Py_buffer view
        cdef int64_t sent
        if self._is_gone():
            return self._break(self._bad_descriptor(), "Fatal write error on datagram transport",
                               None)
        if (self.count or not moves_by_call(self.provider)
                or self.amid and self.engine.gathers):
            return self._put(data, remote)
        if isinstance(data, memoryview) and not data.c_contiguous:
            data = data.tobytes()
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        one.memory = view.buf
        one.length = <uint32_t>min(view.len, <Py_ssize_t>0xFFFFFFFF)
        one.remote = remote
        sent = self.provider.send_datagrams_now(self.queue, &one, 1)
        PyBuffer_Release(&view)
        if sent == -RIO_EWOULDBLOCK:
            self._put(data, remote)
        elif sent == -RIO_ENETDOWN:
            self._send_inherited(data, remote)
        elif sent < 0:
            self._protocols("error_received")(self.engine.error_of(<int32_t>-sent))
        return 0

    cdef int _send_inherited(self, object data, const RIO_SOCKADDR_INET *remote) except -1:
        """In a child of fork the port is the parent's (rule 14), the socket the child's, too."""
        cdef object sock = self._sock
        address = () if remote is NULL else (self.book.name_of(remote),)
        try:
            (sock.sendto if address else sock.send)(data, *address)
        except OSError as exc:
            self._protocols("error_received")(exc)
        return 0

    cdef int _send_by_socket(self, object data, object address) except -1:
        """An address that only the socket module understands, or refuses."""
        cdef RIO_SOCKADDR_INET remote
        self._push_on()
        try:
            if self.count == 0:
                sock = self._sock
                with contextlib.suppress(BlockingIOError, InterruptedError):
                    sock.sendto(data, address)
                    return 0
            # It must queue behind others: resolve it now, as the socket would.
            host, port, *_ = address
            name = socket.getaddrinfo(host, port, self.family, socket.SOCK_DGRAM)[0][4]
            if not self.book.raw_of(self.family, name, &remote):
                raise OSError(f"no address of the socket's family: {address!r}")
        except OSError as exc:
            self._protocols("error_received")(exc)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self._break(exc, "Fatal write error on datagram transport", None)
        else:
            self._put(data, &remote)
        return 0

    cdef int _put(self, object data, const RIO_SOCKADDR_INET *remote) except -1:
        """Queue it behind those before it, or until the end of the burst."""
        cdef Unsent *unsent
        if not PyBytes_CheckExact(data):  # releasing exact bytes runs no Python code
            data = memoryview(data).tobytes()
        if self.waiting is NULL or self.count > self.waiting_mask:
            self._grow_waiting()
        unsent = &self.waiting[(self.head + self.count) & self.waiting_mask]
        unsent.owner = <void *>data
        Py_INCREF(data)
        unsent.slice.slab = NULL
        unsent.addressed = remote is not NULL
        if remote is not NULL:
            unsent.remote = remote[0]
        self.count += 1
        self.unsent += <size_t>PyBytes_GET_SIZE(data) + HEADER
        if not (self.amid and self.engine.gathers) or self.count - self.issued >= TOGETHER:
            self._push_on()
        return 0

    cdef int _grow_waiting(self) except -1:
        cdef uint32_t room = WAITING_ROOM if self.waiting is NULL else 2 * (self.waiting_mask + 1)
        cdef Unsent *waiting = <Unsent *>PyMem_RawMalloc(room * sizeof(Unsent))
        cdef uint32_t i
        if waiting is NULL:
            raise MemoryError
        for i in range(self.count):
            waiting[i] = self.waiting[(self.head + i) & self.waiting_mask]
        PyMem_RawFree(self.waiting)
        self.waiting = waiting
        self.waiting_mask = room - 1
        self.head = 0
        return 0

    cdef int _push_on(self) except -1:
        """Send what waits only for the end of a burst."""
        if self.count == self.issued or not self.attached or self._is_gone():
            return 0
        if self.issued == 0 and moves_by_call(self.provider):
            self._send_together()
        self._issue_all()
        self._maybe_pause_protocol()
        return 0

    cdef int _send_together(self) except -1:
        """Send as many at once as the system takes; the rest stays."""
        cdef rio_datagram datagrams[TOGETHER]
        cdef Unsent *unsent
        cdef uint32_t count, i
        cdef int64_t sent
        while self.count and self.issued == 0:
            count = min(self.count, <uint32_t>TOGETHER)
            for i in range(count):
                unsent = &self.waiting[(self.head + i) & self.waiting_mask]
                datagrams[i].memory = PyBytes_AS_STRING(<object>unsent.owner)
                datagrams[i].length = <uint32_t>PyBytes_GET_SIZE(<object>unsent.owner)
                datagrams[i].remote = &unsent.remote if unsent.addressed else NULL
            sent = self.provider.send_datagrams_now(self.queue, datagrams, count)
            if sent == -RIO_EWOULDBLOCK:
                return 0
            if sent < 0:
                self._pop()
                self._tell_error(self.engine.error_of(<int32_t>-sent))
            while sent > 0:
                self._pop()
                sent -= 1
        return 0

    cdef int _issue_all(self) except -1:
        """Issue what waits as requests, as many as the queue takes."""
        cdef uint32_t last = min(self.count, self.engine.send_depth)
        cdef uint32_t issued = 0
        cdef uint32_t flags
        if not self.attached or self.issued >= last:
            return 0
        flags = RIO_MSG_DEFER if last - self.issued > 1 else 0
        try:
            while self.issued < last:
                if not self._issue(&self.waiting[(self.head + self.issued) & self.waiting_mask],
                                   flags):
                    break
                self.issued += 1
                self.outstanding += 1
                issued += 1
        except MemoryError as exc:
            if self.issued == 0:
                return self._break(exc, "Fatal write error on datagram transport", self.context)
        if flags and issued:
            self.provider.rio.RIOSend(self.queue, NULL, 0, RIO_MSG_COMMIT_ONLY, NULL)
        if self.issued == 0:
            self._break(self.engine.refusal(), "Fatal write error on datagram transport",
                        self.context)
        return 0

    cdef int _issue(self, Unsent *unsent, uint32_t flags) except -1:
        """1 if the provider has accepted it."""
        cdef RIO_BUF data, remote
        cdef SlicePool pool
        cdef size_t length = PyBytes_GET_SIZE(<object>unsent.owner)
        cdef char *memory = PyBytes_AS_STRING(<object>unsent.owner)
        cdef int accepted
        if not unsent.addressed and self.provider.capabilities & RIO_CAP_SEND_MEMORY:
            return self.provider.send_memory(
                self.queue, memory, <uint32_t>length, flags, <void *><size_t>SEND)
        # The system refuses a datagram too large for any packet, even if it is cut to a slice.
        length = min(length, <size_t>DATAGRAM_MAX)
        pool = self.pool if length + ADDRESS_ROOM <= self.pool.slice_size else self.letter_pool
        unsent.large = pool is self.letter_pool
        pool.take(&unsent.slice)
        memcpy(unsent.slice.memory, &unsent.remote, sizeof(RIO_SOCKADDR_INET))
        memcpy(unsent.slice.memory + ADDRESS_ROOM, memory, length)
        remote.BufferId = data.BufferId = unsent.slice.slab.id
        remote.Offset = unsent.slice.offset
        remote.Length = sizeof(RIO_SOCKADDR_INET)
        data.Offset = unsent.slice.offset + ADDRESS_ROOM
        data.Length = <uint32_t>length
        accepted = self.provider.rio.RIOSendEx(
            self.queue, &data, 1, NULL, &remote if unsent.addressed else NULL, NULL, NULL, flags,
            <void *><size_t>SEND)
        if not accepted:
            pool.give(&unsent.slice)
        return accepted

    cdef int _sent(self, int32_t status) except -1:
        if self.issued == 0:
            raise InvariantError(f"{self!r}: a send that was not issued has ended")
        self._pop()
        self.issued -= 1
        if not self.attached or not is_live(self):
            return 0
        if status != 0:
            self._tell_error(self.engine.error_of(status))
        return 0

    cdef int _progressed(self) except -1:
        if self._protocol_paused and self.unsent <= self.low_water:
            self._resume_protocol()
        if self.life != OPEN and self.count == 0:
            self._end(None, self.context)
        return 0

    cdef void _pop(self) noexcept:
        cdef Unsent *unsent = &self.waiting[self.head & self.waiting_mask]
        self.head = (self.head + 1) & self.waiting_mask
        self.count -= 1
        self._release(unsent)

    cdef void _release(self, Unsent *unsent) noexcept:
        cdef PyObject *owner = <PyObject *>unsent.owner
        cdef SlicePool pool = self.letter_pool if unsent.large else self.pool
        self.unsent -= <size_t>PyBytes_GET_SIZE(<object>owner) + HEADER
        unsent.owner = NULL
        # The collector may have cleared engine and pools of a transport that nobody closed.
        if unsent.slice.slab is not NULL and pool is not None:
            pool.give(&unsent.slice)
        if self.engine is not None:
            self.engine.spare_bytes.release(owner)
        else:
            Py_DECREF(<object>owner)

    cdef void _drop_unissued(self) noexcept:
        while self.count > self.issued:
            self.count -= 1
            self._release(&self.waiting[(self.head + self.count) & self.waiting_mask])

    def get_write_buffer_size(self):
        """Bytes sent that the system has not yet taken."""
        check_thread(self.engine)
        self._push_on()
        return self.unsent

    def set_write_buffer_limits(self, high=None, low=None):
        """Pause the protocol above ``high`` unsent bytes, resume it at ``low``."""
        check_thread(self.engine)
        self._push_on()
        Transport.set_write_buffer_limits(self, high, low)

    # ------------------------------------------------- telling the protocol

    cdef int _tell_error(self, object error) except -1:
        try:
            self._ask(self._protocols("error_received"), (error,))
        except (SystemExit, KeyboardInterrupt):
            self.engine.mark_dirty(self)
            raise
        except BaseException as exc:
            self._report(exc, "Exception in callback protocol.error_received()")
        return 0
