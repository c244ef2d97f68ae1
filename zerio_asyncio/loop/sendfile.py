"""A transport's socket while the system sends a file over it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator


@contextlib.asynccontextmanager
async def sending_a_file(
    loop: Any, transport: Any, file: Any, offset: int, count: int | None
) -> AsyncIterator[socket.socket]:
    """Have the socket to oneself, once everything written to ``transport`` is sent.

    As in asyncio, nothing is received meanwhile: a protocol that answers would have to write, and a
    client that ends its side would get the connection closed before the whole file is sent.
    ``ValueError`` and ``TypeError`` for an invalid file, offset or count.
    """
    sock = transport._sock
    loop._check_sendfile_params(sock, file, offset, count)
    written = transport._make_empty_waiter()
    resume = transport.is_reading()
    transport.pause_reading()
    try:
        await written
        yield sock
    finally:
        transport._reset_empty_waiter()
        if resume:
            transport.resume_reading()
