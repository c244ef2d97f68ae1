"""Servers and clients that remember, and peers on plain blocking sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import zerio_asyncio
from zerio_asyncio.messaging import Connected, Disconnected

from ..loop.support import SECONDS, Changes, Peer, receive_exactly

if TYPE_CHECKING:
    from zerio_asyncio.messaging import DisconnectReason


class Server(zerio_asyncio.ZerioServer):
    """Remembers its events and messages."""

    def __init__(self, port: int = 0, config: Any = None, **options: Any) -> None:
        options.setdefault("on_message", self.take)
        super().__init__(port, config=config, on_event=self.learn, **options)
        self.changes = Changes()
        self.events: list[tuple[Any, ...]] = []
        self.received: dict[str, list[bytes]] = {}

    def learn(self, event: Any) -> None:
        if isinstance(event, Connected):
            self.events.append(("connected", event.peer.id))
            self.client_arrived(event.peer.id)
        else:
            self.events.append(("disconnected", event.peer.id, event.reason))
            self.client_gone(event.peer.id)
        self.changes.changed()

    def client_arrived(self, peer_id: str) -> None:
        """For tests to replace."""

    def client_gone(self, peer_id: str | None) -> None:
        """For tests to replace."""

    def take(self, peer: Any, message: memoryview) -> None:
        self.received.setdefault(peer.id, []).append(bytes(message))
        self.changes.changed()

    async def until(self, condition: Any) -> None:
        await self.changes.until(condition)

    async def connection_of(self, peer_id: str) -> None:
        await self.until(lambda: peer_id in self.peers)

    async def reason_of(self, peer_id: str | None) -> DisconnectReason:
        def reasons() -> list[DisconnectReason]:
            return [e[2] for e in self.events if e[:2] == ("disconnected", peer_id)]

        await self.until(reasons)
        return reasons()[-1]

    async def messages_of(self, peer_id: str, count: int) -> list[bytes]:
        await self.until(lambda: len(self.received.get(peer_id, ())) >= count)
        return self.received[peer_id]


class Client(zerio_asyncio.ZerioClient):
    """The same for a client."""

    def __init__(
        self, address: Any, peer_id: str = "peer", config: Any = None, **options: Any
    ) -> None:
        options.setdefault("on_message", self.take)
        super().__init__(address, peer_id, config, on_event=self.learn, **options)
        self.changes = Changes()
        self.all_events: list[Any] = []
        self.events: list[tuple[Any, ...]] = []
        self.received: list[bytes] = []

    def learn(self, event: Any) -> None:
        self.all_events.append(event)
        if isinstance(event, Connected):
            self.events.append(("connected",))
            self.arrived()
        elif isinstance(event, Disconnected):
            self.events.append(("disconnected", event.reason))
        self.changes.changed()

    def arrived(self) -> None:
        """For tests to replace."""

    def take(self, message: memoryview) -> None:
        self.received.append(bytes(message))
        self.changes.changed()

    async def until(self, condition: Any) -> None:
        await self.changes.until(condition)

    async def messages_of(self, count: int) -> list[bytes]:
        await self.until(lambda: len(self.received) >= count)
        return self.received

    async def reason_of_end(self) -> DisconnectReason:
        def reasons() -> list[DisconnectReason]:
            return [event[1] for event in self.events if event[0] == "disconnected"]

        await self.until(reasons)
        return reasons()[-1]


def address_of(server: zerio_asyncio.ZerioServer) -> tuple[str, int]:
    return "127.0.0.1", server.listening_port


@contextlib.asynccontextmanager
async def serving(config: Any = None, **options: Any) -> AsyncIterator[Server]:
    server = Server(config=config, **options)
    await server.start()
    try:
        yield server
    finally:
        await server.stop(patience=0.5)


@contextlib.asynccontextmanager
async def connected(
    server: zerio_asyncio.ZerioServer, peer_id: str = "peer", config: Any = None, **options: Any
) -> AsyncIterator[Client]:
    client = Client(address_of(server), peer_id, config, **options)
    await client.start()
    try:
        yield client
    finally:
        await client.stop(patience=0.5)


@contextlib.asynccontextmanager
async def pair(config: Any = None, client_config: Any = None) -> AsyncIterator[Any]:
    """A server, and a client of it with the id ``peer``."""
    async with serving(config) as server, connected(server, config=client_config) as client:
        await server.connection_of("peer")
        yield server, client


def framed(message: bytes) -> bytes:
    """A message as it must be on the wire, written here a second time on purpose."""
    return struct.pack("<i", len(message)) + message


class PlainPeer(Peer):
    """Speaks Zerio's wire format over a blocking socket, in threads."""

    async def send_message(self, message: bytes) -> None:
        await self.send(framed(message))

    async def receive_all_or_reset(self) -> bytes:
        try:
            return await self.receive_all()
        except ConnectionResetError:
            return b""

    async def receive_message(self) -> bytes:
        (length,) = struct.unpack("<i", await self.receive_exactly(4))
        return await self.receive_exactly(length)


async def dial(server: zerio_asyncio.ZerioServer) -> PlainPeer:
    sock = await asyncio.to_thread(socket.create_connection, address_of(server), SECONDS)
    return PlainPeer(sock)


@contextlib.asynccontextmanager
async def plain(
    server: zerio_asyncio.ZerioServer, peer_id: str | None = "plain"
) -> AsyncIterator[PlainPeer]:
    """A plain peer, introduced unless ``peer_id`` is None."""
    peer = await dial(server)
    try:
        if peer_id is not None:
            await peer.send_message(peer_id.encode())
            assert await peer.receive_message() == peer_id.encode()
        yield peer
    finally:
        peer.close()


__all__ = [
    "SECONDS",
    "Client",
    "PlainPeer",
    "Server",
    "address_of",
    "connected",
    "dial",
    "framed",
    "pair",
    "plain",
    "receive_exactly",
    "serving",
]
