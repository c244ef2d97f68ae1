"""An asyncio event loop on Registered I/O; see README.md."""

from typing import TYPE_CHECKING, Any

from zerio_asyncio.core.protocols import RegisteredProtocol
from zerio_asyncio.loop import RioEventLoop
from zerio_asyncio.loop import policy as _policy
from zerio_asyncio.loop.base import RioStatistics
from zerio_asyncio.loop.options import LoopOptions
from zerio_asyncio.loop.policy import install, new_event_loop, run
from zerio_asyncio.loop.run_threads import run_threads
from zerio_asyncio.loop.shared_listener import SharedListener
from zerio_asyncio.messaging import (
    ZerioClient,
    ZerioClientConfiguration,
    ZerioServer,
    ZerioServerConfiguration,
    connect,
    serve,
)

if TYPE_CHECKING:
    from asyncio import DefaultEventLoopPolicy as EventLoopPolicy

Loop = RioEventLoop

__version__ = "0.1.0"

__all__ = [
    "EventLoopPolicy",
    "Loop",
    "LoopOptions",
    "RegisteredProtocol",
    "RioEventLoop",
    "RioStatistics",
    "SharedListener",
    "ZerioClient",
    "ZerioClientConfiguration",
    "ZerioServer",
    "ZerioServerConfiguration",
    "connect",
    "install",
    "new_event_loop",
    "run",
    "run_threads",
    "serve",
]


def __getattr__(name: str) -> Any:
    if name == "EventLoopPolicy":
        return _policy.__getattr__(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
