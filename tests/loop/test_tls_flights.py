"""TLS by the segment: what arrives together, half, broken, too early or too late.

The peer is a plain socket with OpenSSL's memory buffers above it, so a test decides which bytes go
into which segment.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import sys

import pytest

from .support import SECONDS, Recorder, receive_all
from .tls import (
    VERSIONS,
    close,
    connect_to_blocking,
    echo,
    forgetful,
    only,
    serving,
)

pytestmark = [forgetful, pytest.mark.tls]


class Segments:
    """A TLS client in a thread; what it would send waits until ``send``."""

    def __init__(self, address, context):
        self.sock = socket.create_connection(address, SECONDS)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.sslobj = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.sock.close()

    def send(self):
        self.sock.sendall(self.outgoing.read())

    def do(self, step):
        """A step of the SSLObject; its last flight is not sent."""
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                self.send()
                data = self.sock.recv(65536)
                if data:
                    self.incoming.write(data)
                else:
                    self.incoming.write_eof()

    def shake_hands(self):
        self.do(self.sslobj.do_handshake)

    def record(self, data):
        """One record that is not sent yet."""
        self.sslobj.write(data)
        return self.outgoing.read()


class Server:
    """A server of one kind of protocol on the loop; each connection's is ``made``."""

    def __init__(self, loop, context, factory=Recorder, **options):
        self.loop, self.context, self.factory, self.options = loop, context, factory, options
        self.made = loop.create_future()

    def new_protocol(self):
        protocol = self.factory()
        if not self.made.done():
            self.made.set_result(protocol)
        return protocol

    async def __aenter__(self):
        self.server = await self.loop.create_server(
            self.new_protocol, "127.0.0.1", 0, ssl=self.context, **self.options
        )
        self.address = self.server.sockets[0].getsockname()
        return self

    async def __aexit__(self, *exc_info):
        self.server.close()
        await self.server.wait_closed()


@pytest.mark.parametrize("version", VERSIONS)
async def test_data_with_the_end_of_the_handshake(loop, contexts, version):
    """One segment has the client's last flight and its first words."""
    only(contexts[0], version)

    def talk(address):
        with Segments(address, contexts[1]) as client:
            client.shake_hands()
            if version is ssl.TLSVersion.TLSv1_3:
                last = client.outgoing.read()
                words = b"".join(client.record(b"%d " % number) for number in range(50))
                client.sock.sendall(last + words)
            else:  # the server has the last word
                client.sock.sendall(b"".join(client.record(b"%d " % n) for n in range(50)))
            assert client.do(lambda: client.sslobj.read(3)) == b"yes"

    async with Server(loop, contexts[0]) as server:
        talking = asyncio.ensure_future(asyncio.to_thread(talk, server.address))
        recorder = await server.made
        words = b"".join(b"%d " % number for number in range(50))
        assert await recorder.got(len(words)) == words
        assert recorder.calls[:2] == ["connection_made", "data_received"]
        recorder.transport.write(b"yes")
        await talking
        await recorder.lost()


@pytest.mark.ours  # CPython from 3.13.12 and 3.14.3 on
async def test_a_proxys_header_and_the_hello_in_one_segment(loop, contexts):
    def talk(address):
        with Segments(address, contexts[1]) as client:
            with contextlib.suppress(ssl.SSLWantReadError):
                client.sslobj.do_handshake()
            client.sock.sendall(b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n" + client.outgoing.read())
            client.shake_hands()
            client.sslobj.write(b"hello\n")
            client.send()
            return client.do(lambda: client.sslobj.read(100))

    async def behind_a_proxy(reader, writer):
        assert (await reader.readline()).startswith(b"PROXY TCP4")
        transport = await loop.start_tls(
            writer.transport, writer.transport.get_protocol(), contexts[0], server_side=True
        )
        reader._transport = transport
        transport.write(b"secret " + await reader.readline())

    async with serving(behind_a_proxy, None) as address:
        assert await asyncio.to_thread(talk, address) == b"secret hello\n"


def say_goodbye(client, words, then=b""):
    """``words``, close_notify and what is no TLS in one segment; all that the server sends."""
    client.shake_hands()
    client.send()
    last = client.record(words)
    with contextlib.suppress(ssl.SSLWantReadError):
        client.sslobj.unwrap()
    client.sock.sendall(last + client.outgoing.read() + then)
    with contextlib.suppress(ConnectionError):
        receive_all(client.sock)


async def test_the_end_in_the_flight_of_what_a_reader_pauses_at(loop, kind, contexts):
    """Pausing holds back what comes later; this end has come, and is told."""

    class Pausing(Recorder):
        def data_received(self, data):
            super().data_received(data)
            self.transport.pause_reading()

    def talk(address):
        with Segments(address, contexts[1]) as client:
            say_goodbye(client, b"the last words")

    async with Server(loop, contexts[0], Pausing) as server:
        talking = asyncio.ensure_future(asyncio.to_thread(talk, server.address))
        recorder = await server.made
        assert await recorder.lost() is None
        assert recorder.received == b"the last words"
        await talking
        if kind != "std" or sys.version_info >= (3, 11):  # the layer of 3.10 notes that nowhere
            private = recorder.transport._ssl_protocol
            assert private._app_reading_paused, "what was asked for stays asked for"
            recorder.transport.resume_reading()
            assert not private._app_reading_paused


async def test_what_follows_close_notify_is_dropped(loop, contexts):
    def talk(address):
        with Segments(address, contexts[1]) as client:
            say_goodbye(client, b"last words", then=b"in the clear" * 100)

    async with Server(loop, contexts[0]) as server:
        talking = asyncio.ensure_future(asyncio.to_thread(talk, server.address))
        recorder = await server.made
        assert await recorder.lost() is None
        assert recorder.received == b"last words"
        await talking


@pytest.mark.parametrize("paused", [False, True])
async def test_closing_while_the_peer_floods(loop, contexts, paused):
    """It sends on and on, and answers no close_notify."""
    if sys.version_info < (3, 11):
        pytest.skip("ssl_shutdown_timeout is new in 3.11")

    def talk(address):
        with Segments(address, contexts[1]) as client:
            client.shake_hands()
            client.send()
            with contextlib.suppress(ConnectionError):
                while True:
                    client.sock.sendall(client.record(b"x" * 16000))

    async with Server(loop, contexts[0], ssl_shutdown_timeout=0.2) as server:
        talking = asyncio.ensure_future(asyncio.to_thread(talk, server.address))
        recorder = await server.made
        await recorder.got(100_000)
        if paused:
            recorder.transport.pause_reading()
        recorder.transport.close()
        count = len(recorder.received)
        await recorder.lost()
        assert len(recorder.received) == count or paused
        await talking


@pytest.mark.ours  # asyncio pauses at the limit, and so for ever at 0
async def test_draining_with_limits_of_nothing(loop, contexts):
    async with serving(echo, contexts[0]) as address:
        reader, writer = await asyncio.open_connection(*address, ssl=contexts[1])
        writer.transport.set_write_buffer_limits(high=0)
        assert writer.transport.get_write_buffer_limits() == (0, 0)
        for _ in range(3):
            writer.write(b"x" * 3_000_000)
            receiving = asyncio.ensure_future(reader.readexactly(3_000_000))
            await writer.drain()
            assert writer.transport.get_write_buffer_size() == 0
            assert await receiving == b"x" * 3_000_000
        await close(writer)


@pytest.mark.parametrize(
    "words",
    [
        b"",
        b"\x16",
        b"\x16\x03\x01\x02\x00\x01",
        b"\x16\x03\x01\x40\x00\x01\x00\xff\xff" + b"x" * 9000,
    ],
    ids=["nothing", "a byte", "half a header", "half a record"],
)
async def test_a_peer_that_stops_in_its_first_flight(loop, contexts, words, caught):
    def talk(address):
        with socket.create_connection(address, SECONDS) as sock:
            sock.sendall(words)
            with contextlib.suppress(ConnectionError):
                receive_all(sock)

    async with Server(loop, contexts[0], ssl_handshake_timeout=0.1) as server:
        await asyncio.to_thread(talk, server.address)
        recorder = await server.made
        assert recorder.calls == []
    caught.take()


@pytest.mark.ours  # asyncio drops the alert
async def test_a_peer_without_tls_gets_an_alert(loop, contexts, caught):
    def talk(address):
        with socket.create_connection(address, SECONDS) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
            return receive_all(sock)

    async with Server(loop, contexts[0]) as server:
        answer = b""
        with contextlib.suppress(ConnectionError):
            answer = await asyncio.to_thread(talk, server.address)
        assert answer[:1] in {b"\x15", b""}
    caught.take()


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_broken_record(loop, contexts, version):
    """Its error has OpenSSL's reason, and the interpreter's text."""
    only(contexts[0], version)

    def talk(address):
        with Segments(address, contexts[1]) as client:
            client.shake_hands()
            client.send()
            client.sock.sendall(client.record(b"whole"))
            broken = bytearray(client.record(b"broken"))
            broken[-1] ^= 1
            assert client.do(lambda: client.sslobj.read(2)) == b"go"
            client.sock.sendall(broken)
            with contextlib.suppress(ConnectionError):
                receive_all(client.sock)

    async with Server(loop, contexts[0]) as server:
        talking = asyncio.ensure_future(asyncio.to_thread(talk, server.address))
        recorder = await server.made
        assert await recorder.got(5) == b"whole"
        recorder.transport.write(b"go")
        error = await recorder.lost()
        assert isinstance(error, ssl.SSLError)
        # The second is of OpenSSL 3.5 and later.
        assert error.reason in {"DECRYPTION_FAILED_OR_BAD_RECORD_MAC", "RECORD_LAYER_FAILURE"}
        assert error.reason.lower().replace("_", " ") + " (_ssl.c:" in str(error)
        assert recorder.received == b"whole"
        await talking


@pytest.mark.ours  # asyncio loses what it has decrypted
async def test_data_before_a_broken_record_is_delivered(loop, contexts):
    def talk(address):
        with Segments(address, contexts[1]) as client:
            client.shake_hands()
            client.send()
            good, broken = client.record(b"good"), bytearray(client.record(b"bad"))
            broken[-1] ^= 1
            client.sock.sendall(good + broken)
            with contextlib.suppress(ConnectionError):
                receive_all(client.sock)

    async with Server(loop, contexts[0]) as server:
        talking = asyncio.ensure_future(asyncio.to_thread(talk, server.address))
        recorder = await server.made
        assert isinstance(await recorder.lost(), ssl.SSLError)
        assert recorder.received == b"good"
        await talking


async def test_records_cut_into_bytes(loop, contexts):
    """Every byte is a segment of its own, in both directions of the handshake and after it."""

    def talk(address):
        with Segments(address, contexts[1]) as client:
            client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

            def send():
                for byte in client.outgoing.read():
                    client.sock.sendall(bytes([byte]))

            client.send = send
            client.shake_hands()
            client.send()
            client.sslobj.write(b"cut to pieces")
            client.send()
            return client.do(lambda: client.sslobj.read(100))

    class Echo(Recorder):
        def data_received(self, data):
            super().data_received(data)
            self.transport.write(data)

    async with Server(loop, contexts[0], Echo) as server:
        assert await asyncio.to_thread(talk, server.address) == b"cut to pieces"
        await (await server.made).lost()


# ------------------------------------------------------------------- protocols


class SmallBuffer(asyncio.BufferedProtocol):
    """Has room for a few bytes at a time."""

    def __init__(self):
        self.room = bytearray(7)
        self.received = bytearray()
        self.gone = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport

    def get_buffer(self, hint):
        return self.room

    def buffer_updated(self, count):
        self.received += self.room[:count]
        if len(self.received) % 5 == 0:
            self.transport.pause_reading()
            asyncio.get_running_loop().call_soon(self.transport.resume_reading)

    def eof_received(self):
        pass

    def connection_lost(self, exc):
        self.gone.set_result(exc)


async def test_a_buffer_smaller_than_a_record(loop, contexts):
    data = bytes(range(256)) * 20

    async def send(reader, writer):
        writer.write(data)
        await writer.drain()

    async with serving(send, contexts[0]) as address:
        _, protocol = await loop.create_connection(SmallBuffer, *address, ssl=contexts[1])
        assert await protocol.gone is None
        assert protocol.received == data


@pytest.mark.ours
async def test_a_part_of_a_view_is_kept(loop, contexts):
    """Its memory is not used again, whatever else is decrypted."""
    import zerio_asyncio

    class Keeping(zerio_asyncio.RegisteredProtocol):
        def __init__(self):
            self.kept = []
            self.gone = loop.create_future()

        def view_received(self, view):
            self.kept.append(view[:4])
            self.whole = view

        def connection_lost(self, exc):
            self.gone.set_result(exc)

    async def send(reader, writer):
        for number in range(20):
            writer.write(b"%04d" % number + b"-" * 1000)
            await reader.readexactly(1)

    async with serving(send, contexts[0]) as address:
        transport, protocol = await loop.create_connection(Keeping, *address, ssl=contexts[1])
        for number in range(20):
            while len(protocol.kept) <= number:
                await asyncio.sleep(0.001)
            transport.write(b"!")
        await protocol.gone
        assert [bytes(part) for part in protocol.kept] == [b"%04d" % n for n in range(20)]
        with pytest.raises(ValueError, match="released"):
            len(protocol.whole)


async def test_pausing_at_every_delivery(loop, contexts):
    class Hesitant(Recorder):
        def data_received(self, data):
            super().data_received(data)
            self.transport.pause_reading()
            assert not self.transport.is_reading()
            loop.call_later(0.001, self.transport.resume_reading)

    def talk(address):
        with Segments(address, contexts[1]) as client:
            client.shake_hands()
            client.send()
            client.sock.sendall(b"".join(client.record(b"%05d" % n * 500) for n in range(100)))
            return client.do(lambda: client.sslobj.read(4))

    async with Server(loop, contexts[0], Hesitant) as server:
        talking = asyncio.ensure_future(asyncio.to_thread(talk, server.address))
        recorder = await server.made
        data = b"".join(b"%05d" % n * 500 for n in range(100))
        assert await recorder.got(len(data)) == data
        recorder.transport.write(b"done")
        assert await talking == b"done"
        await recorder.lost()


@pytest.mark.ours  # asyncio's layer calls it in the middle of that write
async def test_writing_when_paused(loop, contexts):
    """What ``pause_writing`` writes follows the whole write that caused it."""

    class Marking(Recorder):
        def pause_writing(self):
            super().pause_writing()
            self.transport.write(b"|")

    transport, recorder, peer = await connect_to_blocking(Marking, contexts)
    transport.set_write_buffer_limits(high=1)
    data = b"x" * 8_000_000
    transport.write(data)
    assert await peer.receive_exactly(len(data) + 1) == data + b"|"
    transport.abort()
    await recorder.lost()
    peer.close()


async def test_another_protocol_under_way(loop, contexts):
    second = Recorder()

    class First(Recorder):
        def data_received(self, data):
            super().data_received(data)
            self.transport.set_protocol(second)
            assert self.transport.get_protocol() is second

    async def talk(reader, writer):
        writer.write(b"one")
        await reader.readexactly(1)
        writer.write(b"two")

    async with serving(talk, contexts[0]) as address:
        transport, first = await loop.create_connection(First, *address, ssl=contexts[1])
        assert await first.got(3) == b"one"
        transport.write(b"!")
        assert await second.got(3) == b"two"
        await second.lost()
        assert first.calls == ["connection_made", "data_received"]
