"""The event loop: the platform's standard loop on our engine and transports."""

import sys

if sys.platform == "win32":
    from zerio_asyncio.loop.windows.event_loop import RioEventLoop
else:
    from zerio_asyncio.loop.unix.event_loop import RioEventLoop

__all__ = ["RioEventLoop"]
