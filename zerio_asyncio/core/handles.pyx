"""Handle and TimerHandle: asyncio's handles with the same attributes, run without a Python frame.

asyncio runs a callback with ``handle._context.run(callback, *args)``: an attribute look-up, a bound
method and a tuple per callback. Here the context is entered and exited through the C API and the
callback is called with the items of its argument tuple. Both classes keep the attributes of
``asyncio.Handle`` (3.10 to 3.14), because debuggers, tests and libraries read them.

Two things would make a handle expensive where hundreds of thousands wait:

* The collector looks at every object that it knows, again and again. While a loop runs, it is alive
  and so is all it has, so a new handle is hidden from the collector. It is shown when it leaves its
  queue and somebody else has it, or when the loop stops. Before that, what the handle refers to is
  shown as the queue's, if the queue's is the only reference.
* asyncio copies the current context for each handle. Here handles made one after another share one
  copy while the variables stay what they are, and each gets its own when it runs or when somebody
  asks for it. The variables of a context are one immutable object, which a context shows to the
  collector: the same object, the same variables.

Without the GIL neither is done: threads would have to agree on who has a handle.

Monitors replace ``asyncio.Handle._run`` to see what is called and how long it takes. The version
tag of the class reveals a change, for one comparison per turn; then handles run through it.
"""

cdef extern from "decref.h":
    pass


import asyncio
import inspect
import sys
from asyncio import base_events, format_helpers

from cpython.object cimport PyObject, PyTypeObject, destructor
from cpython.ref cimport Py_INCREF
from cpython.tuple cimport PyTuple_GET_SIZE
from libc.math cimport INFINITY
from libc.stdint cimport uint64_t
from libc.string cimport memcpy

from zerio_asyncio.core.contexts cimport variables_of
from zerio_asyncio.core.lazy_lock cimport lazy_lock_give, lazy_lock_take
from zerio_asyncio.core.threads cimport (
    FREE_THREADED, thread_exchange_int, thread_load_int, thread_load_word, thread_store_word)

cdef extern from "Python.h":
    ctypedef struct PyThreadState:
        PyObject *context
    PyThreadState *PyThreadState_Get() noexcept
    PyTypeObject *Py_TYPE(PyObject *) noexcept
    object PyContext_Copy(object)
    object PyContext_CopyCurrent()
    int PyContext_Enter_ "PyContext_Enter"(PyObject *) noexcept
    int PyContext_Exit_ "PyContext_Exit"(PyObject *) noexcept
    PyObject *PyObject_Vectorcall_ "PyObject_Vectorcall"(
        PyObject *, PyObject **, size_t, PyObject *) noexcept
    PyObject **items_of "&PyTuple_GET_ITEM"(PyObject *, Py_ssize_t) noexcept
    void Py_DECREF_ "Py_DECREF"(PyObject *) noexcept
    void PyObject_GC_UnTrack(PyObject *) noexcept
    PyObject *PyObject_Init(PyObject *, PyTypeObject *) noexcept
    PyObject *PyObject_GC_New_ "_PyObject_GC_New"(PyTypeObject *)
    ctypedef struct Type "PyTypeObject":
        unsigned int tp_version_tag

# 3.13 hides a callback's arguments outside debug mode.
cdef bint HIDES_ARGUMENTS = "debug" in inspect.signature(
    format_helpers._format_callback_source).parameters


cdef object _describe(Handle handle):
    if HIDES_ARGUMENTS:
        return format_helpers._format_callback_source(
            handle._callback, handle._args, debug=handle._loop.get_debug())
    return format_helpers._format_callback_source(handle._callback, handle._args)


cdef object SharedHandle = getattr(asyncio.events, "_ThreadSafeHandle", asyncio.Handle)
# Without the interpreter's lock, another thread's handle would be torn while it runs.
HANDLES_ARE_SHARED = (
    sys.version_info >= (3, 14) or not getattr(sys, "_is_gil_enabled", lambda: True)())

# The classes that programs patch. The second inherits, so a change of the first changes it, too.
cdef object StandardHandle = asyncio.events.Handle
cdef object StandardTimer = asyncio.events.TimerHandle
# The version in which `_run` was checked and, as the lowest bit, whether it was patched: one word
# for the loops of all threads.
cdef uint64_t run_seen = 0


cdef bint run_is_patched() except -1:
    cdef uint64_t version = (<Type *><PyObject *>StandardTimer).tp_version_tag
    cdef uint64_t seen = thread_load_word(&run_seen)
    if version == 0 or seen >> 1 != version:
        seen = version << 1
        if not (_is_standard(StandardHandle._run) and _is_standard(StandardTimer._run)):
            seen |= 1
        thread_store_word(&run_seen, seen)
    return seen & 1


cdef bint _is_standard(function) except -1:
    return getattr(function, "__globals__", None) is vars(asyncio.events)


cdef double seconds_of(object when) except? -1.0:
    try:
        return when
    except OverflowError:
        return INFINITY if when > 0 else -INFINITY


cdef int _fail() except -1:
    # The caller has seen a C call fail: the exception that it set propagates from here.
    return -1


ctypedef void (*end_function)(PyObject *) noexcept


cdef class TimerOwner:
    cdef int _give_context(self, Handle handle, object context) except -1:
        cdef object before = None
        if context is None:
            if FREE_THREADED:
                context = PyContext_CopyCurrent()
            elif self.copied_context is not None and self._variables_are_copied():
                handle.context = self.copied_context
                handle.shares_context = True
                return 0
            else:
                context = PyContext_CopyCurrent()
                self.copied_variables = NULL
                before, self.copied_context = self.copied_context, context
                handle.shares_context = True
        handle.context = context
        return 0  # what was there is released here

    cdef bint _variables_are_copied(self) noexcept:
        """Whether the variables of the current context are those of the copy."""
        if self.copied_variables is NULL:
            self.copied_variables = variables_of(<PyObject *>self.copied_context)
        return (self.copied_variables is not NULL
                and self.copied_variables is variables_of(PyThreadState_Get().context))

    cdef int timer_cancelled(self, TimerHandle timer) except -1:
        return 0

    cdef int timer_moved(self, TimerHandle timer) except -1:
        return 0

    cdef bint runs_elsewhere(self) noexcept:
        """Whether another thread may be running callbacks now."""
        return False


cdef class Handle:
    """One scheduled callback; what ``loop.call_soon`` returns.

    Same attributes and methods as ``asyncio.Handle``.
    """

    def __init__(self, callback, args, loop, context=None):
        if self._loop is not None:
            raise RuntimeError("a handle is made once")  # it may be in a queue
        self._callback = callback
        self._args = args
        self._loop = loop
        self.context = PyContext_CopyCurrent() if context is None else context
        if loop.get_debug():
            self._source_traceback = format_helpers.extract_stack(sys._getframe())

    @property
    def _context(self):
        return self._own_context()

    @_context.setter
    def _context(self, context):
        self.context = context
        self.shares_context = False

    cdef object _own_context(self):
        cdef object own
        if self.shares_context:
            own = self.context
            if Py_REFCNT(<PyObject *>own) > 2:
                own = PyContext_Copy(own)
            if self.shares_context:  # a copy may collect, and that may call anything
                self.context = own
                self.shares_context = False
        return self.context

    @property
    def __class__(self):
        # asyncio promises a Handle, and people ask isinstance(). We cannot inherit from its class
        # here: it lays out its slots itself.
        return asyncio.Handle

    def __reduce_ex__(self, protocol):
        return refuse_copies(self)

    def __reduce__(self):
        return refuse_copies(self)

    def cancel(self):
        """Keep the callback from running; harmless if it ran or was cancelled already."""
        # A wrong thread clears nothing: the loop may be calling it just now.
        self._cancel(not (FREE_THREADED and isinstance(self._loop, TimerOwner)
                          and (<TimerOwner>self._loop).runs_elsewhere()))

    cdef int _cancel(self, bint forgets) except -1:
        if thread_exchange_int(<int *>&self._cancelled, True):
            return 0
        if self._loop.get_debug():
            # The callback is cleared now; keep its repr for the reader.
            self._repr = repr(self)
        if forgets:
            self._callback = None
            self._args = None
        return 0

    def cancelled(self):
        """True once ``cancel`` was called."""
        return thread_load_int(<int *>&self._cancelled) != 0

    def get_context(self):
        """The ``contextvars.Context`` that the callback runs in."""
        return self._own_context()

    def _run(self):
        if run_is_patched():
            (StandardTimer if isinstance(self, TimerHandle) else StandardHandle)._run(self)
        else:
            self.run()

    cdef int run(self) except -1:
        cdef PyObject *result
        cdef object callback, args, context
        if self.shares_context:
            self._own_context()
            if self._cancelled:  # by what was collected while the context was copied
                return 0
        # Held here: the callback may cancel its own handle, which clears all three.
        callback, args, context = self._callback, self._args, self.context
        if type(args) is not tuple:
            return self._run_loosely()
        if PyContext_Enter_(<PyObject *>context) != 0:
            return self._failed()
        result = PyObject_Vectorcall_(
            <PyObject *>callback, items_of(<PyObject *>args, 0), PyTuple_GET_SIZE(args), NULL)
        PyContext_Exit_(<PyObject *>context)
        if result is NULL:
            return self._failed()
        Py_DECREF_(result)
        return 0

    cdef int _run_loosely(self) except -1:
        """Arguments that are not a tuple: only a handle made by hand has them."""
        try:
            context, callback, args = self._own_context(), self._callback, self._args
            context.run(callback, *args)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self.report(exc)
        return 0

    cdef int _failed(self) except -1:
        """The callback raised. Kept apart so that ``run`` needs no frame for exceptions."""
        try:
            _fail()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self.report(exc)
        return 0

    cdef int report(self, BaseException exc) except -1:
        show(<PyObject *>self)
        source = _describe(self)
        context = {
            "message": f"Exception in callback {source}",
            "exception": exc,
            "handle": self,
        }
        if self._source_traceback:
            context["source_traceback"] = self._source_traceback
        self._loop.call_exception_handler(context)
        return 0

    cdef object described(self):
        """As asyncio describes it in its warnings."""
        return base_events._format_handle(self)

    def _repr_info(self):
        info = [type(self).__name__]
        if self._cancelled:
            info.append("cancelled")
        if self._callback is not None:
            info.append(_describe(self))
        if self._source_traceback:
            frame = self._source_traceback[-1]
            info.append(f"created at {frame[0]}:{frame[1]}")
        return info

    def __repr__(self):
        if self._repr is not None:
            return self._repr
        return "<{}>".format(" ".join(self._repr_info()))


cdef class ThreadSafeHandle(Handle):
    """What ``loop.call_soon_threadsafe`` returns from Python 3.14 on: any thread may cancel it.

    A cancellation either precedes the callback or waits until it is over.
    """

    @property
    def __class__(self):
        return SharedHandle

    def cancel(self):
        """Keep the callback from running; harmless if it ran or was cancelled already."""
        lazy_lock_take(&self.lock)
        try:
            self._cancel(True)
        finally:
            lazy_lock_give(&self.lock)

    def cancelled(self):
        """True once ``cancel`` was called."""
        lazy_lock_take(&self.lock)
        lazy_lock_give(&self.lock)
        return Handle.cancelled(self)

    def _run(self):
        lazy_lock_take(&self.lock)
        try:
            if not self._cancelled:
                Handle._run(self)
        finally:
            lazy_lock_give(&self.lock)

    cdef int run(self) except -1:
        lazy_lock_take(&self.lock)
        try:
            # The loop has checked, too, but without the lock.
            return 0 if self._cancelled else Handle.run(self)
        finally:
            lazy_lock_give(&self.lock)

    cdef object described(self):
        lazy_lock_take(&self.lock)
        try:
            return Handle.described(self)
        finally:
            lazy_lock_give(&self.lock)

    def __repr__(self):
        lazy_lock_take(&self.lock)
        try:
            return Handle.__repr__(self)
        finally:
            lazy_lock_give(&self.lock)


cdef class TimerHandle(Handle):
    """One callback scheduled for a time; what ``loop.call_later`` and ``call_at`` return."""

    def __init__(self, when, callback, args, loop, context=None):
        if when is None:
            raise TypeError("when cannot be None")
        Handle.__init__(self, callback, args, loop, context)
        self.slot = -1
        self.asked = when

    @property
    def _when(self):
        return self.due if self.asked is None else self.asked

    @_when.setter
    def _when(self, when):
        self.asked = when
        if self.owner is not None and self.slot >= 0:
            self.owner.timer_moved(self)

    @property
    def __class__(self):
        return asyncio.TimerHandle

    def cancel(self):
        """Keep the callback from running and remove the timer from the loop at once."""
        if not thread_load_int(<int *>&self._cancelled):
            if self.owner is not None:
                self.owner.timer_cancelled(self)
            Handle.cancel(self)

    def when(self):
        """When it is due, in seconds on the clock of ``loop.time()``."""
        return self._when

    def _repr_info(self):
        info = Handle._repr_info(self)
        info.insert(2 if self._cancelled else 1, f"when={self._when}")
        return info

    def __hash__(self):
        return hash(self._when)

    def __lt__(self, other):
        return self._when < other._when if _is_timer(other) else NotImplemented

    def __le__(self, other):
        return self < other or self == other if _is_timer(other) else NotImplemented

    def __gt__(self, other):
        return self._when > other._when if _is_timer(other) else NotImplemented

    def __ge__(self, other):
        return self > other or self == other if _is_timer(other) else NotImplemented

    def __eq__(self, other):
        if not _is_timer(other):
            return NotImplemented
        callback, args = self._callback, self._args  # held: comparing them may cancel us
        return (self._when == other._when and callback == other._callback
                and args == other._args and self._cancelled == other._cancelled)


cdef object refuse_copies(object original):
    # copy and pickle ask for this. A class that takes another's name would be mistaken for it.
    raise TypeError(f"cannot copy or pickle {type(original).__name__!r} object")


cdef bint _is_timer(other):
    return isinstance(other, (TimerHandle, asyncio.TimerHandle))


cdef Handle new_handle(TimerOwner loop, object callback, tuple args, object context):
    """A Handle without the cost of ``__init__``; the engine sets its trace in debug mode."""
    return _filled(_new(&spare_handles, <PyTypeObject *>Handle), loop, callback, args, context)


cdef inline Handle _filled(
        Handle handle, TimerOwner loop, object callback, tuple args, object context):
    handle._callback = callback
    handle._args = args
    handle._loop = loop
    loop._give_context(handle, context)
    if FREE_THREADED or not loop.rests_later:
        PyObject_GC_Track(<PyObject *>handle)
    return handle


cdef Handle new_shared_handle(TimerOwner loop, object callback, tuple args, object context):
    """A handle that other threads may cancel, where Python promises that."""
    if not HANDLES_ARE_SHARED:
        return new_handle(loop, callback, args, context)
    return _filled(<Handle>_new(&spare_shared, <PyTypeObject *>ThreadSafeHandle), loop, callback,
                   args, context)


cdef TimerHandle new_timer(
        double due, object asked, TimerOwner loop, object callback, tuple args, object context):
    """A TimerHandle without the cost of ``__init__``."""
    cdef TimerHandle timer = <TimerHandle>_new(&spare_timers, <PyTypeObject *>TimerHandle)
    timer._callback = callback
    timer._args = args
    timer._loop = loop
    loop._give_context(timer, context)
    timer.due = due
    timer.asked = asked
    timer.slot = -1
    if FREE_THREADED or not loop.rests_later:
        PyObject_GC_Track(<PyObject *>timer)
    return timer


# ---------------------------------------------------------------------------- spare handles

# A chain of callbacks frees one handle while it makes the next; a server with a thousand busy
# connections has about that many alive. 1024 of them are 130 KiB. Cython can keep spare objects,
# too, but shows each object to the collector as soon as it is taken from one.

cdef enum:
    SPARE_MAX = 1024


cdef struct Spares:
    PyObject *model       # what a new one looks like
    Py_ssize_t nones      # how often that refers to None
    Py_ssize_t count
    PyObject *items[SPARE_MAX]


cdef Spares spare_handles
cdef Spares spare_shared
cdef Spares spare_timers
cdef end_function free_handle = <end_function><void *>(<PyTypeObject *>Handle).tp_dealloc
cdef end_function free_shared = <end_function><void *>(
    <PyTypeObject *>ThreadSafeHandle).tp_dealloc
cdef end_function free_timer = <end_function><void *>(<PyTypeObject *>TimerHandle).tp_dealloc


cdef Handle _new(Spares *spares, PyTypeObject *cls):
    """One with nothing in it, hidden from the collector."""
    cdef PyObject *item
    cdef Handle handle
    cdef Py_ssize_t i
    if spares.count:
        spares.count -= 1
        item = spares.items[spares.count]
        PyObject_Init(item, cls)
        handle = <Handle>item
        Py_DECREF_(item)
        return handle
    item = PyObject_GC_New_(cls)
    if item is NULL:
        raise MemoryError("no memory for another handle")
    memcpy(item + 1, spares.model + 1, cls.tp_basicsize - sizeof(PyObject))
    for i in range(spares.nones):
        Py_INCREF(None)
    handle = <Handle>item
    Py_DECREF_(item)
    return handle


cdef int _take_model(Spares *spares, object model) except -1:
    cdef PyObject **words = <PyObject **><PyObject *>model
    cdef Py_ssize_t i
    Py_INCREF(model)
    spares.model = <PyObject *>model
    for i in range(sizeof(PyObject) // sizeof(void *),
                   Py_TYPE(spares.model).tp_basicsize // <Py_ssize_t>sizeof(void *)):
        spares.nones += words[i] is <PyObject *>None
    return 0


_take_model(&spare_handles, Handle.__new__(Handle))
_take_model(&spare_shared, ThreadSafeHandle.__new__(ThreadSafeHandle))
_take_model(&spare_timers, TimerHandle.__new__(TimerHandle))


# Nobody has the handle any more. So these must not make a new reference to it, not even for a
# moment: giving that back would end it once more.

cdef void _handle_ends(PyObject *item) noexcept:
    if Py_TYPE(item) is not <PyTypeObject *>Handle or not _keep(item, &spare_handles):
        free_handle(item)


cdef void _shared_ends(PyObject *item) noexcept:
    if Py_TYPE(item) is not <PyTypeObject *>ThreadSafeHandle or not _keep(item, &spare_shared):
        free_shared(item)


cdef void _timer_ends(PyObject *item) noexcept:
    if Py_TYPE(item) is <PyTypeObject *>TimerHandle and not has_weak_references(item):
        PyObject_GC_UnTrack(item)
        (<TimerHandle>item).slot = -1
        (<TimerHandle>item)._scheduled = False
        (<TimerHandle>item).asked = None
        (<TimerHandle>item).owner = None
        if _keep(item, &spare_timers):
            return
    free_timer(item)


cdef bint _keep(PyObject *item, Spares *spares) noexcept:
    """Empty it and keep it, if there is room."""
    if spares.count == SPARE_MAX or has_weak_references(item):
        return False
    PyObject_GC_UnTrack(item)
    (<Handle>item)._callback = None
    (<Handle>item)._args = None
    (<Handle>item)._loop = None
    (<Handle>item).context = None
    (<Handle>item)._source_traceback = None
    (<Handle>item)._repr = None
    (<Handle>item)._cancelled = False
    (<Handle>item).shares_context = False
    if spares.count == SPARE_MAX:  # others have ended with what it had
        return False
    spares.items[spares.count] = item
    spares.count += 1
    return True


if not FREE_THREADED:
    (<PyTypeObject *>Handle).tp_dealloc = <destructor><void *>_handle_ends
    (<PyTypeObject *>ThreadSafeHandle).tp_dealloc = <destructor><void *>_shared_ends
    (<PyTypeObject *>TimerHandle).tp_dealloc = <destructor><void *>_timer_ends
