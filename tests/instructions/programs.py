"""One operation of the loop, so often: ``python -m tests.instructions.programs echo epoll 1000``.

Everything happens in one thread of one process, and nothing depends on a clock, so that two runs
execute the same instructions.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Awaitable, Callable

import zerio_asyncio
from zerio_asyncio.messaging import connect, serve

MESSAGE = bytes(1024)


class Asking(asyncio.Protocol):
    """Sends the next message when the last one has come back."""

    def __init__(self, count: int) -> None:
        self.left = count
        self.got = 0
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self.transport.write(MESSAGE)

    def data_received(self, data: bytes) -> None:
        self.got += len(data)
        if self.got < len(MESSAGE):
            return
        self.got = 0
        self.left -= 1
        if self.left:
            self.transport.write(MESSAGE)
        else:
            self.done.set_result(None)


class Answering(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


async def echo(count: int) -> None:
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    answering, _ = await loop.create_connection(Answering, sock=theirs)
    asking, protocol = await loop.create_connection(lambda: Asking(count), sock=ours)
    await protocol.done
    asking.close()
    answering.close()


async def connections(count: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Answering, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    for _ in range(count):
        transport, protocol = await loop.create_connection(lambda: Asking(1), host, port)
        await protocol.done
        transport.close()
    server.close()


async def call_soon(count: int) -> None:
    loop = asyncio.get_running_loop()
    done = loop.create_future()

    def again(left: int) -> None:
        if left:
            loop.call_soon(again, left - 1)
        else:
            done.set_result(None)

    again(count)
    await done


async def timers(count: int) -> None:
    loop = asyncio.get_running_loop()
    for number in range(count):
        loop.call_later(60, print).cancel()
        if number % 100 == 0:
            await asyncio.sleep(0)


async def tasks(count: int) -> None:
    for _ in range(count // 100):
        await asyncio.gather(*(asyncio.sleep(0) for _ in range(100)))


async def messages(count: int) -> None:
    done = asyncio.get_running_loop().create_future()
    left = count

    def take(_: object, message: object) -> None:
        nonlocal left
        left -= 1
        if not left:
            done.set_result(None)

    async with serve(0, take) as server:
        address = "127.0.0.1", server.listening_port
        async with connect(address, "peer", on_message=print) as client:
            for sent in range(count):
                client.send(b"message of 64 bytes".ljust(64))
                if sent % 100 == 0:
                    await client.drain()
                    await asyncio.sleep(0)
            await done


PROGRAMS: dict[str, tuple[Callable[[int], Awaitable[None]], int]] = {
    "echo": (echo, 1000),
    "connections": (connections, 150),
    "call_soon": (call_soon, 10_000),
    "timers": (timers, 5_000),
    "tasks": (tasks, 2_000),
    "messages": (messages, 4_000),
}
"""Each with how often it is done to be counted."""


def main(name: str, provider: str, count: str) -> None:
    program, _ = PROGRAMS[name]

    async def run() -> None:
        await program(int(count))

    loop = zerio_asyncio.new_event_loop(zerio_asyncio.LoopOptions(provider=provider))
    loop.run_until_complete(run())
    loop.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
