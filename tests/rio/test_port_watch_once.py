"""watch with RIO_WATCH_ONCE: one event, then silence until it is asked again."""

import os
import socket

import pytest

from tests.rio.bare import NULL
from tests.rio.marks import with_descriptor_numbers
from zerio_asyncio.rio import Watch
from zerio_asyncio.rio._rio import ffi, lib

READ, WRITE, ONCE = lib.RIO_WATCH_READ, lib.RIO_WATCH_WRITE, lib.RIO_WATCH_ONCE


def watch(bare, number, mask, key=1):
    return bare.table.watch(bare.port, number, mask, key)


@pytest.fixture
def pair(bare):
    return bare.pair("unix")


def test_one_event_for_each_call(bare, pair):
    ours, peer = pair
    peer.send(b"stays there")
    for key in range(5):
        assert watch(bare, ours.fileno(), READ | ONCE, key) == 0
        assert bare.until(lib.RIO_PORT_READY)[2:] == (key, READ)
        bare.quiet(0.01)


def test_what_comes_later_is_told(bare, pair):
    ours, peer = pair
    for _ in range(5):
        assert watch(bare, ours.fileno(), READ | ONCE) == 0
        bare.quiet(0.01)
        peer.send(b"x")
        assert bare.until(lib.RIO_PORT_READY)[3] == READ
        assert ours.recv(10) == b"x"
        peer.send(b"y")
        bare.quiet(0.01)
        assert ours.recv(10) == b"y"


def test_the_event_of_one_direction_ends_both(bare, pair):
    ours, peer = pair
    assert watch(bare, ours.fileno(), READ | WRITE | ONCE) == 0
    assert bare.until(lib.RIO_PORT_READY)[3] == WRITE
    peer.send(b"x")
    bare.quiet(0.01)
    assert watch(bare, ours.fileno(), READ | ONCE) == 0
    assert bare.until(lib.RIO_PORT_READY)[3] == READ


def test_a_hang_up_is_told_once(bare, pair):
    ours, peer = pair
    assert watch(bare, ours.fileno(), READ | ONCE) == 0
    peer.close()
    assert bare.until(lib.RIO_PORT_READY)[3] == READ
    bare.quiet(0.01)


def test_from_once_to_again_and_again_and_back(bare, pair):
    ours, peer = pair
    peer.send(b"x")
    assert watch(bare, ours.fileno(), READ | ONCE) == 0
    bare.until(lib.RIO_PORT_READY)
    assert watch(bare, ours.fileno(), READ) == 0
    for _ in range(3):
        bare.until(lib.RIO_PORT_READY)
    assert watch(bare, ours.fileno(), READ | ONCE) == 0
    bare.until(lib.RIO_PORT_READY)
    bare.quiet(0.01)


def test_stopping_before_and_after_the_event(bare, pair):
    ours, peer = pair
    for happens in (False, True, False, True):
        assert watch(bare, ours.fileno(), READ | ONCE) == 0
        if happens:
            peer.send(b"x")
            bare.until(lib.RIO_PORT_READY)
        assert watch(bare, ours.fileno(), 0) == 0
        peer.send(b"y")
        bare.quiet(0.01)
        ours.recv(10)


@with_descriptor_numbers
@pytest.mark.parametrize("spent", [True, False])
def test_a_number_that_is_another_file_by_now(bare, spent):
    for turn in range(10):
        ours, peer = socket.socketpair()
        with peer:
            assert watch(bare, ours.fileno(), READ | ONCE, turn) == 0
            if spent:
                peer.send(b"x")
                bare.until(lib.RIO_PORT_READY)
            replacement, far = socket.socketpair()
            with ours, replacement, far:
                os.dup2(replacement.fileno(), ours.fileno())
                assert watch(bare, ours.fileno(), READ | ONCE, 100 + turn) == 0
                bare.quiet(0.002)
                far.send(b"y")
                assert bare.until(lib.RIO_PORT_READY)[2:] == (100 + turn, READ)


@with_descriptor_numbers
def test_a_copy_of_a_closed_one_wakes_nobody_for_ever(bare):
    """A child that has inherited the file keeps it open, and the system its watch."""
    ours, peer = socket.socketpair()
    number = ours.fileno()
    assert watch(bare, number, READ | ONCE) == 0
    bare.quiet(0.002)
    copy = os.dup(number)
    ours.close()
    try:
        peer.send(b"x")
        for _ in range(3):
            bare.wait(0.01)
        bare.quiet(0.02)
    finally:
        os.close(copy)
        peer.close()


def test_no_event_is_lost_for_want_of_room(bare):
    pairs = [bare.pair("unix") for _ in range(40)]
    for number, (ours, peer) in enumerate(pairs):
        assert watch(bare, ours.fileno(), READ | ONCE, number) == 0
        peer.send(b"x")
    event = ffi.new("rio_port_event[3]")
    seen = []
    while len(seen) < len(pairs):
        count = bare.table.wait(bare.port, event, 3, 5_000_000_000)
        assert count > 0
        seen += [event[i].key for i in range(count)]
    assert sorted(seen) == list(range(len(pairs)))
    bare.quiet(0.01)


def test_a_request_queue_after_it(bare, pair):
    """What has reported is out of the way: the socket goes on as a request queue's."""
    ours, peer = pair
    assert watch(bare, ours.fileno(), READ | ONCE) == 0
    peer.send(b"x")
    bare.until(lib.RIO_PORT_READY)
    assert ours.recv(1) == b"x"
    queue = bare.queue()
    requests = bare.requests(ours, queue)
    region = bare.region()
    for context in (1, 2):
        assert bare.receive(requests, region.buf(0, 10), context) == 0
        peer.send(b"y")
        assert bare.collect(queue, 1) == [(0, 1, 0, context)]
    bare.quiet(0.01)


def test_beside_a_request_queue(bare):
    requests, queue, ours, peer = bare.connection()
    region = bare.region()
    for context in range(5):
        assert watch(bare, ours.fileno(), WRITE | ONCE, context) == 0
        assert bare.until(lib.RIO_PORT_READY)[2:] == (context, WRITE)
        assert bare.receive(requests, region.buf(0, 10), context) == 0
        peer.sendall(b"x")
        assert bare.collect(queue, 1) == [(0, 1, 0, context)]
    assert watch(bare, ours.fileno(), 0) == 0


def test_once_alone_asks_for_nothing(bare, pair):
    assert watch(bare, pair[0].fileno(), ONCE) == lib.RIO_EINVAL
    assert bare.table.wait(bare.port, NULL, 1, 0) == -lib.RIO_EFAULT


def test_the_class(port):
    ours, peer = socket.socketpair()
    with ours, peer:
        peer.send(b"x")
        port.watch(ours, Watch.READ | Watch.ONCE, 3)
        (event,) = port.wait(5)
        assert (event.key, Watch(event.value)) == (3, Watch.READ)
        assert port.wait(0.01) == []
        port.watch(ours, 0)
