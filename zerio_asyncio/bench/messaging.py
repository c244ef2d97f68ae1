"""Servers of framed messages: Zerio's, and the same framing as a Protocol for every other loop.

On the wire a message is its length (4 bytes, little-endian), then its bytes. The first message of
a connection names the peer, in ASCII, and is sent back. A handler gets the others, with the
peer's name. There are two handlers, the same for all servers::

    messaging           counts
    messaging-latency   sends the message back to its sender

The Protocol is written as someone who knows asyncio well would write it: it parses what has arrived
in place, keeps only the beginning of a message that has not arrived whole, and sends all answers to
one ``data_received`` with one ``write``.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import struct
import sys
import time
from typing import TYPE_CHECKING, Any

from zerio_asyncio.bench import system
from zerio_asyncio.bench.echo import BACKLOG

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    Handler = Callable[[str, bytes], None]

ONE_WAY, ROUND_TRIP = MODES = ("messaging", "messaging-latency")
"""The first counts, the second echoes."""

HEADER = struct.Struct("<I")

MESSAGE_MAX = 64 * 1024 * 1024
"""Bytes; a peer that announces more is disconnected."""


class Counter:
    """The application of ``messaging``: counts the messages that arrived."""

    def __init__(self) -> None:
        self.messages = 0

    def received(self, peer: str, message: bytes | memoryview) -> None:  # noqa: ARG002
        """Take a message; the arguments are what every server passes."""
        self.messages += 1


class Framed(asyncio.Protocol):
    """One connection: takes messages out of the stream, and gathers answers."""

    transport: asyncio.Transport

    def __init__(self, peers: dict[str, Framed], received: Handler) -> None:
        self._peers = peers
        self._received = received
        self._name: str | None = None
        self._rest = bytearray()
        self._needed = HEADER.size
        self._answers: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = transport  # type: ignore[assignment]

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the interface has it
        """Forget the peer."""
        if self._name is not None:
            del self._peers[self._name]

    def data_received(self, data: bytes) -> None:
        """Pass on all messages that are now complete."""
        if self._rest:
            self._rest += data
            if len(self._rest) < self._needed:
                return
            data = bytes(self._rest)
            self._rest.clear()
        at, end = 0, len(data)
        if self._name is None:
            at = self._introduce(data)
        length_at, received, name = HEADER.unpack_from, self._received, self._name
        self._needed = HEADER.size
        while end - at >= 4:  # the header's size
            start = at + 4
            stop = start + length_at(data, at)[0]
            if stop > end:
                self._check(stop - start)
                self._needed = stop - at
                break
            received(name, data[start:stop])  # type: ignore[arg-type]
            at = stop
        if at < end:
            self._rest += data[at:]
        if self._answers:
            self.transport.write(b"".join(self._answers))
            self._answers.clear()

    def _introduce(self, data: bytes) -> int:
        """Take the first message, if it is complete; return where the next one begins."""
        if len(data) < HEADER.size:
            return 0
        size: int = HEADER.unpack_from(data)[0]
        stop = HEADER.size + size
        if stop > len(data):
            return 0
        self._name = data[HEADER.size : stop].decode("ascii")
        self._peers[self._name] = self
        self.transport.write(data[:stop])
        return stop

    def _check(self, size: int) -> None:
        if size > MESSAGE_MAX:
            self.transport.abort()
            raise ValueError(f"a message of {size} bytes is announced; {MESSAGE_MAX} is the most")

    def send(self, message: bytes) -> None:
        """Answer: goes out once the messages that have arrived are handled."""
        self._answers += (HEADER.pack(len(message)), message)


class FramedServer:
    """`Framed` on the running loop, with Zerio's addressing by name."""

    ran = "protocol"

    def __init__(self, listener: socket.socket, mode: str) -> None:
        self.counter = Counter()
        self._listener = listener
        self._peers: dict[str, Framed] = {}
        self._received = self.counter.received if mode == ONE_WAY else self._echo

    def _echo(self, peer: str, message: bytes) -> None:
        self._peers[peer].send(message)

    async def start(self) -> Any:
        """Start accepting; return the address."""
        name = self._listener.getsockname()
        await asyncio.get_running_loop().create_server(
            lambda: Framed(self._peers, self._received), sock=self._listener, backlog=BACKLOG
        )
        return name


class ZerioServer:
    """``zerio_asyncio.ZerioServer`` on the running loop, for messages of up to ``size`` bytes."""

    ran = "zerio"

    def __init__(self, mode: str, size: int) -> None:
        package: Any = importlib.import_module("zerio_asyncio")
        self.counter = Counter()
        choices: dict[str, int] = {}
        if size > package.ZerioServerConfiguration().max_message_size:
            choices["max_message_size"] = size
        self._server = package.serve(
            0, self.counter.received if mode == ONE_WAY else self._echo, **choices
        )

    def _echo(self, peer: Any, message: memoryview) -> None:
        peer.send(message)

    async def start(self) -> Any:
        """Start accepting; return the address."""
        await self._server.start()
        return "127.0.0.1", self._server.listening_port


def server(mode: str, size: int, listener: socket.socket, ours: bool) -> Any:
    """Make the server that a loop is measured with: Zerio's for our own."""
    return ZerioServer(mode, size) if ours else FramedServer(listener, mode)


class Account:
    """What the server has done and used, as a dictionary, whenever it is asked.

    ``blocks``: memory blocks that Python's allocator has handed out and not got back;
    ``collections``: runs of the garbage collector, all generations.
    """

    def __init__(self, counter: Counter) -> None:
        self._counter = counter

    def read(self) -> dict[str, float]:
        """Read all counts now; what the reading itself allocates is freed afterwards."""
        messages, blocks = self._counter.messages, sys.getallocatedblocks()
        cpu_ns, wall_ns = system.cpu_ns(), time.perf_counter_ns()
        user_s, system_s = system.cpu_split()
        return {
            "messages": messages,
            "cpu_ns": cpu_ns,
            "wall_ns": wall_ns,
            "user_s": user_s,
            "system_s": system_s,
            "blocks": blocks,
            "collections": sum(generation["collections"] for generation in gc.get_stats()),
        }
