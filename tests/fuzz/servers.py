"""Servers: closed inside their factory, in the tick of an accept, or any other time."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Any

from .streams import End, Peer, Settling, Side, folder, pair
from .world import Planned, World, callback


class Listening:
    """A server and those who connect to it: plain sockets, and transports."""

    def __init__(self, world: World, settling: Settling) -> None:
        self.world = world
        self.settling = settling
        self.server: Any = None
        self.address: Any = None
        self.waiting: dict[Any, End] = {}
        self.connected = 0

    async def open(self) -> None:
        world = self.world
        world.quiet = 0
        try:
            if world.random.random() < 0.3:
                self.address = os.path.join(folder(), f"{world.seed}-{id(self) % 9999}")
                self.server = await world.loop.create_unix_server(self.factory, self.address)
            else:
                self.server = await world.loop.create_server(self.factory, "127.0.0.1", 0)
                self.address = self.server.sockets[0].getsockname()
        finally:
            world.quiet = 1
        world.offer(
            ("", self.connect_plain),
            ("", self.connect_plain),
            ("", self.connect_transport),
            ("close", self.close),
            ("close", self.close_soon),
            ("info", self.ask),
        )

    @callback
    def factory(self) -> Any:
        world = self.world
        side = Accepted(world, self)
        if world.provider == "std":  # it leaks what its server made when that ends, or the factory
            self.settling.ends.append(side)
            return side.protocol
        world.mischief()
        if world.has("close") and world.random.random() < 0.05:
            self.close()
        if world.has("raise") and world.random.random() < 0.05:
            raise Planned
        self.settling.ends.append(side)
        return side.protocol

    @property
    def _family(self) -> int:
        return socket.AF_UNIX if isinstance(self.address, str) else socket.AF_INET

    def connect_plain(self) -> None:
        if self.connected > 6:
            return
        sock = socket.socket(self._family)
        sock.setblocking(False)
        try:
            sock.connect(self.address)
        except BlockingIOError:
            pass
        except OSError:
            sock.close()
            return
        self.connected += 1
        peer = Peer(self.world, sock)
        self.settling.ends.append(peer)
        if self._family == socket.AF_INET:
            self.waiting[sock.getsockname()] = peer
        peer.send()
        if self.world.has("close") and self.world.random.random() < 0.1:
            self.close_soon()

    def connect_transport(self) -> None:
        if self.connected <= 6:
            self.connected += 1
            self.world.spawn(self._connect_transport())

    async def _connect_transport(self) -> None:
        loop, side = self.world.loop, Side(self.world)
        self.settling.ends.append(side)
        made: Any
        try:
            if self._family == socket.AF_UNIX:
                made = loop.create_unix_connection(lambda: side.protocol, self.address)
            else:
                made = loop.create_connection(lambda: side.protocol, *self.address)
            await asyncio.wait_for(made, 3)
        except (OSError, asyncio.TimeoutError):
            side.spoil()

    def close(self) -> None:
        if self.server is not None:
            self.world.call(self.server.close)

    def close_soon(self) -> None:
        self.world.call(self.world.loop.call_soon, self.close)

    def ask(self) -> None:
        self.world.call(lambda: (self.server.sockets, self.server.is_serving(), repr(self.server)))

    def accepted(self, side: Accepted, name: Any) -> None:
        """Whose other end it is, if the address tells."""
        other = self.waiting.pop(name, None) if name else None
        if other is None:
            return
        if other.reader.flow is None and side.flow.reader is None:
            pair(side, other)

    async def settle(self) -> None:
        self.close()
        await self.world.turn(0)

    def drop(self) -> None:
        self.close()
        self.waiting.clear()
        if isinstance(self.address, str) and os.path.exists(self.address):
            os.unlink(self.address)


class Accepted(Side):
    """A side that a server made."""

    def __init__(self, world: World, listening: Listening) -> None:
        self.listening = listening
        super().__init__(world)

    def offer(self) -> None:
        super().offer()
        if not isinstance(self.listening.address, str):
            name = self.transport.get_extra_info("peername")
            self.listening.accepted(self, tuple(name) if name else None)


async def servers(world: World) -> list[Any]:
    """A server or two."""
    settling = Settling(world, [])
    made: list[Any] = []
    for _ in range(world.random.randint(1, 2)):
        listening = Listening(world, settling)
        await listening.open()
        made.append(listening)
        for _ in range(world.random.randint(1, 2)):
            listening.connect_plain()
    return [*made, settling]
