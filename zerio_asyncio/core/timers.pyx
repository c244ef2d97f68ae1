"""Timers: the loop's clock, and a heap of timer handles, the earliest first.

``call_later`` and ``call_at`` add them; the scheduler removes those that are due (``_timer_due``).
asyncio's own name for the heap, ``_scheduled``, shows it as a view (views.py).

The handles' references are raw pointers in malloc's memory, and so is everything the heap
allocates: nothing here can trigger a collection, and a finalizer can call back only where a
reference is dropped, which always comes last. The scheduler, which derives from this class, shows
the references to the collector (see ``traverse`` there). Without the GIL a lock guards the heap:
asyncio lets no other thread make or cancel a timer, but one that does must not break it.
"""

cdef extern from "decref.h":
    pass


import sys
import time
import weakref
from asyncio import format_helpers

from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc, PyMem_RawRealloc
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF
from libc.math cimport INFINITY, isnan
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport qsort
from libc.string cimport memcpy, memset

from zerio_asyncio.core.handles cimport (
    TimerHandle, is_hidden, new_timer, seconds_of, show, show_if_known)
from zerio_asyncio.core.overrides cimport OVERRIDE_CALL_AT, OVERRIDE_TIME, overrides_of
from zerio_asyncio.core.threads cimport (
    thread_load_int, thread_load_size, thread_load_word, thread_lock_give, thread_lock_take,
    thread_store_int, thread_store_size, thread_store_word)

from zerio_asyncio.core.views import TimerList

cdef extern from "Python.h":
    void Py_DECREF_ "Py_DECREF"(PyObject *) noexcept

cdef extern from "table/clock.h":
    double clock_seconds() noexcept nogil

cdef extern from *:
    """
    /* Changes with every change of a dictionary; 0 where Python does not tell (3.14). */
    #if PY_VERSION_HEX < 0x030E0000
    #define dict_version(dict) (((PyDictObject *)(dict))->ma_version_tag)
    #else
    #define dict_version(dict) ((uint64_t)0)
    #endif
    """
    uint64_t dict_version(dict) noexcept

# The standard loop looks up its clock on each reading, so it can be replaced (freezegun); ours,
# too.
cdef dict time_module = vars(time)
cdef object monotonic = time.monotonic
if getattr(monotonic, "__module__", None) != "time":  # replaced before this module was loaded
    monotonic = None

# The version of the module in which the clock was checked and, as the lowest bit, whether it was
# replaced: one word for all loops of all threads.
cdef uint64_t clock_seen = 0


cdef bint _look_at_clock(uint64_t version) except -1:
    cdef bint replaced = time_module.get("monotonic") is not monotonic
    thread_store_word(&clock_seen, version << 1 | replaced)
    return replaced


cdef inline bint _clock_is_replaced() except -1:
    cdef uint64_t version = dict_version(time_module)
    cdef uint64_t seen = thread_load_word(&clock_seen)
    if version == 0 or seen >> 1 != version:
        return _look_at_clock(version)
    return seen & 1


cdef enum:
    TIMERS_ROOM = 64       # first size of the heap; it doubles
    HEAP_ARITY = 4         # shallower than a binary heap: fewer cache misses with many timers
    CACHE_LINE = 64
    NO_SLOT = 0xFFFFFFFF
    SLOTS_MAX = 1 << 30


# A timer and its handle, while a list is made.
cdef struct Shown:
    Timer timer
    PyObject *handle


cdef class Timers(Overridable):
    """The timers of a loop."""

    def __cinit__(self, *args, **kwargs):
        self.free_slot = NO_SLOT

    def __dealloc__(self):
        self._forget_timers()
        PyMem_RawFree(self.timer_block)
        PyMem_RawFree(self.slots)
        PyMem_RawFree(self.unseen)

    @property
    def _closed(self):
        return thread_load_int(&self.closed) != 0

    @_closed.setter
    def _closed(self, bint closed):
        thread_store_int(&self.closed, closed)

    # ------------------------------------------------------------ scheduling

    def time(self):
        """Seconds on the loop's monotonic clock."""
        return time.monotonic() if _clock_is_replaced() else clock_seconds()

    cdef double _now(self) except? -1.0:
        if overrides_of(self) & OVERRIDE_TIME or _clock_is_replaced():
            return seconds_of(self.time())
        return clock_seconds()

    def call_later(self, delay, callback, *args, context=None):
        """Run ``callback(*args)`` after ``delay`` seconds; see ``asyncio.loop.call_later``."""
        if delay is None:
            raise TypeError("delay must not be None")
        if overrides_of(self) & (OVERRIDE_TIME | OVERRIDE_CALL_AT) or _clock_is_replaced():
            timer = self.call_at(self.time() + delay, callback, *args, context=context)
            if timer._source_traceback:
                del timer._source_traceback[-1]
            return timer
        cdef object asked = None
        cdef double due
        if type(delay) is float or type(delay) is int:
            due = clock_seconds() + <double>delay
        else:
            asked = clock_seconds() + delay  # some refuse (Decimal), some stay what they are
            due = seconds_of(asked)
        return self._call_at(due, asked, callback, args, context, "call_later")

    def call_at(self, when, callback, *args, context=None):
        """Run ``callback(*args)`` at ``when`` (as ``time()``); see ``asyncio.loop.call_at``."""
        if when is None:
            raise TypeError("when cannot be None")
        return self._call_at(seconds_of(when), when, callback, args, context, "call_at")

    cdef TimerHandle _call_at(
            self, double due, object asked, callback, tuple args, context, str method):
        if thread_load_int(&self.closed):
            raise RuntimeError("Event loop is closed")
        if isnan(due):
            raise ValueError("a timer needs a time, not NaN")
        if self._debug:
            self._check_thread()
            self._check_callback(callback, method)
        cdef TimerHandle timer = new_timer(due, asked, self, callback, args, context)
        if self._debug:
            timer._source_traceback = format_helpers.extract_stack(sys._getframe())
        self._timer_add(timer)
        return timer

    def _timer_handle_cancelled(self, handle):
        # asyncio.TimerHandle calls this; ours leave the heap themselves.
        pass

    # -------------------------------------------------------------- the heap

    cdef int _timer_add(self, TimerHandle handle) except -1:
        cdef Timer timer
        cdef bint room
        timer.when = handle.due
        thread_lock_take(&self.lock)
        room = self.timer_count < self.timer_room or self._grow_timers()
        if room:
            self.timer_order += 1
            timer.order = self.timer_order
            timer.slot = self.free_slot
            if timer.slot == NO_SLOT:
                timer.slot = self.slots_used
                self.slots_used += 1
            else:
                self.free_slot = self.slots[timer.slot].place
            self.slots[timer.slot].handle = <PyObject *>handle
            Py_INCREF(handle)
            handle.slot = <int32_t>timer.slot
            if is_hidden(<PyObject *>handle):
                self.unseen[timer.slot // 64] |= 1ULL << (timer.slot % 64)
                self.any_unseen = True
            if handle.owner is not self:
                handle.owner = self  # for good: a thread that cancels it may read it
            handle._scheduled = True
            thread_store_size(&self.timer_count, self.timer_count + 1)
            self._timer_up(self.timer_count - 1, timer)
        thread_lock_give(&self.lock)
        if not room:
            raise MemoryError("no memory for another timer")
        return 0

    cdef bint _grow_timers(self) noexcept:
        cdef Py_ssize_t room = 2 * self.timer_room if self.timer_room else TIMERS_ROOM
        cdef Slot *slots
        cdef uint64_t *unseen
        if room > SLOTS_MAX or not self._move_timers(room):
            return False
        slots = <Slot *>PyMem_RawRealloc(self.slots, room * sizeof(Slot))
        if slots is NULL:
            return False
        self.slots = slots
        unseen = <uint64_t *>PyMem_RawRealloc(self.unseen, room // 8)
        if unseen is NULL:
            return False
        memset(<char *>unseen + self.timer_room // 8, 0, (room - self.timer_room) // 8)
        self.unseen = unseen
        self.timer_room = room
        return True

    cdef bint _move_timers(self, Py_ssize_t room) noexcept:
        cdef char *block = <char *>PyMem_RawMalloc(room * sizeof(Timer) + CACHE_LINE)
        cdef char *timers
        if block is NULL:
            return False
        timers = block + CACHE_LINE - <uintptr_t>(block + sizeof(Timer)) % CACHE_LINE
        if self.timer_count:
            memcpy(timers, self.timers, self.timer_count * sizeof(Timer))
        PyMem_RawFree(self.timer_block)
        self.timer_block = block
        self.timers = <Timer *>timers
        return True

    cdef void _timer_up(self, Py_ssize_t place, Timer timer) noexcept:
        """Put it at ``place``, or above."""
        cdef Timer *timers = self.timers
        cdef Slot *slots = self.slots
        cdef Py_ssize_t parent
        while place:
            parent = (place - 1) // HEAP_ARITY
            if not _earlier(&timer, &timers[parent]):
                break
            timers[place] = timers[parent]
            slots[timers[place].slot].place = <uint32_t>place
            place = parent
        timers[place] = timer
        slots[timer.slot].place = <uint32_t>place

    cdef void _timer_down(self, Py_ssize_t place, Timer timer) noexcept:
        """Put it at ``place``, or below."""
        cdef Timer *timers = self.timers
        cdef Slot *slots = self.slots
        cdef Py_ssize_t count = self.timer_count
        cdef Py_ssize_t child, best, last
        while True:
            child = place * HEAP_ARITY + 1
            if child >= count:
                break
            best = child
            last = min(child + HEAP_ARITY, count)
            child += 1
            while child < last:
                if _earlier(&timers[child], &timers[best]):
                    best = child
                child += 1
            if not _earlier(&timers[best], &timer):
                break
            timers[place] = timers[best]
            slots[timers[place].slot].place = <uint32_t>place
            place = best
        timers[place] = timer
        slots[timer.slot].place = <uint32_t>place

    cdef PyObject *_timer_take(self, Py_ssize_t place) noexcept:
        """Take it out; the caller gets the reference, and drops it after releasing the lock."""
        cdef Timer removed = self.timers[place]
        cdef Timer moved
        cdef PyObject *handle = self.slots[removed.slot].handle
        self.slots[removed.slot].handle = NULL
        self.slots[removed.slot].place = self.free_slot
        self.free_slot = removed.slot
        thread_store_size(&self.timer_count, self.timer_count - 1)
        if place < self.timer_count:
            moved = self.timers[self.timer_count]
            if _earlier(&moved, &removed):
                self._timer_up(place, moved)
            else:
                self._timer_down(place, moved)
        elif place == 0:
            self.slots_used = 0  # none is left: the next ones fill the slots in order again
            self.free_slot = NO_SLOT
        (<TimerHandle>handle).slot = -1
        (<TimerHandle>handle)._scheduled = False
        return handle

    cdef bint _timer_remove(self, TimerHandle timer) noexcept:
        """Whether it was here."""
        # Only one that is really here: an object disguised as a timer has any slot.
        cdef bint here
        thread_lock_take(&self.lock)
        here = (0 <= timer.slot < <int64_t>self.slots_used
                and self.slots[timer.slot].handle is <PyObject *>timer)
        if here:
            self._timer_take(self.slots[timer.slot].place)
            show(<PyObject *>timer)
        thread_lock_give(&self.lock)
        if here:
            Py_DECREF_(<PyObject *>timer)
        return here

    cdef PyObject *_timer_due(self, double end) noexcept:
        """Take out the earliest if it is due before ``end``, with its reference; else null."""
        cdef PyObject *due = NULL
        thread_lock_take(&self.lock)
        if self.timer_count and self.timers[0].when < end:
            due = self._timer_take(0)
        thread_lock_give(&self.lock)
        return due

    cdef TimerHandle _timer_first(self):
        """The earliest, or None."""
        cdef TimerHandle handle = None
        thread_lock_take(&self.lock)
        if self.timer_count:
            handle = <TimerHandle>self.slots[self.timers[0].slot].handle
            show(<PyObject *>handle)
        thread_lock_give(&self.lock)
        return handle

    cdef void _show_known_timers(self) noexcept:
        """The loop stops: the collector must know of the new handles that others may have."""
        cdef uint32_t i, slot
        if not self.any_unseen:
            return
        self.any_unseen = False
        for i in range((self.slots_used + 63) // 64):
            if self.unseen[i]:
                for slot in range(i * 64, min((i + 1) * 64, self.slots_used)):
                    if self.slots[slot].handle is not NULL:
                        show_if_known(self.slots[slot].handle, 1)
                self.unseen[i] = 0

    cdef double _timer_next(self) noexcept:
        """When the earliest is due; infinity if there is none."""
        cdef double when
        thread_lock_take(&self.lock)
        when = self.timers[0].when if self.timer_count else INFINITY
        thread_lock_give(&self.lock)
        return when

    cdef int timer_cancelled(self, TimerHandle timer) except -1:
        self._timer_remove(timer)
        return 0

    cdef int timer_moved(self, TimerHandle timer) except -1:
        cdef double due = seconds_of(timer._when)
        if isnan(due):
            raise ValueError("a timer needs a time, not NaN")
        if self._timer_remove(timer):
            timer.due = due
            self._timer_add(timer)
        return 0

    cdef list _timer_list(self):
        """All handles, the earliest first."""
        cdef Py_ssize_t i
        cdef Py_ssize_t count = 0
        cdef Shown *shown
        cdef list handles
        thread_lock_take(&self.lock)
        # A copy with references of its own: making a list may collect, and so change the heap.
        shown = <Shown *>PyMem_RawMalloc((self.timer_count + 1) * sizeof(Shown))
        if shown is not NULL:
            count = self.timer_count
            for i in range(count):
                shown[i].timer = self.timers[i]
                shown[i].handle = self.slots[self.timers[i].slot].handle
                show(shown[i].handle)
                Py_INCREF(<object>shown[i].handle)
        thread_lock_give(&self.lock)
        if shown is NULL:
            raise MemoryError("no memory for a list of timers")
        qsort(shown, count, sizeof(Shown), _order_of)
        try:
            handles = []
            for i in range(count):
                handles.append(<object>shown[i].handle)
        finally:
            for i in range(count):
                Py_DECREF_(shown[i].handle)
            PyMem_RawFree(shown)
        return handles

    cdef int _forget_timers(self) except -1:
        cdef PyObject *last
        while thread_load_size(&self.timer_count):
            last = NULL
            thread_lock_take(&self.lock)
            if self.timer_count:
                last = self._timer_take(self.timer_count - 1)
            thread_lock_give(&self.lock)
            if last is not NULL:
                show_if_known(last, 1)
                Py_DECREF_(last)
        return 0

    # ------------------------------------------- asyncio's name for the heap

    @property
    def _scheduled(self):
        """The timers, live, the earliest first; see views.py."""
        view = None if self.timer_view is None else self.timer_view()
        if view is None:
            view = TimerList(self)
            self.timer_view = weakref.ref(view)
        else:
            view.settle()
        return view

    @_scheduled.setter
    def _scheduled(self, handles):
        view = self._scheduled
        view[:] = list(handles)

    cdef int _settle_timers(self) except -1:
        """Apply to the timers what was done to the list we returned."""
        view = self.timer_view()
        if view is None:
            self.timer_view = None
        else:
            view.settle()
        return 0

    def _timers_list(self):
        """The handles of all timers, the earliest first."""
        return self._timer_list()

    def _timers_total(self):
        return thread_load_size(&self.timer_count)

    def _timers_first(self):
        """The handle of the earliest timer, or None."""
        return self._timer_first()

    def _timers_add(self, TimerHandle handle not None):
        """Schedule it, unless it is scheduled or cancelled."""
        cdef double due = seconds_of(handle._when)
        if handle._cancelled or handle.slot >= 0:
            return
        if isnan(due):
            raise ValueError("a timer needs a time, not NaN")
        handle.due = due
        self._timer_add(handle)

    def _timers_remove(self, TimerHandle handle not None):
        """Take it out; does nothing if it is not there."""
        self.timer_cancelled(handle)


cdef inline bint _earlier(const Timer *one, const Timer *other) noexcept nogil:
    if one.when != other.when:
        return one.when < other.when
    return <int32_t>(one.order - other.order) < 0


cdef int _order_of(const void *one, const void *other) noexcept nogil:
    return -1 if _earlier(&(<const Shown *>one).timer, &(<const Shown *>other).timer) else 1
