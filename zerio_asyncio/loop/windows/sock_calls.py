"""``sock_*`` of the proactor's loop, with the checks that other systems' loops make.

The standard loop of Windows takes any socket: of one that a transport reads it would take bytes
away, of a TLS socket it would hand out what is encrypted. Its receives take bytes before the task
runs that asked for them, so one that is cancelled then has lost them, and they write into memory
that is read-only. It connects to no names, and to IPv6 only by four numbers.
"""

from __future__ import annotations

import contextlib
import socket
import sys
from asyncio import base_events
from typing import Any

assert sys.platform == "win32"  # a type checker of another platform reads no further

from zerio_asyncio.loop.windows.port_proactor import ProactorLoop


class CheckedCalls(ProactorLoop):
    """Refuses with ``TypeError`` a TLS socket, with ``RuntimeError`` one that a transport has.

    In debug mode ``ValueError`` for one that blocks. All else is the standard library's, which has
    the calls for datagrams from 3.11 on.
    """

    def _check_socket(self, sock: socket.socket) -> None:
        self._check_closed()  # type: ignore[attr-defined]
        base_events._check_ssl_socket(sock)  # type: ignore[attr-defined]
        if self.get_debug() and sock.gettimeout() != 0:
            raise ValueError("the socket must be non-blocking")
        if sock.fileno() >= 0:
            self._ensure_fd_no_transport(sock)

    def _ensure_fd_no_transport(self, fd: Any) -> None:
        raise NotImplementedError

    async def sock_recv(self, sock: socket.socket, n: int) -> bytes:
        """Receive up to ``n`` bytes; see ``asyncio.loop.sock_recv``."""
        self._check_socket(sock)
        while _can_try(sock):
            with contextlib.suppress(BlockingIOError):
                return sock.recv(n)
            await self._proactor.recv(sock, 0)  # no bytes: until there are some
        return await super().sock_recv(sock, n)

    async def sock_recv_into(self, sock: socket.socket, buf: Any) -> int:
        """Receive into ``buf``; see ``asyncio.loop.sock_recv_into``."""
        self._check_socket(sock)
        while _can_try(sock):
            with contextlib.suppress(BlockingIOError):
                return sock.recv_into(buf)
            await self._proactor.recv(sock, 0)  # no bytes: until there are some
        return await super().sock_recv_into(sock, buf)

    async def sock_recvfrom(self, sock: socket.socket, bufsize: int) -> Any:
        """Receive a datagram and its address; see ``asyncio.loop.sock_recvfrom``."""
        self._check_socket(sock)
        return await self._proactor.recvfrom(sock, bufsize)

    async def sock_recvfrom_into(self, sock: socket.socket, buf: Any, nbytes: int = 0) -> Any:
        """Receive a datagram into ``buf``; see ``asyncio.loop.sock_recvfrom_into``."""
        self._check_socket(sock)
        size = nbytes or len(buf)
        if sys.version_info >= (3, 11):
            return await self._proactor.recvfrom_into(sock, buf, size)
        data, address = await self._proactor.recvfrom(sock, size)
        memoryview(buf).cast("B")[: len(data)] = data
        return len(data), address

    async def sock_sendall(self, sock: socket.socket, data: Any) -> None:
        """Send all of ``data``; see ``asyncio.loop.sock_sendall``."""
        self._check_socket(sock)
        await super().sock_sendall(sock, data)

    async def sock_sendto(self, sock: socket.socket, data: Any, address: Any) -> Any:
        """Send a datagram to ``address``; see ``asyncio.loop.sock_sendto``."""
        self._check_socket(sock)
        return await self._proactor.sendto(sock, data, 0, address)

    async def sock_connect(self, sock: socket.socket, address: Any) -> None:
        """Connect to ``address``; see ``asyncio.loop.sock_connect``."""
        self._check_socket(sock)
        if sock.family in {socket.AF_INET, socket.AF_INET6}:
            found = await self._ensure_resolved(  # type: ignore[attr-defined]
                address, family=sock.family, type=sock.type, proto=sock.proto, loop=self
            )
            address = found[0][4]
        await super().sock_connect(sock, address)

    async def sock_accept(self, sock: socket.socket) -> tuple[socket.socket, Any]:
        """Accept a connection; see ``asyncio.loop.sock_accept``."""
        self._check_socket(sock)
        return await super().sock_accept(sock)


def _can_try(sock: socket.socket) -> bool:
    """Whether a receive of no bytes tells when there are some: a datagram would be lost by it."""
    return sock.type == socket.SOCK_STREAM and sock.gettimeout() == 0
