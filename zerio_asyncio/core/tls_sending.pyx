"""TLSSending: what is written to a TLS connection, its flow control, and its abrupt end.

``TLSTransport`` (tls.pyx) is the whole one.

A write is encrypted at once, and what the system does not take waits encrypted, in the stream
transport below. Its limits are the limits of the whole, so the program sees one buffer. Plain bytes
wait only for a handshake.

Behaviour and wording follow asyncio's ``SSLProtocol`` (checked: 3.11 to 3.15).
"""

import logging
from asyncio import BufferedProtocol, CancelledError, constants, sslproto

from cpython.buffer cimport PyBUF_SIMPLE, Py_buffer, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_CheckExact

from zerio_asyncio.core.engine cimport check_thread, runs_elsewhere
from zerio_asyncio.core.handles cimport refuse_copies
from zerio_asyncio.core.layer cimport StreamLayer
from zerio_asyncio.core.stream cimport BUFFERED, PLAIN, REGISTERED, StreamTransport
from zerio_asyncio.core.threads cimport FREE_THREADED
from zerio_asyncio.core.tls_records cimport PIECE_MAX
from zerio_asyncio.core.transport cimport is_live

from zerio_asyncio.core.protocols import RegisteredProtocol

logger = logging.getLogger("asyncio")

cdef unsigned int WARN_AFTER = constants.LOG_THRESHOLD_FOR_CONNLOST_WRITES
# asyncio has these from 3.11 on.
cdef object SHUTDOWN_TIMEOUT = getattr(constants, "SSL_SHUTDOWN_TIMEOUT", 30.0)
cdef size_t WRITE_LIMIT_KIB = getattr(constants, "FLOW_CONTROL_HIGH_WATER_SSL_WRITE", 512)
cdef size_t READ_LIMIT_KIB = getattr(constants, "FLOW_CONTROL_HIGH_WATER_SSL_READ", 256)


cdef tuple limits_of(object high, object low, size_t kib):
    """Both limits in bytes, from those that were given."""
    if high is None:
        high = kib * 1024 if low is None else 4 * low
    if low is None:
        low = high // 4
    if not high >= low >= 0:
        raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
    return high, low


cdef class TLSSending(StreamLayer):
    """The sending half of a TLS transport.

    ``make_records`` is the engine, called with the context and ``wrap_bio``'s options. Unless
    ``connects``, the protocol knows its connection already (``start_tls``).
    """

    _start_tls_compatible = True
    _sendfile_compatible = constants._SendfileMode.FALLBACK

    def __init__(self, loop, make_records, protocol, sslcontext, waiter=None, *,
                 bint server_side=False, server_hostname=None, bint connects=True,
                 ssl_handshake_timeout=None, ssl_shutdown_timeout=None):
        if self.records is not None:
            raise RuntimeError("a transport is made once")
        if not sslcontext:
            sslcontext = sslproto._create_transport_context(server_side, server_hostname)
        self._loop = loop
        self.waiter = waiter
        self.handshake_timeout = (constants.SSL_HANDSHAKE_TIMEOUT if ssl_handshake_timeout is None
                                  else ssl_handshake_timeout)
        self.shutdown_timeout = (SHUTDOWN_TIMEOUT if ssl_shutdown_timeout is None
                                 else ssl_shutdown_timeout)
        self._extra = {"sslcontext": sslcontext}
        self.server_side = server_side
        self.told = not connects
        self.backlog = []
        self.high_water, self.low_water = limits_of(None, None, WRITE_LIMIT_KIB)
        self.reading_high, self.reading_low = limits_of(None, None, READ_LIMIT_KIB)
        self._take_protocol(protocol)
        self.records = make_records(
            sslcontext,
            server_side=server_side,
            server_hostname=None if server_side else server_hostname or None,
        )

    @property
    def __class__(self):
        # As StreamTransport's; programs ask for this class to find out what is TLS.
        return sslproto._SSLProtocolTransport

    def __reduce_ex__(self, protocol):
        return refuse_copies(self)

    def __reduce__(self):
        return refuse_copies(self)

    def __repr__(self):
        info = [type(self).__name__]
        if self.life == GONE:
            info.append("closed")
        elif self.closed:
            info.append("closing")
        elif self.life != WRAPPED:
            info.append("handshake")
        if self.stream is not None:
            info.append(repr(self.stream))
        return "<{}>".format(" ".join(info))

    # ----------------------------------------------------------------- writing

    def write(self, data):
        """Encrypt and send ``data`` (bytes, bytearray or memoryview) after everything before."""
        if self.stream is not None:
            check_thread(self.stream.engine)
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(
                f"data: expecting a bytes-like instance, got {type(data).__name__}")
        if data:
            self._write(data)

    def writelines(self, list_of_data):
        """Write all of ``list_of_data``, as if it were one."""
        data = b"".join(list_of_data)
        if data:
            self._write(data)

    cdef int _write(self, object data) except -1:
        cdef Py_buffer view
        cdef size_t done = 0
        if self.life >= CLOSING:
            if self.dropped >= WARN_AFTER:
                logger.warning("SSL connection is closed")
            self.dropped += 1
            return 0
        if isinstance(data, memoryview) and not data.c_contiguous:
            data = data.tobytes()
        if self.life != WRAPPED or self.backlog:
            self._keep(data)
            if self._unsent() > self.high_water:
                self._pause_writer()
            return 0
        try:
            PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
            try:
                self._encrypt(<const char *>view.buf, view.len, &done)
                if done < <size_t>view.len and self.life == WRAPPED:
                    self._keep(memoryview(data).cast("B")[done:])
            finally:
                PyBuffer_Release(&view)
            self._flush()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self._fail(exc, "Fatal error on SSL protocol")
        return 0

    cdef int _flush(self) except -1:
        """Have the stream transport send what was made, and pause whoever writes too much."""
        if self.stream is not None:
            self.records.send(self.stream)
            self.stream._written()
        if self._unsent() > self.high_water:
            self._pause_writer()
        return 0

    cdef int _encrypt(self, const char *memory, size_t length, size_t *done) except -1:
        """As much as TLS takes now; ``done`` bytes are on their way."""
        cdef Py_ssize_t result = 1
        while done[0] < length and result > 0 and self.stream is not None and self.life <= CLOSING:
            result = self.records.write(memory + done[0], min(length - done[0], <size_t>PIECE_MAX))
            if result > 0:
                done[0] += <size_t>result
            self.records.send(self.stream)
        return 0

    cdef int _keep(self, object data) except -1:
        self.backlog.append(data if PyBytes_CheckExact(data) else bytes(data))
        self.backlog_size += <size_t>len(self.backlog[-1])
        return 0

    cdef int _write_backlog(self) except -1:
        cdef bytes data
        cdef size_t done
        while self.backlog and (self.life == WRAPPED or self.life == CLOSING):
            data = self.backlog[0]
            done = 0
            self._encrypt(data, len(data), &done)
            self.backlog_size -= done
            if done < <size_t>len(data):
                self.backlog[0] = data[done:]
                return self._flush()
            del self.backlog[0]
        self._flush()
        if self._unsent() <= self.low_water:
            self._resume_writer()
        if self.life == CLOSING and not self.said_goodbye:
            self._say_goodbye()
        return 0

    def can_write_eof(self):
        """False: TLS ends both ways at once here."""
        return False

    def write_eof(self):
        """``NotImplementedError``, see ``can_write_eof``."""
        raise NotImplementedError

    # ------------------------------------------------------------ flow control

    cdef size_t _unsent(self) noexcept:
        cdef StreamTransport stream = self.stream
        if stream is None or not is_live(stream):
            return 0
        return self.backlog_size + stream.unsent

    def get_write_buffer_size(self):
        """Bytes that the system has not yet taken, plain and encrypted."""
        return self._unsent() if self.stream is not None else self.backlog_size

    def get_write_buffer_limits(self):
        """``(low, high)`` in bytes."""
        return (self.low_water, self.high_water)

    def set_write_buffer_limits(self, high=None, low=None):
        """Pause the protocol above ``high`` unsent bytes, resume it at ``low``."""
        self.high_water, self.low_water = limits_of(high, low, WRITE_LIMIT_KIB)
        if self.stream is not None:
            self.stream.set_write_buffer_limits(high=self.high_water, low=self.low_water)
        if self._unsent() > self.high_water:
            self._pause_writer()
        elif self._unsent() <= self.low_water:
            self._resume_writer()

    cdef int _pause_writer(self) except -1:
        if self.writer_paused or not self.told:
            return 0
        self.writer_paused = True
        self._control("pause_writing")
        return 0

    cdef int _resume_writer(self) except -1:
        if not self.writer_paused:
            return 0
        self.writer_paused = False
        self._control("resume_writing")
        return 0

    def _control(self, name):
        protocol = self.protocol
        try:
            getattr(protocol, name)()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self._loop.call_exception_handler({
                "message": f"protocol.{name}() failed",
                "exception": exc,
                "transport": self,
                "protocol": protocol,
            })

    def pause_writing(self):
        """The stream holds more than the limit."""
        self._pause_writer()

    def resume_writing(self):
        """The stream has room again."""
        if self._unsent() <= self.low_water:
            self._resume_writer()

    def set_read_buffer_limits(self, high=None, low=None):
        """Check and note both; nothing received is kept here that they could limit."""
        self.reading_high, self.reading_low = limits_of(high, low, READ_LIMIT_KIB)

    def get_read_buffer_limits(self):
        """``(low, high)`` in bytes."""
        return (self.reading_low, self.reading_high)

    # ------------------------------------------------------------------ ending

    cdef bint _passed_on(self, str method) except -1:
        """As StreamTransport's: a finalizer may call in another thread."""
        if not FREE_THREADED or self.stream is None or not runs_elsewhere(self.stream.engine):
            return False
        self._loop.call_soon_threadsafe(getattr(self, method))
        return True

    def abort(self):
        """Close at once and drop what the system has not taken."""
        if not self._passed_on("abort"):
            self._abort(None)

    def _force_close(self, exc):
        self._abort(exc)

    def is_closing(self):
        """True from ``close``, ``abort`` or a lost connection on."""
        return self.closed

    cdef int _say_goodbye(self) except -1:
        """All that was written is on its way: close_notify may follow."""
        return 0

    cdef int _wake(self, object exc) except -1:
        cdef object waiter = self.waiter
        self.waiter = None
        if waiter is not None and not waiter.done():
            if exc is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(exc)
        return 0

    cdef int _end_timer(self) except -1:
        cdef object timer = self.timer
        self.timer = None
        if timer is not None:
            timer.cancel()
        return 0

    cdef int _abort(self, object exc) except -1:
        cdef StreamTransport stream = self.stream
        self.closed = True
        self.life = GONE
        self._end_timer()
        if stream is not None:
            if exc is None:
                stream.abort()
            else:
                stream._force_close(exc)
        return 0

    cdef int _fail(self, object exc, str message) except -1:
        cdef StreamTransport stream = self.stream
        if stream is not None and is_live(stream):
            self._flush()  # the alert
        self._abort(exc)
        if isinstance(exc, OSError):
            if self._loop.get_debug():
                logger.debug("%r: %s", self, message, exc_info=exc)
        elif not isinstance(exc, CancelledError):
            self._loop.call_exception_handler({
                "message": message,
                "exception": exc,
                "transport": stream,
                "protocol": self,
            })
        self._wake(exc)
        return 0

    # ---------------------------------------------------------------- protocol

    def get_extra_info(self, name, default=None):
        """What TLS knows of the connection, or else what the stream transport does."""
        if name in self._extra:
            return self._extra[name]
        if self.stream is not None:
            return self.stream.get_extra_info(name, default)
        return default

    def get_protocol(self):
        """The protocol that gets the bytes."""
        return self.protocol

    def set_protocol(self, protocol):
        """Deliver what arrives from now on to ``protocol``."""
        if self.stream is not None:
            check_thread(self.stream.engine)
        self._take_protocol(protocol)

    def _take_protocol(self, protocol):
        self.protocol = protocol
        if isinstance(protocol, RegisteredProtocol):
            self.kind = REGISTERED
            self.receiver = protocol.view_received
        elif isinstance(protocol, BufferedProtocol):
            self.kind = BUFFERED
            self.receiver = None
        else:
            self.kind = PLAIN
            self.receiver = getattr(protocol, "data_received", None)

    # --------------------------------- asyncio's private names, for those who read them

    @property
    def _ssl_protocol(self):
        return self

    @property
    def _app_transport(self):
        return self

    @property
    def _app_protocol(self):
        return self.protocol

    @property
    def _transport(self):
        return self.stream

    @property
    def _sslobj(self):
        return self.records.sslobj

    @property
    def _sslcontext(self):
        return self._extra["sslcontext"]

    @property
    def _closed(self):
        return self.closed

    @property
    def _app_reading_paused(self):
        return self.asked_to_pause

    @property
    def _protocol_paused(self):
        return self.writer_paused

    def _test__append_write_backlog(self, data):
        # CPython's tests have a backlog with it that no renegotiation could be got to leave.
        self.backlog.append(bytes(data))
        self.backlog_size += <size_t>len(data)
