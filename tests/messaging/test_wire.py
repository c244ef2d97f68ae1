"""Byte for byte: what goes over the wire, seen by peers on plain blocking sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct

import pytest

from zerio_asyncio.messaging import (
    DisconnectCause,
    HandshakeError,
    ZerioServerConfiguration,
)

from ..loop.support import listener
from .support import SECONDS, Client, PlainPeer, Server, dial, framed, plain, serving


async def test_a_plain_client_is_answered_with_its_peer_id(loop):
    async with serving() as server:
        peer = await dial(server)
        await peer.send(b"\x05\x00\x00\x00plain")
        assert await peer.receive_exactly(9) == b"\x05\x00\x00\x00plain"
        await server.until(lambda: server.events == [("connected", "plain")])
        await peer.send(b"\x03\x00\x00\x00abc\x00\x00\x00\x00\x01\x00\x00\x00d")
        assert await server.messages_of("plain", 3) == [b"abc", b"", b"d"]
        server.send("plain", b"hello")
        server.send("plain", b"")
        server.send("plain", bytes(300))
        wanted = b"\x05\x00\x00\x00hello" + b"\x00\x00\x00\x00" + b"\x2c\x01\x00\x00" + bytes(300)
        assert await peer.receive_exactly(len(wanted)) == wanted
        peer.close()
        assert (await server.reason_of("plain")).cause is DisconnectCause.PEER


async def test_peer_id_and_messages_in_one_piece(loop):
    async with serving() as server:
        peer = await dial(server)
        await peer.send(b"".join(map(framed, [b"eager", b"one", b"two"])))
        assert await server.messages_of("eager", 2) == [b"one", b"two"]
        assert server.events == [("connected", "eager")]
        peer.close()
        await server.reason_of("eager")


async def test_a_byte_at_a_time(loop):
    async with serving() as server:
        peer = await dial(server)
        peer.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in framed(b"slow") + framed(b"message"):
            await peer.send(bytes([byte]))
        assert await server.messages_of("slow", 1) == [b"message"]
        peer.close()
        await server.reason_of("slow")


@pytest.mark.parametrize("size", [4092, 4093, 16379, 16380, 16381, 65536, 1 << 20])
async def test_messages_about_as_long_as_a_buffer(loop, size):
    config = ZerioServerConfiguration(max_message_size=1 << 20)
    async with serving(config) as server, plain(server) as peer:
        message = bytes(range(251)) * (size // 251 + 1)
        message = message[:size]
        for data in (message, bytearray(message)):
            server.send("plain", b"before")
            server.send("plain", data)
            server.send("plain", b"after")
            for wanted in (b"before", message, b"after"):
                assert await peer.receive_message() == wanted
            await peer.send_message(message)
        assert await server.messages_of("plain", 2) == [message, message]


def answers_of(numbers):
    """A server that answers one message with as many as ``numbers`` says."""

    class Answering(Server):
        def take(self, peer, message):
            for number in range(numbers):
                peer.send(struct.pack("<q", number))

    return Answering()


async def test_answers_to_one_chunk_leave_together(loop):
    server = answers_of(100)
    await server.start()
    async with plain(server) as peer:
        before = loop.rio_stats()
        await peer.send_message(b"now")
        for number in range(100):
            assert await peer.receive_message() == struct.pack("<q", number)
        assert loop.rio_stats().gathered - before.gathered == 99
    await server.stop()


async def test_a_message_outside_of_a_handler_leaves_at_once(loop):
    async with serving() as server, plain(server) as peer:
        server.send("plain", b"message")
        # This loop does not turn: what reads is not on it.
        assert peer.sock.recv(100) == struct.pack("<i", 7) + b"message"


def test_a_loop_that_gathers_joins_the_messages_of_a_turn(new_loop):
    """One request has a slice of its own, and there is one more, for receiving."""
    loop = new_loop(gather=True)

    async def main():
        async with serving() as server, plain(server) as peer:
            for number in range(100):
                server.send("plain", struct.pack("<q", number))
            assert loop.rio_stats().slices_in_use == 2
            for number in range(100):
                assert await peer.receive_message() == struct.pack("<q", number)

    loop.run_until_complete(main())


class PlainServer:
    """Accepts one connection, and speaks the wire format over it."""

    def __init__(self) -> None:
        self.listening = listener()
        self.listening.settimeout(SECONDS)
        self.address = self.listening.getsockname()

    async def accept(self) -> PlainPeer:
        sock, _ = await asyncio.to_thread(self.listening.accept)
        return PlainPeer(sock)

    def close(self) -> None:
        self.listening.close()


async def test_a_client_introduces_itself_to_a_plain_server(loop):
    with contextlib.closing(PlainServer()) as plain_server:
        client = Client(plain_server.address, "ours")
        starting = asyncio.ensure_future(client.start())
        peer = await plain_server.accept()
        assert await peer.receive_exactly(8) == b"\x04\x00\x00\x00ours"
        assert not client.is_connected
        assert client.events == []
        await peer.send(b"\x04\x00\x00\x00ours\x02\x00\x00\x00hi")
        await starting
        assert client.is_connected
        assert await client.messages_of(1) == [b"hi"]
        client.send(b"answer")
        assert await peer.receive_exactly(10) == b"\x06\x00\x00\x00answer"
        await client.stop()
        assert await peer.receive_all() == b""
        peer.close()


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (framed(b"other"), "answered 'other' to the peer id 'ours'"),
        (framed(b"\xff"), "not ASCII"),
        (framed(b""), "empty"),
        (struct.pack("<i", -5), "negative length: -5"),
        (struct.pack("<i", 1 << 30), "1073741824 bytes: the limit is 511"),
        (b"", "closed the connection"),
        (b"\x04\x00", "in the middle of a message"),
    ],
)
async def test_a_wrong_answer_ends_the_start(loop, answer, text):
    with contextlib.closing(PlainServer()) as plain_server:
        client = Client(plain_server.address, "ours")
        starting = asyncio.ensure_future(client.start())
        peer = await plain_server.accept()
        await peer.receive_exactly(8)
        await peer.send(answer)
        peer.end()
        with pytest.raises(HandshakeError, match=text):
            await starting
        assert client.events == []
        assert not client.is_connected
        peer.close()


async def test_no_answer_at_all(loop):
    with contextlib.closing(PlainServer()) as plain_server:
        client = Client(plain_server.address, handshake_timeout=0.05)
        with pytest.raises(HandshakeError, match=r"within 0\.05 s"):
            await client.start()


async def test_a_start_that_is_cancelled_leaves_nothing(loop):
    with contextlib.closing(PlainServer()) as plain_server:
        client = Client(plain_server.address, "ours")
        starting = asyncio.ensure_future(client.start())
        peer = await plain_server.accept()
        await peer.receive_exactly(8)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        assert await peer.receive_all() == b""
        peer.close()
        with pytest.raises(OSError):  # it may be started again, and finds nobody
            plain_server.listening.close()
            await client.start()
