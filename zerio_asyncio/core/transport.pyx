"""Transport: what every transport on a request queue has, whatever it carries.

A transport owns its socket and one request queue. It ends in one of two ways: ``close`` once
everything is sent, ``abort`` (or an error) at once; both call ``connection_lost`` by ``call_soon``.
Memory that the kernel may still use stays with the object until the last result is dequeued
(``outstanding``); until then the engine holds the object, even if everyone else forgets it.

Flow control, names and wording follow asyncio's ``_SelectorTransport`` (checked: 3.10 to 3.15).
"""

cdef extern from "decref.h":
    pass


import contextlib
import logging
import os
import socket
import struct
import warnings
import weakref
from asyncio import trsock
from asyncio.sslproto import SSLProtocol
from errno import EBADF

from cpython.object cimport PyObject

from zerio_asyncio.core.engine cimport check_thread, runs_elsewhere
from zerio_asyncio.core.handles cimport refuse_copies
from zerio_asyncio.core.rio cimport RIO_CAP_CLOSE_ENDS, RIO_INVALID_RQ
from zerio_asyncio.core.threads cimport FREE_THREADED

from zerio_asyncio.core.life import LIFE, READING, masks
from zerio_asyncio.core.protocols import InvariantError

logger = logging.getLogger("asyncio")
cdef object Socket = socket.socket
cdef object TransportSocket = trsock.TransportSocket
cdef object Reference = weakref.ref
cdef object KeyedReference = weakref.KeyedRef

# The table in the form that transports check: a bit for each state that may follow.
cdef unsigned int LIFE_MASKS[5]
cdef unsigned int READING_MASKS[3]
LIFE_MASKS = masks(LIFE)
READING_MASKS = masks(READING)
cdef tuple LIFE_NAMES = tuple(LIFE)
cdef tuple READING_NAMES = tuple(READING)

cdef extern from "Python.h":
    object PyContext_CopyCurrent()
    int PyContext_Enter_ "PyContext_Enter"(PyObject *) noexcept
    int PyContext_Exit_ "PyContext_Exit"(PyObject *) noexcept
    PyObject *PyObject_CallOneArg_ "PyObject_CallOneArg"(PyObject *, PyObject *) noexcept
    void Py_DECREF_ "Py_DECREF"(PyObject *) noexcept
    void PyErr_Clear() noexcept
    int PyObject_GenericSetAttr(object, object, object) except -1


cdef bint enter(object context) noexcept:
    if PyContext_Enter_(<PyObject *>context) == 0:
        return True
    PyErr_Clear()
    return False


cdef void leave(object context, bint entered) noexcept:
    if entered:
        PyContext_Exit_(<PyObject *>context)


cdef int _fail() except -1:
    # The caller has seen a C call fail: the exception that it set propagates from here.
    return -1


cdef class Transport(Endpoint):
    """The base of stream and datagram transports."""

    def __cinit__(self):
        # NEW until __init__ has succeeded: a transport that never began has nothing to lose.
        self.dropped = 1
        self.high_water = 64 * 1024
        self.low_water = 16 * 1024

    def __reduce_ex__(self, protocol):
        return refuse_copies(self)

    def __reduce__(self):
        return refuse_copies(self)

    def __del__(self):
        if self._sock is not None:
            try:
                warnings.warn(f"unclosed transport {self!r}", ResourceWarning, source=self)
            finally:  # a warning may be raised as an error
                self._close_socket()
                self._forget()

    # ----------------------------------------------------------------- life

    cdef int _turn(self, Life life) except -1:
        if not LIFE_MASKS[<int>self.life] >> life & 1:
            raise InvariantError(f"{self!r}: a life of {LIFE_NAMES[<int>self.life]} cannot become "
                                 f"{LIFE_NAMES[<int>life]}")
        self.life = life
        return 0

    cdef int _turn_reading(self, Reading reading) except -1:
        if not READING_MASKS[<int>self.reading] >> reading & 1:
            raise InvariantError(f"{self!r}: reading, {READING_NAMES[<int>self.reading]}, cannot "
                                 f"become {READING_NAMES[<int>reading]}")
        self.reading = reading
        return 0

    @property
    def _life(self):
        """The name of the state in life.py, for tests and debuggers."""
        return LIFE_NAMES[<int>self.life]

    @property
    def _reading(self):
        """The same for the reading."""
        return READING_NAMES[<int>self.reading]

    # A subclass's __init__ calls these three in this order, with its own steps in between.

    def __repr__(self):
        info = [type(self).__name__]
        if self._sock is None:
            info.append("closed")
        elif self.life != OPEN:
            info.append("closing")
        info.append(f"fd={self.descriptor}")
        if self._sock is not None and self.life == OPEN:
            info.append("read=polling" if self._receives() else "read=idle")
            info.append(
                f"write=<{'polling' if self.unsent else 'idle'}, bufsize={self.unsent}>")
        return "<{}>".format(" ".join(info))

    cdef int _take_socket(self, Engine loop, object sock, object extra, bint given) except -1:
        """Record where the socket is bound and connected; the transport does not own it yet."""
        loop._check_attached()
        if self.engine is not None:
            raise RuntimeError("a transport is made once")
        self.engine = loop
        self._loop = loop
        self._extra = {} if extra is None else extra
        self.provider = loop.provider
        self.pool = loop.pool
        self.descriptor = sock.fileno()
        self.given = given
        self.registered = type(sock) is not Socket and getattr(sock, "registered", False)
        self.identity = self.provider.socket_identity(<size_t>self.descriptor)
        shown = TransportSocket.__new__(TransportSocket)  # as its __init__, which is a Python frame
        shown._sock = sock
        self._extra["socket"] = shown
        try:
            self._extra["sockname"] = sock.getsockname()
        except OSError:
            self._extra["sockname"] = None
        if "peername" not in self._extra:
            try:
                self._extra["peername"] = sock.getpeername()
            except OSError:
                self._extra["peername"] = None
        return 0

    cdef int _attach(self, uint32_t receives, uint32_t sends) except -1:
        """Create the request queue, for that many receives and sends at once."""
        cdef Engine engine = self.engine
        cdef uint32_t results = receives + sends
        cdef object other = self._transport_before()
        if isinstance(other, Transport) and not (<Transport>other)._has_socket():
            (<Transport>other)._yield_number()
        engine.reserve(results)
        self.queue = self.provider.rio.RIOCreateRequestQueue(
            <size_t>self.descriptor, receives, 1, sends, 1, engine.queue, engine.queue,
            <void *>self)
        if self.queue == RIO_INVALID_RQ:
            engine.unreserve(results)
            raise engine.refusal()
        if self.given:
            self.provider.guard(self.queue, self.identity)
        self.results = results
        self.attached = True
        engine.endpoints.add(self)
        return 0

    # asyncio's WeakValueDictionary, used as its own methods do, which are many Python frames.

    cdef object _transport_before(self):
        """The transport that had the descriptor's number."""
        cdef object reference = (<dict>self._loop._transports.data).get(self.descriptor)
        return None if reference is None else reference()

    cdef int _enter_transports(self) except -1:
        cdef object transports = self._loop._transports
        cdef object reference = Reference.__new__(KeyedReference, self, transports._remove)
        reference.key = self.descriptor
        (<dict>transports.data)[self.descriptor] = reference
        return 0

    cdef int _leave_transports(self) except -1:
        """The number is free: without this, the end of the transport would be told of it."""
        cdef dict references = self._loop._transports.data
        cdef object reference = references.get(self.descriptor)
        if reference is not None and reference() is self:
            del references[self.descriptor]
        return 0

    cdef int _own(self, object sock, object context) except -1:
        """Nothing was refused: from here on the transport closes the socket.

        ``context`` is where its protocol is called, whatever the cause (asyncio's streams from 3.15
        on). None: a copy of the current one, and of others' for what others cause.
        """
        self.context = PyContext_CopyCurrent() if context is None else context
        self.one_context = context is not None
        self._enter_transports()
        self._sock = sock
        self._turn(OPEN)
        self.dropped = 0
        return 0

    cdef void _disown(self) noexcept:
        """Construction failed half-way: the socket belongs to its maker alone again."""
        self._sock = None
        self.life = RETIRED
        self.dropped += 1
        self._retire()

    # A number is no identity: after a program closes the socket, the next one gets it.

    cdef bint _has_socket(self) noexcept:
        """Whether the descriptor still refers to the socket that the transport was made with."""
        return self.provider.socket_identity(<size_t>self.descriptor) == self.identity

    cdef inline bint _is_gone(self) except -1:
        """Whether a socket that the program passed in is closed, detached, or another's number."""
        cdef object sock
        if not self.given:
            return False
        sock = self._sock
        return not self._has_socket() or sock.fileno() != self.descriptor

    cdef object _bad_descriptor(self):
        return OSError(EBADF, os.strerror(EBADF))

    def _yield_number(self):
        """Another socket has the descriptor's number: end, and do not touch it any more.

        False if the socket is still there.
        """
        if self.provider is NULL or self._has_socket():
            return False
        self._lose(self._bad_descriptor(), None)
        self._retire()
        return True

    cdef int _close_socket(self) except -1:
        cdef object sock = self._sock
        if self._has_socket():
            self._leave_transports()
            if self.resets and self.registered:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("hh", 1, 0))
            sock.close()
        else:
            sock.detach()  # whoever has the number now keeps it
        return 0

    cdef void _retire(self) noexcept:
        """Issue no more requests; outstanding results only return memory from now on."""
        if self.life == LOST:
            self.life = RETIRED
        self._drop_unissued()
        if self.attached:
            self.attached = False
            self.provider.port.retire(self.engine.port, <size_t>self.descriptor)
            self.provider.port.leave(self.engine.port, <size_t>self.descriptor)
            self.queue = RIO_INVALID_RQ
            if self.outstanding == 0:
                self.engine.endpoints.discard(self)
                self._finished()

    cdef void _finished(self) noexcept:
        self.engine.unreserve(self.results)
        self.results = 0
        self._drop_receive_memory()

    cdef void let_go(self) noexcept:
        self._retire()
        if self.outstanding and self.provider.capabilities & RIO_CAP_CLOSE_ENDS:
            self._end_requests()

    def _end_requests(self):
        # The loop closes and waits for its memory, which this system returns only then.
        self._close_at_last(self._sock)

    cdef int _close_at_last(self, object sock) except -1:
        """Close it; its requests end also if another process has a copy of it."""
        if sock is not None:
            if self.registered:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        return 0

    cdef void _drop_unissued(self) noexcept:
        pass

    cdef bint _receives(self) noexcept:
        """Whether the provider has a receive from it."""
        return False

    cdef int _recall(self) except -1:
        """Stop taking what arrives from the system."""
        return 0

    cdef void _drop_receive_memory(self) noexcept:
        pass

    cdef int _forget(self) except -1:
        return 0

    cdef bint _lingers(self) except -1:
        """Whether the socket stays open for a while, so that the peer gets what was sent."""
        return False

    cdef int _push_on(self) except -1:
        return 0

    cdef bint _passed_on(self, str method) except -1:
        """Whether the loop must make the call, because a finalizer made it in another thread."""
        if not FREE_THREADED or not runs_elsewhere(self.engine):
            return False
        self._loop.call_soon_threadsafe(getattr(self, method))
        return True

    def close(self):
        """Send what was written, then close; ``connection_lost(None)`` follows."""
        if self._passed_on("close"):
            return
        self._push_on()
        # TLS closes while it still has to write what it held back because of a full buffer.
        self.shut = not isinstance(self._protocol, SSLProtocol)
        self._close(None)

    def abort(self):
        """Close at once and drop what the system has not taken."""
        if self._passed_on("abort"):
            return
        self._push_on()
        self.resets = is_live(self)
        self._lose(None, None)

    def _force_close(self, exc):
        self._lose(exc, None)

    def _fatal_error(self, exc, message="Fatal error on transport"):
        self._break(exc, message, None)

    def _call_connection_lost(self, exc):
        if self._sock is None:
            return  # a program may call it, too
        protocol = self._protocol
        try:
            if self.protocol_connected and protocol is not None:
                protocol.connection_lost(exc)
        finally:
            if not self._lingers():
                self._retire()
                if self._sock is not None:
                    self._close_socket()
            self._sock = None
            self._protocol = None
            self.paused = None
            self._forget()

    def is_closing(self):
        """True from ``close``, ``abort`` or a lost connection on."""
        return self.life != OPEN

    def get_extra_info(self, name, default=None):
        """``socket``, ``sockname``, ``peername``, or what the loop added; else ``default``."""
        return self._extra.get(name, default)

    def get_protocol(self):
        """The protocol that gets the bytes."""
        return self._protocol

    # -------------------------------------------------------------- ending

    # For the three below: `context` is where connection_lost will run, None for a copy of the
    # caller's. The engine's own calls have no context, so they pass the connection's.

    cdef int _close(self, object context) except -1:
        if self.life == OPEN:
            self._turn(CLOSING)
            self._recall()
            if self.unsent == 0:
                self._end(None, context)
        return 0

    cdef int _lose(self, object exc, object context) except -1:
        if self.gathering and is_live(self):
            self.gathering = False  # once: what cannot be sent comes back here
            self.push()  # without the delivery in progress it would be sent by now
        if is_live(self):
            self._drop_unissued()
            if self.life == OPEN:
                self._turn(CLOSING)
            self._recall()
            self._end(exc, context)
        return 0

    cdef int _end(self, object exc, object context) except -1:
        """Have ``connection_lost`` called, once."""
        if is_live(self):
            self._turn(LOST)  # first, as in asyncio: a closed loop refuses once, not repeatedly
            self.dropped += 1
            if self.one_context:
                context = self.context
            self.engine.soon(self._call_connection_lost, (exc,), context)
        return 0

    cdef int fail(self, object exc) except -1:
        return self._break(exc, "Fatal error on transport", self.context)

    cdef int _break(self, object exc, str message, object context) except -1:
        # What the network does to a connection is not reported; what the program does is.
        if isinstance(exc, OSError):
            if self._loop.get_debug():
                logger.debug("%r: %s", self, message, exc_info=exc)
        else:
            self._report(exc, message)
        return self._lose(exc, context)

    # ------------------------------------------------- calling the protocol

    cdef object _protocols(self, str name):
        """A method of the protocol. The look-up may collect, and a finalizer set another one."""
        cdef object protocol = self._protocol  # held meanwhile: C attributes are not
        return getattr(protocol, name)

    cdef int _call(self, object function, object argument) except -1:
        """Call the protocol in the context in which the connection was made."""
        cdef object context = self.context
        cdef bint entered = enter(context)
        cdef PyObject *result
        result = PyObject_CallOneArg_(<PyObject *>function, <PyObject *>argument)
        if entered:
            PyContext_Exit_(<PyObject *>context)
        if result is NULL:
            _fail()
        Py_DECREF_(result)
        return 0

    cdef object _ask(self, object function, tuple arguments):
        """The same for rare calls, or those with a result."""
        return self._ask_in(self.context, function, arguments)

    cdef object _ask_in(self, object context, object function, tuple arguments):
        cdef bint entered = enter(context)
        try:
            return function(*arguments)
        finally:
            if entered:
                PyContext_Exit_(<PyObject *>context)

    # --------------------------------------------------------- flow control

    def get_write_buffer_size(self):
        """Bytes written and not yet taken by the system; 0 once the connection is lost."""
        return self.unsent if is_live(self) else 0

    def get_write_buffer_limits(self):
        """``(low, high)`` in bytes."""
        return (self.low_water, self.high_water)

    def set_write_buffer_limits(self, high=None, low=None):
        """Pause the protocol above ``high`` unsent bytes, resume it at ``low``."""
        check_thread(self.engine)
        if high is None:
            high = 64 * 1024 if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
        self.high_water = high
        self.low_water = low
        self._maybe_pause_protocol()

    def _maybe_pause_protocol(self):
        if self.unsent <= self.high_water or self._protocol_paused:
            return
        protocol = self._protocol
        self.paused = (self.context if self.one_context else PyContext_CopyCurrent(), protocol)
        self._protocol_paused = True
        try:
            protocol.pause_writing()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self._report(exc, "protocol.pause_writing() failed")

    cdef int _resume_protocol(self) except -1:
        # Whoever was paused is resumed, even if another has replaced it meanwhile (start_tls), and,
        # as in asyncio, in the context of the one who wrote too much (until 3.15).
        context, paused = self.paused
        self._protocol_paused = False
        self.paused = None
        try:
            self._ask_in(context, paused.resume_writing, ())
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self._report(exc, "protocol.resume_writing() failed")
        return 0

    def _report(self, exc, message):
        self._loop.call_exception_handler({
            "message": message,
            "exception": exc,
            "transport": self,
            "protocol": self._protocol,
        })

    # --------------------------------- asyncio's private names, for those who read them

    @property
    def _sock_fd(self):
        return self.descriptor

    @property
    def _closing(self):
        return self.life != OPEN

    @property
    def _conn_lost(self):
        return self.dropped

    @property
    def _buffer(self):
        raise AttributeError(
            f"{type(self).__name__} keeps no buffer of its own: use get_write_buffer_size()")

    def __setattr__(self, name, value):
        if name == "_protocol":
            self.set_protocol(value)  # it is asked for its methods there, once
        else:
            PyObject_GenericSetAttr(self, name, value)
