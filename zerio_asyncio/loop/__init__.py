"""The event loop: the standard library's of the platform, on our engine and transports."""

import sys

if sys.platform == "win32":
    from zerio_asyncio.loop.windows.event_loop import RioEventLoop
else:
    from zerio_asyncio.loop.unix.event_loop import RioEventLoop

__all__ = ["RioEventLoop"]
