"""SendingRing: a bounded ring of messages that other threads send; as Zerio's disruptor.

Its memory is allocated once: ``count`` slots of ``slot_length`` bytes. A message takes as many
slots in a row as it and its record need; where those before the end of the memory do not do, they
are left out. Nothing is allocated for a message.

Every method runs to its end while holding the GIL and calls no Python code between looking at the
ring and changing it, so threads need no lock. Waiting for room and waking the loop are the
caller's (messaging/threads.py).

A writer may call Python code (a transport that is not ours, a handler of its errors), which may
come back here. The message that is being sent keeps its slots until the writer has returned:
``put`` goes behind it, ``clear`` forgets those behind it, ``send`` leaves them to the call that is
under way.
"""

cdef extern from "decref.h":
    pass


from cpython.buffer cimport PyBUF_SIMPLE, Py_buffer, PyBuffer_Release, PyObject_GetBuffer
from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.string cimport memcpy

from zerio_asyncio.core.engine cimport Engine
from zerio_asyncio.core.framing cimport MessageWriter

# What ``put`` answers.
TAKEN, FULL, OVER = range(3)


cdef class SendingRing:
    """``count`` slots of ``slot_length`` bytes; ``MemoryError`` if the system has not so many."""

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
        """Bytes of the longest message that fits, when nothing else is there."""
        return <size_t>self.count * self.slot_length - sizeof(Record)

    @property
    def empty(self):
        """Whether no message waits."""
        return self.used == 0

    cdef Record *_at(self, uint32_t slot) noexcept:
        return <Record *>(self.memory + <size_t>slot * self.slot_length)

    def put(self, MessageWriter writer not None, message not None):
        """Append ``message``, to be sent by ``writer``: TAKEN.

        FULL, and nothing done, if there is no room; OVER, and nothing done, if more bytes would
        wait for the peer than may. ``ValueError`` if the message is too long.
        """
        cdef Py_buffer view
        cdef Record *record
        cdef size_t slots
        cdef int slot
        if isinstance(message, memoryview) and not message.c_contiguous:
            message = message.tobytes()
        PyObject_GetBuffer(message, &view, PyBUF_SIMPLE)
        try:
            writer._check_length(view.len)
            if not writer._has_room(view.len):
                return OVER
            slots = (sizeof(Record) + view.len + self.slot_length - 1) // self.slot_length
            slot = self._claim(<uint32_t>slots) if slots <= self.count else -1
            if slot < 0:
                return FULL
            record = self._at(slot)
            record.writer = <PyObject *>writer
            Py_INCREF(writer)
            record.length = view.len
            record.slots = <uint32_t>slots
            memcpy(record + 1, view.buf, view.len)
            writer.waiting += view.len
            self.messages += 1
            return TAKEN
        finally:
            PyBuffer_Release(&view)

    cdef int _claim(self, uint32_t slots) noexcept:
        """So many free slots in a row: the first of them, or -1."""
        cdef uint32_t tail
        cdef Record *left_out
        if self.used == 0:
            self.head = 0
        tail = (self.head + self.used) % self.count
        if self.used and tail <= self.head:
            # Wrapped, or full: what is free lies between the tail and the head.
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
        """On the loop's thread: send up to so many messages; True if more wait.

        What a writer raises comes out; its message is gone, those behind it wait. Called from
        inside itself, by what a writer calls, it does nothing and answers False: the call that is
        under way sends them.
        """
        if self.sending:
            return False
        self.sending = True
        try:
            return self._send(messages_max)
        finally:
            self.sending = False

    cdef bint _send(self, size_t messages_max) except -1:
        cdef Record *record
        cdef Engine engine = None
        try:
            while self.used:
                record = self._at(self.head)
                if record.writer is NULL:
                    self._free(record.slots)
                    continue
                if messages_max == 0:
                    return True
                messages_max -= 1
                if engine is None and (<MessageWriter>record.writer).direct is not None:
                    # Those that leave together may share a slice, as those of one chunk do.
                    engine = (<MessageWriter>record.writer).direct.engine
                    engine.deliveries += 1
                self._send_first(record)
        finally:
            if engine is not None:
                engine.end_delivery()
        return False

    cdef int _send_first(self, Record *record) except -1:
        cdef MessageWriter writer = <MessageWriter>record.writer
        self.held = record.slots
        record.writer = NULL
        Py_DECREF(writer)
        writer.waiting -= record.length
        try:
            return writer._write_waited(<const char *>(record + 1), record.length)
        finally:
            self._free(self.held)
            self.held = 0

    def clear(self):
        """Forget the messages; one that is being sent keeps its place until it is."""
        cdef uint32_t behind = self.held
        cdef Record *record
        cdef MessageWriter writer
        while behind < self.used:
            record = self._at((self.head + behind) % self.count)
            writer = <MessageWriter>record.writer if record.writer is not NULL else None
            if self.held:
                behind += record.slots  # freed when those before it are
                record.writer = NULL
            else:
                behind = 0
                self._free(record.slots)
            if writer is not None:
                writer.waiting -= record.length
                Py_DECREF(writer)
                writer = None  # the last that is done: it may call back
