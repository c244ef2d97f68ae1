"""Peers that do wrong: the server stays up, the others unharmed, and the reason is told."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct

import pytest

from zerio_asyncio.messaging import (
    ConnectionClosed,
    DisconnectCause,
    HandshakeError,
    SlowPeerError,
    ZerioServerConfiguration,
)

from ..loop.support import Limits, spin
from .support import Client, address_of, connected, dial, framed, plain, serving

NEVER = 61.0
"""Seconds of a limit that runs out when a test says so, not by the clock."""


@contextlib.asynccontextmanager
async def unharmed(server):
    """A well-behaved client that must get through before, while and afterwards."""
    async with connected(server, "good") as client:
        yield
        client.send(b"still here")
        assert await server.messages_of("good", 1) == [b"still here"]
        server.send("good", b"and you")
        await client.until(lambda: b"and you" in client.received)


GARBAGE = [
    (b"GET / HTTP/1.1\r\n\r\n", "542393671 bytes: the limit is 263; this looks like HTTP"),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01", "33620758 bytes: the limit is 263; this looks like TLS"),
    (struct.pack("<I", 2**31), "negative length: -2147483648"),
    (struct.pack("<i", -1), "negative length: -1"),
    (struct.pack("<i", 2**31 - 1), "2147483647 bytes: the limit is 263"),
    (framed(b"x" * 256), "256 bytes: the limit is 255"),
    (framed(b"x" * 264), "264 bytes: the limit is 263"),
    (framed(b""), "the peer id is empty"),
    (framed("é".encode()), "the peer id is not ASCII"),
    (framed(b"\x80"), "the peer id is not ASCII"),
]


@pytest.mark.parametrize(("garbage", "text"), GARBAGE, ids=range(len(GARBAGE)))
async def test_garbage_instead_of_a_peer_id(loop, garbage, text):
    async with serving() as server, unharmed(server):
        peer = await dial(server)
        await peer.send(garbage)
        reason = await server.reason_of(None)
        assert reason.cause is DisconnectCause.HANDSHAKE
        assert text in str(reason)
        with contextlib.suppress(ConnectionResetError):
            assert await peer.receive_all() == b""
        peer.close()
        assert server.peers == ("good",)


@pytest.mark.parametrize("begun", [b"", b"\x05\x00", framed(b"half")[:-1]])
async def test_half_a_header_and_then_silence(loop, begun):
    config = ZerioServerConfiguration(handshake_timeout=NEVER)
    limits = Limits(loop, NEVER)
    async with serving(config) as server, unharmed(server):
        before = set(server._connections)
        peer = await dial(server)
        await peer.send(begun)
        while not [
            session
            for session in server._connections - before
            if session._framer.pending == len(begun)
        ]:
            await asyncio.sleep(0.001)
        limits.run_out()
        reason = await server.reason_of(None)
        assert reason.cause is DisconnectCause.HANDSHAKE
        assert f"within {NEVER:g} s" in str(reason)
        assert (f"only {len(begun)} bytes" in str(reason)) == bool(begun)
        with contextlib.suppress(ConnectionResetError):
            assert await peer.receive_all() == b""
        peer.close()


async def test_a_client_that_goes_before_it_gave_its_peer_id(loop):
    async with serving() as server, unharmed(server):
        peer = await dial(server)
        peer.close()
        reason = await server.reason_of(None)
        assert reason.cause is DisconnectCause.PEER
        assert "before it gave its peer id" in str(reason)


@pytest.mark.parametrize(
    ("length", "text"),
    [
        (2**31 - 1, "2147483647 bytes: the limit is 65536"),
        (-(2**31), "negative length: -2147483648"),
        (65537, "65537 bytes: the limit is 65536"),
    ],
)
async def test_a_bad_length_after_good_messages(loop, length, text):
    async with serving() as server, unharmed(server), plain(server) as peer:
        await peer.send(framed(b"good") + struct.pack("<i", length) + b"whatever")
        reason = await server.reason_of("plain")
        assert reason.cause is DisconnectCause.PROTOCOL
        assert text in str(reason)
        assert isinstance(reason.error, ValueError)
        assert server.received["plain"] == [b"good"]


async def test_a_client_that_goes_in_the_middle_of_a_message(loop):
    async with serving() as server, unharmed(server), plain(server) as peer:
        await peer.send(framed(b"unfinished")[:-3])
        peer.end()
        reason = await server.reason_of("plain")
        assert reason.cause is DisconnectCause.PEER
        assert "in the middle of a message, 11 bytes" in str(reason)


async def test_a_reset(loop):
    async with serving() as server, unharmed(server), plain(server) as peer:
        peer.reset()
        reason = await server.reason_of("plain")
        assert reason.cause is DisconnectCause.NETWORK
        assert isinstance(reason.error, OSError)


async def test_a_peer_id_that_is_taken_is_refused(loop):
    config = ZerioServerConfiguration(duplicate_peer="refuse")
    async with serving(config) as server, connected(server, "same") as first:
        second = Client(address_of(server), "same")
        with pytest.raises(HandshakeError):
            await second.start()
        reason = await server.reason_of(None)
        assert reason.cause is DisconnectCause.DUPLICATE
        assert "'same' is taken" in str(reason)
        first.send(b"mine")
        assert await server.messages_of("same", 1) == [b"mine"]
        server.send("same", b"yours")
        assert await first.messages_of(1) == [b"yours"]


async def test_a_peer_id_that_is_taken_over(loop):
    async with serving() as server, connected(server, "same") as first:
        async with connected(server, "same") as second:
            reason = await server.reason_of("same")
            assert reason.cause is DisconnectCause.DUPLICATE
            await first.reason_of_end()
            assert [event[:2] for event in server.events] == [
                ("connected", "same"),
                ("disconnected", "same"),
                ("connected", "same"),
            ]
            server.send("same", b"for the second")
            assert await second.messages_of(1) == [b"for the second"]
            assert first.received == []
            assert server.peers == ("same",)
        await server.until(lambda: not server.peers)


async def test_a_peer_id_is_free_once_its_connection_is_closing(loop):
    async with serving() as server, plain(server, "same"):
        server.disconnect("same")
        async with connected(server, "same") as second:
            server.send("same", b"welcome")
            assert await second.messages_of(1) == [b"welcome"]


async def test_more_connections_than_sessions(loop):
    config = ZerioServerConfiguration(peers_max=2)
    async with serving(config) as server, connected(server, "one"):
        waiting = await dial(server)  # it has not said who it is, and counts
        while len(server._connections) < 2:  # nobody is told of it
            await asyncio.sleep(0.001)
        third = Client(address_of(server), "three")
        with pytest.raises(HandshakeError):
            await third.start()
        reason = await server.reason_of(None)
        assert reason.cause is DisconnectCause.LIMIT
        waiting.close()
        await server.until(lambda: len(server.events) == 3)
        await third.start()
        assert server.peers == ("one", "three")
        await third.stop()


SMALL = {"max_message_size": 10_000, "unsent_max": 128 * 1024}


async def flood(server, peer_id):
    """Send until it is refused; how many messages were taken."""
    message = bytes(10_000)
    for number in range(10_000):
        try:
            server.send(peer_id, message)
        except ConnectionClosed:
            return number
        if not number % 16:
            await spin()
        if peer_id not in server.peers:
            return number
    raise AssertionError("a peer that never reads was sent everything")


async def test_a_reader_that_never_reads_is_disconnected(loop):
    config = ZerioServerConfiguration(**SMALL)
    async with serving(config) as server, unharmed(server), plain(server, "deaf"):
        await flood(server, "deaf")
        reason = await server.reason_of("deaf")
        assert reason.cause is DisconnectCause.SLOW
        assert "'deaf' does not read" in str(reason)


async def test_a_reader_that_never_reads_is_an_error_if_so_wished(loop):
    config = ZerioServerConfiguration(slow_peer="raise", **SMALL)
    async with serving(config) as server, unharmed(server), plain(server, "deaf") as deaf:
        with pytest.raises(SlowPeerError, match="'deaf' does not read") as full:
            await flood(server, "deaf")
        assert full.value.peer_ids == ("deaf",)
        taken = server._sessions["deaf"].writer.messages
        assert server._sessions["deaf"].writer.unsent <= 32 * 4096
        with pytest.raises(SlowPeerError) as full:
            server.broadcast(bytes(10_000))
        assert full.value.peer_ids == ("deaf",)
        for _ in range(taken - 1):  # the first was its own peer id
            assert await deaf.receive_message() == bytes(10_000)
        await server.drain("deaf")
        server.send("deaf", b"heard")
        assert await deaf.receive_message() == b"heard"


async def test_a_reader_that_never_reads_does_not_hold_up_stop(loop):
    async with serving() as server, plain(server, "deaf"):
        for _ in range(400):
            server.send("deaf", bytes(10_000))
        await server.stop(patience=0.05)
        reason = await server.reason_of("deaf")
        assert reason.cause is DisconnectCause.LOCAL


async def fill(server, peer_id):
    """Send until the system takes no more."""
    while server._sessions[peer_id].writer.unsent < 100_000:
        server.send(peer_id, bytes(10_000))
        await spin()


async def test_a_reader_that_never_reads_does_not_hold_up_disconnect(loop):
    async with serving() as server, plain(server, "deaf"):
        await fill(server, "deaf")
        server.disconnect("deaf", "at last", patience=0.05)
        count = server._sessions["deaf"].writer.messages
        with pytest.raises(ConnectionClosed, match="at last"):
            server.send("deaf", b"forgotten")
        assert server._sessions["deaf"].writer.messages == count
        assert str(await server.reason_of("deaf")) == "at last"


async def test_a_reader_that_never_reads_and_ends_its_side(loop, monkeypatch):
    monkeypatch.setattr("zerio_asyncio.messaging.session.STOP_SECONDS", 0.05)
    async with serving() as server, plain(server, "deaf") as deaf:
        await fill(server, "deaf")
        deaf.end()
        assert (await server.reason_of("deaf")).cause is DisconnectCause.PEER


async def test_a_handler_that_raises_ends_its_connection_alone(loop, caught):
    class Wrong(Exception):
        pass

    async with serving() as server, unharmed(server), plain(server) as peer:

        def failing(peer_id, message):
            raise Wrong(bytes(message))

        server._sessions["plain"].establish("plain", failing, "plain", False)
        await peer.send(framed(b"one") + framed(b"two"))
        reason = await server.reason_of("plain")
        assert reason.cause is DisconnectCause.HANDLER
        assert "Wrong" in str(reason)
        context = caught.take_one(Wrong)
        assert "'plain'" in context["message"]
        assert context["exception"].args == (b"one",)


@pytest.mark.parametrize("event", ["client_arrived", "client_gone"])
async def test_an_event_that_raises_harms_nobody_else(loop, caught, event):
    async with serving() as server, unharmed(server):
        setattr(server, event, lambda *arguments: 1 / 0)
        peer = await dial(server)
        await peer.send_message(b"plain")
        if event == "client_gone":
            assert await peer.receive_message() == b"plain"
        peer.close()
        while not caught:
            await asyncio.sleep(0.001)
        caught.take_one(ZeroDivisionError)
        while len(server.peers) > 1:
            await asyncio.sleep(0.001)
        del server.__dict__[event]


async def test_a_handler_may_end_the_connection_from_inside(loop):
    async with serving() as server, plain(server) as peer:

        def ending(peer_id, message):
            server.received.setdefault(peer_id, []).append(bytes(message))
            server.disconnect(peer_id, "enough")

        server._sessions["plain"].establish("plain", ending, "plain", False)
        await peer.send(framed(b"one") + framed(b"two"))
        assert str(await server.reason_of("plain")) == "enough"
        assert server.received["plain"] == [b"one"]


async def test_a_flood_of_connections_and_garbage(loop):
    """A hundred rude peers at once; each has its reason, and the server its one good client."""

    def rude(number, address):
        with socket.create_connection(address, 10) as sock:
            data = [GARBAGE[number % len(GARBAGE)][0], b"\x01", framed(b"rude%d" % number)]
            with contextlib.suppress(OSError):
                sock.sendall(data[number % 3])

    async with serving() as server, unharmed(server):
        address = address_of(server)
        for start in range(0, 100, 20):
            numbers = range(start, start + 20)
            await asyncio.gather(*[asyncio.to_thread(rude, n, address) for n in numbers])
        await server.until(lambda: sum(e[0] == "disconnected" for e in server.events) == 100)
        assert server.peers == ("good",)
        assert len(server._connections) == 1
