"""Peers that vanish without a word are noticed, and their ids are free again."""

from __future__ import annotations

import asyncio
import socket
import struct

import pytest

from zerio_asyncio.messaging import DisconnectCause, RequestError, connect, serve
from zerio_asyncio.messaging.framing import MARK

from .support import address_of, connected, dial, framed, plain, serving

PING = struct.pack("<8sBQ", MARK, 5, 0)
PONG = struct.pack("<8sBQ", MARK, 6, 0)


def option(peer, level, name):
    sock = peer._transport.get_extra_info("socket")
    return sock.getsockopt(level, getattr(socket, name))


async def test_the_system_probes_both_sides(loop):
    async with serving(keepalive=60) as server, connected(server, keepalive=60) as client:
        await server.connection_of("peer")
        for peer in (server.peer("peer"), client.peer):
            assert option(peer, socket.SOL_SOCKET, "SO_KEEPALIVE")
            for name, value in (
                ("TCP_KEEPIDLE", 30),
                ("TCP_KEEPINTVL", 10),
                ("TCP_KEEPCNT", 3),
                ("TCP_USER_TIMEOUT", 60_000),
            ):
                if hasattr(socket, name):
                    assert option(peer, socket.IPPROTO_TCP, name) == value


async def test_it_does_so_by_default_and_not_if_told(loop):
    async with serving() as server, connected(server, keepalive=None) as client:
        await server.connection_of("peer")
        assert option(server.peer("peer"), socket.SOL_SOCKET, "SO_KEEPALIVE")
        assert not option(client.peer, socket.SOL_SOCKET, "SO_KEEPALIVE")


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="the system has no such limit")
async def test_a_peer_that_vanished_is_noticed(loop):
    """Seen from here, who takes nothing at all for so long is no better than one that is gone."""
    async with serving(keepalive=1) as server, plain(server, "gone"):
        while "gone" in server.peers:
            server.send("gone", bytes(60_000))
            await server.drain(timeout=0.05)
        reason = await server.reason_of("gone")
        assert reason.cause is DisconnectCause.NETWORK
        assert isinstance(reason.error, TimeoutError)


async def test_a_program_that_hangs_is_noticed_by_its_pings(loop):
    """A client that asked for extensions, and then neither sends nor answers."""
    async with serving(keepalive=1) as server:
        peer = await dial(server)
        await peer.send(framed(b"hung\0zerio/1"))
        assert await peer.receive_message() == b"hung\0zerio/1 agreed"
        reason = await server.reason_of("hung")
        assert reason.cause is DisconnectCause.NETWORK
        assert str(reason) == "no sign of life for 1 s"
        assert not reason.clean
        assert await peer.receive_message() == PING
        peer.close()


async def test_who_answers_pings_lives(loop):
    async with serving(keepalive=2) as server:
        peer = await dial(server)
        await peer.send(framed(b"idle\0zerio/1"))
        assert await peer.receive_message() == b"idle\0zerio/1 agreed"
        for _ in range(5):  # longer than it would be waited for
            assert await peer.receive_message() == PING
            await peer.send_message(PONG)
        assert server.peers == ("idle",)
        await peer.send_message(PING)
        while await peer.receive_message() != PONG:
            pass
        peer.close()
        await server.reason_of("idle")


async def test_two_idle_sides_live(loop):
    async with serving(keepalive=1) as server:
        async with connected(server, keepalive=1, extensions=True) as client:
            await asyncio.sleep(2)
            client.send(b"alive")
            assert await server.messages_of("peer", 1) == [b"alive"]
            assert len(client.events) == 1
            assert client.received == []


async def test_a_side_that_does_not_read_says_that_it_lives(loop):
    async with serving(keepalive=1) as server:
        async with connected(server, keepalive=1, extensions=True) as client:
            client.pause_reading()
            await asyncio.sleep(2)
            assert server.peers == ("peer",)
            client.resume_reading()
            server.send("peer", b"read again")
            assert await client.messages_of(1) == [b"read again"]


async def test_an_id_that_comes_back_is_not_locked_out(loop):
    """Its former connection is still there for all that the server knows."""
    async with serving() as server, plain(server, "trader"):
        async with plain(server, "trader") as second:
            reason = await server.reason_of("trader")
            assert reason.cause is DisconnectCause.DUPLICATE
            server.send("trader", b"welcome back")
            assert await second.receive_message() == b"welcome back"


async def test_both_must_have_said_so(loop):
    """A server sends no ping to who has not asked, and no client asks unless told."""
    async with serve(0, lambda peer, message: None, keepalive=1) as server:
        async with connect(address_of(server), "me", keepalive=1) as client:
            assert not server.peer("me").extensions
            assert not client.peer.extensions
            with pytest.raises(RequestError, match="extensions=True"):
                await client.request(b"")
            await asyncio.sleep(1.5)
            assert server.peer("me").writer.messages == 1, "its own id"
