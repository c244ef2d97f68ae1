"""A start that is stopped or cancelled: who hears what, and that nothing is left behind."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from zerio_asyncio.messaging import NotConnectedError

from .support import Client, address_of, serving


@contextlib.asynccontextmanager
async def mute():
    """A server that takes connections and never answers; gives its address."""

    async def hold(reader, writer):
        with contextlib.suppress(ConnectionError):
            await reader.read()
        ended.release()
        writer.close()

    ended = asyncio.Semaphore(0)
    server = await asyncio.start_server(hold, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()
        await ended.acquire()


async def started(client):
    start = asyncio.ensure_future(client.start())
    while client._session is None:
        await asyncio.sleep(0.001)
    return start


async def test_stopped(loop):
    async with mute() as address:
        client = Client(address)
        start = await started(client)
        await client.stop()
        with pytest.raises(NotConnectedError, match="stopped"):
            await start


async def test_cancelled(loop):
    async with mute() as address:
        client = Client(address)
        start = await started(client)
        start.cancel()
        with pytest.raises(asyncio.CancelledError):
            await start
        await client.stop()


@pytest.mark.parametrize("stop_first", [False, True])
async def test_stopped_and_cancelled(loop, stop_first):
    """A cancelled task is cancelled, whatever else happens to it."""
    async with mute() as address:
        client = Client(address)
        start = await started(client)
        stop = loop.create_task(client.stop())
        if stop_first:
            await asyncio.sleep(0)
        start.cancel()
        await stop
        with pytest.raises(asyncio.CancelledError):
            await start
        assert client._loop is None


async def test_stopped_when_its_time_is_up(loop):
    """Nobody is left with an exception that nobody takes; the fixtures see to that."""
    async with mute() as address:
        client = Client(address)
        waiting = asyncio.ensure_future(asyncio.wait_for(client.start(), 60))
        while client._session is None:
            await asyncio.sleep(0.001)
        stop = loop.create_task(client.stop())
        await asyncio.sleep(0)
        waiting.cancel()
        await stop
        with pytest.raises(asyncio.CancelledError):
            await waiting


async def test_cancelled_in_the_tick_of_the_answer(loop):
    async with serving() as server:
        client = Client(address_of(server))
        client.arrived = lambda: start.cancel()
        start = asyncio.ensure_future(client.start())
        with pytest.raises(asyncio.CancelledError):
            await start
        assert not client.is_connected
        await server.reason_of("peer")
        assert server.peers == ()
        await client.stop()
