"""The loop's calls on plain sockets: several at once, cancelled, with buffers that change."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

from .streams import End, pair

if TYPE_CHECKING:
    from .world import World


class Low(End):
    """One socket that is used by ``loop.sock_*``; the other end is another."""

    def __init__(self, world: World, sock: socket.socket) -> None:
        super().__init__(world)
        self.sock = sock
        self.receiving = self.sending = False
        self.tasks: list[asyncio.Task[Any]] = []
        world.offer(
            ("", self.send),
            ("", self.receive),
            ("", self.receive),
            ("abort", self.cancel),
            ("copies", self.shrink),
            ("close", self.close),
            ("pause", self.watch),
            ("pause", self.unwatch),
        )
        self.buffer: bytearray | None = None

    def _begin(self, coroutine: Any) -> None:
        task = self.world.loop.create_task(coroutine)
        self.world.tasks.add(task)
        task.add_done_callback(self.world._ended)
        self.tasks = [task for task in self.tasks if not task.done()] + [task]

    def send(self) -> None:
        if not self.sending and self.sock.fileno() >= 0:
            self.sending = True
            self._begin(self._send())

    async def _send(self) -> None:
        _, data = self.flow.take(self.world.size(), sure=False)
        self.buffer = bytearray(data)
        sent = False
        try:
            await self.world.loop.sock_sendall(self.sock, self.buffer)
            sent = True
        except (OSError, ValueError):
            pass
        finally:
            self.sending = False
            if not sent:
                self.flow.unsure = True

    def receive(self) -> None:
        if not self.receiving and self.sock.fileno() >= 0:
            self.receiving = True
            self._begin(self._receive())

    async def _receive(self) -> None:
        loop, size = self.world.loop, self.world.random.choice((1, 1000, 200_000))
        data: Any = None
        try:
            if self.world.random.random() < 0.5:
                data = await loop.sock_recv(self.sock, size)
            else:
                room = bytearray(size)
                data = bytes(room[: await loop.sock_recv_into(self.sock, room)])
        except (OSError, ValueError):
            pass
        finally:
            self.receiving = False
            if data is None and self.reader.flow is not None:
                self.reader.flow.unsure = True  # what a cancelled call had taken is gone
        if data:
            self.reader.feed(data)

    def cancel(self) -> None:
        if self.tasks:
            self.world.call(self.world.random.choice(self.tasks).cancel)

    def shrink(self) -> None:
        """Make the buffer that goes out shorter, if nobody holds it."""
        if self.buffer:
            try:
                del self.buffer[len(self.buffer) // 2 :]
            except BufferError:
                return
            if self.sending:
                self.flow.unsure = True

    def watch(self) -> None:
        if self.sock.fileno() >= 0:
            self.world.call(self.world.loop.add_reader, self.sock, self.world.mischief)
            self.unwatch()

    def unwatch(self) -> None:
        if self.sock.fileno() >= 0:
            self.world.call(self.world.loop.remove_reader, self.sock)

    def close(self) -> None:
        self.spoil()
        for task in self.tasks:
            self.world.call(task.cancel)
        self._begin(self._close())

    async def _close(self) -> None:
        """When nobody waits for it any more."""
        tasks = [task for task in self.tasks if task is not asyncio.current_task()]
        if tasks:
            await asyncio.wait(tasks)
        self.sock.close()

    async def settle(self) -> None:
        for task in self.tasks:
            task.cancel()
        if self.tasks:
            await asyncio.wait(self.tasks)
        self.reader.finish()
        self.sock.close()

    def drop(self) -> None:
        self.sock.close()
        self.tasks.clear()


class Door:
    """A listening socket for ``sock_accept``, and ``sock_connect`` to it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.listener = socket.socket()
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen()
        self.listener.setblocking(False)
        self.tasks: list[asyncio.Task[Any]] = []
        self.count = 0
        world.offer(("", self.accept), ("", self.connect), ("abort", self.cancel))

    def _begin(self, coroutine: Any) -> None:
        Low._begin(self, coroutine)  # type: ignore[arg-type]

    def accept(self) -> None:
        if self.count < 6:
            self.count += 1
            self._begin(self._accept())

    async def _accept(self) -> None:
        try:
            sock, _ = await self.world.loop.sock_accept(self.listener)
        except (OSError, RuntimeError):
            return
        sock.close()

    def connect(self) -> None:
        if self.count < 6:
            self.count += 1
            self._begin(self._connect())

    async def _connect(self) -> None:
        with socket.socket() as sock:
            sock.setblocking(False)
            try:
                await self.world.loop.sock_connect(sock, self.listener.getsockname())
                await self.world.loop.sock_sendall(sock, b"hello")
            except OSError:
                pass

    def cancel(self) -> None:
        if self.tasks:
            self.world.call(self.world.random.choice(self.tasks).cancel)

    async def settle(self) -> None:
        for task in self.tasks:
            task.cancel()
        if self.tasks:
            await asyncio.wait(self.tasks)
        self.listener.close()

    def drop(self) -> None:
        self.listener.close()
        self.tasks.clear()


async def sockets(world: World) -> list[Any]:
    """A pair, and perhaps a listener."""
    one, other = socket.socketpair()
    for sock in (one, other):
        sock.setblocking(False)
    ends = [Low(world, one), Low(world, other)]
    pair(*ends)
    made: list[Any] = list(ends)
    if world.random.random() < 0.4:
        made.append(Door(world))
    return made
