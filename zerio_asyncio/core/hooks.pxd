# What a loop class must define for the engine.

from zerio_asyncio.core.scheduler cimport Scheduler


cdef class LoopHooks(Scheduler):
    pass
