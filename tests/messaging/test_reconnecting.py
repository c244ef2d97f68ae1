"""A client that connects again by itself."""

from __future__ import annotations

import asyncio

import pytest

from zerio_asyncio.messaging import (
    DisconnectCause,
    NotConnectedError,
    Reconnect,
    ZerioClientConfiguration,
    connect,
)

from .support import Client, Server, address_of, connected, serving

AGAIN = ZerioClientConfiguration(reconnect=Reconnect(delay_min=0.005, delay_max=0.02))


def connections(client):
    return client.events.count(("connected",))


async def test_it_comes_back_when_it_was_disconnected(loop):
    async with serving() as server, connected(server, config=AGAIN) as client:
        for count in range(1, 4):
            await client.until(lambda count=count: connections(client) == count)
            await server.connection_of("peer")
            server.send("peer", b"%d" % count)
            assert (await client.messages_of(count))[-1] == b"%d" % count
            server.disconnect("peer")
            await client.until(lambda count=count: len(client.events) >= 2 * count)
        assert [event[0] for event in client.events[:6]] == ["connected", "disconnected"] * 3


async def test_it_comes_back_when_the_server_does(loop):
    server = Server()
    await server.start()
    port = server.listening_port
    client = Client(address_of(server), config=AGAIN)
    await client.start()
    await server.stop()
    assert (await client.reason_of_end()).cause is DisconnectCause.PEER
    assert not client.is_connected
    with pytest.raises(NotConnectedError):
        client.send(b"nobody there")
    await asyncio.sleep(0.05)  # some attempts that fail
    server = Server(port)
    await server.start()
    await client.until(lambda: connections(client) == 2)
    client.send(b"again")
    assert await server.messages_of("peer", 1) == [b"again"]
    await client.stop()
    await server.stop()


async def test_stop_ends_the_attempts(loop):
    server = Server()
    await server.start()
    client = Client(address_of(server), config=AGAIN)
    await client.start()
    await server.stop()
    await client.reason_of_end()
    await client.stop()
    assert client._coming_back is None
    assert connections(client) == 1


async def test_iteration_goes_on_over_a_reconnection(loop):
    async with serving() as server:
        client = connect(address_of(server), "peer", config=AGAIN)
        await client.start()
        await server.connection_of("peer")
        got = []

        async def take():
            async for message in client:
                got.append(message)
                if message == b"before":
                    server.disconnect("peer")
                elif message == b"after":
                    return

        taking = asyncio.ensure_future(take())
        server.send("peer", b"before")
        await server.reason_of("peer")
        await server.connection_of("peer")
        server.send("peer", b"after")
        await taking
        assert got == [b"before", b"after"]
        await client.stop()


async def test_without_it_there_is_one_connection(loop):
    async with serving() as server, connected(server) as client:
        await server.connection_of("peer")
        server.disconnect("peer")
        await client.reason_of_end()
        await asyncio.sleep(0.02)
        assert connections(client) == 1
        assert not client.is_connected


async def test_delays_grow_up_to_their_limit(loop, monkeypatch):
    delays = []

    async def sleep(delay):
        delays.append(delay)
        if len(delays) == 8:
            done.set_result(None)
            await loop.create_future()

    server = Server()
    await server.start()
    client = Client(address_of(server), config=AGAIN)
    await client.start()
    done = loop.create_future()
    monkeypatch.setattr("zerio_asyncio.messaging.client.asyncio.sleep", sleep)
    monkeypatch.setattr("zerio_asyncio.messaging.client.random.uniform", lambda a, b: b)
    await server.stop()
    await done
    monkeypatch.undo()
    assert delays == [0.005, 0.01] + [0.02] * 6
    await client.stop()
