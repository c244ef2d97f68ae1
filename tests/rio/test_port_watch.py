"""watch: readiness as select() means it, level-triggered."""

import os
import socket
import tempfile
import time

import pytest

from tests.rio.bare import SECONDS, reset
from tests.rio.marks import with_descriptor_numbers, with_lowest_numbers, with_watched_pipes
from zerio_asyncio.rio import Kind, Watch, code_name
from zerio_asyncio.rio._rio import lib

READ, WRITE = lib.RIO_WATCH_READ, lib.RIO_WATCH_WRITE

# Winsock has one answer to a closed socket's number and to that of another file.
NOT_OPEN = lib.RIO_ENOTSOCK if os.name == "nt" else lib.RIO_EBADF
NO_SOCKET = {lib.RIO_EOPNOTSUPP, lib.RIO_ENOTSOCK}


def watch(bare, number, mask, key=1):
    return bare.table.watch(bare.port, number, mask, key)


@pytest.fixture
def pair(bare):
    return bare.pair("unix")


def test_reading_is_told_as_long_as_there_is_something(bare, pair):
    ours, peer = pair
    assert watch(bare, ours.fileno(), READ, 42) == 0
    bare.quiet(0.02)
    peer.send(b"ab")
    for _ in range(5):
        assert bare.until(lib.RIO_PORT_READY) == (lib.RIO_PORT_READY, 0, 42, READ)
    ours.recv(1)
    for _ in range(3):
        assert bare.until(lib.RIO_PORT_READY)[3] == READ
    ours.recv(1)
    settle(bare)
    bare.quiet(0.02)
    peer.send(b"again")
    bare.until(lib.RIO_PORT_READY)


def settle(bare):
    """One event may have been on its way when the descriptor stopped being ready."""
    bare.wait(0)


def test_writing_is_told_as_long_as_there_is_room(bare, pair):
    ours, peer = pair
    assert watch(bare, ours.fileno(), WRITE, 7) == 0
    for _ in range(3):
        assert bare.until(lib.RIO_PORT_READY)[3] == WRITE
    with pytest.raises(BlockingIOError):
        while True:
            ours.send(b"x" * 65536)
    settle(bare)
    bare.quiet(0.02)
    peer.settimeout(0.1)
    with pytest.raises(TimeoutError):
        while True:
            peer.recv(1 << 20)
    assert bare.until(lib.RIO_PORT_READY)[2:] == (7, WRITE)


def test_both_are_told_as_one_mask(bare, pair):
    ours, peer = pair
    peer.send(b"x")
    assert watch(bare, ours.fileno(), READ | WRITE) == 0
    seen = 0
    end = time.monotonic() + SECONDS
    while seen != READ | WRITE:
        assert time.monotonic() < end
        for event in bare.wait(0.1):
            seen |= event[3]


def test_a_second_call_changes_mask_and_key(bare, pair):
    ours, peer = pair
    assert watch(bare, ours.fileno(), READ, 1) == 0
    bare.quiet(0.01)
    assert watch(bare, ours.fileno(), WRITE, 2) == 0
    assert bare.until(lib.RIO_PORT_READY)[2:] == (2, WRITE)
    peer.send(b"x")
    assert watch(bare, ours.fileno(), READ, 3) == 0
    settle(bare)
    for _ in range(3):
        assert bare.until(lib.RIO_PORT_READY)[2:] == (3, READ)


def test_a_mask_of_nothing_stops_at_once(bare, pair):
    ours, peer = pair
    assert watch(bare, ours.fileno(), READ) == 0
    peer.send(b"x")
    bare.until(lib.RIO_PORT_READY)
    assert watch(bare, ours.fileno(), 0) == 0
    bare.quiet(0.02)
    assert watch(bare, ours.fileno(), 0) == 0  # stopped already
    assert watch(bare, ours.fileno(), READ) == 0
    bare.until(lib.RIO_PORT_READY)


def test_stopping_takes_back_an_event_on_its_way(bare, pair):
    ours, peer = pair
    for _ in range(50):
        assert watch(bare, ours.fileno(), READ) == 0
        bare.wait(0)
        peer.send(b"x")
        assert watch(bare, ours.fileno(), 0) == 0
        assert bare.wait(0) == []
        assert ours.recv(1) == b"x"


def test_hang_up_counts_as_both(bare, pair):
    ours, peer = pair
    assert watch(bare, ours.fileno(), READ) == 0
    peer.close()
    assert bare.until(lib.RIO_PORT_READY)[3] & READ
    assert watch(bare, ours.fileno(), WRITE) == 0
    settle(bare)
    assert bare.until(lib.RIO_PORT_READY)[3] & WRITE


def test_a_reset_counts_as_readable(bare):
    ours, peer = bare.pair("tcp")
    assert watch(bare, ours.fileno(), READ) == 0
    reset(peer)
    assert bare.until(lib.RIO_PORT_READY)[3] & READ


@with_watched_pipes
def test_the_reading_end_of_a_pipe_sees_the_end(bare):
    reading, writing = os.pipe()
    try:
        assert watch(bare, reading, READ) == 0
        bare.quiet(0.01)
        os.close(writing)
        assert bare.until(lib.RIO_PORT_READY)[3] & READ
        assert watch(bare, reading, 0) == 0
    finally:
        os.close(reading)


@with_watched_pipes
def test_the_writing_end_of_a_pipe_sees_its_reader_go(bare):
    reading, writing = os.pipe()
    try:
        assert watch(bare, writing, WRITE) == 0
        assert bare.until(lib.RIO_PORT_READY)[3] & WRITE
        os.close(reading)
        settle(bare)
        assert bare.until(lib.RIO_PORT_READY)[3] & WRITE
        assert watch(bare, writing, 0) == 0
    finally:
        os.close(writing)


def test_a_plain_file_is_refused(bare):
    with tempfile.TemporaryFile() as plain:
        assert watch(bare, plain.fileno(), READ) in NO_SOCKET
        assert watch(bare, plain.fileno(), READ) in NO_SOCKET
    bare.quiet(0.01)


def test_what_is_no_descriptor(bare, pair):
    number = pair[0].fileno()
    pair[0].close()
    assert watch(bare, number, READ) == NOT_OPEN
    assert watch(bare, 987_654, READ) == NOT_OPEN
    assert watch(bare, lib.RIO_INVALID_SOCKET, READ) == NOT_OPEN
    assert watch(bare, 987_654, 0) in {0, NOT_OPEN}
    bare.quiet(0.01)


@pytest.mark.parametrize("mask", [4, 8, 0xFFFFFFFF])
def test_unknown_masks_are_invalid(bare, pair, mask):
    assert watch(bare, pair[0].fileno(), mask) == lib.RIO_EINVAL


@with_lowest_numbers
def test_closing_without_stopping_does_no_harm(bare):
    """Not to the one that gets the number next, watched or not."""
    for turn in range(20):
        ours, peer = socket.socketpair()
        assert watch(bare, ours.fileno(), READ, turn) == 0
        if turn % 2:
            bare.wait(0)
        number = ours.fileno()
        ours.close()
        peer.close()
        again, other = socket.socketpair()
        assert number in {again.fileno(), other.fileno()}
        holder, friend = (again, other) if again.fileno() == number else (other, again)
        drain(bare)
        if turn % 3 == 0:
            assert watch(bare, number, READ, 1000 + turn) == 0
            friend.send(b"x")
            assert bare.until(lib.RIO_PORT_READY)[2] == 1000 + turn
            assert watch(bare, number, 0) == 0
        holder.close()
        friend.close()
    drain(bare)
    bare.quiet(0.02)


def drain(bare):
    """A descriptor that was closed while watched may show once more, and then never again."""
    end = time.monotonic() + SECONDS
    while bare.wait(0.002):
        assert time.monotonic() < end, "a closed descriptor is reported for ever"


@with_descriptor_numbers
def test_a_duplicate_keeps_a_closed_one_alive_no_longer_than_it_lives(bare):
    """epoll remembers the open file, not the number: the classic trap."""
    ours, peer = socket.socketpair()
    twin = os.dup(ours.fileno())
    assert watch(bare, ours.fileno(), READ) == 0
    bare.wait(0)
    assert watch(bare, ours.fileno(), 0) == 0
    ours.close()
    peer.send(b"x")
    bare.quiet(0.02)
    os.close(twin)
    peer.close()


def test_a_watch_and_a_request_queue_on_one_socket(bare):
    requests, queue, ours, peer = bare.connection()
    region = bare.region()
    assert watch(bare, ours.fileno(), WRITE, 5) == 0
    assert bare.until(lib.RIO_PORT_READY)[2:] == (5, WRITE)
    assert bare.receive(requests, region.buf(0, 10), 1) == 0
    peer.sendall(b"x")
    while not (results := bare.dequeue(queue)):
        bare.wait(0.01)
    assert results == [(0, 1, 0, 1)]
    assert watch(bare, ours.fileno(), 0) == 0
    assert bare.receive(requests, region.buf(0, 10), 2) == 0
    peer.sendall(b"y")
    assert bare.collect(queue, 1) == [(0, 1, 0, 2)]


def test_the_class_takes_sockets_and_numbers(port):
    ours, peer = socket.socketpair()
    with ours, peer:
        port.watch(ours, Watch.READ, 3)
        peer.send(b"x")
        (event,) = port.wait(5)
        assert (event.kind, event.key, Watch(event.value)) == (Kind.READY, 3, Watch.READ)
        port.watch(ours.fileno(), 0)
    with pytest.raises(ValueError, match="not an open socket"):
        port.watch(ours, Watch.READ)
    with pytest.raises(TypeError, match="neither a descriptor nor a socket"):
        port.watch("socket", Watch.READ)
    with pytest.raises(OSError, match=code_name(NOT_OPEN)):
        port.watch(987_654, Watch.READ)
