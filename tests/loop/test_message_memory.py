"""What memory messages use again: received bytes that a program keeps must never change."""

from __future__ import annotations

import asyncio
import hashlib
import random
import socket
from typing import Any

from .support import receive_exactly


class KeepingEcho(asyncio.Protocol):
    """Echoes every message and keeps some of them, each with what it was when it came."""

    def __init__(self) -> None:
        self.kept: list[tuple[bytes, bytes, int]] = []
        self.turn = 0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.turn += 1
        if self.turn % 3 == 0:
            self.kept.append((data, hashlib.sha256(data).digest(), hash(data)))
        hash(data)
        self.transport.write(data)


async def test_kept_messages_stay_as_they_were(loop):
    ours, theirs = socket.socketpair()
    theirs.settimeout(10)
    transport, echo = await loop.create_connection(KeepingEcho, sock=ours)
    rng = random.Random(7)

    def talk() -> None:
        for size in [1024] * 200 + [rng.randrange(1, 20_000) for _ in range(200)]:
            message = rng.randbytes(size)
            theirs.sendall(message)
            assert receive_exactly(theirs, size) == message

    await asyncio.to_thread(talk)
    assert len(echo.kept) > 100
    for data, digest, number in echo.kept:
        assert hashlib.sha256(data).digest() == digest
        assert hash(bytes(bytearray(data))) == number == hash(data)
    transport.close()
    theirs.close()
    await asyncio.sleep(0.01)


def test_what_was_written_before_the_loop_stops_arrives(loop):
    ours, theirs = socket.socketpair()
    theirs.settimeout(10)

    async def begin() -> Any:
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
        transport.write(b"at the end")
        return transport

    transport = loop.run_until_complete(begin())
    assert receive_exactly(theirs, 10) == b"at the end"
    transport.write(b"between two runs")
    loop.run_until_complete(asyncio.sleep(0))
    assert receive_exactly(theirs, 16) == b"between two runs"
    transport.close()
    loop.run_until_complete(asyncio.sleep(0))
    assert theirs.recv(1) == b""
    theirs.close()
    loop.run_until_complete(asyncio.sleep(0.01))
