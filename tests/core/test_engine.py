"""The tick: batches that are interrupted, statistics, memory that is registered and given back."""

from __future__ import annotations

import asyncio
import socket

import pytest

from zerio_asyncio.core.memory import SlicePool


class Counting(asyncio.Protocol):
    """Counts bytes; leaves the loop by an exception at chosen messages."""

    received = 0
    leave_at: frozenset[int] = frozenset()
    calls = 0

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        Counting.received += len(data)
        Counting.calls += 1
        if Counting.calls in Counting.leave_at:
            raise KeyboardInterrupt


@pytest.fixture
def counting():
    Counting.received = Counting.calls = 0
    Counting.leave_at = frozenset()
    return Counting


def test_an_interrupt_in_the_middle_of_a_batch_loses_nothing(loop, counting):
    """Forty results are fetched at once; callbacks leave the loop at three of them."""
    pairs = [socket.socketpair() for _ in range(40)]

    async def begin():
        for ours, _ in pairs:
            await loop.create_connection(counting, sock=ours)

    loop.run_until_complete(begin())
    for _, theirs in pairs:
        theirs.sendall(b"12345")
    counting.leave_at = frozenset({3, 4, 20})
    loop.call_later(0.5, loop.stop)
    interrupts = 0
    while counting.received < 200:
        try:
            loop.run_until_complete(asyncio.sleep(0.01))
        except KeyboardInterrupt:
            interrupts += 1
    assert interrupts == 3
    assert counting.received == 200
    for _, theirs in pairs:
        theirs.close()
    loop.run_until_complete(asyncio.sleep(0.01))


def test_an_interrupt_between_accepts_loses_no_client(loop, counting):
    made = []

    def factory():
        made.append(counting())
        if len(made) == 2:
            raise KeyboardInterrupt
        return made[-1]

    server = loop.run_until_complete(loop.create_server(factory, "127.0.0.1", 0))
    clients = [socket.create_connection(server.sockets[0].getsockname()) for _ in range(6)]
    for client in clients:
        client.sendall(b"x")
    interrupts = 0
    for _ in range(200):
        try:
            loop.run_until_complete(asyncio.sleep(0.001))
        except KeyboardInterrupt:
            interrupts += 1
        if counting.received == 5:
            break
    assert interrupts == 1
    assert counting.received == 5, "all but the one whose factory left the loop"
    for client in clients:
        client.close()
    server.close()
    loop.run_until_complete(asyncio.sleep(0.01))


def test_statistics_count(make_loop):
    loop = make_loop(gather=True)
    before = loop.rio_stats()
    ours, theirs = socket.socketpair()

    async def main():
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
        await asyncio.sleep(0)
        assert loop.rio_stats().connections == 1
        transport.write(b"a" * 10)
        transport.write(b"b" * 10)
        await asyncio.sleep(0.002)
        assert theirs.recv(100) == b"a" * 10 + b"b" * 10
        theirs.sendall(b"c" * 7)
        await asyncio.sleep(0.002)
        transport.abort()
        await asyncio.sleep(0.002)

    loop.run_until_complete(main())
    after = loop.rio_stats()
    assert after.bytes_sent - before.bytes_sent == 20
    assert after.bytes_received - before.bytes_received == 7
    assert after.gathered - before.gathered >= 1
    assert after.submissions > before.submissions
    assert after.waits > before.waits
    assert after.system_calls >= before.system_calls
    assert after.slices_high_water >= 1
    assert after.slices_in_use == 0
    assert after.connections == 0
    theirs.close()


def test_slabs_come_on_demand_and_go(make_loop):
    loop = make_loop(slice_size=4096, slab_size=16384)
    assert loop.rio_stats().slabs == 0
    pairs = [socket.socketpair() for _ in range(10)]

    async def main():
        transports = []
        for ours, _ in pairs:
            transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
            transports.append(transport)
        await asyncio.sleep(0.002)
        assert 3 <= loop.rio_stats().slabs <= 4, "ten slices, with or without room between"
        for transport in transports:
            transport.abort()
        await asyncio.sleep(0.005)
        assert loop.rio_stats().slices_in_use == 0
        assert loop.rio_stats().slabs == 1, "one empty slab is kept, the others are given back"

    loop.run_until_complete(main())
    for _, theirs in pairs:
        theirs.close()


@pytest.mark.parametrize(
    ("slice_size", "slab_size"), [(0, 0), (4096, 0), (8192, 4096), (4096, 10_000), (0, 4096)]
)
def test_pools_of_impossible_sizes(slice_size, slab_size):
    with pytest.raises(ValueError, match="slices"):
        SlicePool(slice_size, slab_size)


def test_a_pool_counts():
    pool = SlicePool(4096, 65536)
    assert (pool.slice_size, pool.slab_size) == (4096, 65536)
    assert (pool.slices_in_use, pool.slices_high_water, pool.slabs) == (0, 0, 0)


def test_an_engine_is_attached_once(loop):
    with pytest.raises(RuntimeError, match="attached"):
        loop._attach(0, 0, SlicePool(4096, 65536), 16, 1, False, None, None)


def test_the_private_doors_of_a_closed_loop_are_shut(make_loop):
    loop = make_loop()
    loop.close()
    for door in (loop._run_once, loop._engine_counts, lambda: loop._accept(0, 1)):
        with pytest.raises(RuntimeError, match="closed"):
            door()
    loop._rest()
    loop._detach()
