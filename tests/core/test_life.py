"""The life of a transport: every arrow of core/life.py is walked, and no other one."""

from __future__ import annotations

import asyncio
import gc
import itertools
import socket

import pytest

from zerio_asyncio.core.datagram import DatagramTransport
from zerio_asyncio.core.life import LIFE, READING, masks
from zerio_asyncio.core.stream import StreamTransport

MUCH = bytes(1 << 22)  # more than the sockets of a pair hold


class Silent(asyncio.Protocol):
    """Notes what is told; keeps its end open when the peer closes its own."""

    reading = None
    lost = 0

    def connection_made(self, transport):
        self.reading = transport._reading

    def eof_received(self):
        return True

    def connection_lost(self, exc):
        self.lost += 1


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


def turns(loop, count=3):
    for _ in range(count):
        loop.run_until_complete(asyncio.sleep(0))


def made(loop, sock, protocol):
    transport = StreamTransport(loop, sock, protocol)
    turns(loop)
    return transport


def arrows(table):
    return {(state, other) for state, others in table.items() for other in others}


class Refusing:
    """A server that was closed while a connection came."""

    def _attach(self, *transport):
        raise RuntimeError("closed")

    def _detach(self, *transport):
        pass


def made_in_vain(loop, sock):
    transport = StreamTransport.__new__(StreamTransport)
    assert transport._life == "NEW"
    assert transport.is_closing()
    with pytest.raises(RuntimeError):
        transport.__init__(loop, sock, Silent(), server=Refusing())
    return {("NEW", transport._life)}


def made_but_never_begun(loop, sock):
    """The last step of making it fails, when the transport has its socket already."""
    seen = []

    def refuse(callback, *args, context=None):
        seen.append(callback.__self__._life)
        raise RuntimeError("no more callbacks")

    transport = StreamTransport.__new__(StreamTransport)
    before = transport._life
    loop.call_soon = refuse
    try:
        with pytest.raises(RuntimeError):
            transport.__init__(loop, sock, Silent())
    finally:
        del loop.call_soon
    return {(before, *seen), (*seen, transport._life)}


def closed_and_aborted(loop, sock):
    protocol = Silent()
    transport = made(loop, sock, protocol)
    states = [transport._life]
    transport.write(MUCH)
    transport.close()
    states.append(transport._life)
    transport.abort()
    states.append(transport._life)
    turns(loop)
    states.append(transport._life)
    assert protocol.lost == 1
    assert transport._conn_lost == 1
    return set(itertools.pairwise(states))


def test_every_arrow_is_walked(loop, pair):
    walked = made_but_never_begun(loop, pair[0])
    walked |= made_in_vain(loop, pair[0])
    walked |= closed_and_aborted(loop, pair[0])
    assert walked == arrows(LIFE)


def test_reading_begins_and_ends(loop, pair):
    ours, theirs = pair
    protocol = Silent()
    transport = StreamTransport(loop, ours, protocol)
    states = [transport._reading]
    turns(loop)
    states.append(transport._reading)
    theirs.shutdown(socket.SHUT_WR)
    while transport._reading == states[-1]:
        turns(loop, 1)
    states.append(transport._reading)
    assert protocol.reading == states[0]
    assert set(itertools.pairwise(states)) == arrows(READING)
    transport.pause_reading()
    transport.resume_reading()
    turns(loop)
    assert (transport._life, transport._reading) == ("OPEN", "ENDED")
    transport.close()
    turns(loop)


def test_a_close_with_nothing_to_send_is_lost_at_once(loop, pair):
    transport = made(loop, pair[0], Silent())
    transport.close()
    assert (transport._life, transport.is_closing()) == ("LOST", True)
    turns(loop)
    assert transport._life == "RETIRED"


def test_a_closing_transport_is_lost_when_all_is_sent(loop, pair):
    ours, theirs = pair
    transport = made(loop, ours, Silent())
    transport.write(MUCH)
    transport.close()
    assert transport._life == "CLOSING"
    theirs.settimeout(10)
    left = len(MUCH)
    while left:
        turns(loop, 1)
        left -= len(theirs.recv(left))
    while transport._life != "RETIRED":
        turns(loop, 1)


def test_datagrams_live_the_same_life(loop):
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.setblocking(False)
        transport = DatagramTransport(loop, sock, asyncio.DatagramProtocol())
        states = [(transport._life, transport._reading)]
        turns(loop)
        states.append((transport._life, transport._reading))
        transport.close()
        states.append((transport._life, transport._reading))
        turns(loop)
        states.append((transport._life, transport._reading))
    assert states == [
        ("OPEN", "UNBEGUN"),
        ("OPEN", "BEGUN"),
        ("LOST", "BEGUN"),
        ("RETIRED", "BEGUN"),
    ]


def test_a_loop_that_closes_takes_the_queue_and_leaves_the_life(loop, pair):
    transport = made(loop, pair[0], Silent())
    loop.close()
    assert (transport._life, transport.is_closing()) == ("OPEN", False)
    with pytest.raises(RuntimeError, match="closed"):
        transport.close()  # nobody is there to call connection_lost
    assert transport._life == "LOST"
    transport.close()  # once
    with pytest.warns(ResourceWarning, match="unclosed transport"):
        del transport
        gc.collect()


def test_the_tables_bits():
    assert masks({"A": {"B": "", "C": ""}, "B": {}, "C": {"A": ""}}) == [0b110, 0, 0b001]
    assert len(masks(LIFE)) == 5
    assert all(other in LIFE for others in LIFE.values() for other in others)
    assert all(other in READING for others in READING.values() for other in others)
