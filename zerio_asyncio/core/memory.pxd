# Registered memory, handed out in slices.

from cpython.object cimport PyObject
from libc.stdint cimport uint32_t

from zerio_asyncio.core.rio cimport RIO_BUFFERID, rio_provider
from zerio_asyncio.core.threads cimport thread_lock

cdef struct Slab:
    char *memory
    RIO_BUFFERID id
    uint32_t free_count    # slices of this slab that are not handed out
    uint32_t *free         # their numbers; the last one returned is the first handed out
    Slab *next             # in the pool's list of slabs with free slices
    Slab *previous
    bint listed

cdef struct PoolSlice:
    Slab *slab             # null: no slice
    char *memory
    uint32_t offset        # bytes from the start of the slab

cdef struct SliceCounts:
    Py_ssize_t in_use
    Py_ssize_t high_water
    Py_ssize_t slabs


cdef class SlicePool:
    cdef const rio_provider *provider
    cdef readonly uint32_t slice_size
    cdef readonly uint32_t slab_size
    cdef uint32_t slices_a_slab
    cdef uint32_t stride           # bytes from one slice to the next
    # slabs with at least one free slice; a slab that fills up leaves it
    cdef Slab *available
    cdef Slab *spare       # one empty slab is kept, so a load at the edge does not map and unmap
    # slices_in_use <= slabs * slices_a_slab always
    cdef readonly Py_ssize_t slices_in_use
    cdef readonly Py_ssize_t slices_high_water
    cdef readonly Py_ssize_t slabs
    cdef bint closed
    cdef thread_lock lock  # guards all that changes above

    cdef void attach(self, const rio_provider *provider)
    cdef int take(self, PoolSlice *slice) except -1
    cdef void give(self, PoolSlice *slice) noexcept
    cdef SliceCounts counts(self) noexcept
    cdef Slab *_make_slab(self) except NULL
    cdef void _take_off(self, Slab *slab) noexcept
    cdef void _release(self, Slab *slab) noexcept
    cdef void _list(self, Slab *slab) noexcept
    cdef void _unlist(self, Slab *slab) noexcept
    cdef void close(self) noexcept


cdef enum:
    SPARES_MAX = 64          # up to 16 KiB each: 1 MiB at most
    LARGE_SPARES_MAX = 16    # 64 KiB each: another MiB
    # What one large receive asks for. Below it, copying out of a slice is as fast; above it, the C
    # library maps and unmaps the memory for each message, and page faults cost more than reading in
    # several pieces (measured: 64 KiB echoes 36 µs, with 128 KiB of room 48 µs).
    LARGE_SIZE = 65536
    # The same for a layer: 64 KiB come with what TLS adds to each of their records.
    LAYERED_SIZE = LARGE_SIZE + 1024

cdef enum:
    # A UDP packet holds at most 65527 bytes: its 16-bit length counts 8 of its own. Before them is
    # room for the sender's address, so that small ones touch one page.
    DATAGRAM_MAX = 65536
    ADDRESS_ROOM = 64
    DATAGRAM_SLICE = ADDRESS_ROOM + DATAGRAM_MAX
    DATAGRAM_SLAB = 16 * DATAGRAM_SLICE


# Bytes objects that were sent and that nobody else refers to, reused for the next receives.
cdef class SpareBytes:
    cdef PyObject *spares[SPARES_MAX]          # owned references
    cdef int count
    cdef PyObject *larges[LARGE_SPARES_MAX]    # of one of these two sizes
    cdef int large_count
    cdef thread_lock lock

    cdef object make(self, const char *memory, Py_ssize_t length)
    cdef object make_large(self, Py_ssize_t size)
    cdef void release(self, PyObject *data) noexcept


# Received bytes, read-only to their views, and only to those made while it is `shown`.
cdef class ReceivedMemory:
    cdef char *memory
    cdef Py_ssize_t length
    cdef int shown             # it is being delivered
    cdef int exports           # views that look at it now

    cdef object show(self)
    cdef bint hide(self) noexcept

# Release what `show` returned, unless something made from it still looks there.
cdef int release_view(object view) except -1
