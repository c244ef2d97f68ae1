"""Random programs on one datagram endpoint, compared with what must come of them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .datagrams import Letters, open_endpoint, peer, receive_many, shut
from .marks import beyond_proactor

PEERS = 3
PENDING_MAX = 40_000
"""Bytes that wait to be received, each datagram counted with what the system spends on it; far
below the receive buffer of any system, or datagrams would be lost, as UDP may."""

COST = 800

sizes = st.one_of(st.integers(1, 64), st.integers(500, 2000), st.just(20000))
numbers = st.integers(0, PEERS - 1)
steps = st.one_of(
    st.tuples(st.just("into"), numbers, sizes),
    st.tuples(st.just("out"), numbers, sizes),
    st.tuples(st.just("burst"), numbers, st.integers(2, 40)),
    st.tuples(st.sampled_from(["answer", "hush"]), st.just(0), st.just(0)),
    st.tuples(st.sampled_from(["turn", "drain", "switch"]), st.just(0), st.just(0)),
)
programs = st.lists(steps, min_size=5, max_size=40)


class Answerer(Letters):
    """Answers when told to, once or twice, by the number in the datagram."""

    def __init__(self, program: Program) -> None:
        super().__init__()
        self.program = program

    def datagram_received(self, data: bytes, addr: Any) -> None:
        super().datagram_received(data, addr)
        self.program.arrived.append((data, addr))
        if self.program.answers:
            for _ in range(1 + data[0] % 2):
                self.transport.sendto(data, addr)
                self.program.outgoing[addr].append(data)


class Program:
    def __init__(self) -> None:
        self.peers = [peer() for _ in range(PEERS)]
        self.names = [sock.getsockname() for sock in self.peers]
        self.answers = False
        self.sent: list[tuple[bytes, Any]] = []
        self.arrived: list[tuple[bytes, Any]] = []
        self.outgoing: dict[Any, list[bytes]] = {name: [] for name in self.names}
        self.pending = 0
        self.serial = 0

    def data(self, size: int) -> bytes:
        self.serial += 1
        return (self.serial.to_bytes(4, "little") * (size // 4 + 1))[:size]

    async def run(self, program: list[tuple[str, int, int]]) -> None:
        self.transport, self.protocol, self.address = await open_endpoint(lambda: Answerer(self))
        for name, number, argument in program:
            await getattr(self, name)(number, argument)
            if self.pending > PENDING_MAX:
                await self.drain()
        await self.drain()
        await shut(self.transport)
        assert self.protocol.errors == []

    def close(self) -> None:
        for sock in self.peers:
            sock.close()

    async def into(self, number: int, size: int) -> None:
        data = self.data(size)
        self.sent.append((data, self.names[number]))
        self.peers[number].sendto(data, self.address)
        self.pending += 3 * (size + COST)  # itself and up to two answers

    async def out(self, number: int, size: int) -> None:
        data = self.data(size)
        self.transport.sendto(data, self.names[number])
        self.outgoing[self.names[number]].append(data)
        self.pending += size + COST

    async def burst(self, number: int, count: int) -> None:
        for i in range(count):
            await self.into((number + i) % PEERS, 4)

    async def answer(self, *_: int) -> None:
        self.answers = True

    async def hush(self, *_: int) -> None:
        self.answers = False

    async def switch(self, *_: int) -> None:
        """Another protocol takes over; what it hears is counted together with the first's."""
        fresh = Answerer(self)
        fresh.transport = self.transport
        self.protocol = fresh
        self.transport.set_protocol(fresh)

    async def turn(self, *_: int) -> None:
        await asyncio.sleep(0)

    async def drain(self, *_: int) -> None:
        await self.all_arrived()
        assert self.arrived == self.sent
        for name, sock in zip(self.names, self.peers, strict=True):
            expected = self.outgoing[name]
            assert await receive_many(sock, len(expected)) == expected
            expected.clear()
        while self.transport.get_write_buffer_size():
            await asyncio.sleep(0)  # the end of a send may be told after the datagram has come
        self.pending = 0

    async def all_arrived(self) -> None:
        while len(self.arrived) < len(self.sent):
            await asyncio.sleep(0)


@beyond_proactor  # empty datagrams
@pytest.mark.timeout(120)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(program=programs)
def test_random_programs(new_loop, program):
    loop, machine = new_loop(), Program()
    try:
        loop.run_until_complete(asyncio.wait_for(machine.run(program), 20))
    finally:
        machine.close()
        loop.close()
