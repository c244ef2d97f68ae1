"""guard: a queue whose socket others may close asks nothing of a number that is another's."""

import os
import socket

import pytest

from tests.rio.marks import with_fork
from zerio_asyncio.rio._rio import ffi, lib

pytestmark = with_fork  # where numbers are given away while requests wait


@pytest.fixture
def guarded(bare):
    requests, queue, ours, peer = bare.connection("unix")
    identity = bare.provider.c.socket_identity(ours.fileno())
    assert bare.provider.c.guard(requests, identity) == 0
    return requests, queue, ours, peer, bare.region(1 << 20)


def replace(bare, sock):
    """Another socket in the place of this one: its peer."""
    new, peer = socket.socketpair()
    bare.keep(new, peer)
    os.dup2(new.fileno(), sock.fileno())
    peer.setblocking(False)
    return peer


def test_handles_that_are_none(bare):
    for wrong in (0, 1, 2**63, bare.port):
        assert bare.provider.c.guard(ffi.cast("RIO_RQ", wrong), 1) == lib.RIO_EINVAL


def test_all_goes_on_while_it_is_the_same(bare, guarded):
    requests, queue, _, peer, region = guarded
    for _ in range(4):
        assert bare.receive(requests, region.buf(0, 100), 1) == 0
        bare.wait(0)
        assert bare.table.park(bare.port) == 0
        peer.sendall(b"hello")
        assert bare.collect(queue, 1) == [(0, 5, 0, 1)]


@pytest.mark.parametrize("parks", [0, 1, 4])
def test_a_receive_that_is_handed_over_afterwards(bare, guarded, parks):
    requests, queue, ours, _, region = guarded
    assert bare.receive(requests, region.buf(0, 100), 1) == 0
    for _ in range(parks):
        bare.wait(0)
        assert bare.table.park(bare.port) == 0
    new_peer = replace(bare, ours)
    new_peer.send(b"for the new one")
    for _ in range(3):
        bare.wait(0.01)
    assert all(status != 0 for status, *_ in bare.dequeue(queue))
    assert ours.recv(100) == b"for the new one"


def test_a_send_that_is_handed_over_again(bare, guarded):
    requests, queue, ours, _, region = guarded
    assert bare.send(requests, region.buf(0, 1 << 20), 1) == 0
    bare.wait(0)
    assert bare.table.park(bare.port) == 0
    new_peer = replace(bare, ours)
    for _ in range(3):
        bare.wait(0.01)
    with pytest.raises(BlockingIOError):
        new_peer.recv(100)
    assert all(status == lib.RIO_EBADF for status, *_ in bare.dequeue(queue))


def test_a_receive_without_a_request(bare, guarded):
    requests, _, ours, _, _ = guarded
    new_peer = replace(bare, ours)
    new_peer.send(b"for the new one")
    memory = ffi.new("char[]", 100)
    assert bare.provider.c.receive_now(requests, memory, 100) == -lib.RIO_EBADF
    assert ours.recv(100) == b"for the new one"
