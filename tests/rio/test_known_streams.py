"""know_stream: a socket that the caller knows is not asked what it is; nobody else's knowledge."""

import os
import socket

from tests.rio.bare import NULL, SECONDS
from tests.rio.marks import with_fork
from zerio_asyncio.rio._rio import ffi, lib


def know(bare, number):
    assert bare.provider.c.know_stream(bare.port, number) == 0


def carries_datagrams(bare, sock, queue):
    """Whether a queue for it is one of datagrams: only there may a request be of no memory."""
    requests = bare.requests(sock, queue)
    return bare.rio.RIOSend(requests, NULL, 0, 0, NULL) == 1


def datagram_socket(bare):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    sock.connect(sock.getsockname())
    bare.keep(sock)
    return sock


def test_handles_that_are_none(bare):
    for wrong in (0, 1, 2**63):
        assert bare.provider.c.know_stream(ffi.cast("rio_port *", wrong), 1) == lib.RIO_EINVAL


def test_a_known_stream_works(bare):
    ours, peer = bare.pair()
    know(bare, ours.fileno())
    queue, region = bare.queue(), bare.region()
    requests = bare.requests(ours, queue)
    assert bare.receive(requests, region.buf(0, 10), 1) == 0
    peer.sendall(b"hello")
    assert bare.collect(queue, 1) == [(0, 5, 0, 1)]
    assert bare.send(requests, region.buf(0, 5), 2) == 0
    assert bare.collect(queue, 1) == [(0, 5, 0, 2)]
    peer.settimeout(SECONDS)
    assert peer.recv(10) == b"hello"


@with_fork
def test_it_is_believed(bare):
    """The system is not asked: here it would have said otherwise."""
    other = datagram_socket(bare)
    know(bare, other.fileno())
    assert not carries_datagrams(bare, other, bare.queue())


@with_fork  # where a queue takes any socket, and numbers are given away at once
class TestForgotten:
    def test_with_the_next_queue(self, bare):
        """A number that was known is another socket's when its turn comes."""
        ours, _ = bare.pair()
        queue = bare.queue()
        know(bare, ours.fileno())
        bare.requests(ours, queue)
        bare.retire(ours)
        other = datagram_socket(bare)
        os.dup2(other.fileno(), ours.fileno())
        assert carries_datagrams(bare, ours, queue)

    def test_with_the_queue_of_another_socket(self, bare):
        ours, _ = bare.pair()
        other, queue = datagram_socket(bare), bare.queue()
        know(bare, ours.fileno())
        assert carries_datagrams(bare, other, queue)
        os.dup2(other.fileno(), ours.fileno())
        assert carries_datagrams(bare, ours, queue)

    def test_with_a_queue_that_is_refused(self, bare, tmp_path):
        other, queue = datagram_socket(bare), bare.queue()
        know(bare, other.fileno())
        with (tmp_path / "plain").open("w") as plain:
            made = bare.rio.RIOCreateRequestQueue(plain.fileno(), 1, 1, 1, 1, queue, queue, NULL)
        assert not made
        assert bare.error() == lib.RIO_ENOTSOCK
        assert carries_datagrams(bare, other, queue)

    def test_at_once(self, bare):
        other, queue = datagram_socket(bare), bare.queue()
        know(bare, other.fileno())
        know(bare, lib.RIO_INVALID_SOCKET)
        assert carries_datagrams(bare, other, queue)
