"""Registered memory: slabs on demand, cut into slices.

Registration pins whole pages and costs a system call on Windows, so it is done per slab (a
megabyte), never per message. A slab is mapped and registered when the slices run out, and returned
when it is empty and another empty one is kept; so memory grows with actual use, not with what might
be used. Slices are handed out last in, first out: the hottest memory first.

Bytes objects of messages are recycled too; see ``SpareBytes``.

Before a slice is returned, the result of the request that used it must have been dequeued: until
then it belongs to the kernel (rule 3 in rio.h).

Taking and returning slices and bytes runs no Python code, whatever must be allocated, so a caller
may hold pointers across these calls: pages come from the system itself, bookkeeping from malloc,
and the collector does not track bytes objects. Only a refusal creates an object, the exception.

Any thread may release a view, or a transport that nobody closed: without the GIL one lock guards
the free slices and another the spare bytes.
"""

cdef extern from "decref.h":
    pass


from cpython.buffer cimport PyBUF_WRITABLE, Py_buffer, PyBuffer_FillInfo
from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc
from cpython.bytes cimport (
    PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE)
from cpython.memoryview cimport PyMemoryView_FromObject
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF
from libc.string cimport memcpy

from zerio_asyncio.core.rio cimport RIO_INVALID_BUFFERID
from zerio_asyncio.core.threads cimport (
    thread_add_int, thread_has_alone, thread_load_int, thread_lock_give, thread_lock_take,
    thread_store_int)

cdef extern from *:
    """
    /* A bytes object that only we refer to, cut to `length` bytes, at most as many as now. */
    static PyObject *zerio_recut(PyObject *data, Py_ssize_t length)
    {
        Py_SET_SIZE((PyVarObject *)data, length);
        PyBytes_AS_STRING(data)[length] = 0;
    #if defined(__GNUC__)
    #pragma GCC diagnostic push
    #pragma GCC diagnostic ignored "-Wdeprecated-declarations"
    #endif
        ((PyBytesObject *)data)->ob_shash = -1;
    #if defined(__GNUC__)
    #pragma GCC diagnostic pop
    #endif
        return data;
    }
    """
    PyObject *zerio_recut(PyObject *data, Py_ssize_t length) noexcept
    Py_ssize_t Py_REFCNT(PyObject *) noexcept
    void Py_DECREF_ "Py_DECREF"(PyObject *) noexcept

cdef extern from "table/pages.h":
    void *pages_map(size_t bytes) noexcept
    void pages_unmap(void *memory, size_t bytes) noexcept

cdef enum:
    # If slices were a power of two apart, they would share a few lines of the cache: the heads of
    # more than some dozen would evict each other. 17 lines off that, they spread evenly.
    SLICE_GAP = 1088

cdef enum:
    # Python's own allocator serves up to 512 bytes in a few nanoseconds; above that the C library's
    # takes some 500 instructions for a message of 1 KiB, a sixth of what the loop spends on it.
    SPARE_MIN = 512
    SPARE_MAX = 16384


cdef class SlicePool:
    """The slices of one loop. Sizes are in bytes; ``MemoryError`` if the system has none left."""

    def __cinit__(self, uint32_t slice_size, uint32_t slab_size):
        if slice_size == 0 or slab_size < slice_size or slab_size % slice_size:
            raise ValueError(f"a slab of {slab_size} bytes has no slices of {slice_size} bytes")
        self.slice_size = slice_size
        self.slab_size = slab_size
        self.stride = slice_size + SLICE_GAP
        self.slices_a_slab = (slab_size - slice_size) // self.stride + 1

    cdef void attach(self, const rio_provider *provider):
        self.provider = provider

    def __dealloc__(self):
        self.close()

    cdef int take(self, PoolSlice *slice) except -1:
        cdef Slab *slab
        thread_lock_take(&self.lock)
        if self.available is NULL:
            thread_lock_give(&self.lock)
            slab = self._make_slab()
            thread_lock_take(&self.lock)
            self._list(slab)
            self.slabs += 1
        slab = self.available
        slab.free_count -= 1
        cdef uint32_t number = slab.free[slab.free_count]
        slice.slab = slab
        slice.offset = number * self.stride
        slice.memory = slab.memory + slice.offset
        if slab.free_count == 0:
            self._unlist(slab)
        if slab is self.spare:
            self.spare = NULL
        self.slices_in_use += 1
        if self.slices_in_use > self.slices_high_water:
            self.slices_high_water = self.slices_in_use
        thread_lock_give(&self.lock)
        return 0

    cdef void give(self, PoolSlice *slice) noexcept:
        cdef Slab *slab = slice.slab
        cdef bint whole = False
        thread_lock_take(&self.lock)
        slab.free[slab.free_count] = slice.offset // self.stride
        slab.free_count += 1
        slice.slab = NULL
        self.slices_in_use -= 1
        if not slab.listed:
            self._list(slab)
        if slab.free_count == self.slices_a_slab:
            whole = self.closed or self.spare is not NULL
            if whole:
                self._take_off(slab)
            else:
                self.spare = slab
        thread_lock_give(&self.lock)
        if whole:
            self._release(slab)

    cdef SliceCounts counts(self) noexcept:
        cdef SliceCounts counts
        thread_lock_take(&self.lock)
        counts.in_use = self.slices_in_use
        counts.high_water = self.slices_high_water
        counts.slabs = self.slabs
        thread_lock_give(&self.lock)
        return counts

    cdef Slab *_make_slab(self) except NULL:
        cdef uint32_t i
        cdef Slab *slab = <Slab *>PyMem_RawMalloc(
            sizeof(Slab) + self.slices_a_slab * sizeof(uint32_t))
        if slab is NULL:
            raise MemoryError("no memory for a slab of slices")
        slab.memory = <char *>pages_map(self.slab_size)
        if slab.memory is NULL:
            PyMem_RawFree(slab)
            raise MemoryError(f"no memory for a slab of {self.slab_size} bytes")
        slab.id = self.provider.rio.RIORegisterBuffer(slab.memory, self.slab_size)
        if slab.id == RIO_INVALID_BUFFERID:
            pages_unmap(slab.memory, self.slab_size)
            PyMem_RawFree(slab)
            raise MemoryError(
                f"the system refused to register {self.slab_size} bytes for I/O: raise the limit "
                "of locked memory (ulimit -l) or take a smaller LoopOptions.slab_size")
        slab.free = <uint32_t *>(slab + 1)
        slab.free_count = self.slices_a_slab
        # Hand out from the lowest address upwards.
        for i in range(self.slices_a_slab):
            slab.free[i] = self.slices_a_slab - 1 - i
        return slab

    cdef void _take_off(self, Slab *slab) noexcept:
        self._unlist(slab)
        self.slabs -= 1

    cdef void _release(self, Slab *slab) noexcept:
        self.provider.rio.RIODeregisterBuffer(slab.id)
        pages_unmap(slab.memory, self.slab_size)
        PyMem_RawFree(slab)

    cdef void _list(self, Slab *slab) noexcept:
        slab.previous = NULL
        slab.next = self.available
        if slab.next is not NULL:
            slab.next.previous = slab
        self.available = slab
        slab.listed = True

    cdef void _unlist(self, Slab *slab) noexcept:
        if slab.previous is not NULL:
            slab.previous.next = slab.next
        else:
            self.available = slab.next
        if slab.next is not NULL:
            slab.next.previous = slab.previous
        slab.listed = False

    cdef void close(self) noexcept:
        # Slices still in use (a kept view of a RegisteredProtocol) keep their slab; it goes when
        # they are returned.
        cdef Slab *spare
        thread_lock_take(&self.lock)
        self.closed = True
        spare = self.spare
        self.spare = NULL
        if spare is not NULL:
            self._take_off(spare)
        thread_lock_give(&self.lock)
        if spare is not NULL:
            self._release(spare)


cdef class SpareBytes:
    """Up to 64 bytes objects that were sent, kept to hold what is received next.

    One is taken back only if the transport holds the last reference: then nobody can see it change.
    It is used for a message of at least half its size.
    """

    def __dealloc__(self):
        while self.count:
            self.count -= 1
            Py_DECREF_(self.spares[self.count])
        while self.large_count:
            self.large_count -= 1
            Py_DECREF_(self.larges[self.large_count])

    cdef object make_large(self, Py_ssize_t size):
        """``size`` bytes of any content, for a receive to fill before anyone sees them."""
        cdef PyObject *data = NULL
        cdef object result
        thread_lock_take(&self.lock)
        if self.large_count:
            self.large_count -= 1
            data = self.larges[self.large_count]
        thread_lock_give(&self.lock)
        if data is not NULL and PyBytes_GET_SIZE(<object>data) != size:
            Py_DECREF_(data)
            data = NULL
        if data is NULL:
            return PyBytes_FromStringAndSize(NULL, size)
        result = <object>zerio_recut(data, size)
        Py_DECREF_(data)
        return result

    cdef object make(self, const char *memory, Py_ssize_t length):
        """The bytes at ``memory``, in a spare object if the last one released fits."""
        cdef PyObject *data = NULL
        cdef Py_ssize_t room
        cdef object result
        if length > SPARE_MIN:
            thread_lock_take(&self.lock)
            if self.count:
                self.count -= 1
                data = self.spares[self.count]
            thread_lock_give(&self.lock)
        if data is NULL:
            return PyBytes_FromStringAndSize(memory, length)
        room = PyBytes_GET_SIZE(<object>data)
        if length > room or 2 * length < room:
            # Messages have a different size now: drop the old ones.
            Py_DECREF_(data)
            return PyBytes_FromStringAndSize(memory, length)
        result = <object>zerio_recut(data, length)
        Py_DECREF_(data)
        memcpy(PyBytes_AS_STRING(result), memory, length)
        return result

    cdef void release(self, PyObject *data) noexcept:
        """Give up a reference."""
        cdef bint kept = False
        cdef Py_ssize_t size
        if thread_has_alone(data) and PyBytes_CheckExact(<object>data):
            size = PyBytes_GET_SIZE(<object>data)
            thread_lock_take(&self.lock)
            if SPARE_MIN < size <= SPARE_MAX:
                kept = self.count < SPARES_MAX
                if kept:
                    self.spares[self.count] = data
                    self.count += 1
            elif size == LARGE_SIZE or size == LAYERED_SIZE:
                kept = self.large_count < LARGE_SPARES_MAX
                if kept:
                    self.larges[self.large_count] = data
                    self.large_count += 1
            thread_lock_give(&self.lock)
        if not kept:
            Py_DECREF_(data)


cdef class ReceivedMemory:
    """Exports ``length`` bytes of ``memory``, read-only; its subclasses know the owner.

    A view can be made between ``show`` and ``hide``, by us or by anyone who asks a view for its
    ``obj``. After that no view can be made: the memory is reused for other bytes. A view is counted
    before it checks whether it may be made, and ``hide`` refuses new ones before it counts; so
    however threads meet there, a view is refused or counted.
    """

    cdef object show(self):
        """A memoryview of the current bytes; whoever releases it calls ``hide``."""
        thread_store_int(&self.shown, True)
        return PyMemoryView_FromObject(self)

    cdef bint hide(self) noexcept:
        """Allow no more views; True if anyone else can still see the memory, or this object.

        The caller holds one reference, and the object that keeps the exporter another.
        """
        thread_store_int(&self.shown, False)
        return thread_load_int(&self.exports) != 0 or Py_REFCNT(<PyObject *>self) > 2

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        if flags & PyBUF_WRITABLE:
            raise BufferError("received memory is read-only")
        thread_add_int(&self.exports, 1)
        if not thread_load_int(&self.shown):
            thread_add_int(&self.exports, -1)
            raise BufferError("received memory is shown only while it is delivered")
        Py_DECREF(buffer.obj)  # None, put there by Cython
        PyBuffer_FillInfo(buffer, self, self.memory, self.length, True, flags)

    def __releasebuffer__(self, Py_buffer *buffer):
        thread_add_int(&self.exports, -1)


cdef int release_view(object view) except -1:
    try:
        view.release()
    except BufferError:
        # An object made from the view still exports it; `hide` tells.
        pass
    return 0
