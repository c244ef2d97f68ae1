"""Processes of clients are killed at random and come back under their ids; the server is restarted.

Every message that a client knows to be acknowledged has arrived once, and every id is there again.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import random
import signal
import sys

import pytest

from zerio_asyncio.messaging import serve

from ..loop.support import WINDOWS

PROCESSES = 4
EACH = 50
KILLS = 6
NAMES = {f"c{number}" for number in range(PROCESSES * EACH)}

pytestmark = pytest.mark.skipif(WINDOWS, reason="no process can be killed by a signal here")


class World:
    """The server, and the processes of clients."""

    def __init__(self, kind):
        self.kind = kind
        self.arrived = collections.Counter()
        self.acknowledged = []
        self.rounds = [0] * PROCESSES
        self.processes = [None] * PROCESSES
        self.readers = []
        self.port = 0

    def on_message(self, peer, message):
        self.arrived[bytes(message).decode()] += 1
        peer.send(message)

    async def start(self, index):
        arguments = [self.port, index * EACH, EACH, self.rounds[index]]
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.messaging.kills",
            *map(str, arguments),
            stdout=asyncio.subprocess.PIPE,
        )
        self.rounds[index] += 1
        self.processes[index] = process
        self.readers.append(asyncio.ensure_future(self.read(process.stdout)))

    async def read(self, stream):
        async for line in stream:
            if line.endswith(b"\n"):
                self.acknowledged.append(line.decode().strip())

    async def kill(self, index):
        self.processes[index].send_signal(signal.SIGKILL)
        await self.processes[index].wait()

    async def until_all_have_sent(self, rounds):
        """Every client of these rounds of the processes has got an acknowledgement."""
        wanted = {(name, str(rounds[int(name[1:]) // EACH])) for name in NAMES}
        while not wanted <= self.heard():
            await asyncio.sleep(0.02)

    def heard(self):
        return {tuple(line.split()[:2]) for line in self.acknowledged}


@pytest.mark.timeout(90)
async def test_what_was_acknowledged_arrived_once(loop, kind):
    draw = random.Random(kind)
    world = World(kind)
    server = serve(0, world.on_message)
    await server.start()
    world.port = server.listening_port
    try:
        for index in range(PROCESSES):
            await world.start(index)
        for kill in range(KILLS):
            await world.until_all_have_sent([each - 1 for each in world.rounds])
            index = draw.randrange(PROCESSES)
            await world.kill(index)
            if kill % 3 == 1:
                await server.stop(patience=0.1)
                server = serve(world.port, world.on_message)
                await server.start()
            await world.start(index)
        await world.until_all_have_sent([each - 1 for each in world.rounds])
        while set(server.peers) != NAMES:
            await asyncio.sleep(0.01)
    finally:
        for index in range(PROCESSES):
            with contextlib.suppress(ProcessLookupError, AttributeError):
                await world.kill(index)
        await asyncio.gather(*world.readers)
        await server.stop(patience=0.1)
    assert len(world.acknowledged) == len(set(world.acknowledged))
    assert {world.arrived[line] for line in world.acknowledged} == {1}
    assert len(world.acknowledged) > len(NAMES)
