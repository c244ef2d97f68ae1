"""SendingRing: a bounded ring of messages that other threads send, like Zerio's disruptor.

Its memory is allocated once: ``count`` slots of ``slot_length`` bytes. A message takes as many
consecutive slots as it and its record need; if those before the end of the memory are too few, they
are skipped. Nothing is allocated per message.

No Python code runs between checking the ring and changing it, so the GIL keeps threads apart, or
the ring's lock if there is no GIL. The caller waits for room and wakes the loop
(messaging/outbox.py). Any thread may ``put``; everything else belongs to the loop.

A writer may call Python code (a transport that is not ours, a handler of its errors), which may
come back here, and may: the message being sent keeps its slots until the writer has returned.
``put`` goes behind it, ``clear`` drops those behind it, ``send`` leaves them to the call in
progress.
"""

cdef extern from "decref.h":
    pass


from cpython.buffer cimport PyBUF_SIMPLE, Py_buffer, PyBuffer_Release, PyObject_GetBuffer
from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.string cimport memcpy

from zerio_asyncio.core.sending cimport SendingTransport
from zerio_asyncio.core.threads cimport thread_lock_give, thread_lock_take, thread_store_size
from zerio_asyncio.messaging.framing cimport MessageWriter

cdef enum:
    IS_TAKEN = 0
    IS_FULL = 1
    IS_OVER = 2
    IS_CLOSED = 3

# The results of ``put``.
TAKEN, FULL, OVER, CLOSED = IS_TAKEN, IS_FULL, IS_OVER, IS_CLOSED


cdef class SendingRing:
    """``count`` slots of ``slot_length`` bytes; ``MemoryError`` if the system has too little."""

    def __cinit__(self, uint32_t count, uint32_t slot_length):
        if count < 1 or slot_length < 2 * sizeof(Record) or slot_length % sizeof(void *):
            raise ValueError(f"no ring of {count} slots of {slot_length} bytes")
        self.memory = <char *>PyMem_RawMalloc(<size_t>count * slot_length)
        if self.memory is NULL:
            raise MemoryError(f"no memory for {count} slots of {slot_length} bytes")
        self.count = count
        self.slot_length = slot_length

    def __dealloc__(self):
        if self.memory is not NULL:
            self.clear()
            PyMem_RawFree(self.memory)

    @property
    def length_max(self):
        """Bytes of the longest message that fits into an empty ring."""
        return <size_t>self.count * self.slot_length - sizeof(Record)

    @property
    def empty(self):
        """Whether no message waits."""
        return self._in_use() == 0

    cdef uint32_t _in_use(self) noexcept:
        cdef uint32_t used
        thread_lock_take(&self.lock)
        used = self.used
        thread_lock_give(&self.lock)
        return used

    cdef Record *_at(self, uint32_t slot) noexcept:
        return <Record *>(self.memory + <size_t>slot * self.slot_length)

    def put(self, MessageWriter writer not None, message not None):
        """Append ``message``, to be sent by ``writer``: TAKEN.

        FULL, with nothing done, if there is no room; OVER, with nothing done, if more bytes would
        wait for the peer than allowed; CLOSED, with nothing done, once the ring or the writer takes
        no more. ``ValueError`` if the message is too long.
        """
        cdef Py_buffer view
        cdef size_t slots, unsent
        if isinstance(message, memoryview) and not message.c_contiguous:
            message = message.tobytes()
        PyObject_GetBuffer(message, &view, PyBUF_SIMPLE)
        try:
            writer._check_length(view.len)
            unsent = writer._unsent()
            slots = (sizeof(Record) + view.len + self.slot_length - 1) // self.slot_length
            return self._put(writer, unsent, &view, slots)
        finally:
            PyBuffer_Release(&view)

    cdef int _put(self, MessageWriter writer, size_t unsent, Py_buffer *view,
                  size_t slots) noexcept:
        cdef Record *record
        cdef int slot
        cdef int taken = IS_OVER
        thread_lock_take(&self.lock)
        if self.closed or writer._takes_no_more():
            taken = IS_CLOSED
        elif writer.lenient or writer._has_room_behind(unsent, view.len):
            slot = self._claim(<uint32_t>slots) if slots <= self.count else -1
            taken = IS_FULL if slot < 0 else IS_TAKEN
        if taken == IS_TAKEN:
            record = self._at(slot)
            record.writer = <PyObject *>writer
            Py_INCREF(writer)
            record.length = view.len
            record.slots = <uint32_t>slots
            memcpy(record + 1, view.buf, view.len)
            thread_store_size(&writer.waiting, writer.waiting + view.len)
            self.messages += 1
        thread_lock_give(&self.lock)
        return taken

    cdef int _claim(self, uint32_t slots) noexcept:
        """Find ``slots`` consecutive free slots; return the first of them, or -1."""
        cdef uint32_t tail
        cdef Record *left_out
        if self.used == 0:
            self.head = 0
        tail = (self.head + self.used) % self.count
        if self.used and tail <= self.head:
            # Wrapped, or full: the free slots are between the tail and the head.
            if self.head - tail < slots:
                return -1
        elif self.count - tail < slots:
            if self.head < slots:
                return -1
            left_out = self._at(tail)
            left_out.writer = NULL
            left_out.slots = self.count - tail
            self.used += left_out.slots
            tail = 0
        self.used += slots
        return tail

    cdef void _free(self, uint32_t slots) noexcept:
        self.head = (self.head + slots) % self.count
        self.used -= slots

    def send(self, size_t messages_max):
        """On the loop's thread: send up to ``messages_max`` messages; True if more wait.

        What a writer raises propagates; its message is gone, those behind it wait. Called from
        inside itself, by what a writer calls, it does nothing and returns False: the call in
        progress sends them.
        """
        if self.sending:
            return False
        self.sending = True
        try:
            return self._send(messages_max)
        finally:
            self.sending = False

    cdef bint _send(self, size_t messages_max) except -1:
        cdef MessageWriter writer
        cdef SendingTransport gathering = None
        try:
            while self._skip():
                if messages_max == 0:
                    return True
                messages_max -= 1
                self.held = self._at(self.head).slots
                writer = self._take(self.head)
                if gathering is None and writer.direct is not None:
                    # Those that leave together may share a slice, like those of one chunk.
                    gathering = writer.direct
                    gathering.begin_gathering()
                self._send_first(writer, self._at(self.head))
        finally:
            if gathering is not None:
                gathering.end_gathering()
        return False

    cdef bint _skip(self) noexcept:
        """Whether a message waits; frees what was skipped or dropped before it."""
        cdef bint found = False
        thread_lock_take(&self.lock)
        while self.used and not found:
            found = self._at(self.head).writer is not NULL
            if not found:
                self._free(self._at(self.head).slots)
        thread_lock_give(&self.lock)
        return found

    cdef MessageWriter _take(self, uint32_t slot):
        """The writer of a record, which no longer counts as waiting; None if it has none."""
        cdef Record *record = self._at(slot)
        cdef PyObject *taken
        cdef MessageWriter writer
        thread_lock_take(&self.lock)
        taken = record.writer
        record.writer = NULL
        if taken is not NULL:
            writer = <MessageWriter>taken
            thread_store_size(&writer.waiting, writer.waiting - <Py_ssize_t>record.length)
        thread_lock_give(&self.lock)
        if taken is NULL:
            return None
        Py_DECREF(writer)
        return writer

    cdef int _send_first(self, MessageWriter writer, Record *record) except -1:
        try:
            return writer._write_waited(<const char *>(record + 1), record.length)
        finally:
            thread_lock_take(&self.lock)
            self._free(self.held)
            self.held = 0
            thread_lock_give(&self.lock)

    def close(self):
        """Take no more. What was taken is sent all the same, by the next ``send``."""
        thread_lock_take(&self.lock)
        self.closed = True
        thread_lock_give(&self.lock)

    def shut(self, MessageWriter writer not None):
        """Take no more for ``writer``."""
        thread_lock_take(&self.lock)
        writer.shut = True
        thread_lock_give(&self.lock)

    def clear(self):
        """Drop the messages; one being sent keeps its place until it is sent."""
        cdef uint32_t behind = self.held
        cdef uint32_t slots
        cdef MessageWriter writer
        while behind < self._in_use():
            slots = self._at((self.head + behind) % self.count).slots
            writer = self._take((self.head + behind) % self.count)
            if self.held:
                behind += slots  # freed when those before it are
            else:
                behind = 0
                thread_lock_take(&self.lock)
                self._free(slots)
                thread_lock_give(&self.lock)
            writer = None  # done last: it may call back
