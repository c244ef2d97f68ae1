"""websockets: its server and its client, both on the loop under test."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
import websockets
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK

from .support import KIB, MIB, digest, in_parallel, parts_of, payload


async def echo(socket):
    async for message in socket:
        if message == "close":
            await socket.close(4001, "as you wish")
        else:
            await socket.send(message)


@contextlib.asynccontextmanager
async def serving(handler=echo, context=None, **options):
    options = {"max_size": 32 * MIB, **options}
    async with serve(handler, "127.0.0.1", 0, ssl=context, **options) as server:
        port = server.sockets[0].getsockname()[1]
        yield f"{'wss' if context else 'ws'}://localhost:{port}", server


def connecting(address, context=None, **options):
    options = {"max_size": 32 * MIB, "host": "127.0.0.1", **options}
    if context is not None:
        options.update(ssl=context, server_hostname="localhost")
    return connect(address, **options)


@pytest.fixture(params=["plain", "tls"])
def contexts(request, certificate):
    if request.param == "plain":
        return None, None
    return certificate.server(), certificate.client()


async def test_thousands_of_messages(loop, contexts):
    async with serving(context=contexts[0]) as (address, _):

        async def client(number):
            async with connecting(address, contexts[1]) as socket:
                for turn in range(150):
                    await socket.send(f"{number} {turn}")
                    assert await socket.recv() == f"{number} {turn}"

        await in_parallel(20, work=client)


async def test_messages_sent_ahead_come_back_in_order(loop):
    async with serving() as (address, _), connecting(address) as socket:

        async def send():
            for number in range(5000):
                await socket.send(b"%d" % number)

        sending = asyncio.create_task(send())
        for number in range(5000):
            assert await socket.recv() == b"%d" % number
        await sending


@pytest.mark.parametrize("compression", [None, "deflate"])
async def test_large_messages(loop, contexts, compression):
    async with serving(context=contexts[0], compression=compression) as (address, _):
        async with connecting(address, contexts[1], compression=compression) as socket:
            for size in (0, 125, 126, 65_535, 65_536, 4 * MIB):
                message = payload(size)
                await socket.send(message)
                assert await socket.recv() == message
            text = "größer " * 100_000
            await socket.send(text)
            assert await socket.recv() == text


async def test_fragments(loop):
    data = payload(2 * MIB)

    async def fragments():
        for part in parts_of(data, 7 * KIB):
            yield part
            await asyncio.sleep(0)

    async def count(socket):
        async for _ in socket:
            pass

    async def digests(socket):
        while True:
            parts = [part async for part in socket.recv_streaming() if part]  # the last is empty
            await socket.send(f"{len(parts)} {digest(parts)}")

    async with serving(digests) as (address, _), connecting(address) as socket:
        for _ in range(3):
            await socket.send(fragments())
            assert await socket.recv() == f"{len(parts_of(data, 7 * KIB))} {digest(data)}"


async def test_pings(loop, contexts):
    async with serving(context=contexts[0]) as (address, _):
        async with connecting(address, contexts[1]) as socket:
            pongs = [await socket.ping(b"%d" % number) for number in range(300)]
            for pong in pongs:
                assert await pong >= 0
            assert socket.latency > 0


async def test_keepalive_ends_a_connection_that_is_dead(loop):
    """A peer that answers no ping is given up after ``ping_timeout``."""
    ended = loop.create_future()

    async def server(socket):
        try:
            await socket.recv()
        except ConnectionClosedError as error:
            ended.set_result(error)

    at_once = {"ping_interval": 0.1, "ping_timeout": 0.1, "close_timeout": 0.1}
    async with serving(server, **at_once) as (address, _):
        socket = await connecting(address)
        socket.transport.pause_reading()
        error = await ended
        assert (error.sent.code, error.sent.reason) == (1011, "keepalive ping timeout")
        socket.transport.abort()
        await socket.wait_closed()


@pytest.mark.parametrize("code", [1000, 1001, 3000, 4999])
async def test_close_codes(loop, contexts, code):
    closed = loop.create_future()

    async def server(socket):
        await socket.wait_closed()
        closed.set_result((socket.close_code, socket.close_reason))

    async with serving(server, contexts[0]) as (address, _):
        async with connecting(address, contexts[1]) as socket:
            await socket.close(code, "schluß")
        assert await closed == (code, "schluß")


async def test_a_close_from_the_server(loop, contexts):
    async with serving(context=contexts[0]) as (address, _):
        async with connecting(address, contexts[1]) as socket:
            await socket.send("close")
            with pytest.raises(ConnectionClosedError) as caught:
                await socket.recv()
            assert caught.value.rcvd.code == 4001
            assert caught.value.rcvd.reason == "as you wish"


async def test_a_connection_that_breaks(loop, contexts):
    closed = loop.create_future()

    async def server(socket):
        async for _ in socket:
            pass
        closed.set_result(socket.close_code)

    async def watched(socket):
        try:
            await server(socket)
        except ConnectionClosedError:
            closed.set_result(socket.close_code)

    async with serving(watched, contexts[0]) as (address, _):
        socket = await connecting(address, contexts[1])
        await socket.send(payload(MIB))
        socket.transport.abort()
        with pytest.raises(ConnectionClosedError):
            await socket.recv()
        assert await closed == 1006


async def test_a_writer_waits_for_a_slow_reader(loop):
    """Nothing is lost and memory stays bounded when the reader is behind."""
    size, count = 64 * KIB, 400
    message = payload(size)

    async def server(socket):
        for _ in range(count):
            await socket.send(message)

    async with serving(server) as (address, _), connecting(address, max_queue=4) as socket:
        for number in range(count):
            assert await socket.recv() == message
            if number % 50 == 0:
                await asyncio.sleep(0.01)
        with pytest.raises(ConnectionClosedOK):
            await socket.recv()


async def test_broadcast(loop):
    sockets = set()
    everybody = asyncio.Event()

    async def server(socket):
        sockets.add(socket)
        if len(sockets) == 30:
            everybody.set()
        await socket.wait_closed()

    async with serving(server) as (address, _), contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connecting(address)) for _ in range(30)]
        await everybody.wait()
        for number in range(100):
            websockets.broadcast(sockets, f"news {number}")
        for number in range(100):
            for client in clients:
                assert await client.recv() == f"news {number}"


async def test_a_server_closes_with_connections_open(loop, contexts):
    async with serving(context=contexts[0]) as (address, server):
        clients = [await connecting(address, contexts[1]) for _ in range(10)]
        server.close()
        for client in clients:
            with pytest.raises(ConnectionClosedOK) as caught:
                await client.recv()
            assert caught.value.rcvd.code == 1001
        await server.wait_closed()
        with pytest.raises(OSError):
            await connecting(address, contexts[1])


async def test_a_unix_socket(loop, tmp_path):
    path = str(tmp_path / "websockets.sock")
    async with websockets.unix_serve(echo, path):
        async with websockets.unix_connect(path) as socket:
            for number in range(500):
                await socket.send(f"{number}")
                assert await socket.recv() == f"{number}"
