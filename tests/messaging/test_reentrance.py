"""Handlers and writers that call back into what calls them."""

from __future__ import annotations

import asyncio
import logging
import struct
import sys
import threading

import pytest

from zerio_asyncio.messaging import (
    NotConnectedError,
    SendingRingFullError,
    SlowPeerError,
    UnknownPeerError,
    ZerioServerConfiguration,
)
from zerio_asyncio.messaging.framing import MessageFramer, MessageWriter
from zerio_asyncio.messaging.sending_ring import FULL, TAKEN, SendingRing

from .support import Server, framed, plain, serving


class CallingBack:
    """A transport whose ``write`` calls something, once."""

    def __init__(self, call):
        self.call = call
        self.written = []

    def get_write_buffer_size(self):
        return 0

    def write(self, data):
        self.written.append(bytes(data[4:]))
        call, self.call = self.call, None
        if call is not None:
            call()


def ring_of_three(call):
    sink = CallingBack(lambda: call(ring, writer))
    ring, writer = (
        SendingRing(4, 256),
        MessageWriter(sink, lambda unsent, message: None, 1000, 1 << 20),
    )
    references = sys.getrefcount(writer) + 1  # the caller's
    for number in range(3):
        assert ring.put(writer, b"%d" % number) == TAKEN
    return ring, writer, sink, lambda: sys.getrefcount(writer) - references


def test_a_ring_cleared_by_what_it_sends_to():
    ring, writer, sink, left = ring_of_three(lambda ring, writer: ring.clear())
    assert ring.send(1) is False
    assert (ring.empty, left(), writer.waiting) == (True, 0, 0)
    assert [ring.put(writer, b"new") for _ in range(5)] == [TAKEN] * 4 + [FULL]
    ring.send(100)
    assert sink.written == [b"0", *[b"new"] * 4]
    assert (ring.empty, left(), writer.waiting) == (True, 0, 0)


def test_a_ring_sent_from_inside_itself():
    answers = []
    ring, writer, sink, left = ring_of_three(lambda ring, writer: answers.append(ring.send(9)))
    assert ring.send(100) is False
    assert answers == [False], "the call that is under way sends them"
    assert sink.written == [b"0", b"1", b"2"]
    assert (ring.empty, left(), writer.waiting) == (True, 0, 0)


def test_a_ring_filled_by_what_it_sends_to():
    def fill(ring, writer):
        assert [ring.put(writer, b"more") for _ in range(2)] == [TAKEN, FULL]
        ring.clear()
        assert ring.put(writer, b"later") == FULL, "the one that is being sent keeps its place"

    ring, writer, sink, left = ring_of_three(fill)
    ring.send(1)
    assert ring.put(writer, b"after") == TAKEN
    ring.send(100)
    assert sink.written == [b"0", b"after"]
    assert (ring.empty, left(), writer.waiting) == (True, 0, 0)


def test_a_handler_that_releases_its_message():
    got = []

    def handler(view):
        with view:
            got.append(bytes(view))

    framer = MessageFramer(handler, 100)
    stream = b"".join(map(framed, [b"a", b"", b"bcd", b"e" * 50]))
    framer.feed(memoryview(stream))
    for byte in stream:
        framer.feed(memoryview(bytes([byte])))
    assert got == [b"a", b"", b"bcd", b"e" * 50] * 2


def test_what_is_fed_cannot_be_released_by_a_handler():
    fed = memoryview(bytearray(framed(b"one") + framed(b"two")))
    got = []

    def handler(view):
        got.append(bytes(view))
        with pytest.raises(BufferError):
            fed.release()

    MessageFramer(handler, 100).feed(fed)
    assert got == [b"one", b"two"]
    fed.release()


@pytest.mark.parametrize("way", ["whole", "in pieces"])
def test_the_object_behind_a_message_shows_nothing_later(way):
    behind = []
    framer = MessageFramer(lambda view: behind.append(view.obj), 10_000)
    stream = framed(b"x" * 5000)
    if way == "in pieces":
        framer.feed(memoryview(stream[:2000]))
        framer.feed(memoryview(stream[2000:]))
        with pytest.raises(BufferError):
            memoryview(behind[0])
        framer.feed(memoryview(stream[:2000]))
        framer.feed(memoryview(stream[2000:]))
        assert behind[0] is not behind[1], "who keeps it does not see the next message"
    else:
        framer.feed(memoryview(stream))
        assert behind[0] == stream, "what was fed was the caller's own"


async def test_reading_resumed_inside_a_handler(loop):
    class Pausing(Server):
        def take(self, peer, message):
            before = bytes(message)
            peer.pause_reading()
            peer.resume_reading()
            assert bytes(message) == before
            super().take(peer, message)

    server = Pausing()
    await server.start()
    async with plain(server) as peer:
        sent = [bytes([number % 256]) * 1000 for number in range(500)]
        await peer.send(b"".join(map(framed, sent)))
        assert await server.messages_of("plain", 500) == sent
    await server.stop()


async def test_a_log_handler_that_sends_what_it_is_told(loop):
    """Records of a send that fails are messages of their own, through the ring that is sending."""

    refusals = SendingRingFullError, NotConnectedError, UnknownPeerError, SlowPeerError

    class Shipping(logging.Handler):
        shipped = refused = 0

        def emit(self, record):
            try:
                server.send_threadsafe("log", b"record" * 100, timeout=0)
                self.shipped += 1
            except refusals:
                self.refused += 1

    config = ZerioServerConfiguration(
        max_message_size=8192,
        unsent_max=16 * 1024,
        slow_peer="raise",  # two threads may be faster than the loop
    )
    handler = Shipping()
    logger = logging.getLogger("asyncio")
    async with serving(config) as server, plain(server, "log") as log:
        logger.addHandler(handler)
        stop = threading.Event()

        def flood():
            while not stop.is_set():
                try:
                    server.send_threadsafe("victim", bytes(60), timeout=0.1)
                except refusals:
                    pass

        def drain():
            try:
                while log.sock.recv(65536):
                    pass
            except OSError:
                pass

        threads = [threading.Thread(target=target) for target in (flood, flood, drain)]
        for thread in threads:
            thread.start()
        try:
            loop.set_debug(True)
            loop.slow_callback_duration = 0  # every callback of the loop is told of
            for _ in range(2):
                async with plain(server, "victim") as victim:
                    await victim.receive_exactly(2000)
                    victim.reset()
                await asyncio.sleep(0.01)
            assert handler.shipped
        finally:
            loop.set_debug(False)
            logger.removeHandler(handler)
            stop.set()
            log.close()
            while any(thread.is_alive() for thread in threads):
                await asyncio.sleep(0.01)


async def test_an_answer_from_inside_a_handler_is_sent_although_the_handler_raises(loop, caught):
    class Raising(Server):
        def take(self, peer, message):
            peer.send(b"answer")
            raise ValueError("after it")

    server = Raising()
    await server.start()
    async with plain(server) as peer:
        await peer.send_message(b"question")
        assert await peer.receive_exactly(10) == struct.pack("<i", 6) + b"answer"
    await server.stop()
    (context,) = caught.take()
    assert str(context["exception"]) == "after it"
