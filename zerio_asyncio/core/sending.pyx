"""SendingTransport: what is written to a stream socket, until the system takes it.

Sending. When ``write`` returns, the system has the bytes, if nothing is queued before them and the
system can take them: programs write and then compute, block, fork or exit. Only what was not taken
goes on a list of chunks, counts against the high-water mark, and is sent by requests at the end of
the tick. ``bytes`` are sent in place if the provider can (kept alive until their result is
dequeued), small ones share a slice; anything that may change after ``write`` returns is copied.

    chunks ──flush──▶ the provider's, in order ──result──▶ memory released
    head .. head+issued is the provider's; head+issued .. head+count waits for the next flush

With ``LoopOptions(gather=True)`` the writes of a tick go on the list first, and leave together at
its end. So does what is built in place (``room`` and ``commit``, see sending.pxd) while a received
chunk is being delivered.

Only exact ``bytes`` are kept: releasing one runs no Python code, so pointers to chunks may be held
across it. Nothing else that runs Python code (exporters, protocols) is called in between.

Behaviour and wording follow asyncio's ``_SelectorSocketTransport`` (checked: 3.10 to 3.15).
"""

cdef extern from "decref.h":
    pass


import logging
import socket
import sys
from asyncio import constants

from cpython.buffer cimport PyBUF_SIMPLE, Py_buffer, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport (
    PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE)
from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.string cimport memcpy

from zerio_asyncio.core.by_call cimport calls_for_large, writes_by_call
from zerio_asyncio.core.engine cimport check_thread
from zerio_asyncio.core.rio cimport (
    RIO_BUF, RIO_CAP_SEND_MEMORY, RIO_ENETDOWN, RIO_EWOULDBLOCK, RIO_MSG_COMMIT_ONLY,
    RIO_MSG_DEFER)
from zerio_asyncio.core.threads cimport thread_store_size
from zerio_asyncio.core.transport cimport OPEN, is_live

from zerio_asyncio.core.protocols import InvariantError

logger = logging.getLogger("asyncio")

cdef enum:
    # Up to this size, copying a write next to its neighbours is cheaper than a request of its own.
    GATHER_MAX = 4096
    CHUNKS_ROOM = 8

# The standard transport's buffer is a deque of memoryviews from 3.12 on, before it is a bytearray.
cdef bint IN_PIECES = sys.version_info >= (3, 12)

cdef unsigned int WARN_AFTER = constants.LOG_THRESHOLD_FOR_CONNLOST_WRITES


cdef inline void count_unsent(Transport transport, Py_ssize_t change) noexcept:
    # Other threads check it before they leave a message for the loop to send.
    thread_store_size(<Py_ssize_t *>&transport.unsent, <Py_ssize_t>transport.unsent + change)


cdef class SendingTransport(Transport):
    """The sending half of a stream transport; ``StreamTransport`` is the whole one."""

    def __dealloc__(self):
        self._drop_unissued()
        PyMem_RawFree(self.chunks)

    # -------------------------------------------------------------- sending

    cdef int _attach(self, uint32_t receives, uint32_t sends) except -1:
        Transport._attach(self, receives, sends)
        self.prompt = writes_by_call(self.provider, self.engine.gathers)
        return 0

    def write(self, data):
        """Send ``data`` (bytes, bytearray or memoryview) after everything written before.

        Returns at once. A mutable buffer may be changed as soon as ``write`` returns.
        ``TypeError`` for anything else, ``RuntimeError`` after ``write_eof``. Ignored once the
        transport closes or the connection is lost.
        """
        check_thread(self.engine)
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError("data argument must be a bytes-like object, "
                            f"not {type(data).__name__!r}")
        self._check_writable("write")
        # If the peer's end of stream closed it, what is still written goes out.
        if self.shut or not is_live(self):
            if data:
                self._drop_write()
            return
        self._write_one(data, True)
        self._written()

    def writelines(self, list_of_data):
        """Send each of ``list_of_data`` in order, as ``write`` would."""
        check_thread(self.engine)
        cdef list pieces = list(list_of_data)
        cdef bint first = self.count == 0
        for data in pieces:
            if not isinstance(data, (bytes, bytearray, memoryview)):
                raise TypeError("writelines() needs bytes-like objects, "
                                f"not {type(data).__name__!r}")
        self._check_writable("writelines")
        if self.shut or not is_live(self):
            if pieces:
                self._drop_write()
            return
        for data in pieces:
            # Small ones share a slice, so that they leave together.
            self._write_one(data, False)
        if first and self.prompt:
            self.push()
        else:
            self._written()

    cdef int _check_writable(self, str method) except -1:
        if self._eof:
            raise RuntimeError(f"Cannot call {method}() after write_eof()")
        if self.empty_waiter is not None:
            raise RuntimeError(f"unable to {method}; sendfile is in progress")
        return 0

    cdef int _drop_write(self) except -1:
        if is_live(self):
            return 0  # closing: what was written before is still being sent
        # Once: a program that ignores is_closing() would fill the log.
        if self.dropped == WARN_AFTER:
            logger.warning("socket.send() raised exception.")
        self.dropped += 1
        return 0

    cdef int _written(self) except -1:
        if self.count > self.issued and is_live(self) and not self.gathering:
            if self.prompt or self.engine.gathers:
                self.engine.mark_dirty(self)
            else:
                self.flush(False)  # only requests can send here: a queued one would be late
        if self.unsent > self.high_water:
            self._maybe_pause_protocol()
        return 0

    cdef int _write_one(self, object data, bint now) except -1:
        cdef Py_buffer view
        if isinstance(data, memoryview) and not data.c_contiguous:
            data = data.tobytes()
        if PyBytes_CheckExact(data):
            return self._put(data, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), now)
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            self._put(None, <const char *>view.buf, view.len, now)
        finally:
            PyBuffer_Release(&view)
        return 0

    cdef int _put(self, object owner, const char *memory, size_t length, bint now) except -1:
        """Send what the system takes, if nothing is queued before it and ``now``; queue the rest.

        ``memory`` belongs to the bytes object ``owner``, or may change if that is None.
        """
        if length == 0 or not is_live(self):
            return 0  # an exporter's code may have ended the connection
        if self._is_gone():
            return self._break(self._bad_descriptor(),
                               "Fatal write error on socket transport", None)
        if self.count == 0 and (self.prompt if now else self.engine.gathers
                                and calls_for_large(self.provider, length)):
            self._send_now(&memory, &length)
        if length == 0:
            return 0
        try:
            self._queue(owner, memory, length)
        except MemoryError as exc:
            # A part is gone or queued: the peer must not take it for the whole.
            self._break(exc, "Fatal write error on socket transport", None)
        return 0

    cdef int _send_now(self, const char **memory, size_t *length) except -1:
        """One attempt; what is left is in ``memory`` and ``length``.

        With the interpreter's lock held: the call never waits, and another thread must neither find
        the request queue in use nor end it.
        """
        cdef uint32_t part = <uint32_t>min(length[0], <size_t>REQUEST_MAX)
        cdef int64_t sent
        sent = self.provider.send_now(self.queue, memory[0], part)
        if sent == -RIO_ENETDOWN:
            # In a child of fork the port is the parent's (rule 14), the socket the child's, too.
            sent = self.provider.socket_send(<size_t>self.descriptor, memory[0], part)
            if sent < 0:
                sent = -RIO_EWOULDBLOCK
        if sent > 0:
            memory[0] += sent
            length[0] -= <size_t>sent
        elif sent != -RIO_EWOULDBLOCK:
            length[0] = 0
            self._break(self.engine.error_of(<int32_t>-sent),
                        "Fatal write error on socket transport", None)
        return 0

    cdef int _queue(self, object owner, const char *memory, size_t length) except -1:
        """Small bytes next to others, else in place, else as a copy."""
        cdef Chunk *chunk
        cdef size_t part
        if self._gather_last(memory, length):
            return 0
        if not self.provider.capabilities & RIO_CAP_SEND_MEMORY:
            return self._queue_copy(memory, length)
        if owner is None:
            if length <= self.pool.slice_size:
                return self._queue_copy(memory, length)
            owner = PyBytes_FromStringAndSize(memory, length)
            memory = PyBytes_AS_STRING(owner)
        while length:
            part = min(length, <size_t>REQUEST_MAX)
            chunk = self._new_chunk()
            chunk.owner = <void *>owner
            Py_INCREF(owner)
            chunk.memory = <char *>memory
            chunk.length = <uint32_t>part
            count_unsent(self, part)
            memory += part
            length -= part
        return 0

    cdef int _queue_copy(self, const char *memory, size_t length) except -1:
        cdef Chunk *chunk
        cdef size_t part
        cdef PoolSlice slice
        while length:
            part = min(length, <size_t>self.pool.slice_size)
            self.pool.take(&slice)
            try:
                chunk = self._new_chunk()
            except MemoryError:
                self.pool.give(&slice)
                raise
            chunk.slice = slice
            chunk.owner = NULL
            chunk.memory = slice.memory
            chunk.length = <uint32_t>part
            memcpy(chunk.memory, memory, part)
            count_unsent(self, part)
            memory += part
            length -= part
        return 0

    cdef int _gather_last(self, const char *memory, size_t length) except -1:
        """1 if the bytes were appended to the last chunk that nobody has sent yet."""
        cdef Chunk *chunk
        cdef PoolSlice slice
        cdef size_t used, room
        if self.count == self.issued or length > GATHER_MAX:
            return 0
        chunk = &self.chunks[(self.head + self.count - 1) & self.chunk_mask]
        used = chunk.length
        if chunk.owner is NULL:
            used += chunk.memory - chunk.slice.memory  # what a push sent keeps its place
        room = self.pool.slice_size - min(used, self.pool.slice_size)
        if length > room or (chunk.owner is not NULL and chunk.length > GATHER_MAX):
            return 0
        if chunk.owner is not NULL:
            self.pool.take(&slice)
            memcpy(slice.memory, chunk.memory, chunk.length)
            self.engine.spare_bytes.release(<PyObject *>chunk.owner)
            chunk.owner = NULL
            chunk.slice = slice
            chunk.memory = slice.memory
        memcpy(chunk.memory + chunk.length, memory, length)
        chunk.length += <uint32_t>length
        count_unsent(self, length)
        thread_store_size(&self.engine.gathered, self.engine.gathered + 1)
        return 1

    cdef Chunk *_new_chunk(self) except NULL:
        cdef uint32_t room = self.chunk_mask + 1
        cdef uint32_t i
        cdef Chunk *chunks
        if self.chunks is NULL or self.count == room:
            room = CHUNKS_ROOM if self.chunks is NULL else 2 * room
            chunks = <Chunk *>PyMem_RawMalloc(room * sizeof(Chunk))
            if chunks is NULL:
                raise MemoryError
            for i in range(self.count):
                chunks[i] = self.chunks[(self.head + i) & self.chunk_mask]
            PyMem_RawFree(self.chunks)
            self.chunks = chunks
            self.chunk_mask = room - 1
            self.head = 0
        chunks = &self.chunks[(self.head + self.count) & self.chunk_mask]
        chunks.pieces = 0
        self.count += 1
        return chunks

    # ----------------------------------------- room and commit, see sending.pxd

    cdef char *room(self, size_t length, uint32_t pieces_max) except? NULL:
        cdef Chunk *chunk
        self._check_writable("write")
        chunk = self._with_room(length, pieces_max)
        if chunk is NULL and self.gathering:
            self.push()  # a full slice has no reason to wait
            chunk = self._with_room(length, pieces_max)  # a protocol may have been resumed
        if self.shut or not is_live(self):
            self._drop_write()
            return NULL
        if chunk is NULL:
            chunk = self._open_chunk()
        else:
            thread_store_size(&self.engine.gathered, self.engine.gathered + 1)
        chunk.pieces += 1
        return chunk.memory + chunk.length

    cdef int commit(self, size_t length, object owner, const char *memory, size_t rest) except -1:
        cdef Chunk *chunk = &self.chunks[(self.head + self.count - 1) & self.chunk_mask]
        cdef bint first = self.count == 1 and chunk.length == 0
        chunk.length += <uint32_t>length
        count_unsent(self, length)
        if rest:
            try:
                self._queue(owner, memory, rest)
            except BaseException:
                self._lose(None, None)
                raise
        if self.engine.deliveries:
            self.engine.gather(self)
        elif first and self.prompt:
            return self.push()
        return self._written()

    cdef int begin_gathering(self) except -1:
        self.engine.deliveries += 1
        return 0

    cdef int end_gathering(self) except -1:
        return self.engine.end_delivery()

    cdef Chunk *_with_room(self, size_t length, uint32_t pieces_max) noexcept:
        """The last chunk, if it is unsent and its slice has that much room; or null."""
        cdef Chunk *chunk
        if self.count == self.issued:
            return NULL
        chunk = &self.chunks[(self.head + self.count - 1) & self.chunk_mask]
        if (chunk.owner is not NULL or chunk.memory is not chunk.slice.memory
                or chunk.length + length > self.pool.slice_size
                or (pieces_max and chunk.pieces >= pieces_max)):
            return NULL
        return chunk

    cdef Chunk *_open_chunk(self) except NULL:
        """A new one at the end: an empty slice."""
        cdef Chunk *chunk
        cdef PoolSlice slice
        self.pool.take(&slice)
        try:
            chunk = self._new_chunk()
        except MemoryError:
            self.pool.give(&slice)
            raise
        chunk.slice = slice
        chunk.owner = NULL
        chunk.memory = slice.memory
        chunk.length = 0
        return chunk

    # -------------------------------------------------- requests and results

    cdef int push(self) except -1:
        """Send at once what is queued, as far as the system takes it; the rest stays."""
        cdef bint went = False
        if self.count and self._is_gone():
            return self._break(self._bad_descriptor(), "Fatal write error on socket transport",
                               self.context)
        while self.prompt and self.count and self.issued == 0 and is_live(self):
            if not self._push_first():
                break
            went = True
        try:
            if went and is_live(self):
                self._progressed()
        finally:
            self._written()  # what is left goes out, even if an interrupt left resume_writing
        return 0

    cdef int _push_first(self) except -1:
        """The first chunk; 1 if it is gone."""
        cdef Chunk *chunk = &self.chunks[self.head & self.chunk_mask]
        cdef int64_t sent = self.provider.send_now(self.queue, chunk.memory, chunk.length)
        if sent == chunk.length:
            self._pop_chunk()
            return 1
        if sent > 0:
            chunk.memory += sent
            chunk.length -= <uint32_t>sent
            count_unsent(self, -<Py_ssize_t>sent)
        elif sent != -RIO_EWOULDBLOCK:
            self._break(self.engine.error_of(<int32_t>-sent),
                        "Fatal write error on socket transport", self.context)
        return 0

    cdef int flush(self, bint now) except -1:
        cdef uint32_t depth = self.engine.send_depth
        cdef uint32_t last
        cdef uint32_t deferred = 0
        cdef uint32_t flags
        if not self.attached or not is_live(self):
            return 0
        if self.count > self.issued and self._is_gone():
            return self._break(self._bad_descriptor(), "Fatal write error on socket transport",
                               self.context)
        # If a write was tried at once, another attempt would be futile.
        if now and not self.prompt and self.count == 1 and self.issued == 0:
            if self._push_first():
                self._progressed()
        last = min(self.count, depth)
        if self.issued >= last:
            return 0
        # Several go out together: the provider may gather them into one operation.
        flags = RIO_MSG_DEFER if last - self.issued > 1 else 0
        while self.issued < last:
            if not self._issue(&self.chunks[(self.head + self.issued) & self.chunk_mask], flags):
                break
            self.issued += 1
            self.outstanding += 1
            deferred += 1
        if flags and deferred:
            self.provider.rio.RIOSend(self.queue, NULL, 0, RIO_MSG_COMMIT_ONLY, NULL)
        if self.issued < last and self.issued == 0:
            self._break(self.engine.refusal(), "Fatal write error on socket transport",
                        self.context)
        return 0

    cdef int _issue(self, Chunk *chunk, uint32_t flags) noexcept:
        cdef RIO_BUF buffer
        if chunk.owner is not NULL:
            return self.provider.send_memory(
                self.queue, chunk.memory, chunk.length, flags, <void *><size_t>SEND)
        buffer.BufferId = chunk.slice.slab.id
        buffer.Offset = chunk.slice.offset + <uint32_t>(chunk.memory - chunk.slice.memory)
        buffer.Length = chunk.length
        return self.provider.rio.RIOSend(self.queue, &buffer, 1, flags, <void *><size_t>SEND)

    cdef int _sent(self, int32_t status, uint32_t count) except -1:
        cdef Chunk *chunk = &self.chunks[self.head & self.chunk_mask]
        # A send completes whole or fails (rule 2), and only if it was issued.
        if self.issued == 0 or (status == 0 and count != chunk.length):
            raise InvariantError(f"{self!r}: a send of {chunk.length} bytes ended with {count}")
        self._pop_chunk()
        self.issued -= 1
        if not self.attached or not is_live(self):
            return 0
        if status != 0:
            return self._break(self.engine.error_of(status),
                               "Fatal write error on socket transport", self.context)
        if self.count > self.issued:
            self.engine.mark_dirty(self)
        return self._progressed()

    cdef void _pop_chunk(self) noexcept:
        cdef Chunk chunk = self.chunks[self.head & self.chunk_mask]
        count_unsent(self, -<Py_ssize_t>chunk.length)
        self.head = (self.head + 1) & self.chunk_mask
        self.count -= 1
        self._release_chunk(chunk)

    cdef int _progressed(self) except -1:
        if self._protocol_paused and self.unsent <= self.low_water:
            self._resume_protocol()
        if self.unsent == 0:
            self._all_sent()
        return 0

    cdef int _all_sent(self) except -1:
        cdef object waiter = self.empty_waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
        if self.life != OPEN:
            self._end(None, self.context)
        elif self._eof:
            self._shut_down()
        return 0

    cdef void _release_chunk(self, Chunk chunk) noexcept:
        # The collector may have cleared engine and pool of a transport that nobody closed.
        if chunk.owner is NULL:
            if self.pool is not None:
                self.pool.give(&chunk.slice)
        elif self.engine is not None:
            self.engine.spare_bytes.release(<PyObject *>chunk.owner)
        else:
            Py_DECREF(<object>chunk.owner)

    cdef void _drop_unissued(self) noexcept:
        cdef Chunk chunk
        while self.count > self.issued:
            self.count -= 1
            chunk = self.chunks[(self.head + self.count) & self.chunk_mask]
            count_unsent(self, -<Py_ssize_t>chunk.length)
            self._release_chunk(chunk)

    def can_write_eof(self):
        """True: a stream socket can be half-closed."""
        return True

    def write_eof(self):
        """Close the sending half after what was written."""
        check_thread(self.engine)
        if self.life != OPEN or self._eof:
            return
        self._eof = True
        if self._is_gone():
            self._break(self._bad_descriptor(), "Fatal write error on socket transport", None)
        elif self.unsent == 0:
            sock = self._sock
            sock.shutdown(socket.SHUT_WR)

    cdef int _shut_down(self) except -1:
        try:
            sock = self._sock
            sock.shutdown(socket.SHUT_WR)
        except OSError:
            # The peer is already gone; the receive reports it.
            pass
        return 0

    # With these two, sendfile waits for what was written before it
    def _make_empty_waiter(self):
        if self.empty_waiter is not None:
            raise RuntimeError("Empty waiter is already set")
        waiter = self._loop.create_future()
        self.empty_waiter = waiter
        if self.unsent == 0:
            waiter.set_result(None)
        return waiter

    def _reset_empty_waiter(self):
        self.empty_waiter = None

    cdef int _end_sendfile(self) except -1:
        cdef object waiter = self.empty_waiter
        if not waiter.done():
            waiter.set_exception(ConnectionError("Connection is closed by peer"))
        self._loop._wake_waiters(self.descriptor)
        return 0

    @property
    def _buffer(self):
        """What was written and not yet taken, in the standard transport's form; read-only."""
        cdef uint32_t i
        cdef Chunk *chunk
        cdef list pieces = []
        for i in range(self.count):  # making bytes triggers no collection
            chunk = &self.chunks[(self.head + i) & self.chunk_mask]
            pieces.append(PyBytes_FromStringAndSize(chunk.memory, chunk.length))
        return tuple(map(memoryview, pieces)) if IN_PIECES else b"".join(pieces)
