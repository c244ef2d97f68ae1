"""A loop that is looked at by the collector, or dropped without being closed; for one process.

``python -m tests.faults.dropped look uring`` and ``... drop uring`` end with 0 if all is well;
``exit`` leaves the loop to the interpreter's own end.
"""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import socket
import sys
from typing import Any

from tests.fuzz.world import descriptors
from tests.loop.support import make_loop

CHUNKS = 100
"""Writes of 100,000 bytes that nobody reads: more than the system and the provider take."""


async def fill(loop: Any, peers: list[socket.socket]) -> list[Any]:
    """One of everything: unsent chunks, a server with a client, a datagram, a wait, timers."""
    ours, theirs = socket.socketpair()
    peers.append(theirs)
    stream, _ = await loop.create_unix_connection(asyncio.Protocol, sock=ours)
    stream.set_write_buffer_limits(10**9)
    for number in range(CHUNKS):
        stream.write(bytes([number]) * 100_000)
    server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
    peers.append(socket.create_connection(server.sockets[0].getsockname()))
    endpoint, _ = await loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
    )
    endpoint.sendto(b"hello", endpoint.get_extra_info("sockname"))
    await asyncio.sleep(0.02)
    for delay in range(300):  # more than the queues have room for at first
        loop.call_later(delay + 1, int)
    return [stream, server, endpoint]


def look(kind: str) -> None:
    """Every list that the collector shows can be read, while callbacks and timers wait."""
    loop = make_loop(kind)
    peers: list[socket.socket] = []
    things = loop.run_until_complete(fill(loop, peers))
    for _ in range(300):
        loop.call_soon(int)
    seen = 0
    for container in gc.get_objects():
        if type(container) in (list, tuple):
            seen += sum(item is None for item in container)
    assert seen
    for thing in things:
        thing.close()
    for peer in peers:
        peer.close()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()


def drop(kind: str) -> None:
    """Dropped with everything on it: nothing is left open."""
    told: list[Any] = []
    sys.unraisablehook = lambda unraisable: told.append(unraisable.exc_value)
    gc.collect()
    before = descriptors()
    peers: list[socket.socket] = []
    loop = make_loop(kind)
    loop.run_until_complete(fill(loop, peers))
    loop.call_soon(int)
    loop = None
    for _ in range(3):
        gc.collect()
    for peer in peers:
        peer.close()
    left = {n: what for n, what in descriptors().items() if before.get(n) != what}
    if kind == "std" and told:
        # Its __del__ warns before it closes; where warnings raise, its selector stays.
        left = {n: what for n, what in left.items() if "eventpoll" not in what}
    assert not left, left
    assert all(isinstance(error, ResourceWarning) for error in told), told


def leave(kind: str) -> None:
    """Nobody closes it, nobody drops it: the interpreter ends."""
    global kept
    loop = make_loop(kind)
    peers: list[socket.socket] = []
    kept = (loop, loop.run_until_complete(fill(loop, peers)), peers)


kept: Any = None

if __name__ == "__main__":
    faulthandler.enable()
    {"look": look, "drop": drop, "exit": leave}[sys.argv[1]](sys.argv[2])
    print("done")
