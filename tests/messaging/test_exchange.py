"""Servers and clients talk: events in their order, messages whole, ends with their reasons."""

from __future__ import annotations

import array
import asyncio

import pytest

import zerio_asyncio
from zerio_asyncio.messaging import (
    DisconnectCause,
    NotConnectedError,
    UnknownPeerError,
    ZerioServerConfiguration,
)

from .support import Client, Server, address_of, connected, pair, serving


async def test_messages_in_both_directions(loop):
    async with pair() as (server, client):
        client.send(b"to the server")
        assert await server.messages_of("peer", 1) == [b"to the server"]
        server.send("peer", b"to the client")
        assert await client.messages_of(1) == [b"to the client"]


async def test_events_come_in_their_order(loop):
    async with serving() as server:
        async with connected(server, "first") as client:
            assert client.events == [("connected",)]
            assert client.is_connected
            assert server.peers == ("first",)
        assert not client.is_connected
        reason = await server.reason_of("first")
        assert reason.cause is DisconnectCause.PEER
        assert [event[:2] for event in server.events] == [
            ("connected", "first"),
            ("disconnected", "first"),
        ]
        assert server.peers == ()
        assert client.events[1][1].cause is DisconnectCause.LOCAL


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"x",
        bytes(range(256)),
        bytearray(b"array"),
        memoryview(b"a view"),
        memoryview(b"every other byte")[::2],
        array.array("i", [1, 2, 3]),
        b"whole" * 10_000,
    ],
    ids=lambda m: f"{type(m).__name__}-{len(m)}",
)
async def test_any_bytes_like_object_is_a_message(loop, message):
    async with pair() as (server, client):
        client.send(message)
        server.send("peer", message)
        wanted = [memoryview(message).tobytes()]
        assert await server.messages_of("peer", 1) == wanted
        assert await client.messages_of(1) == wanted


async def test_a_buffer_may_be_changed_after_send(loop):
    async with pair() as (server, client):
        for size in (10, 60_000):
            buffer = bytearray(b"a" * size)
            client.send(buffer)
            buffer[:] = b"b" * size
            server.received.clear()
            assert await server.messages_of("peer", 1) == [b"a" * size]


@pytest.mark.parametrize("message", ["text", 17, None, [b"list"]])
async def test_what_is_not_bytes_like_is_refused(loop, message):
    async with pair() as (server, client):
        with pytest.raises(TypeError):
            client.send(message)
        with pytest.raises(TypeError):
            server.send("peer", message)
        client.send(b"none the worse")
        assert await server.messages_of("peer", 1) == [b"none the worse"]


async def test_callbacks_given_to_the_constructor(loop):
    events = []
    done = asyncio.Event()

    def received(peer_id, message):
        events.append((peer_id, bytes(message)))
        server.send(peer_id, b"answer")

    server = zerio_asyncio.ZerioServer(
        0,
        client_connected=lambda peer_id: events.append(("connected", peer_id)),
        client_disconnected=lambda peer_id, reason: events.append((peer_id, reason.cause.value)),
        message_received=received,
    )
    client = zerio_asyncio.ZerioClient(
        ("127.0.0.1", 1),
        connected=lambda: events.append("connected"),
        disconnected=lambda reason: events.append(str(reason)),
        message_received=lambda message: (events.append(bytes(message)), done.set()),
    )
    await server.start("server")
    client._address = address_of(server)
    await client.start("caller")
    client.send(b"question")
    await asyncio.wait_for(done.wait(), 5)
    await server.stop()
    while client.is_connected:
        await asyncio.sleep(0.001)
    await client.stop()
    assert events == [
        ("connected", "caller"),
        "connected",
        ("caller", b"question"),
        b"answer",
        ("caller", "local"),
        "the peer closed the connection",
    ]


async def test_messages_by_iteration(loop):
    async with zerio_asyncio.ZerioServer(0) as server:
        async with zerio_asyncio.ZerioClient(address_of(server)) as client:
            await client.start("peer")
            for number in range(3):
                client.send(b"%d" % number)
            got = []
            async for peer_id, message in server.messages():
                got.append((peer_id, message))
                server.send(peer_id, message)
                if len(got) == 3:
                    break
            assert got == [("peer", b"0"), ("peer", b"1"), ("peer", b"2")]
            got = []
            async for message in client:
                got.append(message)
                if len(got) == 3:
                    break
            assert got == [b"0", b"1", b"2"]


async def test_iteration_ends_behind_the_last_message(loop):
    server = zerio_asyncio.ZerioServer(0)
    await server.start("server")
    async with zerio_asyncio.ZerioClient(address_of(server)) as client:
        await client.start("peer")
        client.send(b"last")
        while not len(server.inbox):
            await asyncio.sleep(0.001)
        server.send("peer", b"to the client")
        while not len(client.inbox):
            await asyncio.sleep(0.001)
        await server.stop()
        assert [item async for item in server.messages()] == [("peer", b"last")]
        assert [item async for item in client] == [b"to the client"]


async def test_messages_and_a_handler_exclude_each_other(loop):
    async with pair() as (server, client):
        with pytest.raises(RuntimeError, match="message_received"):
            server.messages()
        with pytest.raises(RuntimeError, match="message_received"):
            client.messages()


async def test_several_peers_and_broadcast(loop):
    async with serving() as server:
        async with connected(server, "a") as a, connected(server, "b") as b:
            server.send("a", b"for a")
            server.send("b", b"for b")
            assert server.broadcast(b"for all") == 2
            assert await a.messages_of(2) == [b"for a", b"for all"]
            assert await b.messages_of(2) == [b"for b", b"for all"]
            assert server.peers == ("a", "b")


async def test_an_unknown_peer(loop):
    async with serving() as server:
        with pytest.raises(UnknownPeerError, match="nobody"):
            server.send("nobody", b"")
        with pytest.raises(LookupError):
            await server.drain("nobody")
    async with serving(ZerioServerConfiguration(unknown_peer="drop")) as server:
        server.send("nobody", b"")
        server.send_threadsafe("nobody", b"")
        await server.drain("nobody")


async def test_a_message_over_the_limit_is_not_sent(loop):
    config = ZerioServerConfiguration(framing_buffer_length=100)
    async with serving(config) as server, connected(server) as client:
        await server.connection_of("peer")
        server.send("peer", b"x" * 100)
        with pytest.raises(ValueError, match="101 bytes: the limit is 100"):
            server.send("peer", b"x" * 101)
        assert await client.messages_of(1) == [b"x" * 100]


async def test_a_client_that_is_not_connected_cannot_send(loop):
    client = Client(("127.0.0.1", 1))
    with pytest.raises(NotConnectedError):
        client.send(b"")
    with pytest.raises(NotConnectedError):
        client.send_threadsafe(b"")
    with pytest.raises(NotConnectedError):
        await client.drain()


async def test_disconnect_sends_what_was_sent_before(loop):
    async with pair() as (server, client):
        server.send("peer", b"farewell")
        server.disconnect("peer", "no more of you")
        reason = await server.reason_of("peer")
        assert (reason.cause, str(reason)) == (DisconnectCause.LOCAL, "no more of you")
        assert await client.messages_of(1) == [b"farewell"]
        assert (await client.reason()).cause is DisconnectCause.PEER


async def test_stop_sends_what_was_sent_before(loop):
    async with serving() as server, connected(server) as client:
        await server.connection_of("peer")
        for number in range(1000):
            server.send("peer", b"%d" % number)
        await server.stop()
        assert server.events[-1][:2] == ("disconnected", "peer")
        assert await client.messages_of(1000) == [b"%d" % number for number in range(1000)]


async def test_started_twice_and_again_after_stop(loop):
    server = Server()
    await server.start("server")
    with pytest.raises(RuntimeError, match="started"):
        await server.start("server")
    await server.stop()
    await server.stop()
    assert not server.is_running
    with pytest.raises(RuntimeError, match="listen"):
        print(server.listening_port)
    await server.start("again")
    async with connected(server) as client:
        client.send(b"again")
        assert await server.messages_of("peer", 1) == [b"again"]
        with pytest.raises(RuntimeError, match="started"):
            await client.start("peer")
    await client.start("peer")
    client.send(b"twice")
    assert await server.messages_of("peer", 2) == [b"again", b"twice"]
    await client.stop()
    await client.stop()
    await server.stop()


async def test_a_port_that_is_taken(loop):
    async with serving() as first:
        second = Server(first.listening_port)
        with pytest.raises(OSError):
            await second.start("second")
        await second.stop()


async def test_nobody_listens(loop):
    async with serving() as server:
        address = address_of(server)
    client = Client(address)
    with pytest.raises(OSError):
        await client.start("peer")
    assert client.events == []


async def test_coroutine_functions_are_no_handlers(loop):
    async def received(peer_id, message):
        raise AssertionError

    server = zerio_asyncio.ZerioServer(0, message_received=received)
    with pytest.raises(TypeError, match="not awaited"):
        await server.start("server")
    assert not server.is_running


def test_another_loop_is_refused_clearly():
    async def start(what):
        with pytest.raises(RuntimeError, match=r"needs the loop of zerio_asyncio.*run\(main\(\)\)"):
            await what.start("name")

    for what in (Server(), Client(("127.0.0.1", 1))):
        asyncio.run(start(what))
