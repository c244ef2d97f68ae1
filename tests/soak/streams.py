"""Loads on stream connections: short and long ones, large messages, aborts, TLS, Unix sockets."""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
import struct
from typing import Any

from .ground import ECHOES, KIB, LARGEST, Echo, Ground, Wrong, serving, within

RESET = struct.pack("ii", 1, 0)
"""SO_LINGER of no seconds: close sends a reset."""


async def exchange(
    ground: Ground, name: str, reader: Any, writer: Any, sent: bytes, rnd: random.Random
) -> None:
    """Send in pieces, read all of it back, compare."""

    async def send() -> None:
        start = 0
        while start < len(sent):
            end = start + rnd.randint(1, len(sent))
            writer.write(sent[start:end])
            await writer.drain()
            start = end

    back, _ = await within(asyncio.gather(reader.readexactly(len(sent)), send()), name)
    ground.same(name, sent, back)


async def ended(writer: Any) -> None:
    """Close and wait; a peer that has gone already is no error."""
    writer.close()
    try:
        await within(writer.wait_closed(), "closing")
    except OSError:
        pass


async def connects(ground: Ground) -> None:
    """Connections of one message, ended in all the ways there are, by either side."""
    rnd = ground.random("connects")
    while ground.running():
        async with serving(rnd.choice(ECHOES)) as port:
            for _ in range(30):
                reader, writer = await within(
                    asyncio.open_connection("127.0.0.1", port), "connecting"
                )
                await exchange(
                    ground, "connects", reader, writer, ground.message(rnd, 4 * KIB), rnd
                )
                way = rnd.choice(("close", "eof", "abort", "reset"))
                if way == "eof":
                    writer.write_eof()
                    if await within(reader.read(), "end of stream"):
                        raise Wrong("bytes after the end")
                elif way == "reset":
                    raw = writer.get_extra_info("socket")
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                if way in ("abort", "reset"):
                    writer.transport.abort()
                await ended(writer)


async def messages(ground: Ground) -> None:
    """Long connections to every kind of server at once, messages up to a mebibyte."""
    rnd = ground.random("messages")

    async def one(echo: Any, own: random.Random) -> None:
        async with serving(echo) as port:
            while ground.running():
                limit = own.choice((4 * KIB, 64 * KIB, 2 * LARGEST))
                reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=limit)
                for _ in range(40):
                    await exchange(ground, "messages", reader, writer, ground.message(own), own)
                await ended(writer)

    workers = (one(echo, ground.random(f"messages {rnd.random()}")) for echo in ECHOES)
    await asyncio.gather(*workers)


async def aborts(ground: Ground) -> None:
    """Either side ends a connection in the midst of large transfers; later ones are unharmed."""
    rnd = ground.random("aborts")
    while ground.running():
        async with serving(rnd.choice(ECHOES)) as port:
            connections = [await asyncio.open_connection("127.0.0.1", port) for _ in range(5)]
            for _, writer in connections:
                writer.write(ground.message(rnd) * 2)
            await asyncio.sleep(rnd.random() / 100)
            survivors = connections[:2]
            for _, writer in connections[2:]:
                if rnd.random() < 0.5:
                    raw = writer.get_extra_info("socket")
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                writer.transport.abort()
                ground.counts["aborts"] += 1
            for _, writer in survivors:  # the server aborts these when it ends
                writer.write(b"x" * KIB)
        for _, writer in connections:
            await ended(writer)


async def tls(ground: Ground) -> None:
    """TLS from the start and by start_tls, large and small, closed and aborted."""
    rnd = ground.random("tls")
    while ground.running():
        async with serving(rnd.choice(ECHOES), ssl=ground.tls.server) as port:
            for _ in range(5):
                reader, writer = await within(
                    asyncio.open_connection(
                        "127.0.0.1", port, ssl=ground.tls.client, server_hostname="localhost"
                    ),
                    "TLS handshake",
                )
                for _ in range(10):
                    await exchange(ground, "tls", reader, writer, ground.message(rnd), rnd)
                if rnd.random() < 0.3:
                    writer.write(ground.message(rnd))
                    writer.transport.abort()
                await ended(writer)
        await upgraded(ground, rnd)


class Starter(asyncio.Protocol):
    """Answers one plain line, then turns its connection into a TLS echo."""

    def __init__(self, context: ssl.SSLContext, tasks: set[asyncio.Task[Any]]) -> None:
        self.context = context
        self.tasks = tasks

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)
        self.transport.pause_reading()  # what comes now is for TLS
        self.tasks.add(asyncio.ensure_future(self.upgrade()))

    async def upgrade(self) -> None:
        loop = asyncio.get_running_loop()
        echo = Echo(set())
        secure = await loop.start_tls(self.transport, echo, self.context, server_side=True)
        echo.connection_made(secure)


class Receiver(asyncio.Protocol):
    """Queues what comes."""

    def __init__(self) -> None:
        self.got: asyncio.Queue[bytes] = asyncio.Queue()

    def data_received(self, data: bytes) -> None:
        self.got.put_nowait(data)


async def upgraded(ground: Ground, rnd: random.Random) -> None:
    """Both sides turn a plain connection into TLS after a line of plain text."""
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[Any]] = set()
    server = await loop.create_server(lambda: Starter(ground.tls.server, tasks), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    plain, protocol = await loop.create_connection(Receiver, "127.0.0.1", port)
    plain.write(b"STARTTLS\n")
    if await within(protocol.got.get(), "plain answer") != b"STARTTLS\n":
        raise Wrong("the plain line came back changed")
    starting = loop.start_tls(plain, protocol, ground.tls.client, server_hostname="localhost")
    secure: Any = await within(starting, "start_tls")
    for _ in range(5):
        sent, back = ground.message(rnd, 256 * KIB), b""
        secure.write(sent)
        while len(back) < len(sent):
            back += await within(protocol.got.get(), "TLS answer")
        ground.same("start_tls", sent, back)
    secure.close()
    await within(asyncio.gather(*tasks), "the server's start_tls")
    server.close()
    await server.wait_closed()


async def unix(ground: Ground) -> None:
    """Unix stream sockets."""
    rnd = ground.random("unix")
    while ground.running():
        path = ground.folder / "unix"
        async with serving(rnd.choice(ECHOES), path=path):
            for _ in range(10):
                reader, writer = await asyncio.open_unix_connection(path)
                for _ in range(10):
                    await exchange(ground, "unix", reader, writer, ground.message(rnd), rnd)
                await ended(writer)
        path.unlink(missing_ok=True)


LOADS = (connects, messages, aborts, tls, unix)
