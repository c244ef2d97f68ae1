"""Sending from other threads: order, bounds, and who is told when there is no room."""

from __future__ import annotations

import asyncio
import struct
import threading
import time

import pytest

from zerio_asyncio.messaging import (
    ConnectionClosed,
    NotConnectedError,
    SendingRingFullError,
    SlowPeerError,
    UnknownPeerError,
    ZerioClientConfiguration,
    ZerioServerConfiguration,
)
from zerio_asyncio.messaging.framing import MessageWriter
from zerio_asyncio.messaging.sending_ring import FULL, OVER, TAKEN, SendingRing

from .support import connected, pair, plain, serving


class Sink:
    """A transport that keeps what is written."""

    def __init__(self):
        self.written = bytearray()

    def write(self, data):
        self.written += data

    def get_write_buffer_size(self):
        return 0

    def messages(self):
        found, at = [], 0
        while at < len(self.written):
            (length,) = struct.unpack_from("<i", self.written, at)
            found.append(bytes(self.written[at + 4 : at + 4 + length]))
            at += 4 + length
        return found


def writer_to(sink, length_max=1 << 20, unsent_max=1 << 30):
    return MessageWriter(sink, lambda unsent, message: None, length_max, unsent_max)


def test_the_ring_keeps_order_over_many_turns():
    """Messages of all sizes, so that records wrap, leave slots out, and fill the ring."""
    sink = Sink()
    writer, ring = writer_to(sink), SendingRing(16, 64)
    wanted, refused = [], 0
    for number in range(1, 2000):
        message = b"%d:" % number + bytes(number * 7919 % 700)
        while (taken := ring.put(writer, message)) == FULL:
            refused += 1
            ring.send(1)
        assert taken == TAKEN
        wanted.append(message)
    ring.send(1 << 30)
    assert sink.messages() == wanted
    assert refused > 100
    assert ring.empty
    assert writer.waiting == 0


def test_the_longest_message_fits_an_empty_ring():
    sink = Sink()
    writer, ring = writer_to(sink), SendingRing(16, 64)
    for _ in range(3):
        assert ring.put(writer, b"") == TAKEN
        assert ring.put(writer, bytes(ring.length_max)) == FULL
        ring.send(10)
        assert ring.put(writer, bytes(ring.length_max)) == TAKEN
        assert ring.put(writer, b"") == FULL
        ring.send(10)
    assert len(sink.messages()) == 6


def test_the_ring_counts_what_waits_for_a_peer():
    writer, ring = writer_to(Sink(), length_max=100, unsent_max=250), SendingRing(16, 256)
    assert ring.put(writer, bytes(100)) == TAKEN
    assert writer.waiting == writer.unsent == 100
    assert ring.put(writer, bytes(100)) == TAKEN
    assert ring.put(writer, bytes(100)) == OVER
    with pytest.raises(ValueError, match="101 bytes: the limit is 100"):
        ring.put(writer, bytes(101))
    ring.clear()
    assert writer.waiting == 0
    assert ring.empty


@pytest.mark.parametrize(("count", "length"), [(0, 256), (1, 0), (1, 8), (16, 100)])
def test_rings_that_cannot_be(count, length):
    with pytest.raises(ValueError):
        SendingRing(count, length)


def in_thread(function):
    return asyncio.get_running_loop().run_in_executor(None, function)


async def test_each_threads_messages_come_in_order(loop):
    threads, each = 4, 3000

    def send_all(name):
        for number in range(each):
            server.send_threadsafe("peer", struct.pack("<ii", name, number))

    async with pair() as (server, client):
        sending = [in_thread(lambda name=name: send_all(name)) for name in range(threads)]
        await client.messages_of(threads * each)
        await asyncio.gather(*sending)
        got = [struct.unpack("<ii", message) for message in client.received]
        for name in range(threads):
            assert [number for who, number in got if who == name] == list(range(each))


async def test_clients_send_from_threads_too(loop):
    async with pair() as (server, client):
        await in_thread(lambda: client.send_threadsafe(b"from a thread"))
        assert await server.messages_of("peer", 1) == [b"from a thread"]


async def test_a_sleeping_loop_is_woken(loop):
    """Nothing else happens: the message alone must wake it."""
    async with pair() as (server, client):

        def later():
            time.sleep(0.05)
            server.send_threadsafe("peer", b"wake up")

        sending = in_thread(later)
        assert await client.messages_of(1) == [b"wake up"]
        await sending


async def test_the_loop_is_woken_once_for_many_messages(loop):
    """The loop does not run while the thread sends: one wake-up serves all."""
    async with pair() as (server, client):
        calls = []
        call_soon_threadsafe = loop.call_soon_threadsafe

        def counting(callback, *args, **kwargs):
            calls.append(callback)
            return call_soon_threadsafe(callback, *args, **kwargs)

        loop.call_soon_threadsafe = counting
        thread = threading.Thread(
            target=lambda: [server.send_threadsafe("peer", b"%d" % n) for n in range(500)]
        )
        thread.start()
        thread.join()
        del loop.call_soon_threadsafe
        assert len(calls) == 1
        assert await client.messages_of(500) == [b"%d" % n for n in range(500)]


SMALL = {"max_message_size": 1024, "unsent_max": 32 * 1024}


@pytest.fixture
def tiny(monkeypatch):
    """Rings of eight slots of 512 bytes."""
    monkeypatch.setattr("zerio_asyncio.messaging.outbox.SLOTS", 8)
    monkeypatch.setattr("zerio_asyncio.messaging.outbox.SLOT", 512)


async def test_a_full_ring_raises_or_waits(loop, tiny):
    config = ZerioServerConfiguration(**SMALL)
    async with serving(config) as server, connected(server) as client:

        def fill():  # the loop does not run meanwhile
            for number in range(9):
                server.send_threadsafe("peer", b"%d" % number, timeout=0)

        thread_errors = []

        def catch(function):
            try:
                function()
            except Exception as error:
                thread_errors.append(error)

        thread = threading.Thread(target=catch, args=(fill,))
        thread.start()
        thread.join()
        assert [type(error) for error in thread_errors] == [SendingRingFullError]
        thread = threading.Thread(
            target=catch, args=(lambda: server.send_threadsafe("peer", b"late", timeout=0.01),)
        )
        thread.start()
        thread.join()
        assert [type(error) for error in thread_errors] == [SendingRingFullError] * 2
        waiting = in_thread(lambda: server.send_threadsafe("peer", b"patient"))
        assert await client.messages_of(9) == [b"%d" % n for n in range(8)] + [b"patient"]
        await waiting


async def test_on_the_loops_thread_a_full_ring_is_emptied(loop, tiny):
    config = ZerioServerConfiguration(**SMALL)
    async with serving(config) as server, connected(server) as client:
        await server.connection_of("peer")
        for number in range(20):
            server.send_threadsafe("peer", b"%d" % number)
        assert await client.messages_of(20) == [b"%d" % number for number in range(20)]


async def test_waiting_for_room_ends_with_stop(loop, tiny):
    config = ZerioServerConfiguration(**SMALL)
    async with serving(config) as server, connected(server):
        outbox, session = server.outbox, server._sessions["peer"]
        while outbox._made().put(session.writer, bytes(100)) == TAKEN:
            pass
        waiting = in_thread(lambda: outbox.put(session, b"", None))
        while not outbox._waiting:
            time.sleep(0.001)
        outbox.close()
        with pytest.raises(NotConnectedError):
            await waiting


async def test_threads_learn_of_a_peer_that_does_not_read(loop):
    options = SMALL
    async with serving(ZerioServerConfiguration(**options)) as server, plain(server, "deaf"):

        def flood():
            while "deaf" in server.peers:
                try:
                    server.send_threadsafe("deaf", bytes(1000))
                except (UnknownPeerError, ConnectionClosed):
                    return

        await in_thread(flood)
        assert "does not read" in str(await server.reason_of("deaf"))

    config = ZerioServerConfiguration(**options, slow_peer="raise")
    async with serving(config) as server, plain(server, "deaf"):

        def flood_until_it_raises():
            while True:
                server.send_threadsafe("deaf", bytes(1000))

        with pytest.raises(SlowPeerError, match="deaf"):
            await in_thread(flood_until_it_raises)
        assert server.peers == ("deaf",)


async def test_messages_to_a_peer_that_has_gone_are_refused(loop):
    async with serving() as server, plain(server, "here") as here, connected(server) as client:
        await server.connection_of("peer")
        session = server._sessions["here"]
        here.close()
        await server.reason_of("here")
        with pytest.raises(ConnectionClosed, match="closed the connection"):
            await in_thread(lambda: server.outbox.put(session, b"too late", None))
        await in_thread(lambda: server.send_threadsafe("peer", b"in time"))
        assert await client.messages_of(1) == [b"in time"]
        with pytest.raises(UnknownPeerError):
            await in_thread(lambda: server.send_threadsafe("here", b""))


async def test_after_stop_threads_are_told(loop):
    async with pair(client_config=ZerioClientConfiguration()) as (server, client):
        outbox, session = server.outbox, server._sessions["peer"]
    with pytest.raises(NotConnectedError):
        server.send_threadsafe("peer", b"")
    with pytest.raises(NotConnectedError):
        await in_thread(lambda: outbox.put(session, b"", None))
    with pytest.raises(NotConnectedError):
        client.send_threadsafe(b"")


async def test_stop_sends_what_threads_have_sent(loop):
    async with serving() as server, connected(server) as client:
        await server.connection_of("peer")
        thread = threading.Thread(
            target=lambda: [server.send_threadsafe("peer", b"%d" % n) for n in range(100)]
        )
        thread.start()
        thread.join()
        await server.stop()
        assert await client.messages_of(100) == [b"%d" % n for n in range(100)]
