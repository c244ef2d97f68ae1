"""Echo servers, one for each way an asyncio program uses a socket; any loop, any platform.

Each is the shortest correct server of its kind, with the same source for every loop::

    protocol     asyncio.Protocol: data_received(bytes) → transport.write
    buffered     asyncio.BufferedProtocol: one buffer for the connection's life; what is written is
                 a copy, because a transport may keep what it could not send at once
    registered   zerio_asyncio.RegisteredProtocol: a view of registered memory, which write copies;
                 loops without it run their Protocol
    streams      asyncio.start_server: await read, write, await drain
    sock         loop.sock_accept, sock_recv, sock_sendall
    datagram     asyncio.DatagramProtocol: datagram_received(bytes, address) → transport.sendto
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import socket
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

MODES = ("protocol", "buffered", "registered", "streams", "sock")

BACKLOG = 4096
"""Linux' own default ceiling (somaxconn): a benchmark's connections come all at once."""

DATAGRAM = "datagram"
"""Not among `MODES`, because it needs another kind of socket: `bind_datagrams`."""

READ_SIZE = 64 * 1024
"""Bytes per read where the program chooses; streams' default limit is the same."""


def _no_delay(transport: asyncio.BaseTransport) -> None:
    """Disable Nagle's delay on every loop alike; most do so themselves."""
    connection = transport.get_extra_info("socket")
    if connection is not None and connection.family != getattr(socket, "AF_UNIX", None):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class Echo(asyncio.Protocol):
    """The plainest server possible."""

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        _no_delay(transport)
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """Send back what arrived."""
        self.transport.write(data)


class BufferedEcho(asyncio.BufferedProtocol):
    """Receives into its own memory."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.buffer = memoryview(bytearray(READ_SIZE))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        _no_delay(transport)
        self.transport = transport  # type: ignore[assignment]

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - the interface has it
        """Lend the whole buffer."""
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Send back what arrived."""
        self.transport.write(bytes(self.buffer[:nbytes]))


def registered_echo() -> type[asyncio.BaseProtocol]:
    """Make the class; ImportError if RegisteredProtocol is missing."""
    package: Any = importlib.import_module("zerio_asyncio")
    if not hasattr(package, "RegisteredProtocol"):
        raise ImportError("zerio_asyncio has no RegisteredProtocol here")
    base: Any = package.RegisteredProtocol

    class RegisteredEcho(base):  # type: ignore[misc]
        """Sees registered memory directly."""

        transport: asyncio.Transport

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            _no_delay(transport)
            self.transport = transport  # type: ignore[assignment]

        def view_received(self, view: memoryview) -> None:
            self.transport.write(view)

    return RegisteredEcho


async def _echo_stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    _no_delay(writer.transport)
    try:
        while data := await reader.read(READ_SIZE):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass  # a peer that resets ends only its own connection
    finally:
        writer.close()


async def _echo_sock(loop: asyncio.AbstractEventLoop, connection: socket.socket) -> None:
    with connection, contextlib.suppress(ConnectionError):
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while data := await loop.sock_recv(connection, READ_SIZE):
            await loop.sock_sendall(connection, data)


class DatagramEcho(asyncio.DatagramProtocol):
    """Sends each datagram back to where it came from."""

    transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = transport  # type: ignore[assignment]

    def datagram_received(self, data: bytes, address: Any) -> None:
        """Send back what arrived."""
        self.transport.sendto(data, address)


class Server:
    """One echo server on the running loop, with a listener, or with a place to listen at.

    ``mode`` is one of `MODES`; ``ran`` is the mode that really runs (``registered`` becomes
    ``protocol`` on loops without it). With a ``context`` it speaks TLS, but for ``sock``.
    """

    def __init__(
        self,
        mode: str,
        listener: socket.socket | None = None,
        place: tuple[str, int] | None = None,
        context: ssl.SSLContext | None = None,
    ) -> None:
        if mode not in MODES:
            raise ValueError(f"mode must be one of {', '.join(MODES)}, not {mode!r}")
        if (listener is None) == (place is None) or (mode == "sock" and listener is None):
            raise ValueError("a server has a listener or a place; that of sock has a listener")
        self.ran = mode
        self._listener = listener
        self._where: dict[str, Any] = {"sock": listener}
        if place is not None:
            self._where = {"host": place[0], "port": place[1]}
        if context is not None:
            self._where |= {"ssl": context}
        self._server: asyncio.AbstractServer | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Start accepting."""
        loop = asyncio.get_running_loop()
        if self.ran == "sock":
            assert self._listener is not None
            self._listener.setblocking(False)
            self._keep(loop.create_task(self._accept(loop, self._listener)))
        elif self.ran == "streams":
            self._server = await asyncio.start_server(_echo_stream, backlog=BACKLOG, **self._where)
        else:
            self._server = await loop.create_server(
                self._factory(loop), backlog=BACKLOG, **self._where
            )

    def _factory(self, loop: asyncio.AbstractEventLoop) -> Callable[[], asyncio.BaseProtocol]:
        if self.ran == "registered" and isinstance(getattr(loop, "provider", None), str):
            return registered_echo()
        if self.ran == "buffered":
            return BufferedEcho
        self.ran = "protocol"
        return Echo

    async def _accept(self, loop: asyncio.AbstractEventLoop, listener: socket.socket) -> None:
        while True:
            connection, _ = await loop.sock_accept(listener)
            self._keep(loop.create_task(_echo_sock(loop, connection)))

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Stop accepting; connections of ``sock`` end, the loop closes the others."""
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._listener is not None:
            self._listener.close()


def listen(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """Bind and listen on a name or a numeric address; port 0 picks a free one.

    ``shared``: others that do the same may listen on it, too (SO_REUSEPORT).
    """
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        # Without it a port is blocked for a minute after its server ended. On Windows this name
        # means something else, and it is not needed.
        if hasattr(socket, "SO_REUSEPORT"):
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def bind_datagrams(host: str, port: int) -> socket.socket:
    """Bind a UDP socket to a name or a numeric address; port 0 picks a free one."""
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_DGRAM, flags=socket.AI_PASSIVE
    )[0]
    sock = socket.socket(family, kind, protocol)
    try:
        sock.bind(address)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock
