"""Messaging: a server, clients, and a plain socket that speaks its wire format in pieces."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any

from zerio_asyncio import (
    ZerioClient,
    ZerioClientConfiguration,
    ZerioServer,
    ZerioServerConfiguration,
)
from zerio_asyncio.messaging import Reconnect, ZerioError
from zerio_asyncio.messaging.configuration import SLOW_PEER

from .records import Flow, check_whole
from .world import Planned, World, callback

MAY_RAISE = (ZerioError, OSError, RuntimeError, ValueError)
START = 3.0
PATIENCE = 0.05
"""Seconds that a stop waits for peers that do not read."""


class Member:
    """What server and clients share: they send records as messages and look at those they get."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.flow = world.new_flow()
        self.ring_flow = world.new_flow()  # what goes through the ring may be overtaken
        self.last: dict[Flow, int] = {}

    def data(self, ring: bool = False) -> bytes:
        flow = self.ring_flow if ring else self.flow
        return flow.take(self.world.size(), sure=False)[1]

    def see(self, message: memoryview) -> None:
        """A handler was called with ``message``."""
        world = self.world
        data = bytes(message)
        flow = check_whole(data, world.flows, world.tell)
        if flow is not None:
            number = int.from_bytes(data[4:8], "little")
            if number not in flow.loose:
                if number <= self.last.get(flow, -1):
                    world.tell(f"message {number} of flow {flow.number} after {self.last[flow]}")
                self.last[flow] = number
        world.show(message, data)
        world.mischief()
        world.shown(message, data)
        if world.has("raise") and world.random.random() < 0.03:
            raise Planned

    def send(self, function: Any, *arguments: Any) -> None:
        """Send what the last argument tells, in a kind of object that may be changed or not."""
        for flow in (self.flow, self.ring_flow):
            flow.inside += 1
        try:
            self.world.call(function, *arguments, allow=MAY_RAISE)
        finally:
            for flow in (self.flow, self.ring_flow):
                flow.inside -= 1


class Server(Member):
    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.running = False
        self.names: list[str] = []
        config = ZerioServerConfiguration(
            max_message_size=256 * 1024,
            slow_peer=world.random.choice(SLOW_PEER),
            duplicate_peer=world.random.choice(("refuse", "replace")),
            unsent_max=world.random.choice((300_000, 1 << 20, 4 << 20)),
        )
        self.node = ZerioServer(
            0,
            config=config,
            on_message=self.received,
            on_event=self.told,
        )

    @callback
    def received(self, peer: Any, message: memoryview) -> None:
        self.see(message)

    @callback
    def told(self, event: Any) -> None:
        self.world.mischief()

    async def open(self) -> None:
        world = self.world
        world.quiet = 0
        try:
            await self.node.start()
        finally:
            world.quiet = 1
        self.running = True
        world.offer(
            ("", self.send_one),
            ("", self.send_one),
            ("", self.broadcast),
            ("pause", self.pause),
            ("pause", self.resume),
            ("pause", self.pause_and_resume),
            ("close", self.disconnect),
            ("abort", self.stop),
            ("info", self.ask),
            ("growth", self.send_many),
        )

    def _name(self) -> str:
        return self.world.random.choice([*self.node.peers, "nobody"])

    def _kind(self, data: bytes) -> Any:
        return bytearray(data) if self.world.random.random() < 0.3 else data

    def send_one(self) -> None:
        ring = self.world.random.random() < 0.3
        function = self.node.send_threadsafe if ring else self.node.send
        self.send(function, self._name(), self._kind(self.data(ring)))

    def send_many(self) -> None:
        for _ in range(30):
            self.send_one()

    def broadcast(self) -> None:
        self.send(self.node.broadcast, self._kind(self.data()))

    def pause(self) -> None:
        self.world.call(self.node.pause_reading, self._name(), allow=MAY_RAISE)

    def resume(self) -> None:
        self.world.call(self.node.resume_reading, self._name(), allow=MAY_RAISE)

    def pause_and_resume(self) -> None:
        name = self._name()
        self.world.call(self.node.pause_reading, name, allow=MAY_RAISE)
        self.world.call(self.node.resume_reading, name, allow=MAY_RAISE)

    def disconnect(self) -> None:
        self.world.call(self.node.disconnect, self._name(), "told to", PATIENCE, allow=MAY_RAISE)

    def stop(self) -> None:
        if self.world.random.random() < 0.2:
            self.world.spawn(self._stop())

    async def _stop(self) -> None:
        self.running = False
        await self.node.stop(PATIENCE)

    def ask(self) -> None:
        self.world.call(lambda: (self.node.peers, self.node.is_running), allow=())

    async def settle(self) -> None:
        await asyncio.wait_for(self._stop(), START)

    def drop(self) -> None:
        pass


class Client(Member):
    def __init__(self, world: World, server: Server, name: str) -> None:
        super().__init__(world)
        self.server = server
        self.name = name
        comes_back = world.random.random() < 0.2 and not world.has("abrupt")
        config = ZerioClientConfiguration(
            max_message_size=256 * 1024,
            slow_peer=world.random.choice(SLOW_PEER),
            extensions=world.random.random() < 0.5,
            reconnect=Reconnect(delay_min=0.001) if comes_back else False,
        )
        self.node = ZerioClient(
            ("127.0.0.1", server.node.listening_port),
            name,
            config,
            on_message=self.received,
            on_event=self.told,
        )
        self.lost = False
        world.offer(
            ("", self.send_one),
            ("", self.send_one),
            ("", self.send_one),
            ("pause", self.pause_and_resume),
            ("abort", self.stop),
            ("growth", self.send_many),
        )
        world.spawn(self._start())

    @callback
    def received(self, message: memoryview) -> None:
        self.see(message)

    @callback
    def told(self, event: Any) -> None:
        self.world.mischief()

    async def _start(self) -> None:
        try:
            await asyncio.wait_for(self.node.start(), START)
        except (*MAY_RAISE, asyncio.TimeoutError):
            pass

    def send_one(self) -> None:
        kind = self.world.random.random()
        data = self.data(kind < 0.3)
        function = self.node.send_threadsafe if kind < 0.3 else self.node.send
        self.send(function, bytearray(data) if 0.3 < kind < 0.5 else data)

    def send_many(self) -> None:
        for _ in range(30):
            self.send_one()

    def pause_and_resume(self) -> None:
        self.world.call(self.node.pause_reading, allow=MAY_RAISE)
        self.world.call(self.node.resume_reading, allow=MAY_RAISE)

    def stop(self) -> None:
        if self.world.random.random() < 0.2:
            self.world.spawn(self._stop())

    async def _stop(self) -> None:
        await self.node.stop(PATIENCE)

    async def settle(self) -> None:
        await asyncio.wait_for(self._stop(), START)

    def drop(self) -> None:
        pass


class Wire:
    """A client by hand: the same messages, cut anywhere, and perhaps nonsense at the end."""

    def __init__(self, world: World, server: Server) -> None:
        self.world = world
        self.flow = world.new_flow()
        self.sock = socket.create_connection(("127.0.0.1", server.node.listening_port))
        self.sock.setblocking(False)
        self.unsent = bytearray(frame(b"by hand"))
        world.offer(("", self.send), ("", self.pump), ("", self.pump), ("", self.read))
        world.offer(("abort", self.nonsense), ("close", self.close))

    def send(self) -> None:
        if len(self.unsent) < 300_000:
            data = self.flow.take(self.world.size(), sure=False)[1]
            if self.world.canary:
                data = data[:-1] + bytes([data[-1] ^ 1])
            self.unsent += frame(data)

    def pump(self) -> None:
        size = self.world.random.choice((1, 3, 1000, 100_000))
        try:
            del self.unsent[: self.sock.send(self.unsent[:size])]
        except OSError:
            pass

    def read(self) -> None:
        try:
            self.sock.recv(1 << 16)
        except OSError:
            pass

    def nonsense(self) -> None:
        self.unsent += b"\xff\xff\xff\xff"

    def close(self) -> None:
        self.sock.close()

    async def settle(self) -> None:
        self.sock.close()

    def drop(self) -> None:
        self.sock.close()


def frame(data: bytes) -> bytes:
    return struct.pack("<i", len(data)) + data


async def messages(world: World) -> list[Any]:
    """A server and those who talk to it."""
    server = Server(world)
    await server.open()
    made: list[Any] = [
        Client(world, server, f"client {n}") for n in range(world.random.randint(1, 3))
    ]
    if world.random.random() < 0.5:
        made.append(Wire(world, server))
    return [*made, server]
