"""Framing: messages in Zerio's wire format, received and sent.

On the wire a message is its length (4 bytes, little-endian, signed), followed by that many bytes.

Receiving. A message that was received whole is shown in place. One that straddles two receives is
assembled in memory kept for that purpose. The handler gets a read-only memoryview that is valid
during its call, like RegisteredProtocol's.

    received chunk   [..rest of A][len B........][len C........][len D...
                          │            │  shown in place  │          │
                          └──▶ assembly, shown there                  └──▶ assembly, later

One memoryview serves all messages of a chunk: if nobody else refers to it when the call returns, it
moves on to the next message. Otherwise it is released, so that a kept view raises ValueError, and
the next message gets a new one. A kept part of a view (``view[4:]``) holds the memory beneath: the
transport's slice (stream.pyx) or the assembly, which is then given up.

Hazards, and how they are handled:

* The length is the peer's claim. It is checked before anything else is done with it, and memory
  grows with what has arrived, not with what was announced.
* The handler may close the connection, pause it, change the handler, raise. A ``stop`` is
  noticed after every call, and the handler is read anew for every message.
* One large message must not cost memory for ever: what is larger than most need is given back.
* KeyboardInterrupt and SystemExit leave the loop, which may be run again: ``rest`` keeps what the
  chunk still held, because nobody else has it.
"""

cdef extern from "decref.h":
    pass


from cython cimport critical_section
from cpython.buffer cimport (
    PyBUF_FULL_RO, PyBUF_SIMPLE, Py_buffer, PyBuffer_Release, PyObject_GetBuffer)
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc
from cpython.memoryview cimport PyMemoryView_Check, PyMemoryView_FromObject
from cpython.object cimport PyObject
from libc.stdint cimport int32_t
from libc.string cimport memcmp, memcpy

from zerio_asyncio.core.sending cimport PyThread_get_thread_ident, room_max, runs_elsewhere
from zerio_asyncio.core.threads cimport thread_load_size

from zerio_asyncio.messaging.errors import ConnectionClosed, FramingError

cdef extern from *:
    """
    #include "threads.h"

    /* A view that only we refer to, moved to other memory of the same exporter. */
    static void zerio_move_view(PyObject *view, const char *memory, Py_ssize_t length)
    {
        PyMemoryViewObject *object = (PyMemoryViewObject *)view;
        object->view.buf = (void *)memory;
        object->view.len = length;
        object->view.shape[0] = length;
        object->hash = -1; /* of the bytes, kept by the view once it was asked for */
    }

    /* Nobody else refers to it, and the handler has not released it either. */
    static int zerio_view_is_ours(PyObject *view)
    {
        PyMemoryViewObject *object = (PyMemoryViewObject *)view;
        return thread_has_alone(view) && object->exports == 0 && object->weakreflist == NULL
               && !(object->flags & _Py_MEMORYVIEW_RELEASED);
    }

    static int32_t zerio_load_length(const unsigned char *p)
    {
        return (int32_t)((uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16
                         | (uint32_t)p[3] << 24);
    }
    """
    void zerio_move_view(PyObject *view, const char *memory, Py_ssize_t length) noexcept
    bint zerio_view_is_ours(PyObject *view) noexcept
    int32_t zerio_load_length(const unsigned char *memory) noexcept
    PyObject *PyObject_Vectorcall(PyObject *, PyObject **, size_t, PyObject *) noexcept
    size_t PY_VECTORCALL_ARGUMENTS_OFFSET
    void Py_DECREF_ "Py_DECREF"(PyObject *) noexcept

cdef enum:
    HEADER = 4
    # The first size of an assembly: small messages cut by the end of a slice fit.
    ASSEMBLY_MIN = 4096
    # The largest that a connection keeps.
    ASSEMBLY_KEPT = 65536
    # How much larger the next one is. Large messages are copied seldom, and a peer that announces
    # much gets no more than this many times what it has sent.
    ASSEMBLY_GROWTH = 8
    LENGTH_LIMIT = 0x7FFFFFFF
    MARK_LENGTH = 8
    # What one peer may have waiting before it counts towards the total of all.
    FREE_OF_CHARGE = 4096

# Two of ours may agree on messages that are not the program's: they begin with this mark. A message
# of the program that happens to begin with it is sent behind the mark and a zero.
MARK = b"\xffZERIO\x00\x01"
cdef const char *the_mark = PyBytes_AS_STRING(MARK)
cdef bytes ESCAPE = MARK + b"\x00"


cdef class Assembly(ReceivedMemory):
    """Shows the assembled message."""

    def __cinit__(self, Py_ssize_t room):
        self.memory = <char *>PyMem_RawMalloc(room)
        if self.memory is NULL:
            raise MemoryError(f"no memory for a message of {room} bytes")
        self.room = room

    def __dealloc__(self):
        PyMem_RawFree(self.memory)


cdef class MessageFramer:
    """Cuts messages out of received chunks and calls ``handler`` with a view of each.

    Calls ``handler(view)``, or ``handler(first, view)`` if ``first`` is not None. A message longer
    than ``length_max`` bytes, or of negative length, raises ``FramingError`` from ``feed``.
    """

    def __init__(self, handler, uint32_t length_max, first=None):
        if self.feeding:
            raise RuntimeError("a framer is made once")
        self.set_handler(handler, length_max, first)

    def set_handler(self, handler, uint32_t length_max, first=None):
        """Pass the next message and all later ones to ``handler``."""
        if length_max > LENGTH_LIMIT:
            raise ValueError(f"length_max must be at most {LENGTH_LIMIT}, not {length_max}")
        self.handler = handler
        self.first = first
        self.length_max = length_max

    def set_control(self, control):
        """Pass messages that begin with the mark to ``control(view)``."""
        self.control = control

    def stop(self):
        """Pass on no more; what is fed from now on is ignored."""
        self.stopped = True
        if not self.feeding:
            self._forget()

    cdef void _forget(self) noexcept:
        self.rest = None
        self.assembly = None
        # Usually methods of the connection, and so a cycle.
        self.handler = self.first = self.control = None

    @property
    def pending(self):
        """Bytes of a partly received message, its length included."""
        return self.header_have + (self.have if self.header_have == HEADER else 0)

    @property
    def left_over(self):
        """Whether KeyboardInterrupt or SystemExit left a handler with messages to come."""
        return self.rest is not None

    def feed(self, view not None):
        """Pass on every message that ``view``, a contiguous memoryview of bytes, completes.

        What the handler raises propagates, and messages after that one are dropped; but after
        ``KeyboardInterrupt`` and ``SystemExit`` they are kept for the next ``feed``.
        """
        cdef bytes rest
        if not PyMemoryView_Check(view):
            raise TypeError(f"a memoryview is needed, not {type(view).__name__!r}")
        if self.feeding:
            raise RuntimeError("feed() was called from inside a handler")
        self.feeding = True
        try:
            if self.rest is not None:
                rest, self.rest = self.rest, None
                try:
                    with memoryview(rest) as kept:
                        self._feed(kept)
                except (SystemExit, KeyboardInterrupt):
                    self.rest = (self.rest or b"") + bytes(view)
                    raise
            self._feed(view)
        finally:
            self.feeding = False
            if self.stopped:
                self._forget()

    cdef int _feed(self, object view) except -1:
        cdef Py_buffer buffer
        # An export of our own: no handler can release the view while pointers lead into it.
        PyObject_GetBuffer(view, &buffer, PyBUF_FULL_RO)
        try:
            if buffer.ndim != 1 or buffer.itemsize != 1 or (
                    buffer.strides is not NULL and buffer.strides[0] != 1):
                raise BufferError("the view must be of bytes in one piece")
            return self._feed_bytes(view, <const char *>buffer.buf, buffer.len)
        finally:
            PyBuffer_Release(&buffer)

    cdef int _feed_bytes(self, object view, const char *place, Py_ssize_t length) except -1:
        cdef const char *end = place + length
        try:
            while place < end and not self.stopped:
                if self.header_have:
                    place += self._assemble(place, end - place)
                    if self.header_have == HEADER and self.have == self.need:
                        self._deliver_assembled()
                else:
                    self._walk(view, &place, end)
        except (SystemExit, KeyboardInterrupt):
            if place < end and not self.stopped:
                self.rest = PyBytes_FromStringAndSize(place, end - place)
            raise
        return 0

    cdef int _walk(self, object view, const char **place, const char *end) except -1:
        """Show the messages that end before ``end``; keep the start of one more."""
        cdef object piece = None
        cdef int32_t length
        cdef const char *message
        try:
            while end - place[0] >= HEADER:
                length = zerio_load_length(<const unsigned char *>place[0])
                if length < 0 or <uint32_t>length > self.length_max:
                    self._begin(<const unsigned char *>place[0])
                message = place[0] + HEADER
                if end - message < length:
                    break
                if piece is None:
                    piece = PyMemoryView_FromObject(view)
                zerio_move_view(<PyObject *>piece, message, length)
                place[0] = message + length
                if self.control is not None and is_marked(message, length):
                    self._call_control(piece)
                else:
                    self._call(piece)
                if self.stopped:
                    return 0
                if not zerio_view_is_ours(<PyObject *>piece):
                    _release(piece)
                    piece = None
        finally:
            if piece is not None:
                _release(piece)
        if place[0] < end:
            place[0] += self._assemble(place[0], end - place[0])
        return 0

    cdef int _begin(self, const unsigned char *header) except -1:
        """Read a length; FramingError if it is invalid."""
        cdef int32_t length = zerio_load_length(header)
        if length < 0:
            raise FramingError(f"a message of negative length: {length}", length)
        if <uint32_t>length > self.length_max:
            raise FramingError(
                f"a message of {length} bytes: the limit is {self.length_max}", length)
        self.need = length
        self.have = 0
        return 0

    cdef Py_ssize_t _assemble(self, const char *memory, Py_ssize_t left) except -1:
        """Keep what belongs to the partial message; return how many bytes that was."""
        cdef Py_ssize_t used = 0
        cdef Py_ssize_t count
        while self.header_have < HEADER:
            if used == left:
                return used
            self.header[self.header_have] = <unsigned char>memory[used]
            self.header_have += 1
            used += 1
            if self.header_have == HEADER:
                self._begin(self.header)
        count = min(left - used, self.need - self.have)
        if count:
            self._reserve(self.have + count)
            memcpy(self.assembly.memory + self.have, memory + used, count)
            self.have += count
        return used + count

    cdef int _reserve(self, Py_ssize_t room) except -1:
        cdef Assembly larger
        cdef Py_ssize_t size = ASSEMBLY_MIN
        if self.assembly is not None and self.assembly.room >= room:
            return 0
        while size < room:
            size *= ASSEMBLY_GROWTH
        size = max(min(size, self.need), room)
        larger = Assembly.__new__(Assembly, size)
        if self.have:
            memcpy(larger.memory, self.assembly.memory, self.have)
        self.assembly = larger
        return 0

    cdef int _deliver_assembled(self) except -1:
        cdef Assembly assembly
        cdef object view
        if self.assembly is None:
            self._reserve(1)
        assembly = self.assembly
        assembly.length = self.need
        # Before the call: the handler may raise, and the next message starts afresh.
        self.header_have = 0
        view = assembly.show()
        try:
            if self.control is not None and is_marked(assembly.memory, assembly.length):
                self._call_control(view)
            else:
                self._call(view)
        finally:
            _release(view)
            view = None
            if (assembly.hide() or assembly.room > ASSEMBLY_KEPT) and self.assembly is assembly:
                # The handler kept it, or a part, so that it is the handler's; or it is large.
                self.assembly = None
        return 0

    cdef int _call_control(self, object view) except -1:
        self.messages += 1
        self.control(view)
        return 0

    cdef int _call(self, object view) except -1:
        cdef PyObject *arguments[3]
        cdef PyObject *result
        cdef object handler = self.handler    # it may set another one
        cdef object first = self.first
        self.messages += 1
        arguments[2] = <PyObject *>view
        if first is None:
            result = PyObject_Vectorcall(<PyObject *>handler, &arguments[2],
                                         1 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL)
        else:
            arguments[1] = <PyObject *>first
            result = PyObject_Vectorcall(<PyObject *>handler, &arguments[1],
                                         2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL)
        if result is NULL:
            return _fail()
        Py_DECREF_(result)
        return 0


cdef class UnsentTotal:
    """At most ``most`` bytes wait for all peers of a server together.

    Only those are counted for which more than ``FREE_OF_CHARGE`` bytes wait, and only when more is
    sent to them: what they have taken since is found out by a recount, once the total seems full.
    """

    def __init__(self, size_t most):
        self.most = most
        self.counted = set()

    @property
    def full(self):
        """Whether no more may wait."""
        return self.bytes + self.held > self.most

    cdef bint takes(self, MessageWriter writer, size_t unsent) except -1:
        """Whether ``writer`` may have ``unsent`` bytes waiting."""
        if writer.share == 0:
            self.counted.add(writer)
        self.bytes += unsent - writer.share
        writer.share = unsent
        if self.bytes + self.held <= self.most:
            return True
        if self.skips:
            self.skips -= 1
            return False
        self._recount()
        if self.bytes + self.held <= self.most:
            return True
        self.skips = len(self.counted)  # so that a recount costs no more than what it is for
        return False

    cdef int _recount(self) except -1:
        cdef MessageWriter writer
        self.bytes = 0
        for other in list(self.counted):
            writer = other
            writer.share = writer._unsent()
            if writer.closed or writer.share <= FREE_OF_CHARGE:
                writer.share = 0
                self.counted.discard(writer)
            self.bytes += writer.share
        return 0


cdef class MessageWriter:
    """Sends messages over ``transport``, each after its length.

    On a transport of ours they are copied straight into its open send slice, so those of one turn
    of the loop leave as one request. Any other transport, such as TLS, is given each one after its
    length.

    ``overflow(unsent, message)`` is called instead of sending when more than ``unsent_max`` bytes
    would wait, or more than ``total`` allows; what it raises propagates from ``send``.

    A message that another thread sends is passed to ``elsewhere(message)``, once that is set.
    """

    def __init__(self, transport, overflow, size_t length_max, size_t unsent_max,
                 UnsentTotal total=None):
        if self.transport is not None:
            raise RuntimeError("a writer is made once")  # messages wait for the first transport
        self.transport = transport
        self.direct = transport if isinstance(transport, SendingTransport) else None
        self.thread = PyThread_get_thread_ident()
        self.overflow = overflow
        self.length_max = length_max
        self.unsent_max = unsent_max
        self.total = total

    @property
    def unsent(self):
        """Bytes that wait: in the transport, and in the ring for other threads' messages."""
        return self._unsent() + thread_load_size(&self.waiting)

    cdef size_t _unsent(self) except? 0:
        if self.direct is not None:
            return thread_load_size(<Py_ssize_t *>&self.direct.unsent)
        return self.transport.get_write_buffer_size()

    def mark(self):
        """Tell messages that begin with the mark apart from those that are ours."""
        self.marks = True

    def send(self, message not None):
        """Send ``message``, bytes-like, after what was sent before; ``ValueError`` if too long.

        ``ConnectionClosed`` once the writer is closed.
        """
        cdef Py_buffer view
        if self._is_elsewhere():
            self._send_elsewhere(message)
            return
        if type(message) is bytes:
            self._write(message, PyBytes_AS_STRING(message), PyBytes_GET_SIZE(message))
            return
        if isinstance(message, memoryview) and not message.c_contiguous:
            message = message.tobytes()
        PyObject_GetBuffer(message, &view, PyBUF_SIMPLE)
        try:
            self._write(None, <const char *>view.buf, view.len)
        finally:
            PyBuffer_Release(&view)

    def send_over(self, bytes message not None):
        """Send ``message`` however much waits; drop it if the writer is closed."""
        self._hand_over(message, PyBytes_AS_STRING(message), PyBytes_GET_SIZE(message))

    def send_control(self, bytes message not None, bint over=False):
        """Send one that begins with the mark and is ours; whether there was room, or ``over`` it.

        ``ConnectionClosed`` once the writer is closed.
        """
        if self.closed:
            raise ConnectionClosed(self.reason)
        if not over and not self._has_room(PyBytes_GET_SIZE(message)):
            return False
        self.messages += 1
        self._hand_on(message, PyBytes_AS_STRING(message), PyBytes_GET_SIZE(message))
        return True

    def close(self, reason=None):
        """Send no more; what is sent from now on raises ``ConnectionClosed(reason)``."""
        with critical_section(self):  # other threads look at these
            self.reason = reason
            self.elsewhere = None
            self.closed = True
        self.overflow = self.total = None

    def settle(self):
        """This thread is the loop's, from now on: it runs the loop."""
        self.thread = PyThread_get_thread_ident()

    cdef int _send_elsewhere(self, object message) except -1:
        cdef object elsewhere, reason
        with critical_section(self):
            elsewhere, reason = self.elsewhere, self.reason
        if elsewhere is None:
            raise ConnectionClosed(reason)
        elsewhere(message)
        return 0

    cdef bint _is_elsewhere(self) noexcept:
        if self.elsewhere is None:
            return False
        if self.direct is not None:
            return runs_elsewhere(self.direct)
        return self.thread != PyThread_get_thread_ident()

    cdef int _write(self, object owner, const char *memory, size_t length) except -1:
        self._check_length(length)
        if self.closed:
            raise ConnectionClosed(self.reason)
        if not self._has_room(length):
            if owner is None:
                owner = PyBytes_FromStringAndSize(memory, length)
            self.overflow(self._unsent() + thread_load_size(&self.waiting), owner)
            return 0
        return self._hand_over(owner, memory, length)

    cdef int _check_length(self, size_t length) except -1:
        if length > self.length_max:
            raise ValueError(
                f"a message of {length} bytes: the limit is {self.length_max}")
        return 0

    cdef bint _has_room(self, size_t length) except -1:
        cdef size_t unsent = self._unsent()
        if not self._has_room_behind(unsent, length):
            return False
        if unsent <= FREE_OF_CHARGE or self.total is None:
            return True
        return self.total.takes(self, unsent + HEADER + length)

    cdef bint _has_room_behind(self, size_t unsent, size_t length) noexcept:
        return unsent + thread_load_size(&self.waiting) + HEADER + length <= self.unsent_max

    cdef bint _takes_no_more(self) noexcept:
        return self.shut or self.closed

    cdef int _write_waited(self, const char *memory, size_t length) except -1:
        """Send what waited in the ring, where it was already counted, unless we are lenient."""
        if self.closed:
            return 0
        if self.lenient or (self.total is not None and self.total.full):
            return self._write(None, memory, length)
        return self._hand_over(None, memory, length)

    cdef int _hand_over(self, object owner, const char *memory, size_t length) except -1:
        if self.closed:
            return 0
        self.messages += 1
        if self.marks and is_marked(memory, length):
            return self._escape(memory, length)
        return self._hand_on(owner, memory, length)

    cdef int _escape(self, const char *memory, size_t length) except -1:
        cdef bytes whole = ESCAPE + PyBytes_FromStringAndSize(memory, length)
        return self._hand_on(whole, PyBytes_AS_STRING(whole), PyBytes_GET_SIZE(whole))

    cdef int _hand_on(self, object owner, const char *memory, size_t length) except -1:
        if self.direct is None:
            self.transport.write(_framed(memory, length))
            return 0
        return self._hand_in(self.direct, owner, memory, length)

    cdef int _hand_in(self, SendingTransport direct, object owner, const char *memory,
                      size_t length) except -1:
        """The same into the transport's own slice; what does not fit there is sent in place."""
        cdef size_t framed = HEADER + length
        cdef bint whole = framed <= room_max(direct)
        cdef char *place = direct.room(framed if whole else HEADER, 0)
        if place is NULL:
            return 0
        _store_length(place, <uint32_t>length)
        if not whole:
            return direct.commit(HEADER, owner, memory, length)
        memcpy(place + HEADER, memory, length)
        return direct.commit(framed, None, NULL, 0)


cdef inline bint is_marked(const char *memory, size_t length) noexcept:
    return length >= MARK_LENGTH and memcmp(memory, the_mark, MARK_LENGTH) == 0


cdef inline void _store_length(char *place, uint32_t length) noexcept:
    place[0] = <char>(length & 0xFF)
    place[1] = <char>(length >> 8 & 0xFF)
    place[2] = <char>(length >> 16 & 0xFF)
    place[3] = <char>(length >> 24)


cdef bytes _framed(const char *memory, size_t length):
    cdef bytes data = PyBytes_FromStringAndSize(NULL, HEADER + length)
    cdef char *place = PyBytes_AS_STRING(data)
    _store_length(place, <uint32_t>length)
    memcpy(place + HEADER, memory, length)
    return data


cdef int _fail() except -1:
    # The caller has seen a C call fail: the exception that it set propagates from here.
    return -1


cdef int _release(object view) except -1:
    try:
        view.release()
    except BufferError:
        # An object made from the view still exports it, and so keeps the memory.
        pass
    return 0
