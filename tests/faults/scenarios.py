"""Small lives of a loop in which each allocation may fail: they end, or say why they do not."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Any

from zerio_asyncio import RegisteredProtocol, ZerioClient, ZerioServer
from zerio_asyncio.messaging import Disconnected

SIZES = (10, 3000, 60_000)


class Echo(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class RegisteredEcho(RegisteredProtocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def view_received(self, view: memoryview) -> None:
        self.transport.write(view)


class Asking(asyncio.Protocol):
    """Waits for so many bytes; a connection that ends is an end of waiting."""

    def __init__(self) -> None:
        self.missing = 0
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.missing -= len(data)
        if self.missing == 0 and not self.done.done():
            self.done.set_result(None)

    def connection_lost(self, error: BaseException | None) -> None:
        if not self.done.done():
            self.done.set_exception(error or ConnectionResetError("the connection has ended"))

    async def ask(self, size: int) -> None:
        loop = asyncio.get_running_loop()
        if self.done.done():
            self.done = loop.create_future()
        self.missing += size
        self.transport.write(b"x" * size)
        await self.done


async def echo(protocol: Callable[[], Any]) -> None:
    """A server, a client, small and large messages both ways."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(protocol, "127.0.0.1", 0)
    try:
        transport, client = await loop.create_connection(
            Asking, *server.sockets[0].getsockname()[:2]
        )
        try:
            for size in SIZES:
                await client.ask(size)
        finally:
            transport.close()
    finally:
        server.close()


async def plain() -> None:
    await echo(Echo)


async def registered() -> None:
    await echo(RegisteredEcho)


async def datagrams() -> None:
    """An endpoint that echoes, and a plain socket that asks it."""
    loop = asyncio.get_running_loop()

    class Answer(asyncio.DatagramProtocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, address: Any) -> None:
            self.transport.sendto(data, address)

    transport, _ = await loop.create_datagram_endpoint(Answer, local_addr=("127.0.0.1", 0))
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.connect(transport.get_extra_info("sockname"))
        try:
            for size in (1, 1000, 5000):
                await loop.sock_sendall(sock, b"x" * size)
                await asyncio.wait_for(loop.sock_recv(sock, 65536), 0.2)
        except asyncio.TimeoutError:
            pass  # datagrams may be lost
        finally:
            transport.close()


async def timers() -> None:
    """A storm of timers and callbacks, half of them cancelled."""
    loop = asyncio.get_running_loop()
    ran = []
    handles = [loop.call_later(n % 7 / 1000, ran.append, n) for n in range(300)]
    handles += [loop.call_soon(ran.append, n) for n in range(300)]
    for handle in handles[::2]:
        handle.cancel()
    await asyncio.sleep(0.01)


async def sockets() -> None:
    """The loop's calls on plain sockets."""
    loop = asyncio.get_running_loop()
    one, other = socket.socketpair()
    with one, other:
        one.setblocking(False)
        other.setblocking(False)

        async def receive() -> None:
            left = 400_000
            while left:
                left -= len(await loop.sock_recv(other, 65536))

        await asyncio.gather(loop.sock_sendall(one, b"x" * 400_000), receive())


class Messages:
    """A server and a client of messaging, an exchange of small and large ones.

    Both are made and started before anything fails: CPython itself crashes where there is no memory
    for an iterator over a dictionary's items, or (3.11) for an instance's dictionary.
    """

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.server = ZerioServer(port, on_message=self.received)
        self.client = ZerioClient(
            ("127.0.0.1", port), "client", on_message=self.answered, on_event=self.told
        )
        self.done: Any = None

    def received(self, peer: Any, message: memoryview) -> None:
        peer.send(message)

    def answered(self, message: memoryview) -> None:
        if len(message) == SIZES[-1] and not self.done.done():
            self.done.set_result(None)

    def told(self, event: Any) -> None:
        if isinstance(event, Disconnected) and not self.done.done():
            self.done.set_exception(ConnectionResetError(str(event.reason)))

    async def prepare(self) -> None:
        self.done = asyncio.get_running_loop().create_future()
        await self.server.start()
        await self.client.start()

    async def __call__(self) -> None:
        try:
            try:
                for size in SIZES:
                    self.client.send(b"x" * size)
                await self.done
            finally:
                await self.client.stop(0.1)
        finally:
            await self.server.stop(0.1)


Scenario = Callable[[], Coroutine[Any, Any, None]]

SCENARIOS: dict[str, Callable[[], Scenario]] = {
    "plain": lambda: plain,
    "registered": lambda: registered,
    "datagrams": lambda: datagrams,
    "timers": lambda: timers,
    "sockets": lambda: sockets,
    "messages": Messages,
}
"""Each is called before anything fails, and makes what is run, after its ``prepare`` if it has
one."""

OURS = ("registered", "messages")
