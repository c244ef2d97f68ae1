"""Receives that one park after the other has taken back: they go on, whatever happens meanwhile.

On io_uring they rest elsewhere from the second park on; nobody is to notice.
"""

import os
import socket
import threading

import pytest

from tests.rio.marks import with_fork
from zerio_asyncio.rio._rio import lib

PARKS = 4


def park_often(bare, times=PARKS):
    """As a loop that runs for a moment, again and again."""
    for _ in range(times):
        assert bare.wait(0) == []
        assert bare.table.park(bare.port) == 0


@pytest.fixture
def waiting(bare):
    """A connection with a receive that was parked often, and its other end."""
    requests, queue, sock, peer = bare.connection()
    region = bare.region()
    assert bare.receive(requests, region.buf(0, 100), 1) == 0
    park_often(bare)
    return requests, queue, sock, peer, region


def test_what_comes_is_received(bare, waiting):
    requests, queue, _, peer, region = waiting
    for number in range(3):
        peer.sendall(b"again")
        assert bare.collect(queue, 1) == [(0, 5, 0, 1)]
        assert bare.receive(requests, region.buf(0, 100), 1) == 0
        park_often(bare)


def test_what_came_between_the_runs_is_received(bare, waiting):
    _, queue, _, peer, _ = waiting
    peer.sendall(b"between")
    assert bare.collect(queue, 1) == [(0, 7, 0, 1)]


def test_the_end_of_the_peer_is_received(bare, waiting):
    _, queue, _, peer, _ = waiting
    peer.shutdown(socket.SHUT_WR)
    assert bare.collect(queue, 1) == [(0, 0, 0, 1)]


def test_sends_go_out_meanwhile(bare, waiting):
    requests, queue, _, peer, region = waiting
    for _ in range(3):
        assert bare.send(requests, region.buf(200, 3), 2) == 0
        assert bare.collect(queue, 1) == [(0, 3, 0, 2)]
        assert len(peer.recv(10)) == 3
        park_often(bare, 1)
    peer.sendall(b"x")
    assert bare.collect(queue, 1) == [(0, 1, 0, 1)]


def test_another_thread_goes_on_with_it(bare, waiting):
    requests, queue, _, peer, region = waiting
    results = []

    def work():
        peer.sendall(b"elsewhere")
        results.extend(bare.collect(queue, 1))
        bare.receive(requests, region.buf(0, 100), 2)
        park_often(bare)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert results == [(0, 9, 0, 1)]
    peer.sendall(b"home")
    assert bare.collect(queue, 1) == [(0, 4, 0, 2)]


def test_retired_it_ends(bare, waiting):
    _, queue, sock, peer, _ = waiting
    assert bare.table.retire(bare.port, sock.fileno()) == 0
    ((status, count, _, request),) = bare.collect(queue, 1)
    assert (count, request) == (0, 1)
    assert status == 995
    peer.sendall(b"for nobody")
    assert bare.wait(0.002) == []


def test_its_number_is_the_next_ones(bare, waiting):
    _, queue, sock, peer, region = waiting
    number = sock.fileno()
    assert bare.table.retire(bare.port, number) == 0
    bare.collect(queue, 1)
    sock.close()
    requests, queue, other, peer = bare.connection()
    assert bare.receive(requests, region.buf(0, 100), 7) == 0
    park_often(bare)
    peer.sendall(b"next")
    assert bare.collect(queue, 1) == [(0, 4, 0, 7)]


def test_it_may_be_watched_meanwhile(bare, waiting):
    _, queue, sock, peer, _ = waiting
    descriptor = sock.fileno()
    assert bare.table.watch(bare.port, descriptor, lib.RIO_WATCH_WRITE, 9) == 0
    assert bare.until(lib.RIO_PORT_READY)[2] == 9
    assert bare.table.park(bare.port) == 0
    assert bare.table.watch(bare.port, descriptor, 0, 0) == 0
    peer.sendall(b"both")
    assert bare.collect(queue, 1) == [(0, 4, 0, 1)]
    park_often(bare)


@with_fork
def test_a_child_closes_its_copy(bare, waiting):
    _, queue, _, peer, _ = waiting
    child = os.fork()
    if child == 0:
        bare.table.close(bare.port)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    peer.sendall(b"parent")
    assert bare.collect(queue, 1) == [(0, 6, 0, 1)]


def test_a_run_costs_nothing_for_each_connection_that_is_idle(bare):
    region = bare.region()
    for number in range(50):
        requests, _, _, _ = bare.connection()
        assert bare.receive(requests, region.buf(100 * number, 100), number) == 0
    park_often(bare)
    before = bare.statistics()
    park_often(bare, 10)
    after = bare.statistics()
    assert after.submissions - before.submissions < 10 * 50
    assert after.system_calls - before.system_calls < 10 * 50


def test_it_is_recalled_and_asked_for_again(bare, waiting):
    """Between the two the bytes are whoever's reads them."""
    requests, queue, sock, peer, region = waiting
    assert bare.provider.c.recall_receives(requests) == 0
    assert [result[3] for result in bare.collect(queue, 1)] == [1]
    peer.sendall(b"by hand")
    assert bare.wait(0) == []
    assert sock.recv(100) == b"by hand"
    assert bare.receive(requests, region.buf(0, 100), 2) == 0
    park_often(bare)
    peer.sendall(b"by the port")
    assert bare.collect(queue, 1) == [(0, 11, 0, 2)]
