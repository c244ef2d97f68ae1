"""Beside C# Zerio: what docs/zerio.md says, with peers that behave as the sources do."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from zerio_asyncio.messaging import (
    DisconnectCause,
    HandshakeError,
    RequestError,
    connect,
    serve,
)

from .support import Client, address_of, dial, framed, serving
from .zerio_peer import CopyBeyondBuffer, CSharpClient, CSharpServer


def threaded(function, *arguments):
    return asyncio.to_thread(function, *arguments)


@contextlib.asynccontextmanager
async def csharp_client(server, peer_id="sharp"):
    client = CSharpClient(address_of(server), peer_id)
    assert await threaded(client.start)
    try:
        yield client
    finally:
        await threaded(client.stop)


@contextlib.asynccontextmanager
async def csharp_server():
    server = CSharpServer()
    try:
        yield server
    finally:
        await threaded(server.stop)


# ------------------------------------------------------ a client in C# of a server of ours


async def test_a_client_in_csharp(loop):
    async with serving() as server, csharp_client(server) as client:
        await server.connection_of("sharp")
        await threaded(client.send, b"to ours")
        assert await server.messages_of("sharp", 1) == [b"to ours"]
        server.send("sharp", b"to theirs")
        assert await threaded(client.next) == b"to theirs"
        server.disconnect("sharp")
        assert await threaded(client.next) is None


async def test_its_id_becomes_question_marks(loop):
    async with serving() as server, csharp_client(server, "Zoë"):
        await server.connection_of("Zo?")


async def test_bytes_beyond_ascii_are_refused(loop):
    """They cannot come from C#, which would take each for a question mark."""
    async with serving() as server:
        peer = await dial(server)
        await peer.send(framed(b"Zo\xeb"))
        assert (await server.reason_of(None)).cause is DisconnectCause.HANDSHAKE
        peer.close()


async def test_nothing_races_ahead_of_our_answer(loop):
    """The first message is the answer to C#, so what a handler sends at once must not be it."""

    def on_event(event):
        with contextlib.suppress(ConnectionError):
            event.peer.send(b"welcome")

    async with serve(0, lambda peer, message: None, on_event=on_event) as server:
        async with csharp_client(server) as client:
            assert client.session.peer_id == "sharp"
            assert await threaded(client.next) == b"welcome"


async def test_an_empty_message_arrives_with_the_next_one(loop):
    async with serving() as server, csharp_client(server) as client:
        await server.connection_of("sharp")
        server.send("sharp", b"")
        await asyncio.sleep(0.05)
        assert client.events.empty(), "as in C#, it waits for another byte"
        server.send("sharp", b"next")
        assert [await threaded(client.next) for _ in range(2)] == [b"", b"next"]
        await threaded(client.send, b"")
        assert await server.messages_of("sharp", 1) == [b""]


async def test_a_message_beyond_its_buffer_ends_it(loop):
    async with serving(max_message_size=1 << 20) as server, csharp_client(server) as client:
        await server.connection_of("sharp")
        server.send("sharp", bytes(64 * 1024))
        assert await threaded(client.next) == bytes(64 * 1024)
        server.send("sharp", bytes(64 * 1024 + 1))
        assert await threaded(client.next) is None
        assert isinstance(client.session.failure, CopyBeyondBuffer)


async def test_a_message_beyond_our_limit_ends_it(loop):
    async with serving() as server, csharp_client(server) as client:
        await threaded(client.send, bytes(64 * 1024 + 1))
        reason = await server.reason_of("sharp")
        assert reason.cause is DisconnectCause.PROTOCOL
        assert await threaded(client.next) is None


async def test_the_same_id_again_replaces_it(loop):
    async with serving() as server, csharp_client(server) as first:
        async with csharp_client(server) as second:
            assert await threaded(first.next) is None
            server.send("sharp", b"for the second")
            assert await threaded(second.next) == b"for the second"


async def test_it_is_sent_no_requests(loop):
    async with serving(keepalive=1) as server, csharp_client(server) as client:
        await server.connection_of("sharp")
        with pytest.raises(RequestError, match="extensions=True"):
            await server.request("sharp", b"question")
        await asyncio.sleep(1.5)  # longer than the time in which one with extensions hears a ping
        assert client.events.empty()
        server.send("sharp", b"all there is")
        assert await threaded(client.next) == b"all there is"


# ------------------------------------------------------ a client of ours of a server in C#


async def test_a_server_in_csharp(loop):
    async with csharp_server() as server, connect(server.address, "ours") as client:
        assert await threaded(server.next) == ("connected", "ours")
        client.send(b"to theirs")
        assert await threaded(server.next) == ("ours", b"to theirs")
        await threaded(server.send, "ours", b"to ours")
        assert await client.receive(timeout=10) == b"to ours"
        await client.stop()
        assert await threaded(server.next) == ("disconnected", "ours")


async def test_an_id_that_is_taken_there(loop):
    """The second gets no answer, and the first gets the answer to it as a message."""
    async with csharp_server() as server, connect(server.address, "ours") as first:
        second = Client(server.address, "ours", handshake_timeout=0.1)
        with pytest.raises(HandshakeError, match=r"within 0\.1 s"):
            await second.start()
        assert await first.receive(timeout=10) == b"ours"
        seen = [await threaded(server.next) for _ in range(3)]
        assert seen[0] == ("connected", "ours")
        assert ("disconnected", "ours") in seen
        await threaded(server.send, "ours", b"nobody there")
        first.send(b"still heard")
        assert await threaded(server.next) == ("ours", b"still heard")


async def test_extensions_are_not_for_that_server(loop):
    async with csharp_server() as server:
        client = Client(server.address, "ours", extensions=True)
        with pytest.raises(HandshakeError, match="without extensions=True"):
            await client.start()
        assert (await threaded(server.next))[1] == "ours\0zerio/1"


async def test_a_message_right_behind_its_answer(loop):
    async with csharp_server() as server:
        client = Client(server.address, "ours")
        order = []
        client.arrived = lambda: order.append("connected")
        await client.start()
        await threaded(server.send, "ours", b"at once")
        assert await client.messages_of(1) == [b"at once"]
        assert order == ["connected"]
        await client.stop()
