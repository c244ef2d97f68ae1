"""What programs override of a loop's own methods, and how a loop notices.

Programs replace ``time`` with a clock, ``_run_once`` with whole turns of their own, or a selector's
``select``; in a class derived from the loop's, or on a loop itself. Which of them are no longer
ours is checked when the class changes (its version tag shows it) or when such an attribute is set.
A loop that nobody has touched pays one comparison where it matters.
"""

from cpython.object cimport PyObject
from libc.stdint cimport uint32_t, uint64_t

from zerio_asyncio.core.threads cimport thread_store_word

cdef extern from "Python.h":
    int PyObject_GenericSetAttr(object, object, object) except -1
    int PyObject_GenericDelAttr "PyObject_GenericSetAttr"(object, object, PyObject *) except -1

# What is checked again when it may have been replaced: ours, or the standard library's.
cdef dict OVERRIDES = {
    "time": OVERRIDE_TIME,
    "call_at": OVERRIDE_CALL_AT,
    "call_soon": OVERRIDE_CALL_SOON,
    "_call_soon": OVERRIDE_PRIVATE_CALL_SOON,
    "_write_to_self": OVERRIDE_WRITE_TO_SELF,
    "_run_once": OVERRIDE_RUN_ONCE,
    "_process_events": OVERRIDE_SELECT,
}
cdef tuple STANDARD_MODULES = (
    "asyncio.base_events", "asyncio.selector_events", "asyncio.proactor_events")
cdef tuple COMPILED_MODULES = (
    "zerio_asyncio.core.timers", "zerio_asyncio.core.scheduler", "zerio_asyncio.core.engine",
    "zerio_asyncio.core.sockets")
cdef frozenset WATCHED_NAMES = frozenset([*OVERRIDES, "_selector", "__class__"])


cdef bint _is_ours(cls, str name) except -1:
    function = getattr(cls, name, None)
    if function is None or getattr(function, "__module__", None) in STANDARD_MODULES:
        return True
    # Compiled classes cannot be changed: they keep what they were made with.
    return any(vars(base).get(name) is function for base in cls.__mro__
               if base.__module__ in COMPILED_MODULES)


cdef class Overridable(TimerOwner):
    """The part of a loop that knows what programs have overridden."""

    def __setattr__(self, name, value):
        PyObject_GenericSetAttr(self, name, value)
        if name in WATCHED_NAMES:
            thread_store_word(&self.overrides_seen, 0)

    def __delattr__(self, name):
        PyObject_GenericDelAttr(self, name, NULL)
        if name in WATCHED_NAMES:
            thread_store_word(&self.overrides_seen, 0)

    def _look_again(self):
        """A method of the loop's selector was replaced."""
        thread_store_word(&self.overrides_seen, 0)

    cdef uint32_t _look_for_overrides(self) except? 0xFFFFFFFF:
        cdef uint64_t version = type_of(self).tp_version_tag  # it may change while we check
        cdef uint32_t found = 0
        cls = type(self)
        own = getattr(self, "__dict__", {})
        for name, override in OVERRIDES.items():
            if name in own or not _is_ours(cls, name):
                found |= override
        if not self._waits_by_itself(own.get("_selector")):
            found |= OVERRIDE_SELECT
        thread_store_word(&self.overrides_seen, version << 32 | found)
        return found

    def _waits_by_itself(self, selector):
        """Whether the selector is the loop's own and has its own ``select``."""
        if selector is None:
            return True
        ours = getattr(type(selector), "select_on_port", None)
        return ours is not None and getattr(selector.select, "__func__", None) is ours
