"""Receiving: pausing, resuming, sizes, and the three kinds of protocol."""

from __future__ import annotations

import asyncio
import hashlib
import sys

import pytest

from .marks import MAKERS, beyond_proactor
from .support import (
    BufferedRecorder,
    Recorder,
    connect,
    recorder_of,
    shut,
    spin,
)


@beyond_proactor
async def test_a_paused_connection_receives_nothing_until_resumed(loop, protocol):
    transport, recorder, peer = await connect(lambda: recorder_of(protocol))
    assert transport.is_reading()
    transport.pause_reading()
    assert not transport.is_reading()
    await peer.send(b"later")
    await asyncio.sleep(0.01)
    # A receive that was on its way when reading was paused may not be delivered either.
    assert recorder.received == b""
    transport.resume_reading()
    assert transport.is_reading()
    assert await recorder.got(5) == b"later"
    await shut(transport, recorder, peer)


async def test_pause_and_resume_are_idempotent(loop, protocol):
    transport, recorder, peer = await connect(lambda: recorder_of(protocol))
    transport.resume_reading()
    transport.pause_reading()
    transport.pause_reading()
    transport.resume_reading()
    transport.resume_reading()
    await peer.send(b"x")
    assert await recorder.got(1) == b"x"
    await shut(transport, recorder, peer)


@beyond_proactor
async def test_pausing_inside_data_received_holds_the_rest(loop, protocol):
    transport, recorder, peer = await connect(lambda: recorder_of(protocol))
    remember = recorder.note

    def note(call):
        remember(call)
        if call == "data_received":
            transport.pause_reading()

    recorder.note = note
    data = bytes(range(256)) * 4096
    sending = asyncio.ensure_future(peer.send(data))
    seen = 0
    while seen < len(data):
        await recorder.until(lambda seen=seen: len(recorder.received) > seen)
        before = len(recorder.received)
        await spin(5)
        assert len(recorder.received) == before, "data came while reading was paused"
        seen = before
        transport.resume_reading()
    await sending
    assert bytes(recorder.received) == data
    await shut(transport, recorder, peer)


async def test_pausing_and_resuming_inside_data_received(loop, protocol):
    transport, recorder, peer = await connect(lambda: recorder_of(protocol))
    remember = recorder.note

    def note(call):
        remember(call)
        if call == "data_received":
            transport.pause_reading()
            transport.resume_reading()

    recorder.note = note
    data = b"abc" * 100_000
    sending = asyncio.ensure_future(peer.send(data))
    assert await recorder.got(len(data)) == data
    await sending
    await shut(transport, recorder, peer)


async def test_pausing_inside_connection_made(loop, kind, protocol):
    if kind == "std" and sys.version_info < (3, 11):
        return  # the standard loop of 3.10 begins to read all the same

    recorder = recorder_of(protocol)
    remember = recorder.connection_made

    def connection_made(transport):
        remember(transport)
        transport.pause_reading()

    recorder.connection_made = connection_made
    transport, _, peer = await connect(lambda: recorder)
    await peer.send(b"x")
    await asyncio.sleep(0.01)
    assert recorder.received == b""
    transport.resume_reading()
    assert await recorder.got(1) == b"x"
    await shut(transport, recorder, peer)


@beyond_proactor
async def test_the_end_is_not_seen_while_paused(loop, protocol):
    transport, recorder, peer = await connect(lambda: recorder_of(protocol))
    transport.pause_reading()
    await peer.send(b"x")
    peer.close()
    await asyncio.sleep(0.01)
    assert recorder.calls == ["connection_made"]
    transport.resume_reading()
    await recorder.lost()
    assert recorder.received == b"x"
    assert recorder.calls[1:] == ["data_received", "eof_received", "connection_lost"]


async def test_closing_while_paused(loop, protocol):
    transport, recorder, peer = await connect(lambda: recorder_of(protocol))
    transport.pause_reading()
    await peer.send(b"never read")
    transport.close()
    await recorder.lost()
    assert recorder.received == b""
    assert not transport.is_reading()
    peer.close()


async def test_is_reading_is_false_once_closing(loop, protocol):
    transport, recorder, peer = await connect(lambda: recorder_of(protocol))
    transport.close()
    assert not transport.is_reading()
    transport.resume_reading()
    assert not transport.is_reading()
    await recorder.lost()
    peer.close()


@pytest.mark.parametrize("size", [1, 4095, 4096, 4097, 16384, 16385, 65536, 65537, 1_000_003])
async def test_messages_of_every_size_arrive_whole(loop, protocol, size):
    transport, recorder, peer = await connect(lambda: recorder_of(protocol))
    data = bytes(number * 7 % 251 for number in range(size))
    sending = asyncio.ensure_future(peer.send(data))
    assert await recorder.got(size) == data
    await sending
    await shut(transport, recorder, peer)


@pytest.mark.parametrize("make", MAKERS)
async def test_fifty_megabytes_arrive_unharmed(loop, protocol, make):
    transport, recorder, peer = await make(lambda: recorder_of(protocol))
    block = bytes(range(256)) * 4096
    blocks = 48
    expected = hashlib.sha256(block * blocks).digest()

    async def send():
        for _ in range(blocks):
            await peer.send(block)
        peer.end()

    await asyncio.gather(send(), recorder.lost())
    assert len(recorder.received) == len(block) * blocks
    assert hashlib.sha256(recorder.received).digest() == expected
    peer.close()


async def test_data_handed_over_is_never_changed_afterwards(loop):
    """The slice is received into again; what a protocol was given must not notice."""
    kept = []

    class Keeper(Recorder):
        def data_received(self, data):
            kept.append(data)
            super().data_received(data)

    transport, recorder, peer = await connect(Keeper)
    for number in range(20):
        await peer.send(bytes([number]) * 1000)
        await recorder.got((number + 1) * 1000)
    assert b"".join(kept) == b"".join(bytes([number]) * 1000 for number in range(20))
    await shut(transport, recorder, peer)


async def test_a_thousand_small_messages_each_way(loop, protocol):
    transport, recorder, peer = await connect(lambda: recorder_of(protocol))
    for number in range(1000):
        message = b"%08d" % number
        transport.write(message)
        peer.sock.sendall(message)
    expected = b"".join(b"%08d" % number for number in range(1000))
    assert await recorder.got(8000) == expected
    assert await peer.receive_exactly(8000) == expected
    await shut(transport, recorder, peer)


async def test_get_buffer_is_asked_with_a_hint_before_each_receive(loop):
    transport, recorder, peer = await connect(BufferedRecorder)
    await peer.send(b"hello")
    await recorder.got(5)
    assert recorder.hints
    assert all(isinstance(hint, int) for hint in recorder.hints)
    await shut(transport, recorder, peer)


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
async def test_a_buffer_smaller_than_the_data_is_asked_for_again(loop, size):
    transport, recorder, peer = await connect(lambda: BufferedRecorder(size))
    data = bytes(range(256)) * 10
    await peer.send(data)
    assert await recorder.got(len(data)) == data
    await shut(transport, recorder, peer)


async def test_a_buffer_may_be_a_part_of_one(loop):
    class Parts(BufferedRecorder):
        def get_buffer(self, sizehint):
            self.offset = len(self.received)
            return memoryview(self.buffer)[self.offset : self.offset + 100]

        def buffer_updated(self, nbytes):
            self.received += self.buffer[self.offset : self.offset + nbytes]
            self.note("data_received")

    transport, recorder, peer = await connect(Parts)
    data = bytes(range(200)) * 20
    await peer.send(data)
    assert await recorder.got(len(data)) == data
    await shut(transport, recorder, peer)


async def test_a_small_buffer_and_the_end_of_the_stream(loop):
    transport, recorder, peer = await connect(lambda: BufferedRecorder(3))
    await peer.send(b"0123456789")
    peer.close()
    await recorder.lost()
    assert recorder.received == b"0123456789"
    assert recorder.calls[-2:] == ["eof_received", "connection_lost"]


@beyond_proactor
async def test_pausing_between_small_buffers(loop):
    class Pausing(BufferedRecorder):
        def buffer_updated(self, nbytes):
            super().buffer_updated(nbytes)
            self.transport.pause_reading()

    transport, recorder, peer = await connect(lambda: Pausing(4))
    await peer.send(b"0123456789")
    for size in (4, 8, 10):
        await recorder.got(size)
        await spin(5)
        assert len(recorder.received) == size
        transport.resume_reading()
    await shut(transport, recorder, peer)


@pytest.mark.parametrize("buffer", [bytearray(), memoryview(bytearray())])
async def test_an_empty_buffer_is_a_fatal_error(loop, caught, buffer):
    class Empty(BufferedRecorder):
        def get_buffer(self, sizehint):
            return buffer

    transport, recorder, peer = await connect(Empty)
    await peer.send(b"x")
    assert isinstance(await recorder.lost(), RuntimeError)
    caught.take_one(RuntimeError)
    peer.close()


@pytest.mark.parametrize("buffer", [b"read only", None, 7, "text"])
async def test_a_buffer_that_cannot_be_written_is_a_fatal_error(loop, caught, buffer):
    class Broken(BufferedRecorder):
        def get_buffer(self, sizehint):
            return buffer

    transport, recorder, peer = await connect(Broken)
    await peer.send(b"x")
    assert isinstance(await recorder.lost(), (TypeError, BufferError))
    assert len(caught.take()) == 1
    peer.close()
