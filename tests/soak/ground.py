"""What all loads share: random bytes to send, servers to talk to, counts, a certificate."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import random
import ssl
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import zerio_asyncio

KIB = 1024
LARGEST = 1024 * KIB
"""Bytes of the largest message."""

PATIENCE = 30.0
"""Seconds for one exchange, however busy the machine; nothing waits longer."""


class Wrong(AssertionError):
    """The loop did something that it must not."""


class Ground:
    """One lap's world: when it ends, where its servers are, what was counted.

    ``running()`` is what loads repeat on. ``count`` takes operations and bytes by name.
    """

    def __init__(self, seed: int, seconds: float, folder: Path, tls: Tls) -> None:
        self.seed = seed
        self.folder = folder
        self.tls = tls
        self.counts: collections.Counter[str] = collections.Counter()
        self.end = time.monotonic() + seconds
        self._pattern = random.Random(seed).randbytes(2 * LARGEST)

    def running(self) -> bool:
        return time.monotonic() < self.end

    def random(self, name: str) -> random.Random:
        """A load's own generator: the same choices for the same seed."""
        return random.Random(f"{self.seed} {name}")

    def message(self, rnd: random.Random, most: int = LARGEST) -> bytes:
        """Random bytes; small ones mostly, sizes spread over the powers of two."""
        size = rnd.randint(1, 1 << rnd.randint(0, max(1, most.bit_length() - 1)))
        start = rnd.randrange(len(self._pattern) - size)
        return self._pattern[start : start + size]

    def same(self, name: str, sent: bytes, back: bytes) -> None:
        """Compare and count; Wrong tells the first byte that differs."""
        if sent != back:
            at = next((i for i, (a, b) in enumerate(zip(sent, back, strict=False)) if a != b), -1)
            raise Wrong(f"{name}: {len(back)} bytes came back for {len(sent)}, differing at {at}")
        self.counts[f"{name} bytes"] += len(sent)
        self.counts[name] += 1


class Tls:
    """A certificate for localhost, made now, and the contexts of both sides."""

    def __init__(self, folder: Path) -> None:
        from tests.loop.issuing import make

        made = make(folder)
        self.server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.server.load_cert_chain(made)
        self.client = ssl.create_default_context(cafile=str(made))


class Link:
    """One end of a connection: known to its server while it lives, and polite about flow."""

    transport: asyncio.Transport

    def __init__(self, links: set[Link]) -> None:
        self._links = links

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self._links.add(self)

    def connection_lost(self, _: Exception | None) -> None:
        self._links.discard(self)

    def pause_writing(self) -> None:
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        if not self.transport.is_closing():
            self.transport.resume_reading()


class Echo(Link, asyncio.Protocol):
    """Sends back what comes."""

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class BufferedEcho(Link, asyncio.BufferedProtocol):
    """The same, receiving into memory of its own."""

    def __init__(self, links: set[Link]) -> None:
        super().__init__(links)
        # A view, because asyncio's TLS takes slices of it, and a bytearray's slices are copies.
        self.memory = memoryview(bytearray(64 * KIB))

    def get_buffer(self, _: int) -> memoryview:
        return self.memory

    def buffer_updated(self, nbytes: int) -> None:
        self.transport.write(bytes(self.memory[:nbytes]))


class RegisteredEcho(Link, zerio_asyncio.RegisteredProtocol):
    """The same on registered memory."""

    def view_received(self, view: memoryview) -> None:
        self.transport.write(view)


def stream_echo(links: set[Link]) -> asyncio.BaseProtocol:
    """The same with streams, whose protocol is asyncio's own."""
    loop = asyncio.get_running_loop()

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(64 * KIB):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass  # the peer aborted, as it may
        finally:
            writer.close()

    return asyncio.StreamReaderProtocol(asyncio.StreamReader(loop=loop), echo, loop=loop)


ECHOES = (Echo, BufferedEcho, RegisteredEcho, stream_echo)


@contextlib.asynccontextmanager
async def serving(echo: Any = Echo, path: Path | None = None, **settings: Any) -> Any:
    """Serve on a free port of loopback (which is yielded), or on a path.

    Connections that are left at the end are aborted with the server.
    """
    loop = asyncio.get_running_loop()
    links: set[Link] = set()

    def factory() -> asyncio.BaseProtocol:
        return echo(links)  # type: ignore[no-any-return]

    if path is None:
        server = await loop.create_server(factory, "127.0.0.1", 0, backlog=1024, **settings)
        where: Any = server.sockets[0].getsockname()[1]
    else:
        server = await loop.create_unix_server(factory, path, backlog=1024, **settings)
        where = path
    try:
        yield where
    finally:
        server.close()
        for link in list(links):
            link.transport.abort()
        await server.wait_closed()


async def within(awaitable: Awaitable[Any], what: str) -> Any:
    """Wait as long as patience lasts; Wrong when it is over."""
    try:
        return await asyncio.wait_for(awaitable, PATIENCE)
    except asyncio.TimeoutError:
        raise Wrong(f"{what}: nothing for {PATIENCE:.0f} s") from None
