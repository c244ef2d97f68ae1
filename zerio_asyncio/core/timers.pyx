"""Timers: the loop's clock, and the timer handles in order of time.

``call_later`` and ``call_at`` add them; the scheduler removes those that are due (``_timer_due``).
asyncio's own name for them, ``_scheduled``, shows them as a view (views.py).

Most programs have a few delays for everything (the timeout of a request, the pause before a retry),
and with one delay each new timer is due after those before it. So a timer is appended to a run, a
list in order of time, if it is due after the last one there; adding and removing cost the same
however many there are. What fits none of eight runs goes to a heap. The earliest is the first of a
run, or of the heap.

The handles' references are raw pointers, and everything is in malloc's memory: nothing here can
trigger a collection, and a finalizer can call back only where a reference is dropped, which always
comes last. The scheduler, which derives from this class, shows the references to the collector (see
``traverse`` there). Without the GIL a lock guards the timers: asyncio lets no other thread make or
cancel one, but a thread that does must not break them.
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
    IN_RUN = 1 << 30       # above all places in the heap


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
        PyMem_RawFree(self.heap_block)
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

    # ----------------------------------------------------------------- slots

    cdef int _timer_add(self, TimerHandle handle) except -1:
        cdef bint room
        thread_lock_take(&self.lock)
        room = self._take_slot(handle)
        thread_lock_give(&self.lock)
        if not room:
            raise MemoryError("no memory for another timer")
        return 0

    cdef bint _take_slot(self, TimerHandle handle) noexcept:
        cdef Timer timer
        cdef Slot *slot
        timer.slot = self.free_slot
        if timer.slot == NO_SLOT:
            timer.slot = self.slots_used
            if <Py_ssize_t>timer.slot == self.slot_room and not self._grow_timers():
                return False
        timer.when = handle.due
        timer.order = self.timer_order + 1
        if not self._append_to_run(timer) and not self._heap_add(timer):
            return False
        slot = &self.slots[timer.slot]
        if timer.slot == self.slots_used:
            self.slots_used += 1
        else:
            self.free_slot = slot.next
        self.timer_order += 1
        slot.timer = timer
        slot.handle = <PyObject *>handle
        Py_INCREF(handle)
        handle.slot = <int32_t>timer.slot
        handle._scheduled = True
        if is_hidden(<PyObject *>handle):
            self.unseen[timer.slot // 64] |= 1ULL << (timer.slot % 64)
            self.any_unseen = True
        if handle.owner is not self:
            handle.owner = self  # for good: a thread that cancels it may read it
        thread_store_size(&self.timer_count, self.timer_count + 1)
        return True

    cdef bint _grow_timers(self) noexcept:
        cdef Py_ssize_t room = 2 * self.slot_room if self.slot_room else TIMERS_ROOM
        cdef Slot *slots
        cdef uint64_t *unseen
        if room > SLOTS_MAX:
            return False
        slots = <Slot *>PyMem_RawRealloc(self.slots, room * sizeof(Slot))
        if slots is NULL:
            return False
        self.slots = slots
        unseen = <uint64_t *>PyMem_RawRealloc(self.unseen, room // 8)
        if unseen is NULL:
            return False
        memset(<char *>unseen + self.slot_room // 8, 0, (room - self.slot_room) // 8)
        self.unseen = unseen
        self.slot_room = room
        return True

    cdef PyObject *_timer_take(self, uint32_t slot) noexcept:
        """Take it out; the caller gets the reference, and drops it after releasing the lock."""
        cdef PyObject *handle = self.slots[slot].handle
        cdef uint32_t place = self.slots[slot].place
        if place >= IN_RUN:
            self._leave_run(place - IN_RUN, slot)
        else:
            self._heap_remove(place)
        self.slots[slot].handle = NULL
        self.slots[slot].next = self.free_slot
        self.free_slot = slot
        thread_store_size(&self.timer_count, self.timer_count - 1)
        if self.timer_count == 0:
            self.slots_used = 0  # the next ones fill the slots in order again
            self.free_slot = NO_SLOT
        (<TimerHandle>handle).slot = -1
        (<TimerHandle>handle)._scheduled = False
        return handle

    cdef uint32_t _earliest(self) noexcept:
        """Its slot; NO_SLOT if there are no timers."""
        cdef Timer *found = self.heap if self.heap_count else NULL
        cdef Timer *first
        cdef Py_ssize_t i
        for i in range(self.runs_used):
            if self.runs[i].first == NO_SLOT:
                continue
            first = &self.slots[self.runs[i].first].timer
            if found is NULL or _earlier(first, found):
                found = first
        return NO_SLOT if found is NULL else found.slot

    # ------------------------------------------------------------------ runs

    cdef bint _append_to_run(self, Timer timer) noexcept:
        """Append it to the run that ends latest before it, or to an empty one, or to none."""
        cdef Run *run
        cdef Slot *slot = &self.slots[timer.slot]
        cdef Py_ssize_t i
        cdef Py_ssize_t found = -1
        for i in range(self.runs_used):
            if self.runs[i].last_when <= timer.when and (
                    found < 0 or self.runs[i].last_when > self.runs[found].last_when):
                found = i
        if found < 0:
            if self.runs_used == RUNS:
                return False
            found = self.runs_used
            self.runs_used += 1
            self.runs[found].first = self.runs[found].last = NO_SLOT
        run = &self.runs[found]
        slot.previous = run.last
        slot.next = NO_SLOT
        slot.place = IN_RUN + <uint32_t>found
        if run.first == NO_SLOT:
            run.first = timer.slot
        else:
            self.slots[run.last].next = timer.slot
        run.last = timer.slot
        run.last_when = timer.when
        return True

    cdef void _leave_run(self, Py_ssize_t number, uint32_t slot) noexcept:
        cdef Run *run = &self.runs[number]
        cdef uint32_t next = self.slots[slot].next
        cdef uint32_t previous = self.slots[slot].previous
        if previous == NO_SLOT:
            run.first = next
        else:
            self.slots[previous].next = next
        if next != NO_SLOT:
            self.slots[next].previous = previous
            return
        run.last = previous
        run.last_when = -INFINITY if previous == NO_SLOT else self.slots[previous].timer.when
        while self.runs_used and self.runs[self.runs_used - 1].first == NO_SLOT:
            self.runs_used -= 1

    # -------------------------------------------------------------- the heap

    cdef bint _heap_add(self, Timer timer) noexcept:
        if self.heap_count == self.heap_room and not self._grow_heap():
            return False
        self.heap_count += 1
        self._heap_up(self.heap_count - 1, timer)
        return True

    cdef bint _grow_heap(self) noexcept:
        cdef Py_ssize_t room = 2 * self.heap_room if self.heap_room else TIMERS_ROOM
        cdef char *block = <char *>PyMem_RawMalloc(room * sizeof(Timer) + CACHE_LINE)
        cdef char *heap
        if block is NULL:
            return False
        heap = block + CACHE_LINE - <uintptr_t>(block + sizeof(Timer)) % CACHE_LINE
        if self.heap_count:
            memcpy(heap, self.heap, self.heap_count * sizeof(Timer))
        PyMem_RawFree(self.heap_block)
        self.heap_block = block
        self.heap = <Timer *>heap
        self.heap_room = room
        return True

    cdef void _heap_up(self, Py_ssize_t place, Timer timer) noexcept:
        """Put it at ``place``, or above."""
        cdef Timer *heap = self.heap
        cdef Py_ssize_t parent
        while place:
            parent = (place - 1) // HEAP_ARITY
            if not _earlier(&timer, &heap[parent]):
                break
            heap[place] = heap[parent]
            self.slots[heap[place].slot].place = <uint32_t>place
            place = parent
        heap[place] = timer
        self.slots[timer.slot].place = <uint32_t>place

    cdef void _heap_down(self, Py_ssize_t place, Timer timer) noexcept:
        """Put it at ``place``, or below."""
        cdef Timer *heap = self.heap
        cdef Py_ssize_t count = self.heap_count
        cdef Py_ssize_t child, best, last
        while True:
            child = place * HEAP_ARITY + 1
            if child >= count:
                break
            best = child
            last = min(child + HEAP_ARITY, count)
            child += 1
            while child < last:
                if _earlier(&heap[child], &heap[best]):
                    best = child
                child += 1
            if not _earlier(&heap[best], &timer):
                break
            heap[place] = heap[best]
            self.slots[heap[place].slot].place = <uint32_t>place
            place = best
        heap[place] = timer
        self.slots[timer.slot].place = <uint32_t>place

    cdef void _heap_remove(self, Py_ssize_t place) noexcept:
        cdef Timer removed = self.heap[place]
        cdef Timer moved
        self.heap_count -= 1
        if place < self.heap_count:
            moved = self.heap[self.heap_count]
            if _earlier(&moved, &removed):
                self._heap_up(place, moved)
            else:
                self._heap_down(place, moved)

    # ------------------------------------------------------- what others ask

    cdef bint _timer_remove(self, TimerHandle timer) noexcept:
        """Whether it was here."""
        # Only one that is really here: an object disguised as a timer has any slot.
        cdef bint here
        thread_lock_take(&self.lock)
        here = (0 <= timer.slot < <int64_t>self.slots_used
                and self.slots[timer.slot].handle is <PyObject *>timer)
        if here:
            self._timer_take(<uint32_t>timer.slot)
            show(<PyObject *>timer)
        thread_lock_give(&self.lock)
        if here:
            Py_DECREF_(<PyObject *>timer)
        return here

    cdef PyObject *_timer_due(self, double end) noexcept:
        """Take out the earliest if it is due before ``end``, with its reference; else null."""
        cdef PyObject *due = NULL
        cdef uint32_t slot
        thread_lock_take(&self.lock)
        slot = self._earliest()
        if slot != NO_SLOT and self.slots[slot].timer.when < end:
            due = self._timer_take(slot)
        thread_lock_give(&self.lock)
        return due

    cdef TimerHandle _timer_first(self):
        """The earliest, or None."""
        cdef TimerHandle handle = None
        cdef uint32_t slot
        thread_lock_take(&self.lock)
        slot = self._earliest()
        if slot != NO_SLOT:
            handle = <TimerHandle>self.slots[slot].handle
            show(<PyObject *>handle)
        thread_lock_give(&self.lock)
        return handle

    cdef double _timer_next(self) noexcept:
        """When the earliest is due; infinity if there is none."""
        cdef double when
        cdef uint32_t slot
        thread_lock_take(&self.lock)
        slot = self._earliest()
        when = INFINITY if slot == NO_SLOT else self.slots[slot].timer.when
        thread_lock_give(&self.lock)
        return when

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
            for i in range(self.slots_used):
                if self.slots[i].handle is not NULL:
                    shown[count].timer = self.slots[i].timer
                    shown[count].handle = self.slots[i].handle
                    show(shown[count].handle)
                    Py_INCREF(<object>shown[count].handle)
                    count += 1
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
                last = self._timer_take(self._earliest())
            thread_lock_give(&self.lock)
            if last is not NULL:
                show_if_known(last, 1)
                Py_DECREF_(last)
        return 0

    # ----------------------------------------- asyncio's name for the timers

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
