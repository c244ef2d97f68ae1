"""asyncio's streams on our transports: the interface that most programs use."""

from __future__ import annotations

import asyncio
import hashlib
import sys

import pytest

from .marks import beyond_proactor
from .support import SECONDS, set_reset_on_close, spin


class Echo:
    """A streams server that can be waited for to the last handler."""

    def __init__(self, server, tasks):
        self.server = server
        self.tasks = tasks
        self.address = server.sockets[0].getsockname()

    async def stop(self):
        self.server.close()
        if self.tasks:
            await asyncio.wait(self.tasks, timeout=SECONDS)
        await self.server.wait_closed()


async def start(handler) -> Echo:
    tasks: set[asyncio.Task] = set()

    async def tracked(reader, writer):
        tasks.add(asyncio.current_task())
        try:
            await handler(reader, writer)
        finally:
            writer.close()

    return Echo(await asyncio.start_server(tracked, "127.0.0.1", 0), tasks)


async def echo(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


async def close(writer):
    writer.close()
    await writer.wait_closed()


async def test_lines(loop):
    server = await start(echo)
    reader, writer = await asyncio.open_connection(*server.address)
    for number in range(300):
        writer.write(b"line %d\n" % number)
        assert await reader.readline() == b"line %d\n" % number
    await close(writer)
    await server.stop()


async def test_exact_sizes_and_the_end(loop):
    server = await start(echo)
    reader, writer = await asyncio.open_connection(*server.address)
    writer.write(b"0123456789")
    assert await reader.readexactly(4) == b"0123"
    assert await reader.readexactly(6) == b"456789"
    writer.write(b"abc")
    writer.write_eof()
    with pytest.raises(asyncio.IncompleteReadError) as failure:
        await reader.readexactly(10)
    assert failure.value.partial == b"abc"
    assert reader.at_eof()
    await close(writer)
    await server.stop()


async def test_read_until_and_its_limit(loop):
    server = await start(echo)
    reader, writer = await asyncio.open_connection(*server.address, limit=100)
    writer.write(b"key=value;rest")
    assert await reader.readuntil(b";") == b"key=value;"
    writer.write(b"x" * 500)
    with pytest.raises(asyncio.LimitOverrunError):
        await reader.readuntil(b";")
    await close(writer)
    await server.stop()


async def test_ten_megabytes_with_drain_and_back_pressure(loop):
    server = await start(echo)
    reader, writer = await asyncio.open_connection(*server.address)
    block = bytes(range(256)) * 256
    blocks = 160

    async def send():
        for _ in range(blocks):
            writer.write(block)
            await writer.drain()
        writer.write_eof()

    sending = asyncio.ensure_future(send())
    received = hashlib.sha256()
    size = 0
    while data := await reader.read(1 << 16):
        received.update(data)
        size += len(data)
    await sending
    assert size == len(block) * blocks
    assert received.digest() == hashlib.sha256(block * blocks).digest()
    await close(writer)
    await server.stop()


async def test_a_reader_that_does_not_read_holds_the_sender_back(loop):
    done = asyncio.Event()

    async def never_read(reader, writer):
        await done.wait()

    server = await start(never_read)
    reader, writer = await asyncio.open_connection(*server.address)

    async def flood():
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()

    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(flood(), 0.3)
    done.set()
    writer.transport.abort()
    await server.stop()


async def test_writelines_and_extra_info(loop):
    server = await start(echo)
    reader, writer = await asyncio.open_connection(*server.address)
    writer.writelines([b"a", b"b", b"c"])
    assert await reader.readexactly(3) == b"abc"
    assert writer.get_extra_info("peername") == server.address
    assert not writer.is_closing()
    assert writer.can_write_eof()
    await close(writer)
    assert writer.is_closing()
    await server.stop()


async def test_iterating_over_lines(loop):
    async def count(reader, writer):
        for number in range(10):
            writer.write(b"%d\n" % number)

    server = await start(count)
    reader, writer = await asyncio.open_connection(*server.address)
    assert [line async for line in reader] == [b"%d\n" % number for number in range(10)]
    await close(writer)
    await server.stop()


@beyond_proactor  # that one shuts down what it aborts, and so says a regular end
async def test_reset_by_the_server(loop):
    async def abort(reader, writer):
        await reader.read(1)
        set_reset_on_close(writer.get_extra_info("socket"))
        writer.transport.abort()

    server = await start(abort)
    reader, writer = await asyncio.open_connection(*server.address)
    writer.write(b"x")
    with pytest.raises(ConnectionResetError):
        await reader.read()
    writer.close()
    with pytest.raises(ConnectionResetError):
        await writer.wait_closed()
    await server.stop()


async def test_many_clients_at_once(loop):
    server = await start(echo)

    async def client(number):
        reader, writer = await asyncio.open_connection(*server.address)
        for turn in range(20):
            message = b"%d:%d\n" % (number, turn)
            writer.write(message)
            assert await reader.readline() == message
        await close(writer)

    await asyncio.gather(*(client(number) for number in range(100)))
    await server.stop()


async def test_cancelling_a_read_loses_no_data(loop):
    server = await start(echo)
    reader, writer = await asyncio.open_connection(*server.address)
    for turn in range(30):
        read = asyncio.ensure_future(reader.readexactly(4))
        await spin(turn % 5)
        read.cancel()
        with pytest.raises(asyncio.CancelledError):
            await read
    writer.write(b"kept")
    assert await reader.readexactly(4) == b"kept"
    await close(writer)
    await server.stop()


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.timeout is new in 3.11")
async def test_timeouts_around_reads(loop):
    server = await start(echo)
    reader, writer = await asyncio.open_connection(*server.address)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await reader.read(1)
    writer.write(b"x")
    assert await reader.read(1) == b"x"
    await close(writer)
    await server.stop()
