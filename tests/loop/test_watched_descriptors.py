"""add_reader and add_writer: level-triggered, one callback a direction, any kind of descriptor."""

from __future__ import annotations

import asyncio
import os
import socket
import threading

import pytest

from .marks import beyond_proactor, with_watched_pipes
from .support import SECONDS, WINDOWS, listener, spin

pytestmark = beyond_proactor


@pytest.fixture
def two():
    """Two ends of a connection, non-blocking."""
    ours, theirs = socket.socketpair()
    for sock in (ours, theirs):
        sock.setblocking(False)
    yield ours, theirs
    ours.close()
    theirs.close()


async def test_add_reader_is_level_triggered(loop, two):
    ours, theirs = two
    seen = []
    loop.add_reader(ours, seen.append, 1)
    theirs.send(b"x")
    while len(seen) < 3:
        await asyncio.sleep(0)
    assert loop.remove_reader(ours)
    assert not loop.remove_reader(ours)
    await spin()
    count = len(seen)
    await spin(5)
    assert len(seen) == count


async def test_add_writer_and_reader_on_one_descriptor(loop, two):
    ours, theirs = two
    seen = []
    loop.add_reader(ours.fileno(), seen.append, "readable")
    loop.add_writer(ours.fileno(), seen.append, "writable")
    await asyncio.sleep(0.002)
    assert set(seen) == {"writable"}
    assert loop.remove_writer(ours.fileno())
    seen.clear()
    theirs.send(b"x")
    await asyncio.sleep(0.002)
    assert set(seen) == {"readable"}
    assert loop.remove_reader(ours.fileno())


async def test_add_reader_again_replaces_the_callback(loop, two):
    ours, theirs = two
    first, second = [], []
    loop.add_reader(ours, first.append, 1)
    loop.add_reader(ours, second.append, 1)
    theirs.send(b"x")
    while not second:
        await asyncio.sleep(0)
    assert first == []
    loop.remove_reader(ours)


async def test_a_hang_up_makes_a_descriptor_readable(loop, two):
    ours, theirs = two
    seen = loop.create_future()

    def readable():
        loop.remove_reader(ours)
        seen.set_result(ours.recv(10))

    loop.add_reader(ours, readable)
    theirs.close()
    assert await asyncio.wait_for(seen, SECONDS) == b""


async def test_descriptors_that_cannot_be_watched(loop, tmp_path):
    refusal = OSError if WINDOWS else PermissionError
    with open(tmp_path / "file", "w") as file, pytest.raises(refusal):
        loop.add_reader(file.fileno(), print)
    with pytest.raises((ValueError, OSError)):
        loop.add_reader(-1, print)
    with pytest.raises((ValueError, TypeError)):
        loop.add_reader("no descriptor", print)
    assert not loop.remove_reader(12345)


async def test_a_writer_is_told_again_while_there_is_room(loop, two):
    ours, _ = two
    seen = []
    loop.add_writer(ours, seen.append, 1)
    while len(seen) < 3:
        await asyncio.sleep(0)
    filled = 0
    try:
        while True:
            filled += ours.send(b"x" * 65536)
    except BlockingIOError:
        pass
    await spin(5)
    seen.clear()
    await asyncio.sleep(0.002)
    assert seen == []
    two[1].settimeout(SECONDS)
    while filled:
        filled -= len(two[1].recv(1 << 20))
    while not seen:
        await asyncio.sleep(0)
    loop.remove_writer(ours)


@with_watched_pipes
async def test_removed_by_a_callback_of_the_same_turn(loop):
    """Two descriptors become ready at once; the first to run removes the other."""
    pipes = [os.pipe() for _ in range(2)]
    seen = []

    def ready(number):
        seen.append(number)
        for read_end, _ in pipes:
            loop.remove_reader(read_end)

    for number, (read_end, write_end) in enumerate(pipes):
        loop.add_reader(read_end, ready, number)
        os.write(write_end, b"x")
    while not seen:
        await asyncio.sleep(0)
    await spin(5)
    assert len(seen) == 1
    for ends in pipes:
        for end in ends:
            os.close(end)


@with_watched_pipes
async def test_a_number_that_is_used_again_at_once(loop):
    """Removed, closed, and the number is another's: nothing of the old one may be told."""
    for _ in range(50):
        read_end, write_end = os.pipe()
        seen = []
        loop.add_reader(read_end, seen.append, "old")
        os.write(write_end, b"x")
        if _ % 2:
            await asyncio.sleep(0)
        loop.remove_reader(read_end)
        seen.clear()
        os.close(read_end)
        os.close(write_end)
        again, other = os.pipe()
        assert again == read_end
        loop.add_reader(again, seen.append, "new")
        await spin(3)
        assert seen == []
        os.write(other, b"x")
        while not seen:
            await asyncio.sleep(0)
        assert set(seen) == {"new"}
        loop.remove_reader(again)
        os.close(again)
        os.close(other)


@with_watched_pipes
async def test_other_kinds_of_descriptors(loop):
    read_end, write_end = os.pipe()
    seen = []
    loop.add_reader(read_end, seen.append, "pipe")
    loop.add_writer(write_end, lambda: (seen.append("room"), loop.remove_writer(write_end)))
    while not seen:
        await asyncio.sleep(0)
    assert seen == ["room"]
    os.write(write_end, b"x")
    while "pipe" not in seen:
        await asyncio.sleep(0)
    loop.remove_reader(read_end)
    os.close(read_end)
    os.close(write_end)


@with_watched_pipes
async def test_the_loop_of_another_process_wide_library_as_a_descriptor(loop):
    """An epoll descriptor in ours: how loops of other libraries are embedded."""
    import select

    with select.epoll() as inner:
        read_end, write_end = os.pipe()
        inner.register(read_end, select.EPOLLIN)
        seen = loop.create_future()

        def ready():
            loop.remove_reader(inner)
            seen.set_result(inner.poll(0))

        loop.add_reader(inner, ready)
        os.write(write_end, b"x")
        assert await asyncio.wait_for(seen, SECONDS) == [(read_end, select.EPOLLIN)]
        os.close(read_end)
        os.close(write_end)


async def test_a_listening_socket(loop):
    with listener() as server:
        server.setblocking(False)
        accepted = loop.create_future()

        def ready():
            loop.remove_reader(server)
            accepted.set_result(server.accept()[0])

        loop.add_reader(server, ready)
        with socket.create_connection(server.getsockname(), SECONDS):
            (await asyncio.wait_for(accepted, SECONDS)).close()


async def test_an_exception_in_a_callback(loop, two, caught):
    ours, theirs = two

    def ready():
        loop.remove_reader(ours)
        raise ZeroDivisionError

    loop.add_reader(ours, ready)
    theirs.send(b"x")
    while not caught:
        await asyncio.sleep(0)
    caught.take_one(ZeroDivisionError)


async def test_removed_after_it_was_closed(loop, two):
    """The socket is gone, its number with it: removing answers, and leaves nothing behind."""
    ours, _ = two
    number = ours.fileno()
    loop.add_reader(number, print)
    ours.close()
    assert loop.remove_reader(number)
    assert not loop.remove_reader(number)


async def test_many_descriptors(loop):
    """More than one wait reports at once."""
    pairs = [socket.socketpair() for _ in range(300)]
    seen = set()
    done = loop.create_future()

    def ready(read_end):
        loop.remove_reader(read_end)
        assert read_end.recv(1) == b"x"
        seen.add(read_end)
        if len(seen) == len(pairs):
            done.set_result(None)

    for read_end, write_end in pairs:
        loop.add_reader(read_end, ready, read_end)
        write_end.send(b"x")
    await asyncio.wait_for(done, SECONDS)
    for ends in pairs:
        for end in ends:
            end.close()


def test_readiness_wakes_a_sleeping_loop(loop, two):
    ours, theirs = two
    loop.add_reader(ours, loop.stop)
    timer = threading.Timer(0.02, theirs.send, (b"x",))
    timer.start()
    loop.run_forever()
    timer.join()
    loop.remove_reader(ours)


def test_a_loop_that_closes_with_descriptors_watched(new_loop, two):
    loop = new_loop()
    loop.add_reader(two[0], print)
    loop.add_writer(two[1], print)
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    with pytest.raises(RuntimeError):
        loop.add_reader(two[0], print)
    two[0].send(b"still the user's")
    assert two[1].recv(100) == b"still the user's"
