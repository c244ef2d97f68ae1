"""What is done to a server of ``site.application``, the same whichever server it is."""

from __future__ import annotations

import asyncio
import io
import ssl
from typing import Any

import aiohttp
import websockets

from . import site
from .support import KIB, MIB, digest, in_parallel, parts_of, payload

LOOPS = {
    "std": "asyncio.unix_events._UnixSelectorEventLoop",
    "uring": "zerio_asyncio.loop.unix.event_loop.RioEventLoop",
    "epoll": "zerio_asyncio.loop.unix.event_loop.RioEventLoop",
}


def client(address: str, context: ssl.SSLContext | None = None, unix: str | None = None):
    if unix is not None:
        connector = aiohttp.UnixConnector(unix)
    else:
        resolver = aiohttp.ThreadedResolver()  # aiodns closes its descriptors late
        connector = aiohttp.TCPConnector(limit=20, ssl=context or True, resolver=resolver)
    return aiohttp.ClientSession(address, connector=connector)


async def post(http: aiohttp.ClientSession, path: str, data: Any) -> bytes:
    async with http.post(path, data=data) as response:
        assert response.status == 200
        return await response.read()


async def runs_on(http: aiohttp.ClientSession, kind: str) -> None:
    async with http.get("/loop") as response:
        assert await response.json(content_type=None) == {"loop": LOOPS[kind], "provider": kind}


async def visit(address: str, kind: str, *where: Any) -> None:
    """Many small requests, bodies of many sizes both ways, streams, a client that leaves."""
    async with client(address, *where) as http:
        await runs_on(http, kind)

        async def small(number):
            for turn in range(100):
                body = f"{number}/{turn}".encode()
                assert await post(http, "/echo", body) == body

        await in_parallel(20, work=small)
        for size in (0, 1, 16 * KIB, 64 * KIB + 1, 3 * MIB):
            body = payload(size)
            assert await post(http, "/echo", io.BytesIO(body)) == body
        await streams(http)
        await leave_midway(http)


async def streams(http: aiohttp.ClientSession) -> None:
    body = payload(8 * MIB)

    async def chunks():
        for part in parts_of(body, 50_021):
            yield part

    assert await post(http, "/digest", chunks()) == digest(body).encode()
    async with http.get("/large") as response:
        parts = [part async for part in response.content.iter_any()]
    assert digest(parts) == digest([site.PART] * site.LARGE_PARTS)


async def leave_midway(http: aiohttp.ClientSession) -> None:
    response = await http.get("/endless")
    assert await response.content.readexactly(2 * MIB) == site.PART * 32
    response.close()


async def talk(address: str, context: ssl.SSLContext | None = None) -> None:
    """Websockets that converse at once, with small and with large messages."""
    options = {"max_size": 16 * MIB, "ssl": context} if context else {"max_size": 16 * MIB}

    async def visitor(number):
        async with websockets.connect(address, **options) as socket:
            for turn in range(50):
                await socket.send(f"message {number} {turn}")
                assert await socket.recv() == f"MESSAGE {number} {turn}"
            data = payload(MIB + number, number)
            await socket.send(data)
            assert await socket.recv() == data
            await (await socket.ping())
            await socket.send("close")
            await socket.wait_closed()
            assert (socket.close_code, socket.close_reason) == (4001, "as you wish")

    await in_parallel(8, work=visitor)


async def break_off(address: str, context: ssl.SSLContext | None = None) -> None:
    """A websocket whose connection ends without a closing handshake."""
    options = {"ssl": context} if context else {}
    socket = await websockets.connect(address, **options)
    await socket.send("x")
    assert await socket.recv() == "X"
    socket.transport.abort()
    await asyncio.wait_for(socket.wait_closed(), 30)
