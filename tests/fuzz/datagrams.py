"""Datagram endpoints, and plain sockets that send to them and hear from them."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from .records import check_whole
from .world import World, callback

SIZES = (0, 1, 200, 1000, 5000, 9000, 40_000)


class Endpoint(asyncio.DatagramProtocol):
    """An endpoint; as a protocol it may be replaced by another of the same endpoint."""

    def __init__(self, world: World, shared: dict[str, Any] | None = None) -> None:
        self.world = world
        self.shared = shared if shared is not None else {"transport": None, "lost": False}
        self.flow = world.new_flow(ordered=False)
        self.flow.unsure = True  # datagrams may be lost; they are compared whole

    @callback
    def connection_made(self, transport: Any) -> None:
        self.shared["transport"] = transport
        self.world.mischief()
        self.world.fail()

    @callback
    def datagram_received(self, data: bytes, address: Any) -> None:
        if self.shared["lost"]:
            self.world.tell("datagram_received after connection_lost")
        if data:
            check_whole(data, self.world.flows, self.world.tell)
        self.world.mischief()
        self.world.fail()

    @callback
    def error_received(self, error: Exception) -> None:
        self.world.mischief()

    @callback
    def connection_lost(self, error: Exception | None) -> None:
        if self.shared["lost"]:
            self.world.tell("connection_lost came twice")
        self.shared["lost"] = True
        self.world.mischief()
        self.world.fail()

    @callback
    def pause_writing(self) -> None:
        self.world.mischief()

    @callback
    def resume_writing(self) -> None:
        self.world.mischief()


class Exchange:
    """An endpoint, connected or not, and the plain socket that it talks with."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.peer.bind(("127.0.0.1", 0))
        self.peer.setblocking(False)
        self.connected = world.random.random() < 0.4
        self.protocol = Endpoint(world)
        self.flow = world.new_flow(ordered=False)
        self.flow.unsure = True
        self.address: Any = None

    @property
    def transport(self) -> Any:
        return self.protocol.shared["transport"]

    async def open(self) -> None:
        world = self.world
        where: dict[str, Any] = {"local_addr": ("127.0.0.1", 0)}
        if self.connected:
            where["remote_addr"] = self.peer.getsockname()
        world.quiet = 0
        try:
            await world.loop.create_datagram_endpoint(lambda: self.protocol, **where)
        finally:
            world.quiet = 1
        self.address = self.transport.get_extra_info("sockname")
        world.offer(
            ("", self.send),
            ("", self.send),
            ("", self.send_from_peer),
            ("", self.send_from_peer),
            ("", self.receive),
            ("growth", self.send_many),
            ("growth", self.burst),
            ("pause", self.pause_and_resume),
            ("protocols", self.set_protocol),
            ("limits", self.set_limits),
            ("close", self.close),
            ("abort", self.abort),
            ("info", self.ask),
            ("eof", self.close_peer),
        )

    def _data(self) -> bytes:
        size = self.world.random.choice(SIZES)
        return self.flow.take(size)[1]

    def send(self) -> None:
        if self.protocol.shared["lost"] and self.world.provider == "std":
            return  # there it is an error of its own
        data: Any = self._data()
        if self.world.has("copies") and self.world.random.random() < 0.5:
            data = bytearray(data)
        to = None if self.connected or self.peer.fileno() < 0 else self.peer.getsockname()
        if not self.connected and to is None:
            to = ("127.0.0.1", 9)
        self.world.call(self.transport.sendto, data, to)
        if isinstance(data, bytearray):
            data[:] = b"!" * len(data)

    def send_many(self) -> None:
        for _ in range(self.world.random.choice((5, 40))):
            self.send()

    def send_from_peer(self) -> None:
        try:
            self.peer.sendto(self._data(), self.address)
        except OSError:
            pass  # full, or nobody is there

    def burst(self) -> None:
        for _ in range(self.world.random.choice((5, 40))):
            self.send_from_peer()

    def receive(self) -> None:
        for _ in range(20):
            try:
                data = self.peer.recv(1 << 16)
            except OSError:
                return
            check_whole(data, self.world.flows, self.world.tell)

    def close_peer(self) -> None:
        self.peer.close()

    def pause_and_resume(self) -> None:
        if hasattr(self.transport, "pause_reading"):
            self.world.call(self.transport.pause_reading)
            if self.world.random.random() < 0.9:
                self.world.call(self.transport.resume_reading)

    def set_protocol(self) -> None:
        if self.world.provider != "std" and not self.protocol.shared["lost"]:
            self.protocol = Endpoint(self.world, self.protocol.shared)
            self.world.call(self.transport.set_protocol, self.protocol)

    def set_limits(self) -> None:
        high = self.world.random.choice((0, 1, 1000, 100_000))
        self.world.call(self.transport.set_write_buffer_limits, high)

    def close(self) -> None:
        self.world.call(self.transport.close, allow=())

    def abort(self) -> None:
        self.world.call(self.transport.abort, allow=())

    def ask(self) -> None:
        self.world.call(self.transport.get_extra_info, "peername", allow=())
        self.world.call(self.transport.get_write_buffer_size, allow=())
        self.world.call(repr, self.transport, allow=())

    async def settle(self) -> None:
        self.receive()
        if self.transport is None:
            return
        self.close()
        shared = self.protocol.shared

        def ended() -> bool:
            self.receive()
            return bool(shared["lost"])

        await self.world.until(ended, lambda: f"the end of {self.transport!r}")

    def drop(self) -> None:
        self.peer.close()


async def datagrams(world: World) -> list[Any]:
    """An endpoint or two."""
    made = []
    for _ in range(world.random.randint(1, 2)):
        exchange = Exchange(world)
        world.actors.append(exchange)
        await exchange.open()
    return made
