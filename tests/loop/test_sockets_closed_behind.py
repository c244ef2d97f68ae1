"""A program closes, behind its transport's back, the socket that it has given to it.

The number is another's at once. What is written to the old transport must not reach the new owner's
peer, nothing may be taken from the new owner, and the new owner's socket stays open when the old
transport ends. Of the standard loop only those ways are asked that leave the socket object changed:
it trusts the number otherwise.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket

import pytest

from .marks import with_duplicates
from .support import Recorder, recorder_of

pytestmark = with_duplicates


def close(sock):
    sock.close()


def close_number(sock):
    os.close(sock.detach())


def close_number_alone(sock):
    os.close(sock.fileno())


def put_another_in_its_place(sock):
    pass  # dup2 below closes it


WAYS = [close, close_number, close_number_alone, put_another_in_its_place]
WRITES = ["write", "writelines", "write_eof", "large"]


def successor(number):
    """A new socket of this number, and its peer."""
    sock, peer = socket.socketpair()
    if sock.fileno() == number:
        return sock, peer
    os.dup2(sock.fileno(), number)
    sock.close()
    return socket.socket(fileno=number), peer


async def still_works(sock, peer):
    sock.settimeout(5)
    peer.settimeout(5)
    sock.send(b"from the new one")
    assert peer.recv(100) == b"from the new one"
    peer.send(b"to the new one")
    assert sock.recv(100) == b"to the new one"


@pytest.mark.parametrize("way", [close, close_number])
@pytest.mark.parametrize("write", WRITES)
async def test_what_is_written_reaches_no_other(loop, way, write):
    await written_reaches_no_other(loop, way, write)


@pytest.mark.ours
@pytest.mark.parametrize("way", [close_number_alone, put_another_in_its_place])
@pytest.mark.parametrize("write", WRITES)
async def test_what_is_written_to_a_number_reaches_no_other(loop, way, write):
    await written_reaches_no_other(loop, way, write)


async def written_reaches_no_other(loop, way, write):
    ours, theirs = socket.socketpair()
    transport, protocol = await loop.create_connection(Recorder, sock=ours)
    theirs.send(b"before")
    await protocol.got(6)
    number = ours.fileno()
    way(ours)
    new, new_peer = successor(number)
    if write == "write_eof":
        try:
            transport.write_eof()
        except OSError:  # as on the standard loop, where the object is asked
            transport.abort()
    elif write == "writelines":
        transport.writelines([b"secret", b"of the old one"])
    else:
        transport.write(b"secret" * (100_000 if write == "large" else 1))
    lost = await protocol.lost()
    assert write == "write_eof" or lost.errno == errno.EBADF
    new_peer.setblocking(False)
    with pytest.raises(BlockingIOError):
        new_peer.recv(100)
    await still_works(new, new_peer)
    for sock in (theirs, new, new_peer):
        sock.close()


@pytest.mark.ours
@pytest.mark.parametrize("way", WAYS)
async def test_what_waits_reaches_no_other(loop, way):
    """Bytes that the system did not take before the number was another's."""
    ours, theirs = socket.socketpair()
    transport, protocol = await loop.create_connection(Recorder, sock=ours)
    transport.write(b"x" * (1 << 20))
    transport.write(b"y" * 100)
    number = ours.fileno()
    way(ours)
    new, new_peer = successor(number)
    transport.write(b"z")
    await protocol.lost()
    new_peer.setblocking(False)
    with pytest.raises(BlockingIOError):
        new_peer.recv(100)
    await still_works(new, new_peer)
    for sock in (theirs, new, new_peer):
        sock.close()


@pytest.mark.ours
@pytest.mark.parametrize("way", WAYS)
async def test_nothing_is_taken_from_another(loop, way, protocol):
    """Where a receive waits in the kernel, it is the old connection's; the next one is refused."""
    ours, theirs = socket.socketpair()
    transport, recorder = await loop.create_connection(lambda: recorder_of(protocol), sock=ours)
    theirs.send(b"before")
    await recorder.got(6)
    number = ours.fileno()
    way(ours)
    new, new_peer = successor(number)
    new_peer.send(b"for the new one")
    try:
        theirs.send(b"late")
    except BrokenPipeError:
        pass  # the old connection ended with its number
    await asyncio.sleep(0.05)
    assert new.recv(100) == b"for the new one"
    assert bytes(recorder.received) in {b"before", b"beforelate"}
    transport.abort()
    await recorder.lost()
    await still_works(new, new_peer)
    for sock in (theirs, new, new_peer):
        sock.close()


@pytest.mark.ours
@pytest.mark.parametrize("way", WAYS)
async def test_the_new_owner_gets_a_transport(loop, way):
    """Nobody has told the loop that the number is free: it finds out."""
    ours, theirs = socket.socketpair()
    transport, protocol = await loop.create_connection(Recorder, sock=ours)
    number = ours.fileno()
    way(ours)
    new, new_peer = successor(number)
    new_transport, new_protocol = await loop.create_connection(Recorder, sock=new)
    assert isinstance(await protocol.lost(), OSError)
    transport.write(b"secret")
    new_peer.settimeout(5)
    new_transport.write(b"hello")
    assert new_peer.recv(100) == b"hello"
    new_peer.send(b"answer")
    assert await new_protocol.got(6) == b"answer"
    assert protocol.received == b""
    new_transport.close()
    await new_protocol.lost()
    for sock in (theirs, new_peer):
        sock.close()


@pytest.mark.ours
@pytest.mark.parametrize("way", [close, close_number_alone])
async def test_the_new_owner_is_watched(loop, way):
    ours, theirs = socket.socketpair()
    transport, protocol = await loop.create_connection(Recorder, sock=ours)
    number = ours.fileno()
    way(ours)
    new, new_peer = successor(number)
    readable = asyncio.Event()
    loop.add_reader(new, readable.set)
    new_peer.send(b"x")
    await asyncio.wait_for(readable.wait(), 5)
    assert loop.remove_reader(new)
    transport.abort()
    await protocol.lost()
    for sock in (theirs, new, new_peer):
        sock.close()


@pytest.mark.ours
async def test_a_number_taken_from_an_accepted_connection(loop):
    """The loop's own socket, of which the program has only the number."""
    made = []

    class Accepted(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            made.append(self)

    server = await loop.create_server(Accepted, "127.0.0.1", 0)
    client = socket.create_connection(server.sockets[0].getsockname())
    while not made:
        await asyncio.sleep(0.001)
    number = made[0].transport.get_extra_info("socket").fileno()
    os.close(number)
    new, new_peer = successor(number)
    made[0].transport.abort()
    await made[0].lost()
    await still_works(new, new_peer)
    server.close()
    for sock in (client, new, new_peer):
        sock.close()


@pytest.mark.ours
@pytest.mark.parametrize("way", WAYS)
async def test_datagrams(loop, way):
    def bound():
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(5)
        return sock

    class Recording(asyncio.DatagramProtocol):
        received, lost = (), "no"

        def datagram_received(self, data, addr):
            self.received += (data,)

        def connection_lost(self, exc):
            self.lost = exc

    ours, theirs, new = bound(), bound(), bound()
    transport, protocol = await loop.create_datagram_endpoint(Recording, sock=ours)
    number = ours.fileno()
    way(ours)
    os.dup2(new.fileno(), number)
    taker = socket.socket(fileno=number)
    taker.settimeout(5)
    theirs.sendto(b"for the new one", new.getsockname())
    transport.sendto(b"secret", theirs.getsockname())
    await asyncio.sleep(0.02)
    assert protocol.lost.errno == errno.EBADF
    assert protocol.received == ()
    assert taker.recv(100) == b"for the new one"
    theirs.setblocking(False)
    with pytest.raises(BlockingIOError):
        theirs.recv(100)
    for sock in (theirs, new, taker):
        sock.close()


# What the system holds is taken back when the loop stops, and asked for again when it goes on.


def run_a_little(loop, times=1):
    for _ in range(times):
        loop.run_until_complete(asyncio.sleep(0.005))


@pytest.mark.ours
@pytest.mark.parametrize("runs", [1, 4])
@pytest.mark.parametrize("unsent", [0, 3_000_000])
@pytest.mark.parametrize("way", WAYS)
def test_closed_while_the_loop_does_not_run(loop, way, unsent, runs):
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    transport, recorder = loop.run_until_complete(loop.create_connection(Recorder, sock=ours))
    transport.write(b"x" * unsent)
    run_a_little(loop, runs)
    number = ours.fileno()
    way(ours)
    new, new_peer = successor(number)
    new_peer.send(b"for the new one")
    run_a_little(loop, 3)
    new.settimeout(5)
    new_peer.setblocking(False)
    assert new.recv(100) == b"for the new one"
    with pytest.raises(BlockingIOError):
        new_peer.recv(100)
    assert recorder.received == b""
    transport.abort()
    loop.run_until_complete(recorder.lost())
    loop.run_until_complete(still_works(new, new_peer))
    for sock in (theirs, new, new_peer):
        sock.close()


@pytest.mark.ours
@pytest.mark.parametrize("way", WAYS)
def test_closed_while_the_loop_does_not_run_and_datagrams(loop, way):
    def bound():
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(5)
        return sock

    received = []

    class Recording(asyncio.DatagramProtocol):
        def datagram_received(self, data, addr):
            received.append(data)

    ours, theirs, new = bound(), bound(), bound()
    transport, _ = loop.run_until_complete(loop.create_datagram_endpoint(Recording, sock=ours))
    run_a_little(loop)
    number = ours.fileno()
    way(ours)
    os.dup2(new.fileno(), number)
    taker = socket.socket(fileno=number)
    taker.settimeout(5)
    theirs.sendto(b"for the new one", new.getsockname())
    run_a_little(loop, 3)
    assert taker.recv(100) == b"for the new one"
    assert received == []
    transport.abort()
    run_a_little(loop)
    for sock in (theirs, new, taker):
        sock.close()


@pytest.mark.ours
@pytest.mark.parametrize("way", WAYS)
async def test_closed_in_the_turn_in_which_something_came(loop, way, protocol):
    """Before the next receive is the system's."""
    ours, theirs = socket.socketpair()
    number = ours.fileno()
    made = []

    recorder = recorder_of(protocol)
    note = recorder.note

    def noted(name):
        note(name)
        if name == "data_received":
            loop.call_soon(replace)

    def replace():
        way(ours)
        made.extend(successor(number))
        made[1].send(b"for the new one")

    recorder.note = noted
    transport, _ = await loop.create_connection(lambda: recorder, sock=ours)
    theirs.send(b"before")
    await recorder.got(6)
    await asyncio.sleep(0.02)
    new, new_peer = made
    new.settimeout(5)
    assert new.recv(100) == b"for the new one"
    assert bytes(recorder.received) == b"before"
    transport.abort()
    await recorder.lost()
    await still_works(new, new_peer)
    for sock in (theirs, new, new_peer):
        sock.close()
