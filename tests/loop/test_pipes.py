"""Pipes, and whatever else may be connected as one: both directions, ends, flow control."""

from __future__ import annotations

import asyncio
import os
import socket

import pytest

from .marks import with_plain_pipes
from .support import SECONDS, Recorder, descriptors, spin

pytestmark = with_plain_pipes


@pytest.fixture
def pipe():
    """The two ends as files, which transports close."""
    read_end, write_end = os.pipe()
    files = os.fdopen(read_end, "rb", 0), os.fdopen(write_end, "wb", 0)
    yield files
    for file in files:
        file.close()


async def read_from(file):
    loop = asyncio.get_running_loop()
    return await loop.connect_read_pipe(Recorder, file)


async def write_to(file, factory=Recorder):
    return await asyncio.get_running_loop().connect_write_pipe(factory, file)


async def test_both_ends(loop, pipe):
    reading, reader = await read_from(pipe[0])
    writing, writer = await write_to(pipe[1])
    data = bytes(range(256)) * 4000
    writing.write(data)
    assert await reader.got(len(data)) == data
    writing.write_eof()
    assert await writer.lost() is None
    assert await reader.lost() is None
    assert reader.calls == ["connection_made", "data_received", "eof_received", "connection_lost"]
    assert writer.calls[0] == "connection_made"
    assert reading.is_closing()
    assert writing.is_closing()


async def test_streams_over_a_pipe(loop, pipe):
    reader = asyncio.StreamReader()
    reading, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe[0])
    writing, protocol = await write_to(pipe[1], asyncio.streams.FlowControlMixin)
    writer = asyncio.StreamWriter(writing, protocol, None, loop)

    async def write():
        for number in range(300):
            writer.write(b"%d\n" % number * 200)
            await writer.drain()
        writer.close()

    task = asyncio.ensure_future(write())
    received = await reader.read()
    await task
    assert received == b"".join(b"%d\n" % number * 200 for number in range(300))
    reading.close()
    await spin()


async def test_writing_stops_when_nobody_reads(loop, pipe):
    writing, writer = await write_to(pipe[1])
    writing.set_write_buffer_limits(high=1000, low=100)
    writing.write(b"x" * 200_000)  # more than the kernel takes
    assert "pause_writing" in writer.calls
    left = writing.get_write_buffer_size()
    assert 1000 < left < 200_000
    received = bytearray()
    while len(received) < 200_000:
        received += await asyncio.to_thread(os.read, pipe[0].fileno(), 65536)
    await writer.until(lambda: "resume_writing" in writer.calls)
    assert writing.get_write_buffer_size() == 0
    assert received == b"x" * 200_000
    writing.close()
    assert await writer.lost() is None


async def test_what_was_written_before_close_arrives(loop, pipe):
    writing, writer = await write_to(pipe[1])
    writing.write(b"a" * 300_000)
    writing.close()
    received = bytearray()
    while part := await asyncio.to_thread(os.read, pipe[0].fileno(), 65536):
        received += part
    assert received == b"a" * 300_000
    assert await writer.lost() is None


async def test_abort_forgets_what_was_not_written(loop, pipe):
    writing, writer = await write_to(pipe[1])
    writing.write(b"a" * 300_000)
    writing.abort()
    assert await writer.lost() is None
    received = bytearray()
    while part := os.read(pipe[0].fileno(), 65536):
        received += part
    assert 0 < len(received) < 300_000


async def test_pausing_a_reader(loop, pipe):
    reading, reader = await read_from(pipe[0])
    reading.pause_reading()
    os.write(pipe[1].fileno(), b"kept")
    await asyncio.sleep(0.002)
    assert reader.received == b""
    reading.resume_reading()
    assert await reader.got(4) == b"kept"
    pipe[1].close()
    await reader.lost()


async def test_a_writer_notices_that_its_reader_is_gone(loop, pipe):
    """Without writing anything: the poll of the write end reports it."""
    _, writer = await write_to(pipe[1])
    pipe[0].close()
    assert await writer.lost() is None  # nothing was lost


async def test_a_writer_with_data_whose_reader_goes(loop, pipe):
    writing, writer = await write_to(pipe[1])
    writing.write(b"x" * 300_000)
    pipe[0].close()
    assert isinstance(await writer.lost(), BrokenPipeError)


async def test_mutable_memory_that_is_written(loop, pipe):
    writing, writer = await write_to(pipe[1])
    data = bytearray(b"a" * 200_000)
    writing.write(data)
    data[:] = b"b" * len(data)
    received = bytearray()
    while len(received) < 200_000:
        received += await asyncio.to_thread(os.read, pipe[0].fileno(), 65536)
    assert received == b"a" * 200_000
    writing.close()
    await writer.lost()


async def test_closing_a_reader(loop, pipe):
    reading, reader = await read_from(pipe[0])
    reading.close()
    reading.close()
    assert await reader.lost() is None
    with pytest.raises(BrokenPipeError):
        os.write(pipe[1].fileno(), b"x")


async def test_the_files_are_told_and_closed(loop, pipe):
    before = descriptors().keys() - {file.fileno() for file in pipe}
    reading, reader = await read_from(pipe[0])
    writing, writer = await write_to(pipe[1])
    assert reading.get_extra_info("pipe") is pipe[0]
    assert writing.get_extra_info("pipe") is pipe[1]
    assert "fd=" in repr(reading)
    assert "fd=" in repr(writing)
    writing.close()
    await writer.lost()
    await reader.lost()
    await spin()
    assert pipe[0].closed
    assert pipe[1].closed
    assert descriptors().keys() == before
    assert "closed" in repr(reading)


async def test_a_plain_file_is_refused(loop, tmp_path):
    with open(tmp_path / "file", "wb+") as file:
        with pytest.raises(ValueError):
            await read_from(file)
        with pytest.raises(ValueError):
            await write_to(file)


async def test_a_fifo_by_name(loop, tmp_path):
    path = str(tmp_path / "fifo")
    os.mkfifo(path)
    read_end = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    _, reader = await read_from(os.fdopen(read_end, "rb", 0))
    writing, writer = await write_to(os.fdopen(os.open(path, os.O_WRONLY), "wb", 0))
    writing.write(b"by name")
    assert await reader.got(7) == b"by name"
    writing.close()
    await writer.lost()
    await reader.lost()


async def test_a_pair_of_sockets_as_pipes(loop):
    ours, theirs = socket.socketpair()
    _, reader = await read_from(ours)
    writing, writer = await write_to(theirs)
    writing.write(b"over a socket")
    assert await reader.got(13) == b"over a socket"
    writing.close()
    await writer.lost()
    await reader.lost()


async def test_a_terminal(loop):
    """A character device: reads and writes at once; its hang-up is an ordinary end."""
    pty, tty = pytest.importorskip("pty"), pytest.importorskip("tty")
    master, slave = pty.openpty()
    tty.setraw(slave)
    _, reader = await read_from(os.fdopen(os.dup(master), "rb", 0))
    writing, writer = await write_to(os.fdopen(slave, "wb", 0))
    writing.write(b"typed")
    assert await reader.got(5) == b"typed"
    writing.close()
    await writer.lost()
    await asyncio.wait_for(reader.lost(), SECONDS)  # EIO, which asyncio takes for an end
    os.close(master)


async def test_connecting_is_cancelled(loop, pipe):
    """The transport that nobody was given is closed, and the file with it."""
    task = asyncio.ensure_future(read_from(pipe[0]))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await spin()
    assert pipe[0].closed


async def test_many_pipes_at_once(loop):
    async def pass_on(number):
        read_end, write_end = os.pipe()
        _, reader = await read_from(os.fdopen(read_end, "rb", 0))
        writing, writer = await write_to(os.fdopen(write_end, "wb", 0))
        data = bytes([number]) * 100_000
        writing.write(data)
        assert await reader.got(len(data)) == data
        writing.close()
        await writer.lost()
        await reader.lost()

    await asyncio.gather(*(pass_on(number) for number in range(50)))
