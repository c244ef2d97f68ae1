"""TLSTransport: TLS over a stream transport.

To the program it is the transport of its protocol; to the stream transport below it is a layer in
the place of a protocol (layer.pyx). Records are made and read by one of two engines
(tls_records.pyx).

    what was received ──feed──▶ records ──read──▶ bytes, a buffer, a view ──▶ the protocol
    write ──▶ records ──send──▶ the stream transport

Receiving. What the stream transport has received is lent to the records, which read as much as the
protocol wants. The rest stays where it is, so a protocol that pauses holds the peer back, and
neither side of TLS has a buffer that can grow.

Writing is the base class's (tls_sending.pyx).

Closing. ``close`` sends close_notify after what was written, then waits for the peer's, and drops
what comes before it. ``ssl_shutdown_timeout`` bounds that.

Behaviour and wording follow asyncio's ``SSLProtocol`` (checked: 3.11 to 3.15); where programs were
served badly there, docs/tls.md says what is different.
"""

import logging
import ssl
from asyncio import TimeoutError

from cpython.buffer cimport PyBUF_WRITABLE, Py_buffer, PyBuffer_Release, PyObject_GetBuffer

from zerio_asyncio.core.engine cimport check_thread
from zerio_asyncio.core.memory cimport release_view
from zerio_asyncio.core.stream cimport BUFFERED, REGISTERED, StreamTransport
from zerio_asyncio.core.tls_records cimport (
    ENDED_BY_PEER, NOTHING_NOW, READING_ROOM, RECORD_MAX, DecryptedMemory, give_memory, take_memory)
from zerio_asyncio.core.tls_sending cimport APART, CLOSING, GONE, SHAKING, WRAPPED, TLSSending

logger = logging.getLogger("asyncio")

cdef object AGAIN = (ssl.SSLWantReadError, ssl.SSLSyscallError)


cdef class TLSTransport(TLSSending):
    """TLS over a stream transport, which makes itself known by ``connection_made``."""

    # ---------------------------------------------- the stream transport's calls

    def connection_made(self, StreamTransport stream not None):
        """The stream has begun: so does the handshake."""
        if self.life != APART:
            stream.abort()  # as this was, before it began
            return
        self.stream = stream
        stream.set_write_buffer_limits(high=self.high_water, low=self.low_water)
        if self._loop.get_debug():
            logger.debug("%r starts SSL handshake", self)
            self.began = self._loop.time()
        self.life = SHAKING
        self.timer = self._loop.call_later(self.handshake_timeout, self._handshake_expired)
        if not self.server_side:  # a server has nothing to say first
            self._shake()

    def eof_received(self):
        """The stream has ended; TLS may have before."""
        if self._loop.get_debug():
            logger.debug("%r received EOF", self)
        self.heard_end = True
        if self.life == SHAKING:
            self._fail(ConnectionResetError(), "SSL handshake failed")
        elif self.life == WRAPPED:
            self._start_closing()
        elif self.life == CLOSING:
            self._say_goodbye()

    def connection_lost(self, exc):
        """The stream is closed: ends everything."""
        cdef object protocol = self.protocol
        cdef bint told = self.told
        self.life = GONE
        self.closed = True
        self.told = False
        self.dropped += 1
        self.backlog.clear()
        self.backlog_size = 0
        self._end_timer()
        if self.stream is not None:
            # What it knew can still be asked for.
            self._extra = {**self.stream._extra, **self._extra}
        self.stream = None
        self.protocol = None
        self.receiver = None
        try:
            if told:
                protocol.connection_lost(exc)
        finally:
            self._wake(exc)

    # --------------------------------------------------------------- handshake

    cdef int _shake(self) except -1:
        cdef bint shaken = False
        try:
            shaken = self.records.shake()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self._fail(exc, "SSL handshake failed on verifying the certificate"
                       if isinstance(exc, ssl.CertificateError) else "SSL handshake failed")
        if shaken:
            self._shaken()
        elif self.life == SHAKING:
            self._flush()
        return 0

    cdef int _shaken(self) except -1:
        cdef object sslobj = self.records.sslobj
        cdef object protocol = self.protocol
        try:
            facts = dict(peercert=sslobj.getpeercert(), cipher=sslobj.cipher(),
                         compression=sslobj.compression(), ssl_object=sslobj)
        except Exception as exc:
            return self._fail(exc, "SSL handshake failed")
        self._extra.update(facts)
        self._end_timer()
        self.life = WRAPPED
        if self._loop.get_debug():
            logger.debug("%r: SSL handshake took %.1f ms", self,
                         (self._loop.time() - self.began) * 1e3)
        if not self.told:
            self.told = True
            protocol.connection_made(self)
        if not self.server_side and self.life != GONE:
            self._flush()  # what a server says last can go with its answer
        self._wake(None)
        return 0

    def end_unmet(self, StreamTransport stream not None):
        """The loop closes: end now if no protocol has met the connection, and nobody waits."""
        if not self.told and self.waiter is None:
            stream.abort()
            stream._call_connection_lost(None)

    def _handshake_expired(self):
        if self.life == SHAKING:
            self._fail(
                ConnectionAbortedError(
                    f"SSL handshake is taking longer than {self.handshake_timeout} seconds: "
                    "aborting the connection"),
                "Fatal error on transport")

    # --------------------------------------------------------------- receiving

    cdef int feed(self, const char *memory, size_t count) except -1:
        cdef size_t left
        self.taken = 0
        self.records.lend(memory, count)
        try:
            self._advance()
        finally:
            left = self.records.take_back()
            self.taken = count if self.life == GONE else count - left
        return 0

    def feed_early(self, bytes data not None):
        """Take what was received before the stream transport had this layer."""
        cdef StreamTransport stream = self.stream
        if stream is not None:
            stream._ask(self._feed_bytes, (data,))

    def _feed_bytes(self, bytes data not None):
        self.feed(data, len(data))

    cdef int _advance(self) except -1:
        """Go on with what the records have: what was lent, and what they hold themselves."""
        try:
            if self.life == SHAKING:
                self._shake()
        except (SystemExit, KeyboardInterrupt):
            self._flush()
            self._loop.call_soon(self._go_on)
            raise
        try:
            if self.life == WRAPPED:
                self._read()
            if self.life == CLOSING:
                self._discard()
            if self.stream is not None and self.life != GONE:
                self._flush()
                if self.backlog:
                    self._write_backlog()
        except (SystemExit, KeyboardInterrupt):
            # The connection is unharmed, and what the records still hold will not come again.
            self._loop.call_soon(self._go_on)
            raise
        except BaseException as exc:
            self._fail(exc, "Fatal error on SSL protocol")
        return 0

    def _go_on(self):
        cdef StreamTransport stream = self.stream
        if stream is not None and not self.paused:
            stream._ask(self._read_held, ())

    def _read_held(self):
        cdef StreamTransport stream = self.stream
        self._advance()
        if not self.paused and self.stream is not None:
            stream.resume_reading()

    cdef int _read(self) except -1:
        while self.life == WRAPPED and not self.paused and self._read_once():
            pass
        return 0

    cdef int _read_once(self) except -1:
        """Read and deliver; 0 if there was no more."""
        cdef DecryptedMemory memory
        cdef Py_ssize_t result
        cdef size_t count = 0
        cdef object error = None
        if self.kind == BUFFERED:
            return self._read_buffered()
        memory = take_memory()
        try:
            result = self._gather(memory.memory, &count)
        except ssl.SSLError as exc:
            error = exc  # what came before it is delivered
            result = NOTHING_NOW
        if count:
            self._deliver(memory, count)
        else:
            give_memory(memory)
        if error is not None:
            raise error
        if result == ENDED_BY_PEER and self.life == WRAPPED:
            self._tell_end()
            self._start_closing()
        return result > 0

    cdef Py_ssize_t _gather(self, char *memory, size_t *count) except? -2:
        """Read as many records as there are, or fit: several make one call of the protocol."""
        cdef Py_ssize_t result = 1
        while result > 0 and count[0] <= READING_ROOM - RECORD_MAX:
            result = self.records.read(memory + count[0], READING_ROOM - count[0])
            if result > 0:
                count[0] += <size_t>result
        return result

    cdef int _deliver(self, DecryptedMemory memory, size_t count) except -1:
        cdef DecryptedMemory held = memory  # with the caller's, the two references that hide wants
        cdef StreamTransport stream = self.stream
        cdef object data, receiver
        if self.kind == REGISTERED:
            memory.length = count
            receiver = self.receiver
            data = memory.show()
            stream.engine.deliveries += 1
            try:
                receiver(data)
            finally:
                release_view(data)
                data = None
                if not held.hide():
                    give_memory(memory)
                stream.engine.end_delivery()
            return 0
        data = stream.engine.spare_bytes.make(memory.memory, count)
        give_memory(memory)
        if self.receiver is None:
            # Raises asyncio's AttributeError, or finds a method added later.
            self.receiver = self.protocol.data_received
        receiver = self.receiver
        receiver(data)
        return 0

    cdef int _read_buffered(self) except -1:
        """Straight into the protocol's own buffer."""
        cdef Py_buffer view
        cdef Py_ssize_t result = 1
        cdef size_t count = 0
        cdef object protocol = self.protocol
        cdef object buffer
        if not self.records.readable():
            return 0
        buffer = protocol.get_buffer(READING_ROOM)
        PyObject_GetBuffer(buffer, &view, PyBUF_WRITABLE)
        try:
            if view.len == 0:
                raise RuntimeError("get_buffer() returned an empty buffer")
            while result > 0 and count < <size_t>view.len and self.life == WRAPPED:
                result = self.records.read(<char *>view.buf + count, view.len - count)
                if result > 0:
                    count += <size_t>result
        finally:
            PyBuffer_Release(&view)
            if count:
                protocol.buffer_updated(count)
        if result == ENDED_BY_PEER and self.life == WRAPPED:
            self._tell_end()
            self._start_closing()
        return result > 0

    cdef int _discard(self) except -1:
        """We are closing: nothing is delivered any more, but the peer's end must be found."""
        cdef char nowhere[4096]
        cdef Py_ssize_t result = 1
        while result > 0:
            result = self.records.read(nowhere, sizeof(nowhere))
        if result == ENDED_BY_PEER:
            if self.said_goodbye:
                self._tell_end()
                self._finish()
            else:
                self._say_goodbye()
        return 0

    cdef int _tell_end(self) except -1:
        cdef object protocol = self.protocol
        if self.told_end or not self.told:
            return 0
        self.told_end = True
        try:
            if protocol.eof_received():
                logger.warning("returning true from eof_received() has no effect when using ssl")
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self._fail(exc, "Error calling eof_received()")
        return 0

    def is_reading(self):
        """True while received bytes are delivered to the protocol."""
        return not self.paused and not self.closed

    def pause_reading(self):
        """Deliver nothing to the protocol until ``resume_reading``; the peer is held back."""
        if self.stream is not None:
            check_thread(self.stream.engine)
        self.paused = self.asked_to_pause = True
        if self.stream is not None and self.life == WRAPPED:
            # What is received from now on stays there; the posted receive need not be taken back.
            self.stream._paused = True

    def resume_reading(self):
        """Continue after ``pause_reading``."""
        if self.stream is not None:
            check_thread(self.stream.engine)
        self.asked_to_pause = False
        if self.paused:
            self.paused = False
            self._loop.call_soon(self._go_on)

    def get_read_buffer_size(self):
        """Bytes received and not yet decrypted."""
        return 0 if self.stream is None else self.stream.held_to - self.stream.held_from

    # ------------------------------------------------------------------ ending

    def close(self):
        """Send what was written and close_notify; ``connection_lost(None)`` follows the peer's."""
        if not self._passed_on("close"):
            self._start_closing()

    cdef int _start_closing(self) except -1:
        self.closed = True
        if self.life >= CLOSING:
            return 0
        if self.life != WRAPPED:
            return self._abort(None)
        self.life = CLOSING
        self.timer = self._loop.call_later(self.shutdown_timeout, self._shutdown_expired)
        if self.paused:
            # The peer's end must be heard.
            self.paused = False
            self._loop.call_soon(self._go_on)
        try:
            self._discard()  # what is received already has nobody to go to
            if self.backlog:
                self._write_backlog()
            if not self.said_goodbye:
                self._say_goodbye()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self._fail(exc, "Error occurred during shutdown")
        return 0

    cdef int _say_goodbye(self) except -1:
        """Send close_notify after what was written; all is over if the peer has ended, too."""
        if self.life != CLOSING or (self.backlog and not self.heard_end):
            return 0
        if not self.said_goodbye:
            self.said_goodbye = True
            try:
                if not self.heard_end:
                    self.records.sslobj.unwrap()
            except AGAIN:
                self._flush()
                return 0
            except ssl.SSLError as exc:
                return self._fail(exc, "Error occurred during shutdown")
            self._flush()
        elif not self.heard_end:
            return 0
        self._tell_end()
        return self._finish()

    def _shutdown_expired(self):
        cdef StreamTransport stream = self.stream
        if self.life == CLOSING and stream is not None:
            self.life = GONE
            stream._force_close(TimeoutError("SSL shutdown timed out"))

    cdef int _finish(self) except -1:
        if self.life == CLOSING:
            self.life = GONE
            self._end_timer()
            self.stream.close()
        return 0
