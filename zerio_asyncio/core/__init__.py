"""The hot core, in Cython: handles, timers, the tick, registered memory, stream transports.

It knows the C header ``rio.h`` and nothing of cffi: a loop gives it the addresses of a provider
and a port. Cold paths are the standard library's (see ``zerio_asyncio.loop``).
"""
