"""Registered I/O for Python: request queues, completion queues and registered buffers.

The socket interface of Windows 8, with Microsoft's names and rules, on whichever provider the
system has: io_uring or epoll on Linux. It knows nothing of asyncio. A connection's life:

    port = CompletionPort()                        # where this thread sleeps
    results = CompletionQueue(64, port)            # where results arrive
    region = Region(port.provider, 65536)          # registered memory
    requests = RequestQueue(sock, results)         # one for each connected socket

    data = region.slice(0, 4096)
    requests.receive(data)
    results.notify()                               # one event, when there is a result
    port.wait()
    for result in results.dequeue():
        print(bytes(data.memory[: result.transferred]))

Rules and pictures: docs/rio.md; the contract in C: rio.h beside this file.
"""

from zerio_asyncio.rio import realized  # noqa: F401 - first: before there are threads
from zerio_asyncio.rio.buffers import BufferPool, PoolStatistics, Region, Slice
from zerio_asyncio.rio.errors import RioError, code_name, winsock_error
from zerio_asyncio.rio.ports import CompletionPort, Event, Kind, Statistics, Watch, open_port
from zerio_asyncio.rio.providers import Choice, Provider, available, by_name, known, pick
from zerio_asyncio.rio.queues import CompletionQueue, Flag, RequestQueue, Result

__all__ = [
    "BufferPool",
    "Choice",
    "CompletionPort",
    "CompletionQueue",
    "Event",
    "Flag",
    "Kind",
    "PoolStatistics",
    "Provider",
    "Region",
    "RequestQueue",
    "Result",
    "RioError",
    "Slice",
    "Statistics",
    "Watch",
    "available",
    "by_name",
    "code_name",
    "known",
    "open_port",
    "pick",
    "winsock_error",
]
