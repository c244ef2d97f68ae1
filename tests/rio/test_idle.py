"""What looks ready for ever and is not: a port that waits for it sleeps, and misses nothing.

Time is not measured: a port that does not sleep shows by its waits and system calls.
"""

import os
import socket
import struct
import time

import pytest

from tests.rio.bare import read_all
from tests.rio.marks import with_descriptor_limit, with_error_queues, with_lowest_numbers
from zerio_asyncio.rio._rio import ffi, lib

IP_RECVERR = 11
SO_TIMESTAMPING = 37
TIMESTAMPS = 2 | 16 | 512  # of what is sent: taken by software, told, and again when acknowledged

FEW = 100
"""Waits and system calls in a moment that is not idle would be thousands."""

MOMENT = 0.1  # seconds


def sleeps(bare):
    """Whether the port sleeps while there is nothing to tell."""
    for _ in range(20):  # what is under way comes first
        bare.wait(0.001)
    before = bare.statistics()
    end = time.monotonic() + MOMENT
    while time.monotonic() < end:
        assert bare.wait(MOMENT) == []
    after = bare.statistics()
    assert after.waits - before.waits < FEW
    assert after.system_calls - before.system_calls < FEW


def nobody():
    """The address of a socket that is gone."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()


@with_error_queues
@pytest.mark.parametrize("connected", [False, True])
@pytest.mark.parametrize("first", ["receive", "error"])
def test_an_error_queue_that_nobody_empties(bare, connected, first):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    bare.keep(sock)
    sock.bind(("127.0.0.1", 0))
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
    address = nobody()
    if connected:
        sock.connect(address)
    queue, region = bare.queue(), bare.region()
    requests = bare.requests(sock, queue)
    if first == "error":
        sock.sendto(b"x", address) if not connected else sock.send(b"x")
    for i in range(2):
        assert bare.receive(requests, region.buf(i * 100, 100), i) == 0
    bare.wait(0.01)
    if first == "receive":
        sock.sendto(b"x", address) if not connected else sock.send(b"x")
    (told,) = bare.collect(queue, 1)
    assert told.status == lib.RIO_ECONNREFUSED
    sleeps(bare)
    assert bare.dequeue(queue) == []
    if not connected:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as friend:
            friend.sendto(b"hello", sock.getsockname())
            assert bare.collect(queue, 1) == [(0, 5, 0, 1)]
            for turn in range(20):
                assert bare.receive(requests, region.buf(0, 100), 10 + turn) == 0
                if turn % 2:
                    bare.wait(0)
                friend.sendto(b"%d" % turn, sock.getsockname())
                assert [d.context for d in bare.collect(queue, 1)] == [10 + turn]
    sleeps(bare)
    assert sock.recvmsg(100, 1000, socket.MSG_ERRQUEUE)[0] == b"x"  # it is the program's to read


@pytest.fixture
def stamped(bare):
    """A connection of which the error queue holds time stamps that nobody fetches."""
    requests, queue, ours, peer = bare.connection()
    ours.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPING, TIMESTAMPS)
    ours.send(b"stamp")
    assert peer.recv(5) == b"stamp"
    return requests, queue, ours, peer


@with_error_queues
def test_time_stamps_beside_a_receive(bare, stamped):
    requests, queue, ours, peer = stamped
    region = bare.region()
    for turn in range(5):
        assert bare.receive(requests, region.buf(0, 100), turn) == 0
        sleeps(bare)
        peer.sendall(b"%d" % turn)
        assert bare.collect(queue, 1) == [(0, 1, 0, turn)]
    ours.recvmsg(100, 1000, socket.MSG_ERRQUEUE)
    assert bare.receive(requests, region.buf(0, 100), 8) == 0
    sleeps(bare)
    peer.shutdown(socket.SHUT_WR)
    assert bare.collect(queue, 1) == [(0, 0, 0, 8)]


@with_error_queues
def test_time_stamps_beside_a_probe(bare, stamped):
    requests, queue, ours, peer = stamped
    for turn in range(5):
        context = ffi.cast("void *", turn)
        for _ in range(3):  # once it may be answered in vain, for something has happened
            assert bare.provider.c.receive_memory(requests, ffi.NULL, 0, 0, context)
            sleeps(bare)
            if not bare.dequeue(queue):
                break
            answer = bare.provider.c.receive_now(requests, ffi.new("char[8]"), 8)
            assert answer == -lib.RIO_EWOULDBLOCK
        else:
            pytest.fail("a probe that is answered for ever")
        peer.sendall(b"x")
        assert bare.collect(queue, 1) == [(0, 0, 0, turn)]
        assert ours.recv(8) == b"x"


@with_error_queues
def test_time_stamps_beside_a_send_that_is_stuck(bare, stamped):
    requests, queue, _, peer = stamped
    size = 8 << 20
    region = bare.region(size)
    region.memory[:] = os.urandom(size)
    assert bare.send(requests, region.buf(0, size), 1) == 0
    assert bare.receive(requests, bare.region().buf(0, 8), 2) == 0
    sleeps(bare)
    got = bytearray()
    while len(got) < size:
        got += read_all(peer, min(1 << 18, size - len(got)))
        bare.wait(0)
    assert got == region.memory[:]
    assert bare.collect(queue, 1) == [(0, size, 0, 1)]


@with_error_queues
@pytest.mark.parametrize("way", ["retire", "recall", "close the port"])
def test_ends_beside_an_error_queue(bare, stamped, way):
    requests, queue, ours, peer = stamped
    region = bare.region()
    assert bare.receive(requests, region.buf(0, 8), 1) == 0
    sleeps(bare)
    aborted = (lib.RIO_OPERATION_ABORTED, 0, 0, 1)
    if way == "close the port":
        bare.close_port()
        return
    if way == "retire":
        bare.retire(ours)
    else:
        assert bare.provider.c.recall_receives(requests) == 0
    assert bare.collect(queue, 1) == [aborted]
    peer.sendall(b"x")
    sleeps(bare)
    assert ours.recv(8) == b"x"


def test_a_half_closed_peer_of_whom_nobody_reads(bare):
    _, _, _, peer = bare.connection()
    peer.sendall(b"x")
    peer.shutdown(socket.SHUT_WR)
    sleeps(bare)


def test_a_reset_that_nobody_asks_for(bare):
    _, _, _, peer = bare.connection()
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()
    sleeps(bare)


@with_descriptor_limit
def test_a_listener_that_was_shut_down(bare):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert bare.table.accept(bare.port, listener.fileno(), 1) == 0
        bare.wait(0)
        listener.shutdown(socket.SHUT_RDWR)
        kind, status, key, value = bare.until(lib.RIO_PORT_ACCEPT)
        assert (kind, key, value) == (lib.RIO_PORT_ACCEPT, 1, lib.RIO_INVALID_SOCKET)
        assert status == lib.RIO_EINVAL
        sleeps(bare)


@with_lowest_numbers
@pytest.mark.parametrize("what", ["watch", "accept"])
@pytest.mark.parametrize("aside", [False, True], ids=["", "aside"])
@pytest.mark.parametrize("told", [False, True], ids=["silent", "stopped"])
def test_a_number_that_was_closed_while_somebody_else_has_the_file(bare, what, told, aside):
    """A forked child has it: epoll goes on reporting what no number here stands for any more."""
    listener = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(listener.getsockname())
    server, _ = listener.accept()
    bare.keep(listener, client, server)
    twin = (listener if what == "accept" else client).dup()
    number = twin.fileno()
    others = Others(bare)
    if aside and what == "watch":  # its place in the instance is taken
        bare.requests(twin, bare.queue())
    if what == "accept":
        assert bare.table.accept(bare.port, number, 1) == 0
    else:
        assert bare.table.watch(bare.port, number, lib.RIO_WATCH_READ, 1) == 0
    bare.wait(0)
    others.go_on()
    if aside and what == "watch":
        assert bare.table.retire(bare.port, number) == 0
    twin.close()
    if told and what == "accept":
        assert bare.table.accept_stop(bare.port, number) == 0
    elif told:
        assert bare.table.watch(bare.port, number, 0, 0) == 0
    else:
        assert number in {stranger.fileno() for stranger in bare.pair("unix")}
        assert bare.table.watch(bare.port, number, lib.RIO_WATCH_READ, 2) == 0
    server.send(b"x")
    bare.keep(socket.create_connection(listener.getsockname()))
    sleeps(bare)
    others.go_on()
    sleeps(bare)


class Others:
    """What else a port is busy with: it goes on, whatever happens beside it."""

    def __init__(self, bare):
        self.bare = bare
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.watched, self.watched_peer = bare.pair("unix")
        self.silent, self.silent_peer = bare.pair("unix")
        self.requests, self.queue, _, self.peer = bare.connection()
        self.region = bare.region()
        bare.keep(self.listener)
        assert bare.table.accept(bare.port, self.listener.fileno(), 71) == 0
        assert bare.table.watch(bare.port, self.watched.fileno(), lib.RIO_WATCH_READ, 72) == 0
        assert bare.table.watch(bare.port, self.silent.fileno(), self.once, 73) == 0
        assert bare.receive(self.requests, self.region.buf(0, 8), 1) == 0

    once = lib.RIO_WATCH_READ | lib.RIO_WATCH_ONCE

    def go_on(self):
        bare = self.bare
        with socket.create_connection(self.listener.getsockname()):
            kind, status, key, value = bare.until(lib.RIO_PORT_ACCEPT)
            assert (status, key) == (0, 71)
            socket.socket(fileno=value).close()
        self.watched_peer.send(b"x")
        assert bare.until(lib.RIO_PORT_READY)[2] == 72
        assert self.watched.recv(8) == b"x"
        bare.wait(0)
        self.silent_peer.send(b"y")
        assert bare.until(lib.RIO_PORT_READY)[2] == 73
        bare.quiet(0.01)
        assert self.silent.recv(8) == b"y"
        assert bare.table.watch(bare.port, self.silent.fileno(), self.once, 73) == 0
        self.peer.sendall(b"z")
        assert bare.collect(self.queue, 1) == [(0, 1, 0, 1)]
        assert bare.receive(self.requests, self.region.buf(0, 8), 1) == 0
        assert bare.table.post(bare.port, 9) == 0
        assert bare.until(lib.RIO_PORT_POST)[2] == 9
