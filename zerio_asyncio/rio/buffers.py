"""Registered memory: regions, slices of them, and a pool that hands out slices.

Registration pins whole pages and costs a system call, so it is done seldom and for much memory at
once. A request then names a slice by offset and length
(https://learn.microsoft.com/windows/win32/api/mswsock/nc-mswsock-lpfn_rioregisterbuffer).

```
   Region  ┌──────────┬──────────┬──────────┬─────    one registration, one RIO_BUFFERID
           │ Slice    │ Slice    │ Slice    │ ...
           └──────────┴──────────┴──────────┴─────
             free       in use     busy = a request's, until its result is dequeued
```

A slice belongs to the provider from the request to the dequeue of its result (provider rule 3 in
rio.h). The objects here enforce it: a busy slice cannot be given back, and the memory of a closed
region stays mapped as long as a slice of it is busy.
"""

from __future__ import annotations

import contextlib
import mmap
import sys
from typing import TYPE_CHECKING, NamedTuple, final

from zerio_asyncio.rio._rio import ffi, lib
from zerio_asyncio.rio.errors import last_error
from zerio_asyncio.rio.providers import Provider
from zerio_asyncio.rio.turns import Unique

if TYPE_CHECKING:
    from zerio_asyncio.rio.foreign import CData

REGION_SIZE_MAX = 1 << 30
"""The most bytes of one region: io_uring's limit for one registered buffer
(io_uring_register(2)); RIO's own limit is 4 GiB, a DWORD."""

PAGE_SIZE = mmap.PAGESIZE


if sys.platform == "win32":

    def _anonymous(size: int) -> mmap.mmap:
        return mmap.mmap(-1, size)

else:

    def _anonymous(size: int) -> mmap.mmap:
        # Private, so that a forked child gets its own copy: what the parent's kernel receives later
        # must not show in the child, nor the child's writes in what the parent sends.
        return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


@final
class Region(Unique):
    """Anonymous memory of whole pages, registered with a provider.

    ``size``: bytes, 1 to ``REGION_SIZE_MAX``, rounded up to pages. OSError (ENOBUFS) if the system
    refuses to register that much. Close the region, or use it as a context manager; requests that
    still use the memory end undisturbed.
    """

    _closed = True  # until it is made

    def __init__(self, provider: Provider, size: int) -> None:
        self._begin("provider")
        if not isinstance(provider, Provider):
            raise TypeError(f"provider must be a Provider, not {provider!r}")
        if not 1 <= size <= REGION_SIZE_MAX:
            raise ValueError(f"size must be 1 to {REGION_SIZE_MAX} bytes, not {size}")
        self.provider = provider
        self.size = -(-size // PAGE_SIZE) * PAGE_SIZE
        self._memory = _anonymous(self.size)
        self._view = memoryview(self._memory)
        address = ffi.from_buffer("char[]", self._memory)
        self._id = provider.c.rio.RIORegisterBuffer(address, self.size)
        if self._id == lib.RIO_INVALID_BUFFERID:
            raise last_error("RIORegisterBuffer")
        # What several threads may touch is put into lists and taken out, each in one step.
        self._registered = [self._id]
        self._holds: list[None] = []
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether the region was deregistered."""
        return self._closed

    @property
    def buffer_id(self) -> CData:
        """The RIO_BUFFERID. ValueError if the region is closed."""
        if self._closed:
            raise ValueError("region is closed")
        return self._id

    def slice(self, offset: int = 0, length: int | None = None) -> Slice:
        """Name ``length`` bytes from ``offset`` on; without a length, all that follow.

        Slices of one region may overlap, but two requests that use the same bytes corrupt them.
        """
        if length is None:
            length = self.size - offset
        return Slice(self, offset, length)

    def close(self) -> None:
        """Deregister. Closing again is harmless; the memory is freed when nothing refers to it.

        While requests use the region, maybe in another thread, new ones are refused, and the last
        request ends the registration.
        """
        if not self._closed:
            self._closed = True
            self._deregister()

    def _hold(self) -> None:
        """Count a request, before it is made; a closed region's is refused as it always is."""
        self._holds.append(None)

    def _let_go(self) -> None:
        self._holds.pop()
        if self._closed:
            self._deregister()

    def _deregister(self) -> None:
        if self._holds:
            return
        try:
            buffer_id = self._registered.pop()
        except IndexError:
            return  # somebody else came first
        self.provider.c.rio.RIODeregisterBuffer(buffer_id)

    def __enter__(self) -> Region:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


@final
class Slice(Unique):
    """Some bytes of a region: a request sends from them or receives into them.

    ``region``, ``offset`` and ``length`` (bytes) are fixed. ``memory`` is a writable memoryview of
    exactly these bytes. While the slice is ``busy``, the provider reads or writes there.
    """

    __slots__ = ("_requests", "_whole", "length", "memory", "offset", "region")

    def __init__(
        self, region: Region, offset: int, length: int, whole: Slice | None = None
    ) -> None:
        self._begin("region")
        if offset < 0 or length < 0 or offset + length > region.size:
            raise ValueError(
                f"offset {offset} and length {length} lie outside a region of {region.size} bytes"
            )
        self.region = region
        self.offset = offset
        self.length = length
        self.memory = region._view[offset : offset + length]
        self._requests = 0
        self._whole = whole

    @property
    def busy(self) -> bool:
        """Whether a request that is not dequeued yet holds the slice, or a part of it."""
        return self._requests > 0

    def part(self, offset: int, length: int | None = None) -> Slice:
        """Name some of these bytes; ``offset`` counts from this slice's start.

        A busy part makes this slice busy, too. ValueError if the part does not lie within.
        """
        if length is None:
            length = self.length - offset
        if offset < 0 or length < 0 or offset + length > self.length:
            raise ValueError(
                f"offset {offset} and length {length} lie outside a slice of {self.length} bytes"
            )
        return Slice(self.region, self.offset + offset, length, self)

    def _hold(self) -> None:
        """Count a request; the queues call this and `_release`."""
        part: Slice | None = self
        while part is not None:
            part._requests += 1
            part = part._whole
        self.region._hold()

    def _release(self) -> None:
        part: Slice | None = self
        while part is not None:
            assert part._requests > 0, "a result came back for a slice that no request holds"
            part._requests -= 1
            part = part._whole
        self.region._let_go()

    def __len__(self) -> int:
        return self.length

    def __repr__(self) -> str:
        if not hasattr(self, "_whole"):
            return "<Slice that was never made>"
        return f"<Slice {self.offset}+{self.length}{' busy' if self.busy else ''}>"


class PoolStatistics(NamedTuple):
    """What a `BufferPool` holds, and the most it ever held."""

    slices: int
    """Slices in the registered slabs, free or not."""
    used: int
    """Slices taken and not given back."""
    used_max: int
    """The most slices ever used at once."""
    slabs: int
    """Slabs registered, including an empty spare."""
    registrations: int
    """Slabs registered since the pool was made."""


class _Slab:
    __slots__ = ("free", "region", "slices")

    def __init__(self, provider: Provider, size: int, slice_size: int) -> None:
        self.region = Region(provider, size)
        parts = [self.region.slice(at, slice_size) for at in range(0, size, slice_size)]
        self.slices = {id(part): part for part in parts}
        # Taken from the end: reversed, so that the low, already touched pages are used first.
        self.free = list(reversed(self.slices.values()))

    @property
    def empty(self) -> bool:
        return len(self.free) == len(self.slices)


@final
class BufferPool(Unique):
    """Slices of one size. Slabs of them are registered on demand and given back when empty.

    ``slice_size`` and ``slab_size`` are bytes; a slab is a whole number of slices. ``slabs_max``
    limits how many slabs are registered at once; None leaves that to the system. One empty slab is
    kept as a spare, because a pool that hovers around a slab's edge would register again and again.
    """

    def __init__(
        self,
        provider: Provider,
        slice_size: int = 16 * 1024,
        slab_size: int = 1024 * 1024,
        slabs_max: int | None = None,
    ) -> None:
        self._begin("provider")
        if slice_size < 1 or slab_size < slice_size or slab_size % slice_size:
            raise ValueError(
                f"a slab of {slab_size} bytes is not a whole number of slices of {slice_size}"
            )
        if slabs_max is not None and slabs_max < 1:
            raise ValueError(f"slabs_max must be at least 1, not {slabs_max}")
        self.provider = provider
        self.slice_size = slice_size
        self.slab_size = slab_size
        self.slabs_max = slabs_max
        self._slabs: dict[int, _Slab] = {}  # by id of the region
        self._used: dict[int, Slice] = {}  # by id of the slice
        self._used_max = 0
        self._registrations = 0
        self._closed = False

    def take(self) -> Slice:
        """Hand out a free slice; its old content is still in it.

        OSError (ENOBUFS) if a new slab is needed and the system refuses to register it;
        MemoryError if ``slabs_max`` slabs are in use; ValueError on a closed pool.
        """
        self._check_open()
        part = None
        while part is None:
            # What looks for it may collect, and a finalizer may take it first.
            slab = next((slab for slab in tuple(self._slabs.values()) if slab.free), None)
            with contextlib.suppress(IndexError):
                part = (slab or self._grow()).free.pop()
            if part is not None and id(part.region) not in self._slabs:
                part = None  # or has closed the pool, or trimmed it
                self._check_open()
        self._used[id(part)] = part
        self._used_max = max(self._used_max, len(self._used))
        return part

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError("pool is closed")

    def give(self, part: Slice) -> None:
        """Take a slice back.

        TypeError for anything but a slice; ValueError for a slice of another pool, one that was
        already given back, or one that a request still holds.
        """
        if not isinstance(part, Slice):
            raise TypeError(f"not a slice: {part!r}")
        if self._used.get(id(part)) is not part:
            raise ValueError(f"{part!r} is not in use in this pool")
        if part.busy:
            raise ValueError(f"{part!r} belongs to a request whose result was not dequeued yet")
        slab = self._slabs[id(part.region)]
        if self._used.pop(id(part), None) is not part:
            raise ValueError(f"{part!r} was given back meanwhile")
        slab.free.append(part)
        if slab.empty:
            self._shrink(spare=0 if self._closed else 1)

    def _grow(self) -> _Slab:
        if self.slabs_max is not None and len(self._slabs) >= self.slabs_max:
            raise MemoryError(f"all {self.slabs_max} slabs of {self.slab_size} bytes are in use")
        slab = _Slab(self.provider, self.slab_size, self.slice_size)
        self._slabs[id(slab.region)] = slab
        self._registrations += 1
        return slab

    def _shrink(self, spare: int) -> None:
        empty = [slab for slab in tuple(self._slabs.values()) if slab.empty]
        for slab in empty[spare:]:
            if slab.empty and self._slabs.pop(id(slab.region), None) is not None:
                slab.region.close()

    def trim(self) -> None:
        """Give the spare slab back, too."""
        self._shrink(spare=0)

    def statistics(self) -> PoolStatistics:
        """Return what is registered and used."""
        return PoolStatistics(
            slices=sum(len(slab.slices) for slab in tuple(self._slabs.values())),
            used=len(self._used),
            used_max=self._used_max,
            slabs=len(self._slabs),
            registrations=self._registrations,
        )

    def close(self) -> None:
        """Hand out no more slices; each slab is deregistered when its last slice comes back."""
        self._closed = True
        self._shrink(spare=0)

    def __enter__(self) -> BufferPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
