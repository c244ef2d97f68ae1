"""The hot core, in Cython: handles, timers, the tick, registered memory, stream transports.

It knows the C header ``rio.h`` but not cffi: a loop gives it the addresses of a provider and a
port. The standard library provides the cold paths (see ``zerio_asyncio.loop``).
"""
