"""What the tests of datagrams share: a protocol that remembers, and plain peers."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from .support import SECONDS, Changes

HOSTS = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}


class Letters(Changes, asyncio.DatagramProtocol):
    """Remembers every call, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.transport: Any = None
        self.calls: list[str] = []
        self.received: list[tuple[bytes, Any]] = []
        self.errors: list[Exception] = []
        self.lost_with: BaseException | None = None

    def note(self, call: str) -> None:
        self.calls.append(call)
        self.changed()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.note("connection_made")

    def datagram_received(self, data: bytes, addr: Any) -> None:
        assert type(data) is bytes
        self.received.append((data, addr))
        self.note("datagram_received")

    def error_received(self, exc: Exception) -> None:
        self.errors.append(exc)
        self.note("error_received")

    def pause_writing(self) -> None:
        self.note("pause_writing")

    def resume_writing(self) -> None:
        self.note("resume_writing")

    def connection_lost(self, exc: BaseException | None) -> None:
        self.lost_with = exc
        self.note("connection_lost")

    async def got(self, count: int) -> list[bytes]:
        await self.until(lambda: len(self.received) >= count)
        return [data for data, _ in self.received]

    async def failed(self, count: int = 1) -> Exception:
        await self.until(lambda: len(self.errors) >= count)
        return self.errors[count - 1]

    async def lost(self) -> BaseException | None:
        await self.until(lambda: "connection_lost" in self.calls)
        return self.lost_with


class Answering(Letters):
    """Sends everything back."""

    def datagram_received(self, data: bytes, addr: Any) -> None:
        super().datagram_received(data, addr)
        self.transport.sendto(data, addr)


def peer(family: int = socket.AF_INET, host: str = "") -> socket.socket:
    """A plain blocking socket, bound to a port of its own."""
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.settimeout(SECONDS)
    sock.bind((host or HOSTS[socket.AddressFamily(family)], 0))
    return sock


async def open_endpoint(factory: Any = Letters, **options: Any) -> tuple[Any, Any, Any]:
    """A transport of the running loop, its protocol, and its address."""
    loop = asyncio.get_running_loop()
    if not options:
        options["local_addr"] = ("127.0.0.1", 0)
    transport, protocol = await loop.create_datagram_endpoint(factory, **options)
    return transport, protocol, transport.get_extra_info("sockname")


async def receive(sock: socket.socket, size: int = 1 << 17) -> tuple[bytes, Any]:
    return await asyncio.to_thread(sock.recvfrom, size)


async def receive_many(sock: socket.socket, count: int) -> list[bytes]:
    """By one call into another thread, which for each of many would take long under Wine."""
    return await asyncio.to_thread(lambda: [sock.recv(1 << 17) for _ in range(count)])


async def shut(*transports: Any) -> None:
    for transport in transports:
        protocol = transport.get_protocol()
        transport.close()
        await protocol.lost()
