"""When an effect is visible: what a program has written is with its peer when the call returns.

Programs write and then compute, block, fork, exec or die. None of the peers here is served by the
loop under test, and where it matters the loop does not turn before they look.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import textwrap

import pytest

from .marks import with_fork, with_unix_sockets
from .support import Changes, Recorder


async def connect(protocol=Recorder):
    """A transport, its protocol, and a blocking peer with a short patience."""
    ours, theirs = socket.socketpair()
    theirs.settimeout(5)
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_connection(protocol, sock=ours)
    return transport, protocol, theirs


async def shut(transport, protocol, peer):
    transport.abort()
    await protocol.lost()
    peer.close()


WAYS = {
    "write": lambda transport: transport.write(b"abc"),
    "a bytearray": lambda transport: transport.write(bytearray(b"abc")),
    "writes": lambda transport: [transport.write(part) for part in (b"a", b"b", b"c")],
    "writelines": lambda transport: transport.writelines([b"a", b"", b"bc"]),
}


@pytest.mark.parametrize("way", WAYS)
async def test_a_write_is_with_the_peer_when_it_returns(loop, way):
    transport, protocol, peer = await connect()
    for _ in range(3):
        WAYS[way](transport)
        received = b""
        while len(received) < 3:
            received += peer.recv(3)
        assert received == b"abc"
        assert transport.get_write_buffer_size() == 0
    await shut(transport, protocol, peer)


async def test_the_end_is_with_the_peer_when_write_eof_returns(loop):
    transport, protocol, peer = await connect()
    transport.write(b"last")
    transport.write_eof()
    assert [peer.recv(10), peer.recv(10)] == [b"last", b""]
    await shut(transport, protocol, peer)


async def test_a_large_write_is_begun_at_once(loop):
    transport, protocol, peer = await connect()
    data = os.urandom(1 << 20)
    transport.write(data)
    begun = peer.recv(65536)
    assert data.startswith(begun)
    left = transport.get_write_buffer_size()
    assert 0 < left < len(data), "only what the system did not take is counted"

    def rest():
        received = begun
        while len(received) < len(data):
            received += peer.recv(1 << 16)
        return received

    assert await asyncio.to_thread(rest) == data
    await shut(transport, protocol, peer)


async def test_what_is_queued_keeps_its_place(loop):
    """A small write behind a large one that the system has not taken whole waits for its turn."""
    transport, protocol, peer = await connect()
    parts = [b"x" * (1 << 20), b"small", bytearray(b"y" * 70_000), b"end"]
    for part in parts[:2]:
        transport.write(part)
    transport.writelines(parts[2:])
    expected = b"".join(parts)

    def everything():
        received = bytearray()
        while len(received) < len(expected):
            received += peer.recv(1 << 16)
        return bytes(received)

    assert await asyncio.to_thread(everything) == expected
    await shut(transport, protocol, peer)


@pytest.mark.parametrize("limit", [None, 0, 1000])
async def test_pauses_are_for_what_was_not_taken(loop, limit):
    transport, protocol, peer = await connect()
    if limit is not None:
        transport.set_write_buffer_limits(limit)
    for _ in range(20):
        transport.write(b"tick" * 100)
        assert transport.get_write_buffer_size() == 0
        assert len(peer.recv(1000)) == 400
    assert "pause_writing" not in protocol.calls, "nothing was ever queued"
    transport.write(b"x" * (1 << 20))
    assert transport.get_write_buffer_size() > 1000
    assert protocol.calls[-1] == "pause_writing"
    await shut(transport, protocol, peer)


class Ending(Recorder):
    def __init__(self, end):
        super().__init__()
        self.end = end

    def connection_made(self, transport):
        super().connection_made(transport)
        if self.end.startswith("made"):
            transport.write(b"bye")
            transport.abort()

    def data_received(self, data):
        super().data_received(data)
        self.transport.write(b"bye")
        if self.end == "abort":
            self.transport.abort()
        elif self.end == "abort soon":
            asyncio.get_running_loop().call_soon(self.transport.abort)
        elif self.end == "eof, abort":
            self.transport.write_eof()
            self.transport.abort()
        elif self.end == "raise":
            raise RuntimeError("after it has written")


@pytest.mark.parametrize("end", ["abort", "abort soon", "eof, abort", "raise", "made, abort"])
async def test_what_was_written_before_the_end_has_gone(loop, caught, end):
    transport, protocol, peer = await connect(lambda: Ending(end))
    if not end.startswith("made"):
        peer.send(b"go")
    await protocol.lost()
    assert peer.recv(10) == b"bye"
    assert peer.recv(10) == b""
    peer.close()
    assert len(caught.take()) == (end == "raise")


@pytest.mark.parametrize("end", ["close", "abort"])
async def test_what_is_written_after_the_end_does_not_go(loop, end):
    transport, protocol, peer = await connect()
    transport.write(b"before")
    getattr(transport, end)()
    transport.write(b"after")
    transport.writelines([b"after", b"that"])
    await protocol.lost()
    assert [peer.recv(100), peer.recv(100)] == [b"before", b""]
    peer.close()


@pytest.mark.ours
async def test_what_is_written_after_close_does_not_go_behind_what_waits(loop):
    """On the standard loop it does."""
    transport, protocol, peer = await connect()
    before = b"x" * (1 << 20)
    transport.write(before)
    transport.close()
    transport.write(b"after")

    def everything():
        received = bytearray()
        while data := peer.recv(1 << 16):
            received += data
        return bytes(received)

    assert await asyncio.to_thread(everything) == before
    await protocol.lost()
    peer.close()


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
@pytest.mark.parametrize("end", ["", "close", "abort"])
async def test_a_datagram_is_with_the_peer_when_sendto_returns(loop, family, end):
    peer = socket.socket(family, socket.SOCK_DGRAM)
    peer.bind(("127.0.0.1" if family == socket.AF_INET else "::1", 0))
    peer.settimeout(5)
    transport, _ = await loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, remote_addr=peer.getsockname()[:2]
    )
    transport.sendto(b"one")
    transport.sendto(b"two")
    if end:
        getattr(transport, end)()
    assert [peer.recv(10), peer.recv(10)] == [b"one", b"two"]
    transport.abort()
    await asyncio.sleep(0.01)
    peer.close()


async def test_answers_amid_a_burst_of_datagrams_do_not_wait_for_its_end(loop):
    """A server acknowledges each datagram and then works."""
    answered = []

    class Acknowledging(asyncio.DatagramProtocol):
        changes = Changes()

        def connection_made(self, transport):
            self.transport = transport

        def datagram_received(self, data, addr):
            self.transport.sendto(b"ack " + data, addr)
            answered.append(peer.recv(20))  # before the next one is handed over
            self.changes.changed()

    peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    peer.bind(("127.0.0.1", 0))
    peer.settimeout(5)
    transport, protocol = await loop.create_datagram_endpoint(
        Acknowledging, local_addr=("127.0.0.1", 0)
    )
    for number in range(20):
        peer.sendto(b"%d" % number, transport.get_extra_info("sockname"))
    await protocol.changes.until(lambda: len(answered) == 20)
    assert answered == [b"ack %d" % number for number in range(20)]
    transport.abort()
    await asyncio.sleep(0.01)
    peer.close()


DYING = {
    "exit": "os._exit(0)",
    "exec": "os.execv(sys.executable, [sys.executable, '-c', ''])",
    "kill": "os.kill(os.getpid(), signal.SIGKILL)",
}


@with_unix_sockets
@pytest.mark.parametrize("way", DYING)
def test_a_process_that_ends_after_it_has_written(kind, way):
    program = f"""
    import asyncio, os, signal, socket, sys
    from tests.loop.support import make_loop

    async def main():
        _, writer = await asyncio.open_connection(sock=socket.socket(fileno={{number}}))
        writer.write(b"good")
        writer.writelines([b"b", b"ye"])
        await writer.drain()
        {DYING[way]}

    make_loop({kind!r}).run_until_complete(main())
    """
    ours, theirs = socket.socketpair()
    with ours, theirs:
        text = textwrap.dedent(program).format(number=theirs.fileno())
        child = subprocess.Popen([sys.executable, "-c", text], pass_fds=[theirs.fileno()])
        theirs.close()
        ours.settimeout(20)
        received = b""
        while data := ours.recv(100):
            received += data
        assert child.wait() == (-signal.SIGKILL if way == "kill" else 0)
    assert received == b"goodbye"


@with_fork
async def test_a_forked_child_that_writes_to_what_it_inherited(loop):
    transport, protocol, peer = await connect()
    child = os.fork()
    if child == 0:
        try:
            transport.write(b"from the child")
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert peer.recv(100) == b"from the child"
    transport.write(b"from the parent")
    assert peer.recv(100) == b"from the parent"
    await shut(transport, protocol, peer)


@pytest.mark.ours
def test_a_loop_that_gathers_sends_at_the_end_of_the_turn(new_loop):
    loop = new_loop(gather=True)

    async def main():
        transport, protocol, peer = await connect()
        transport.write(b"a")
        transport.writelines([b"b", b"c"])
        peer.setblocking(False)
        with pytest.raises(BlockingIOError):
            peer.recv(10)
        assert transport.get_write_buffer_size() == 3
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert peer.recv(10) == b"abc"
        await shut(transport, protocol, peer)

    loop.run_until_complete(main())


@with_fork
async def test_a_forked_child_that_sends_a_datagram(loop):
    peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    peer.bind(("127.0.0.1", 0))
    peer.settimeout(5)
    for options in ({"remote_addr": peer.getsockname()}, {"local_addr": ("127.0.0.1", 0)}):
        transport, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, **options)
        address = None if "remote_addr" in options else peer.getsockname()
        child = os.fork()
        if child == 0:
            try:
                transport.sendto(b"from the child", address)
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        assert peer.recv(100) == b"from the child"
        transport.sendto(b"from the parent", address)
        assert peer.recv(100) == b"from the parent"
        transport.abort()
        await asyncio.sleep(0.01)
    peer.close()
