"""Back-pressure: senders wait for slow readers, readers are paused for a slow application."""

from __future__ import annotations

import asyncio
import functools
import gc
import sys

import pytest

from zerio_asyncio.messaging import (
    NotConnectedError,
    ZerioClientConfiguration,
    ZerioServerConfiguration,
    connect,
    serve,
)

from ..loop.support import spin
from .support import address_of, connected, pair, plain, serving

NARROW = ZerioServerConfiguration(unsent_max=800_000)
"""Drains wait from 50,000 bytes on, until 12,500 are left."""


async def fill(session, send):
    """Send until more than the high water waits, and the system takes no more; how many it were."""
    sent = 0
    unsent = None
    while unsent is None or session.writer.unsent != unsent:
        while not session._writing_paused:
            send(bytes(20_000))
            sent += 1
            await spin()
        unsent = session.writer.unsent
        await asyncio.sleep(0.05)
    return sent


async def fill_plain(server):
    await fill(server._sessions["plain"], functools.partial(server.send, "plain"))


async def test_drain_waits_for_a_slow_reader(loop):
    async with serving(NARROW) as server, plain(server) as peer:
        await server.drain("plain")  # at once: nothing waits
        await fill_plain(server)
        draining = asyncio.ensure_future(server.drain("plain"))
        everybody = asyncio.ensure_future(server.drain())
        await asyncio.sleep(0.02)
        assert not draining.done()
        assert not everybody.done()
        unsent = server._sessions["plain"].writer.unsent
        while not draining.done():
            assert await peer.receive_message() == bytes(20_000)
            await spin()
        await everybody
        assert server._sessions["plain"].writer.unsent <= 12_500 < unsent


async def test_drain_ends_with_the_connection(loop):
    async with serving(NARROW) as server, plain(server) as peer:
        await fill_plain(server)
        draining = asyncio.ensure_future(server.drain("plain"))
        await spin()
        peer.reset()
        with pytest.raises(NotConnectedError):
            await draining


async def test_a_drain_that_is_cancelled_disturbs_no_other(loop):
    async with serving(NARROW) as server, plain(server) as peer:
        await fill_plain(server)
        first = asyncio.ensure_future(server.drain("plain"))
        second = asyncio.ensure_future(server.drain("plain"))
        await spin()
        first.cancel()
        while not second.done():
            await peer.receive_message()
        await second
        assert first.cancelled()


async def test_clients_drain_too(loop):
    config = ZerioClientConfiguration(unsent_max=800_000)
    async with pair(client_config=config) as (server, client):
        server.pause_reading("peer")
        sent = await fill(client._session, client.send)
        draining = asyncio.ensure_future(client.drain())
        await asyncio.sleep(0.02)
        assert not draining.done()
        server.resume_reading("peer")
        await draining
        assert await server.messages_of("peer", sent) == [bytes(20_000)] * sent


async def test_reading_that_is_paused_and_resumed(loop):
    async with pair() as (server, client):
        client.pause_reading()
        server.send("peer", b"later")
        await asyncio.sleep(0.02)
        assert client.received == []
        client.resume_reading()
        client.resume_reading()
        assert await client.messages_of(1) == [b"later"]


@pytest.mark.parametrize("size", [0, 10, 1000])
async def test_messages_that_nobody_takes_pause_their_sender_alone(loop, size, monkeypatch):
    room = 2 * loop.options.slice_size
    monkeypatch.setattr("zerio_asyncio.messaging.inbox.BYTES_MAX", room)
    server = serve(0)
    await server.start()
    most = room + loop.options.slice_size * (64 + 4) // 4  # of empty messages
    async with connected(server, "flood") as flood, connected(server, "other") as other:
        sent = 0
        for _ in range(200):
            for _ in range(1000 if size < 1000 else 100):
                flood.send(bytes(size))
                sent += 1
            await spin()
            if flood._session._writing_paused:
                break
        session = server._sessions["flood"]
        while session.inbox_bytes < room:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.02)
        assert session.inbox_bytes <= most, (
            "bounded by the configuration and what one receive holds"
        )
        assert len(server.inbox) < sent
        other.send(b"not held up")
        taken = {"flood": 0, "other": 0}
        async for peer, message in server:
            assert message == (b"not held up" if peer.id == "other" else bytes(size))
            taken[peer.id] += 1
            if taken == {"flood": sent, "other": 1}:
                break
        assert session.inbox_bytes == 0
    await server.stop()


async def test_several_tasks_take_messages(loop):
    server = serve(0)
    await server.start()
    got = []

    async def take():
        async for _, message in server:
            got.append(message)
            await asyncio.sleep(0)

    tasks = [asyncio.ensure_future(take()) for _ in range(3)]
    await spin()
    async with connected(server, "peer") as client:
        for number in range(100):
            client.send(b"%d" % number)
            if number == 50:
                tasks[0].cancel()
        while len(got) < 100:
            await asyncio.sleep(0.001)
    await server.stop()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert sorted(got, key=int) == [b"%d" % number for number in range(100)]
    assert not tasks[1].cancelled()


async def test_messages_allocate_nothing_that_stays(loop):
    """A million would take a minute under every check; the growth of many thousands is none."""
    count = 0

    def counting(peer, message):
        nonlocal count
        count += 1

    server = serve(0, counting)
    await server.start()
    client = connect(address_of(server), "peer")
    await client.start()
    message = bytes(64)

    async def exchange(rounds):
        wanted = count + rounds * 200
        for _ in range(rounds):
            for _ in range(200):
                client.send(message)
            await client.drain()
            await asyncio.sleep(0)
        while count < wanted:
            await asyncio.sleep(0)

    await exchange(20)
    gc.collect()
    collections = [generation["collections"] for generation in gc.get_stats()]
    blocks = sys.getallocatedblocks()
    await exchange(200)
    growth = sys.getallocatedblocks() - blocks
    assert [generation["collections"] for generation in gc.get_stats()] == collections
    assert growth < 200, "40,000 messages, and fewer blocks than one in two hundred of them"
    await client.stop()
    await server.stop()
