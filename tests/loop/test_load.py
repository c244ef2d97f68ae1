"""Many connections, many messages: queues grow, memory follows use, and nothing accumulates.

Traps 4, 5 and 12 of docs/design.md.
"""

from __future__ import annotations

import asyncio
import gc
import socket
import sys
from typing import ClassVar

import pytest

from .marks import with_unix_sockets
from .support import SECONDS, Recorder, connect, recorder_of, registered_recorder, shut


class Echo(asyncio.Protocol):
    alive: ClassVar[set[Echo]] = set()

    def connection_made(self, transport):
        self.transport = transport
        self.alive.add(self)

    def data_received(self, data):
        self.transport.write(data)

    def connection_lost(self, exc):
        self.alive.discard(self)


def dial_many(address, count):
    return [socket.create_connection(address, timeout=SECONDS) for _ in range(count)]


async def until(condition):
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise TimeoutError


@pytest.mark.ours
def test_the_completion_queue_grows_with_the_connections(new_loop):
    """Trap 4: with room for 16 results, 300 connections have all their answers at once."""
    loop = new_loop(completion_queue_size=16)

    async def main():
        server = await loop.create_server(Echo, "127.0.0.1", 0, backlog=512)
        clients = await asyncio.to_thread(dial_many, server.sockets[0].getsockname(), 300)
        await until(lambda: len(Echo.alive) == 300)
        for turn in range(3):
            for number, client in enumerate(clients):
                client.sendall(b"%d-%d" % (turn, number))
            for number, client in enumerate(clients):
                expected = b"%d-%d" % (turn, number)
                assert await asyncio.to_thread(client.recv, 100) == expected
        for client in clients:
            client.close()
        await until(lambda: not Echo.alive)
        server.close()
        await server.wait_closed()

    loop.run_until_complete(main())


async def test_two_thousand_idle_connections(loop, kind):
    """Trap 12: memory grows by what is used, and comes back."""
    count = 2000
    server = await loop.create_server(Echo, "127.0.0.1", 0, backlog=1024)
    idle_slabs = loop.rio_stats().slabs if kind != "std" else 0
    clients = await asyncio.to_thread(dial_many, server.sockets[0].getsockname(), count)
    await until(lambda: len(Echo.alive) == count)
    if kind != "std":
        statistics = loop.rio_stats()
        assert statistics.connections == count
        assert statistics.slices_in_use <= count
    for client in clients[:: count // 20]:
        client.sendall(b"awake")
        assert await asyncio.to_thread(client.recv, 100) == b"awake"
    for client in clients:
        client.close()
    await until(lambda: not Echo.alive)
    if kind != "std":
        await until(lambda: loop.rio_stats().slices_in_use == 0)
        statistics = loop.rio_stats()
        assert statistics.connections == 0
        assert statistics.slabs <= idle_slabs + 1, "empty slabs were not given back"
    server.close()
    await server.wait_closed()


async def test_no_completion_is_lost_between_draining_and_arming(loop):
    """Trap 5: answers come at every moment of the tick; one that is lost hangs its client."""
    server = await loop.create_server(Echo, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()

    def talk(client, turns):
        for number in range(turns):
            message = b"%06d" % number
            client.sendall(message)
            assert client.recv(100) == message

    clients = await asyncio.to_thread(dial_many, address, 4)
    await asyncio.gather(*(asyncio.to_thread(talk, client, 2500) for client in clients))
    for client in clients:
        client.close()
    await until(lambda: not Echo.alive)
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize("pace", [0, 0.0001])
async def test_timers_and_messages_do_not_starve_each_other(loop, pace):
    transport, recorder, peer = await connect(Recorder)
    ticks = 0
    rounds = 300

    async def tick():
        nonlocal ticks
        while True:
            await asyncio.sleep(pace)
            ticks += 1

    ticking = asyncio.ensure_future(tick())
    for number in range(rounds):
        peer.sock.sendall(b"x")
        await recorder.got(number + 1)
    assert ticks > 0
    ticking.cancel()
    await shut(transport, recorder, peer)


def blocks_after(work, rounds):
    """Allocated blocks after each round, collected, so that only what is kept counts."""
    found = []
    for _ in range(rounds):
        work()
        gc.collect()
        found.append(sys.getallocatedblocks())
    return found


@pytest.mark.ours
@pytest.mark.timeout(150)  # a message takes a millisecond and more under Wine
def test_steady_traffic_keeps_no_memory(loop, protocol):
    """Twenty thousand messages and not one block more than before, but for the noise of others."""
    held = {}

    class Answering:
        def note(self, call):
            if call == "data_received":
                held["count"] += 1
                self.transport.write(b"y" * 100)
                self.received.clear()
                held["waiter"].set()

    async def begin():
        recorder = recorder_of(protocol)
        recorder.note = lambda call: Answering.note(recorder, call)
        held["end"] = await connect(lambda: recorder)

    async def exchange(turns):
        held["waiter"] = asyncio.Event()
        _, _, peer = held["end"]
        peer.sock.setblocking(False)
        for _ in range(turns):
            held["waiter"].clear()
            await loop.sock_sendall(peer.sock, b"x" * 100)
            await held["waiter"].wait()
            assert len(await loop.sock_recv(peer.sock, 1000)) == 100

    async def end():
        transport, _, peer = held["end"]
        transport.abort()
        peer.close()
        await asyncio.sleep(0.005)

    held["count"] = 0
    loop.run_until_complete(begin())
    loop.run_until_complete(exchange(2000))
    found = blocks_after(lambda: loop.run_until_complete(exchange(4000)), 5)
    assert held["count"] >= 22_000
    assert found[-1] - found[0] < 200, found
    loop.run_until_complete(end())


@pytest.mark.ours
def test_connections_that_come_and_go_keep_no_memory(loop):
    async def come_and_go():
        for _ in range(100):
            transport, recorder, peer = await connect(registered_recorder)
            transport.write(b"x" * 1000)
            await peer.receive_exactly(1000)
            await shut(transport, recorder, peer)

    loop.run_until_complete(come_and_go())
    found = blocks_after(lambda: loop.run_until_complete(come_and_go()), 4)
    assert found[-1] - found[0] < 300, found


@with_unix_sockets
@pytest.mark.ours
def test_a_write_to_a_peer_that_left_raises_no_signal(kind):
    """Trap 14: SIGPIPE must not end a process that has the system's own handling of it."""
    import subprocess

    program = """
import asyncio, signal, socket, sys, zerio_asyncio
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
async def main():
    ours, theirs = socket.socketpair()
    transport, _ = await asyncio.get_running_loop().create_unix_connection(
        asyncio.Protocol, sock=ours)
    transport.pause_reading()
    theirs.close()
    for size in (10, 100_000, 10):
        transport.write(b"x" * size)
        transport.write(bytearray(10))
        await asyncio.sleep(0.005)
    transport.abort()
    await asyncio.sleep(0.005)
options = zerio_asyncio.LoopOptions(provider=sys.argv[1])
zerio_asyncio.run(main(), options=options)
print("alive")
"""
    done = subprocess.run(
        [sys.executable, "-c", program, kind],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, (done.returncode, done.stderr)
    assert done.stdout.strip() == "alive"


@pytest.mark.ours
def test_runs_cost_nothing_for_each_connection_that_is_idle(new_loop):
    """Programs that call run_until_complete for each small thing, with connections open."""
    loop = new_loop()
    count, runs = 50, 20
    pairs = [socket.socketpair() for _ in range(count)]
    transports = []
    for ours, _ in pairs:
        ours.setblocking(False)
        transport, _ = loop.run_until_complete(loop.create_connection(Recorder, sock=ours))
        transports.append(transport)
    for _ in range(5):
        loop.run_until_complete(asyncio.sleep(0))
    before = loop.rio_stats()
    for _ in range(runs):
        loop.run_until_complete(asyncio.sleep(0))
    after = loop.rio_stats()
    assert after.submissions - before.submissions < count * runs
    assert after.system_calls - before.system_calls < count * runs
    # What comes between the runs is there in the next one.
    for number, (_, theirs) in enumerate(pairs):
        theirs.send(b"%d" % number)
    loop.run_until_complete(asyncio.sleep(0.01))
    for number, transport in enumerate(transports):
        assert b"%d" % number in transport.get_protocol().received
        transport.abort()
    loop.run_until_complete(asyncio.sleep(0))
    for _, theirs in pairs:
        theirs.close()
