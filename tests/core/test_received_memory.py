"""Received memory is one party's at a time: the kernel's, the transport's or the protocol's.

Every test compares bytes: what one connection was sent may show on that one alone, once, in order,
and what a protocol was shown does not change while it can look at it.
"""

from __future__ import annotations

import asyncio
import gc
import socket
import weakref

import pytest

import zerio_asyncio
from zerio_asyncio.core.protocols import RegisteredProtocol

SLICE = 4096


@pytest.fixture
def loop(make_loop):
    return make_loop(slice_size=SLICE, slab_size=SLICE)


def pattern(size: int, start: int = 0) -> bytes:
    """No two slices of it are alike."""
    return b"".join((start + i).to_bytes(4, "big") for i in range(0, size, 4))[:size]


async def connect(factory):
    ours, theirs = socket.socketpair()
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_unix_connection(factory, sock=ours)
    theirs.setblocking(False)
    return transport, protocol, theirs


async def until(condition):
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.002)
    raise AssertionError("it never came")


class Remembering(RegisteredProtocol):
    """Compares what it is shown before and after it has done something."""

    def __init__(self, act=lambda protocol, view: None):
        self.act = act
        self.received = bytearray()
        self.changed = 0
        self.lost = False

    def connection_made(self, transport):
        self.transport = transport

    def view_received(self, view):
        before = bytes(view)
        self.act(self, view)
        self.changed += bytes(view) != before
        self.received += before

    def connection_lost(self, exc):
        self.lost = True


def paused_and_resumed(protocol, view):
    protocol.transport.pause_reading()
    protocol.transport.resume_reading()


@pytest.mark.parametrize("size", [100, SLICE, 10 * SLICE, 300_000])
def test_a_view_does_not_change_when_reading_is_resumed_in_its_call(loop, size):
    async def main():
        transport, protocol, peer = await connect(lambda: Remembering(paused_and_resumed))
        data = pattern(size)
        sending = asyncio.ensure_future(loop.sock_sendall(peer, data))
        await until(lambda: len(protocol.received) >= size)
        await sending
        assert bytes(protocol.received) == data
        assert protocol.changed == 0
        transport.close()
        await until(lambda: protocol.lost)
        peer.close()

    loop.run_until_complete(main())
    assert loop.rio_stats().slices_in_use == 0


def test_a_kept_part_keeps_its_slice_from_everybody(loop):
    kept = []

    def keep(protocol, view):
        kept.append(view[:])
        paused_and_resumed(protocol, view)

    async def main():
        one, first, peer = await connect(lambda: Remembering(keep))
        peer.send(b"first")
        await until(lambda: kept)
        other, second, other_peer = await connect(lambda: Remembering(keep))
        other_peer.send(b"of another")
        await until(lambda: len(kept) == 2)
        kept.pop(0).release()  # its slice goes back while the first one's receive is posted
        third, remembering, third_peer = await connect(Remembering)
        third_peer.send(b"of a third")
        peer.send(b"again")
        await until(lambda: remembering.received and len(kept) == 2)
        assert [bytes(view) for view in kept] == [b"of another", b"again"]
        assert (first.received, second.received) == (b"firstagain", b"of another")
        assert remembering.received == b"of a third"
        for transport in (one, other, third):
            transport.close()
        await until(lambda: first.lost and second.lost and remembering.lost)
        assert [bytes(view) for view in kept] == [b"of another", b"again"]
        assert loop.rio_stats().slices_in_use == 2
        kept.clear()
        for sock in (peer, other_peer, third_peer):
            sock.close()

    loop.run_until_complete(main())
    assert loop.rio_stats().slices_in_use == 0


def test_a_kept_part_in_a_cycle_is_collected(loop):
    dead = []

    class Box(list):
        pass

    def keep(protocol, view):
        box = Box()
        box.extend((box, view[1:]))
        dead.append(weakref.ref(box))

    async def main():
        transport, protocol, peer = await connect(lambda: Remembering(keep))
        for number in range(5):
            peer.send(b"%d" % number)
            await until(lambda wanted=number + 1: len(protocol.received) == wanted)
        assert loop.rio_stats().slices_in_use >= 5
        gc.collect()
        assert not any(ref() for ref in dead)
        transport.close()
        await until(lambda: protocol.lost)
        peer.close()

    loop.run_until_complete(main())
    assert loop.rio_stats().slices_in_use == 0


@pytest.mark.parametrize("when", ["after the call", "in another call", "after the end"])
def test_the_object_behind_a_view_shows_nothing_later(loop, when):
    exporters = []
    seen = []

    def keep(protocol, view):
        if exporters:
            seen.append(protocol.received[:])
            with pytest.raises(BufferError, match="only while"):
                memoryview(exporters[0])
        exporters.append(view.obj)
        assert bytes(memoryview(view.obj)) == bytes(view)

    async def main():
        transport, protocol, peer = await connect(lambda: Remembering(keep))
        peer.send(b"first")
        await until(lambda: protocol.received == b"first")
        if when == "after the call":
            with pytest.raises(BufferError, match="only while"):
                memoryview(exporters[0])
        elif when == "in another call":
            peer.send(b"second")
            await until(lambda: protocol.received == b"firstsecond")
            assert seen == [b"first"]
        transport.close()
        await until(lambda: protocol.lost)
        peer.close()

    loop.run_until_complete(main())
    loop.close()
    for exporter in exporters:
        with pytest.raises(BufferError, match="only while"):
            bytes(exporter)


class Choosing(asyncio.BufferedProtocol):
    """Does something each time it is asked for a buffer."""

    def __init__(self, act, room):
        self.act = act
        self.room = room
        self.received = bytearray()
        self.lost = False

    def connection_made(self, transport):
        self.transport = transport

    def get_buffer(self, hint):
        self.act(self, None)
        self.buffer = bytearray(self.room)
        return self.buffer

    def buffer_updated(self, count):
        self.received += self.buffer[:count]

    def connection_lost(self, exc):
        self.lost = True


@pytest.mark.parametrize("room", [1000, 65536])
def test_resuming_while_a_buffer_is_chosen(loop, room):
    async def main():
        transport, protocol, peer = await connect(lambda: Choosing(paused_and_resumed, room))
        data = pattern(300_000)
        sending = asyncio.ensure_future(loop.sock_sendall(peer, data))
        await until(lambda: len(protocol.received) >= len(data))
        await sending
        assert bytes(protocol.received) == data
        transport.close()
        await until(lambda: protocol.lost)
        peer.close()

    loop.run_until_complete(main())


@pytest.mark.parametrize("factory", [Remembering, lambda act: Choosing(act, 100)])
@pytest.mark.parametrize("end", ["abort", "close"])
def test_a_connection_that_ends_while_its_protocol_looks(loop, factory, end):
    """Also when the loop runs inside the call, as nested loops make it."""

    def act(protocol, view):
        getattr(protocol.transport, end)()
        protocol.transport._call_connection_lost(None)
        if view is not None:
            assert bytes(view) == b"data"

    async def main():
        transport, protocol, peer = await connect(lambda: factory(act))
        peer.send(b"data")
        await until(lambda: protocol.lost)
        await asyncio.sleep(0)
        peer.close()

    loop.run_until_complete(main())
    stats = loop.rio_stats()
    assert (stats.slices_in_use, stats.connections) == (0, 0)


def test_a_protocol_changed_in_its_call_is_given_the_rest(loop):
    class Plain(asyncio.Protocol):
        def __init__(self):
            self.received = b""

        def data_received(self, data):
            self.received += data

    plain = Plain()

    def act(protocol, view):
        protocol.transport.set_protocol(plain)
        paused_and_resumed(protocol, view)

    async def main():
        transport, protocol, peer = await connect(lambda: Remembering(act))
        data = pattern(3 * SLICE)
        peer.sendall(data)
        await until(lambda: len(protocol.received) + len(plain.received) == len(data))
        assert bytes(protocol.received) + plain.received == data
        assert protocol.changed == 0
        transport.abort()
        await asyncio.sleep(0.01)
        peer.close()

    loop.run_until_complete(main())


def test_a_loop_that_is_dropped_with_everything_open(make_loop):
    """Whatever its state, it is closed before the collector takes it apart."""
    loop = zerio_asyncio.new_event_loop(
        zerio_asyncio.LoopOptions(provider=make_loop().provider, slice_size=SLICE, slab_size=SLICE)
    )

    async def main():
        transport, protocol, peer = await connect(Remembering)
        transport.set_write_buffer_limits(1 << 30)
        for number in range(100):
            transport.write(bytes([number]) * 100_000)
        await asyncio.sleep(0.01)
        assert transport.get_write_buffer_size() > 0
        return peer

    peer = loop.run_until_complete(main())
    gone = weakref.ref(loop)
    del loop
    with pytest.warns(ResourceWarning, match="unclosed") as told:
        gc.collect()
    told.clear()  # a warning has its source
    gc.collect()
    assert gone() is None
    peer.close()
