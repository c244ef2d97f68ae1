"""A loop with nothing to do sleeps, also beside what looks ready for ever.

The standard loop does not: a queue of errors that nobody empties keeps it awake for good. So this
is about ours alone. Not time is measured but how often the loop asked its port.
"""

from __future__ import annotations

import asyncio
import socket

import pytest

from .marks import with_error_queues, with_fork
from .support import Recorder, set_reset_on_close

pytestmark = pytest.mark.ours

IP_RECVERR = 11
SO_TIMESTAMPING = 37
TIMESTAMPS = 2 | 16 | 512  # of what is sent: taken by software, told, and again when acknowledged

MOMENT = 0.1  # seconds
FEW = 50  # turns in a moment; a loop that does not sleep makes thousands


async def sleeps(loop):
    await asyncio.sleep(0.02)  # what is under way comes first
    before = loop.rio_stats()
    await asyncio.sleep(MOMENT)
    after = loop.rio_stats()
    assert after.waits - before.waits < FEW
    assert after.system_calls - before.system_calls < 3 * FEW


class Datagrams(asyncio.DatagramProtocol):
    def __init__(self):
        self.errors = []
        self.received = asyncio.Event()

    def error_received(self, exc):
        self.errors.append(exc)

    def datagram_received(self, data, addr):
        self.received.set()


@with_error_queues
@pytest.mark.parametrize("connected", [False, True])
async def test_datagrams_whose_errors_nobody_fetches(loop, connected):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
        gone.bind(("127.0.0.1", 0))
        address = gone.getsockname()
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    sock.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
    if connected:
        sock.connect(address)
    transport, protocol = await loop.create_datagram_endpoint(Datagrams, sock=sock)
    transport.sendto(b"x", None if connected else address)
    await sleeps(loop)
    assert [type(error) for error in protocol.errors] == [ConnectionRefusedError]
    if not connected:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as friend:
            friend.sendto(b"hello", transport.get_extra_info("sockname"))
        await protocol.received.wait()
        await sleeps(loop)
    transport.close()


async def connection(loop):
    listener = socket.create_server(("127.0.0.1", 0))
    with listener:
        transport, protocol = await loop.create_connection(Recorder, *listener.getsockname())
        peer, _ = listener.accept()
    return transport, protocol, peer


@with_error_queues
async def test_a_stream_whose_time_stamps_nobody_fetches(loop):
    transport, protocol, peer = await connection(loop)
    with peer:
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPING, TIMESTAMPS)
        transport.write(b"stamp")
        assert peer.recv(5) == b"stamp"
        await sleeps(loop)
        peer.sendall(b"on")
        await sleeps(loop)
        assert bytes(protocol.received) == b"on"
        transport.pause_reading()
        await sleeps(loop)
        transport.resume_reading()
        await sleeps(loop)
    transport.close()


@pytest.mark.parametrize("ending", ["half closed", "reset"])
async def test_a_peer_that_ends_while_reading_is_paused(loop, ending):
    transport, _, peer = await connection(loop)
    transport.pause_reading()
    peer.sendall(b"x")
    if ending == "reset":
        set_reset_on_close(peer)
        peer.close()
    else:
        peer.shutdown(socket.SHUT_WR)
    await sleeps(loop)
    transport.abort()
    peer.close()


@with_fork  # a number that is free again at once
async def test_a_descriptor_that_was_closed_while_watched(loop):
    ours, peer = socket.socketpair()
    with peer:
        loop.add_reader(ours.fileno(), int)
        await asyncio.sleep(0)
        number = ours.fileno()
        twin = ours.dup()  # as a forked child would have
        loop.remove_reader(number)
        ours.close()
        peer.send(b"x")
        await sleeps(loop)
        twin.close()


async def test_servers_and_their_silent_clients(loop):
    server = await loop.create_server(Recorder, "127.0.0.1", 0)
    clients = [socket.create_connection(server.sockets[0].getsockname()) for _ in range(20)]
    await sleeps(loop)
    for client in clients:
        client.close()
    await sleeps(loop)
    server.close()
    await server.wait_closed()
