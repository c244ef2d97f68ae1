"""Servers and clients talk: events in their order, messages whole, ends with their reasons."""

from __future__ import annotations

import array
import asyncio

import pytest

from zerio_asyncio.messaging import (
    DisconnectCause,
    Disconnected,
    NotConnectedError,
    UnknownPeerError,
    ZerioServerConfiguration,
    connect,
    serve,
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

    def received(peer, message):
        events.append((peer.id, bytes(message)))
        peer.send(b"answer")

    def told(side, event):
        peer = event.peer
        text = str(event.reason) if isinstance(event, Disconnected) else "is here"
        events.append((side, peer.id, text))

    server = serve(0, received, on_event=lambda event: told("server", event))
    await server.start()
    client = connect(
        address_of(server),
        "caller",
        lambda message: (events.append(bytes(message)), done.set()),
        on_event=lambda event: told("client", event),
    )
    await client.start()
    client.send(b"question")
    await asyncio.wait_for(done.wait(), 5)
    await server.stop()
    while client.is_connected:
        await asyncio.sleep(0.001)
    await client.stop()
    assert events == [
        ("server", "caller", "is here"),
        ("client", "caller", "is here"),
        ("caller", b"question"),
        b"answer",
        ("server", "caller", "stopped"),
        ("client", "caller", "the peer closed the connection"),
    ]


async def test_messages_by_iteration(loop):
    async with serve(0) as server:
        async with connect(address_of(server), "peer") as client:
            for number in range(3):
                client.send(b"%d" % number)
            got = []
            async for peer, message in server:
                got.append((peer.id, message))
                peer.send(message)
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
    server = serve(0)
    await server.start()
    async with connect(address_of(server), "peer") as client:
        client.send(b"last")
        while not len(server.inbox):
            await asyncio.sleep(0.001)
        server.send("peer", b"to the client")
        while not len(client.inbox):
            await asyncio.sleep(0.001)
        await server.stop()
        assert [(peer.id, message) async for peer, message in server] == [("peer", b"last")]
        assert [item async for item in client] == [b"to the client"]


async def test_messages_and_a_handler_exclude_each_other(loop):
    async with pair() as (server, client):
        for node in (server, client):
            with pytest.raises(RuntimeError, match="on_message"):
                aiter(node)
            with pytest.raises(RuntimeError, match="on_message"):
                await node.receive()


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
        with pytest.raises(UnknownPeerError):
            server.send_threadsafe("nobody", b"")
        with pytest.raises(UnknownPeerError):
            server.peer("nobody")


async def test_a_message_over_the_limit_is_not_sent(loop):
    config = ZerioServerConfiguration(max_message_size=100)
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
        assert (await client.reason_of_end()).cause is DisconnectCause.PEER


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
    await server.start()
    with pytest.raises(RuntimeError, match="started"):
        await server.start()
    await server.stop()
    await server.stop()
    assert not server.is_running
    with pytest.raises(RuntimeError, match="listen"):
        print(server.listening_port)
    await server.start()
    async with connected(server) as client:
        client.send(b"again")
        assert await server.messages_of("peer", 1) == [b"again"]
        with pytest.raises(RuntimeError, match="started"):
            await client.start()
    await client.start()
    client.send(b"twice")
    assert await server.messages_of("peer", 2) == [b"again", b"twice"]
    await client.stop()
    await client.stop()
    await server.stop()


async def test_a_port_that_is_taken(loop):
    async with serving() as first:
        second = Server(first.listening_port)
        with pytest.raises(OSError):
            await second.start()
        await second.stop()


async def test_nobody_listens(loop):
    async with serving() as server:
        address = address_of(server)
    client = Client(address)
    with pytest.raises(OSError):
        await client.start()
    assert client.events == []


def test_another_loop_is_refused_clearly():
    async def start(what):
        with pytest.raises(RuntimeError, match=r"needs the loop of zerio_asyncio.*run\(main\(\)\)"):
            await what.start()

    for what in (Server(), Client(("127.0.0.1", 1))):
        asyncio.run(start(what))
