# What programs override of a loop's own methods.

from libc.stdint cimport uint32_t, uint64_t

from zerio_asyncio.core.handles cimport TimerOwner
from zerio_asyncio.core.threads cimport thread_load_word

cdef extern from "Python.h":
    ctypedef struct Type "PyTypeObject":
        unsigned int tp_version_tag
    Type *type_of "Py_TYPE"(object)

# What programs override of a loop's own methods, in a class or on an instance.
cdef enum Override:
    OVERRIDE_TIME = 1
    OVERRIDE_CALL_AT = 2
    OVERRIDE_CALL_SOON = 4
    OVERRIDE_PRIVATE_CALL_SOON = 8     # _call_soon, which the standard library's two call
    OVERRIDE_WRITE_TO_SELF = 16
    OVERRIDE_RUN_ONCE = 32
    OVERRIDE_SELECT = 64               # the selector's select, or the loop's _process_events


cdef class Overridable(TimerOwner):
    # the class's version tag, above the 32 bits of what was found; checked again when it differs,
    # and after any such attribute of the instance was set
    cdef uint64_t overrides_seen

    cdef uint32_t _look_for_overrides(self) except? 0xFFFFFFFF


cdef inline uint32_t overrides_of(Overridable loop) except? 0xFFFFFFFF:
    cdef uint64_t seen = thread_load_word(&loop.overrides_seen)
    if seen >> 32 == 0 or seen >> 32 != type_of(loop).tp_version_tag:
        return loop._look_for_overrides()
    return <uint32_t>seen
