"""Files that the system itself sends (``os.sendfile``), over sockets and over transports."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from asyncio import exceptions
from typing import TYPE_CHECKING, Any

from zerio_asyncio.loop.sendfile import sending_a_file

if TYPE_CHECKING:
    import socket

ALWAYS_POSITIONS = sys.version_info >= (3, 14)

BLOCK_MAX = sys.maxsize // 2 + 1
"""Bytes per call: where sizes have 32 bits, more would not fit."""


async def send_file(
    loop: Any, sock: socket.socket, file: Any, offset: int, count: int | None
) -> int:
    """Send ``count`` bytes of ``file`` from ``offset``, or all that follow; return how many.

    Like the standard library's ``_sock_sendfile_native``, but it reports a lost connection. The
    file's position is after what was sent, even after an error or a cancellation; if nothing was
    sent, it is at ``offset`` from Python 3.14 on. ``SendfileNotAvailableError`` if nothing was sent
    because this file or socket cannot be used this way.
    """
    number, size = _describe(file)
    if not (count or size):
        return 0
    total = 0
    try:
        while True:
            block = count - total if count else size
            if block <= 0:
                return total
            try:
                sent = os.sendfile(sock.fileno(), number, offset + total, min(block, BLOCK_MAX))
            except (BlockingIOError, InterruptedError):
                pass
            except OSError as error:
                raise _explained(error, total) from error
            else:
                if sent == 0:
                    return total
                total += sent
            # Even after a success: a fast receiver must not monopolise the loop.
            await loop._writable(sock)
            if sock.fileno() < 0:
                raise ConnectionError("the connection was closed while a file was being sent")
    finally:
        if total or ALWAYS_POSITIONS:
            with contextlib.suppress(OSError):  # without a position, nothing was sent
                os.lseek(number, offset + total, os.SEEK_SET)
        loop._unwatch(sock)


async def send_file_over(
    loop: Any, transport: Any, file: Any, offset: int, count: int | None
) -> int:
    """``send_file`` after everything that was written to ``transport``."""
    async with sending_a_file(loop, transport, file, offset, count) as sock:
        return await send_file(loop, sock, file, offset, count)


def _describe(file: Any) -> tuple[int, int]:
    """Descriptor and size in bytes."""
    try:
        number = int(file.fileno())
        return number, os.fstat(number).st_size
    except (AttributeError, io.UnsupportedOperation, OSError):
        raise exceptions.SendfileNotAvailableError("not a regular file") from None


def _explained(error: OSError, total: int) -> Exception:
    if isinstance(error, ConnectionError):
        return error
    if total == 0:
        return exceptions.SendfileNotAvailableError("os.sendfile call failed")
    if error.errno == errno.ENOTCONN:
        return ConnectionError(errno.ENOTCONN, "socket is not connected")
    return error
