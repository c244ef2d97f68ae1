"""Sending: what write takes, what it keeps, what it refuses, and order."""

from __future__ import annotations

import array
import asyncio
import hashlib
import logging
import socket
import sys

import pytest

from .marks import MAKERS, with_unix_sockets
from .support import Recorder, connect, connect_unix, shut, spin

SIZES = [1, 100, 16384, 16385, 100_000, 3_000_000]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind_of", [bytes, bytearray, memoryview])
async def test_write_takes_bytes_like_objects(loop, kind_of, size):
    transport, recorder, peer = await connect(Recorder)
    data = bytes(number % 253 for number in range(size))
    transport.write(kind_of(data))
    assert await peer.receive_exactly(size) == data
    await shut(transport, recorder, peer)


@pytest.mark.parametrize("size", SIZES)
async def test_a_mutable_buffer_is_copied_before_write_returns(loop, kind, size):
    if kind == "std" and sys.version_info >= (3, 12):
        return  # from 3.12 on the standard loop keeps the caller's buffer and sends what it becomes

    transport, recorder, peer = await connect(Recorder)
    data = bytearray(b"a" * size)
    transport.write(data)
    data[:] = b"b" * size
    view = memoryview(data)
    transport.write(view)
    data[:] = b"c" * size
    view.release()
    transport.write(data)
    data.clear()
    assert await peer.receive_exactly(3 * size) == b"a" * size + b"b" * size + b"c" * size
    await shut(transport, recorder, peer)


@pytest.mark.ours
async def test_a_memoryview_of_another_format_is_sent_as_its_bytes(loop):
    """The standard loop gives such a view to send() and loses count of what is left."""
    transport, recorder, peer = await connect(Recorder)
    numbers = array.array("I", range(1000))
    transport.write(memoryview(numbers))
    assert await peer.receive_exactly(4000) == numbers.tobytes()
    await shut(transport, recorder, peer)


@pytest.mark.ours
async def test_a_memoryview_with_gaps_is_sent_as_its_bytes(loop):
    transport, recorder, peer = await connect(Recorder)
    data = bytes(range(256)) * 100
    transport.write(memoryview(data)[::2])
    assert await peer.receive_exactly(len(data) // 2) == data[::2]
    await shut(transport, recorder, peer)


@pytest.mark.parametrize("data", ["text", None, 5, 1.5, [1, 2], object()])
async def test_write_refuses_what_is_not_bytes(loop, data):
    transport, recorder, peer = await connect(Recorder)
    with pytest.raises(TypeError):
        transport.write(data)
    transport.write(b"fine")
    assert await peer.receive() == b"fine"
    await shut(transport, recorder, peer)


@pytest.mark.parametrize("data", ["text", [None], [1], [b"fine", "text"], 5])
async def test_writelines_refuses_what_is_not_bytes(loop, kind, data):
    if kind == "std" and data == [None]:
        return  # from 3.14 on nothing to it
    transport, recorder, peer = await connect(Recorder)
    with pytest.raises(TypeError):
        transport.writelines(data)
    await shut(transport, recorder, peer)


async def test_writing_nothing_does_nothing(loop):
    transport, recorder, peer = await connect(Recorder)
    transport.write(b"")
    transport.write(bytearray())
    transport.writelines([])
    transport.writelines([b"", b""])
    assert transport.get_write_buffer_size() == 0
    transport.write(b"x")
    assert await peer.receive() == b"x"
    await shut(transport, recorder, peer)


async def test_writelines_keeps_order_among_writes(loop):
    transport, recorder, peer = await connect(Recorder)
    transport.write(b"1")
    transport.writelines([b"2", bytearray(b"3"), memoryview(b"4")])
    transport.write(b"5")
    transport.writelines(part for part in (b"6", b"7"))
    assert await peer.receive_exactly(7) == b"1234567"
    await shut(transport, recorder, peer)


async def test_writelines_of_large_and_small_parts(loop):
    transport, recorder, peer = await connect(Recorder)
    parts = [bytes([number]) * (1 if number % 3 else 70_000) for number in range(60)]
    transport.writelines(parts)
    expected = b"".join(parts)
    assert await peer.receive_exactly(len(expected)) == expected
    await shut(transport, recorder, peer)


@with_unix_sockets
@pytest.mark.parametrize("room", [4096, 8192, 16384])
async def test_small_writes_after_writelines_that_went_in_part(loop, room):
    """What follows goes next to what is left, and not beyond the memory that this has."""
    transport, recorder, peer = await connect_unix(Recorder)
    other, other_recorder, other_peer = await connect_unix(Recorder)
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, room)
    expected = b""
    reading = asyncio.ensure_future(peer.receive_exactly(30 * 27 * 980))
    for number in range(30):
        parts = [b"%6d " % (27 * number + part) * 140 for part in range(27)]
        transport.writelines(parts[:15])
        other.writelines([b"-" * 1000] * 8)
        for part in parts[15:]:
            transport.write(part)
        expected += b"".join(parts)
        if number % 3 == 0:
            await asyncio.sleep(0)
    assert await reading == expected
    assert await other_peer.receive_exactly(30 * 8000) == b"-" * (30 * 8000)
    await shut(transport, recorder, peer)
    await shut(other, other_recorder, other_peer)


@pytest.mark.parametrize("make", MAKERS)
async def test_fifty_megabytes_in_one_write(loop, make):
    transport, recorder, peer = await make(Recorder)
    data = bytes(range(250)) * 200_000
    transport.write(data)
    received = await peer.receive_exactly(len(data))
    assert hashlib.sha256(received).digest() == hashlib.sha256(data).digest()
    assert transport.get_write_buffer_size() == 0
    await shut(transport, recorder, peer)


async def test_many_writes_of_changing_sizes_keep_their_order(loop):
    transport, recorder, peer = await connect(Recorder)
    parts = [bytes([n % 256]) * (n * 7919 % 40_000) for n in range(400)]
    expected = b"".join(parts)
    reading = asyncio.ensure_future(peer.receive_exactly(len(expected)))
    for number, part in enumerate(parts):
        transport.write(part)
        if number % 50 == 0:
            await asyncio.sleep(0)
    assert await reading == expected
    await shut(transport, recorder, peer)


@pytest.mark.ours
async def test_writes_of_one_turn_are_gathered(loop):
    transport, recorder, peer = await connect(Recorder)
    before = loop.rio_stats()
    for number in range(1000):
        transport.write(b"%04d" % number)
    assert await peer.receive_exactly(4000) == b"".join(b"%04d" % n for n in range(1000))
    after = loop.rio_stats()
    assert after.bytes_sent - before.bytes_sent == 4000
    # Beside the one send there may be receives, wake-ups and the executor's answer.
    assert after.submissions - before.submissions < 20
    await shut(transport, recorder, peer)


async def test_what_is_written_in_connection_made_is_sent(loop):
    class Greeter(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            transport.write(b"hello")

    transport, recorder, peer = await connect(Greeter)
    assert await peer.receive() == b"hello"
    await shut(transport, recorder, peer)


async def test_what_is_written_in_eof_received_is_sent(loop):
    class Polite(Recorder):
        def eof_received(self):
            self.transport.write(b"goodbye")
            return super().eof_received()

    transport, recorder, peer = await connect(Polite)
    peer.end()
    assert await peer.receive_all() == b"goodbye"
    await recorder.lost()
    peer.close()


async def test_writing_while_closing_is_dropped_quietly(loop, caplog):
    """Trap 15: aiohttp and uvicorn write to connections that the peer has just left."""
    transport, recorder, peer = await connect(Recorder)
    transport.close()
    await recorder.lost()
    with caplog.at_level(logging.WARNING, "asyncio"):
        for _ in range(20):
            transport.write(b"nobody reads this")
    assert await peer.receive_all() == b""
    assert len([r for r in caplog.records if "socket.send() raised" in r.getMessage()]) <= 16
    peer.close()


@pytest.mark.ours
async def test_writing_while_closing_warns_once_after_five(loop, caplog):
    """The standard loop warns each time after five; once is enough."""
    transport, recorder, peer = await connect(Recorder)
    transport.abort()
    await recorder.lost()
    with caplog.at_level(logging.WARNING, "asyncio"):
        for _ in range(4):  # as asyncio counts, abort() was the first of five
            transport.write(b"x")
        assert not caplog.records
        for _ in range(20):
            transport.write(b"x")
    assert len(caplog.records) == 1
    peer.close()


async def test_a_reset_while_sends_are_in_flight(loop):
    """Trap 7: connection_lost carries the error, once, and no slice or buffer stays behind."""
    transport, recorder, peer = await connect(Recorder)
    transport.write(b"x" * 30_000_000)
    await peer.receive(1000)
    peer.reset()
    error = await recorder.lost()
    assert isinstance(error, (ConnectionResetError, BrokenPipeError))
    assert transport.get_write_buffer_size() == 0
    assert recorder.calls.count("connection_lost") == 1


async def test_a_reset_while_idle(loop):
    transport, recorder, peer = await connect(Recorder)
    await spin()  # the receive is under way: Wine forgets a reset that came before it
    peer.reset()
    assert isinstance(await recorder.lost(), ConnectionResetError)
    assert recorder.calls == ["connection_made", "connection_lost"]


async def test_a_reset_after_data_keeps_the_data_or_reports_the_reset(loop):
    transport, recorder, peer = await connect(Recorder)
    await peer.send(b"data")
    await recorder.got(4)
    peer.reset()
    assert isinstance(await recorder.lost(), ConnectionResetError)


@with_unix_sockets
async def test_a_peer_that_left_is_noticed_by_writing(loop):
    transport, recorder, peer = await connect_unix(Recorder)
    recorder.keep_open = True
    peer.close()
    while "connection_lost" not in recorder.calls:
        transport.write(b"x")
        await asyncio.sleep(0.001)
    assert recorder.lost_with is None or isinstance(recorder.lost_with, OSError)
