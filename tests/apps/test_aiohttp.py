"""aiohttp: server and client, both on the loop under test."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import signal
import ssl
import sys

import aiohttp
import pytest
from aiohttp import web

from .support import KIB, MIB, Process, digest, free_port, in_parallel, parts_of, payload

LARGE = payload(16 * MIB)

TLS_ENDS = 0.25
"""Seconds between a session's end and the loop's, over TLS, as aiohttp's documentation says."""


class Site:
    """The handlers, and what they have seen."""

    def __init__(self) -> None:
        self.disconnected = asyncio.Event()
        self.waiting = asyncio.Event()
        self.released = asyncio.Event()

    def application(self) -> web.Application:
        app = web.Application(client_max_size=64 * MIB)
        app.add_routes(
            [
                web.get("/add/{a}/{b}", self.add),
                web.post("/echo", self.echo),
                web.post("/digest", self.digest),
                web.get("/large", self.large),
                web.get("/compressed", self.compressed),
                web.get("/endless", self.endless),
                web.get("/slow", self.slow),
                web.get("/socket", self.socket),
            ]
        )
        return app

    async def add(self, request: web.Request) -> web.Response:
        a, b = int(request.match_info["a"]), int(request.match_info["b"])
        return web.json_response({"sum": a + b})

    async def echo(self, request: web.Request) -> web.Response:
        return web.Response(body=await request.read())

    async def digest(self, request: web.Request) -> web.Response:
        found, size = hashlib.sha256(), 0
        async for part in request.content.iter_any():
            found.update(part)
            size += len(part)
        return web.json_response({"size": size, "digest": found.hexdigest()})

    async def large(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        if "length" in request.query:
            response.content_length = len(LARGE)
        else:
            response.enable_chunked_encoding()
        await response.prepare(request)
        for part in parts_of(LARGE, int(request.query.get("part", 64 * KIB))):
            await response.write(part)
        await response.write_eof()
        return response

    async def compressed(self, request: web.Request) -> web.Response:
        response = web.Response(text="all work and no play\n" * 20_000)
        response.enable_compression()
        return response

    async def endless(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(LARGE[: 256 * KIB])
        except (ConnectionError, asyncio.CancelledError):
            self.disconnected.set()
            raise

    async def slow(self, request: web.Request) -> web.Response:
        self.waiting.set()
        await self.released.wait()
        return web.Response(text="at last")

    async def socket(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(compress=True, max_msg_size=32 * MIB)
        await socket.prepare(request)
        async for message in socket:
            if message.type is aiohttp.WSMsgType.BINARY:
                await socket.send_bytes(message.data)
            elif message.data == "close":
                await socket.close(code=4001, message=b"as you wish")
            else:
                await socket.send_str(message.data.upper())
        return socket


@contextlib.asynccontextmanager
async def serving(context=None, **options):
    site = Site()
    runner = web.AppRunner(site.application(), **options)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    scheme = "http" if context is None else "https"
    try:
        yield site, f"{scheme}://127.0.0.1:{runner.addresses[0][1]}", runner
    finally:
        site.released.set()
        await runner.cleanup()


def connector_for(context: ssl.SSLContext | bool = True, **options) -> aiohttp.TCPConnector:
    # The resolver that aiohttp takes where aiodns is installed closes its descriptors in a thread,
    # some time later; here no descriptor may be left.
    resolver = aiohttp.ThreadedResolver()
    return aiohttp.TCPConnector(ssl=context, resolver=resolver, **options)


@pytest.fixture(params=["plain", "tls"])
def contexts(request, certificate):
    if request.param == "plain":
        return None, True
    return certificate.server(), certificate.client()


async def test_thousands_of_requests_on_few_connections(loop, contexts):
    async with serving(contexts[0]) as (_, address, runner):
        connector = connector_for(contexts[1], limit=20)
        async with aiohttp.ClientSession(address, connector=connector) as session:

            async def client(number):
                for turn in range(100):
                    async with session.get(f"/add/{number}/{turn}") as response:
                        assert response.status == 200
                        assert await response.json() == {"sum": number + turn}

            await in_parallel(20, work=client)
            assert len(runner.server.connections) <= 20


async def test_bodies_of_all_sizes_come_back(loop, contexts):
    async with serving(contexts[0]) as (_, address, _):
        connector = connector_for(contexts[1])
        async with aiohttp.ClientSession(address, connector=connector) as session:
            for size in (0, 1, 4095, 4096, 16 * KIB, 64 * KIB + 1, 300_000, 3 * MIB):
                body = payload(size)
                async with session.post("/echo", data=io.BytesIO(body)) as response:
                    assert await response.read() == body


async def test_a_large_body_streamed_up(loop, contexts):
    async def chunks(size):
        for part in parts_of(LARGE, size):
            yield part

    async with serving(contexts[0]) as (_, address, _):
        connector = connector_for(contexts[1])
        async with aiohttp.ClientSession(address, connector=connector) as session:
            for data in (io.BytesIO(LARGE), chunks(10_007), chunks(MIB)):
                async with session.post("/digest", data=data) as response:
                    answer = await response.json()
                assert answer == {"size": len(LARGE), "digest": digest(LARGE)}


@pytest.mark.parametrize("query", ["", "?length", "?part=3001", "?length&part=4194304"])
async def test_a_large_body_streamed_down(loop, contexts, query):
    async with serving(contexts[0]) as (_, address, _):
        connector = connector_for(contexts[1])
        async with aiohttp.ClientSession(address, connector=connector) as session:
            async with session.get(f"/large{query}") as response:
                parts = [part async for part in response.content.iter_any()]
    assert digest(parts) == digest(LARGE)


async def test_a_slow_reader_gets_everything(loop, contexts):
    """Flow control reaches from the reader to the writer in both directions."""
    async with serving(contexts[0]) as (_, address, _):
        async with aiohttp.ClientSession(
            address, connector=connector_for(contexts[1]), read_bufsize=8 * KIB
        ) as session:
            found = hashlib.sha256()
            async with session.get("/large") as response:
                async for part in response.content.iter_chunked(40_000):
                    found.update(part)
                    await asyncio.sleep(0)
    assert found.hexdigest() == digest(LARGE)


async def test_compression(loop):
    async with serving() as (_, address, _):
        for encoding in ("gzip", "deflate"):
            headers = {"Accept-Encoding": encoding}
            async with aiohttp.ClientSession(
                address, connector=connector_for(), headers=headers
            ) as session:
                async with session.get("/compressed") as response:
                    assert response.headers["Content-Encoding"] == encoding
                    assert int(response.headers["Content-Length"]) < 10_000
                    assert await response.text() == "all work and no play\n" * 20_000


async def test_a_client_that_leaves_midway(loop, contexts):
    async with serving(contexts[0]) as (site, address, _):
        connector = connector_for(contexts[1])
        async with aiohttp.ClientSession(address, connector=connector) as session:
            response = await session.get("/endless")
            received = await response.content.readexactly(2 * MIB)
            assert received == LARGE[: 256 * KIB] * 8
            response.close()  # with the rest of the body on its way
            await site.disconnected.wait()
            async with session.get("/add/1/2") as response:
                assert await response.json() == {"sum": 3}
        await asyncio.sleep(TLS_ENDS)


async def test_requests_cancelled_midway(loop, contexts):
    async with serving(contexts[0]) as (_, address, _):
        connector = connector_for(contexts[1])
        async with aiohttp.ClientSession(address, connector=connector) as session:

            async def client(number):
                task = asyncio.create_task(session.get("/large?length"))
                for _ in range(number):
                    await asyncio.sleep(0)
                task.cancel()
                try:
                    (await task).close()
                except asyncio.CancelledError:
                    return 0
                return 1

            await in_parallel(60, work=client)
            async with session.get("/add/1/2") as response:
                assert await response.json() == {"sum": 3}
        await asyncio.sleep(TLS_ENDS)


async def test_a_shutdown_with_connections_open(loop, contexts):
    async with serving(contexts[0], shutdown_timeout=SHUTDOWN) as (site, address, runner):

        def client() -> aiohttp.ClientSession:
            return aiohttp.ClientSession(address, connector=connector_for(contexts[1]))

        async with client() as session:
            async with session.get("/add/1/2") as response:  # stays open, idle
                await response.read()
            async with client() as other:
                socket = await other.ws_connect("/socket")
                await socket.send_str("x")
                assert await socket.receive_str() == "X"
                slow = asyncio.create_task(session.get("/slow"))
                await site.waiting.wait()
                await runner.cleanup()
                with pytest.raises(aiohttp.ClientError):
                    await slow
                assert (await socket.receive()).type in ENDS
            with pytest.raises(aiohttp.ClientConnectorError):
                await session.get("/add/1/2")


SHUTDOWN = 0.2  # seconds that open requests are given; then they are cancelled

ENDS = {aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR}


async def test_a_request_that_is_answered_during_shutdown(loop):
    async with serving(shutdown_timeout=60) as (site, address, runner):
        async with aiohttp.ClientSession(address, connector=connector_for()) as session:
            slow = asyncio.create_task(session.get("/slow"))
            await site.waiting.wait()
            stopping = asyncio.create_task(runner.cleanup())
            await asyncio.sleep(0)
            site.released.set()
            response = await slow
            assert await response.text() == "at last"
            await stopping


async def test_websockets(loop, contexts):
    async with serving(contexts[0]) as (_, address, _):
        connector = connector_for(contexts[1])
        async with aiohttp.ClientSession(address, connector=connector) as session:

            async def client(number):
                compress = 15 if number % 2 else 0
                options = {"compress": compress, "max_msg_size": 32 * MIB}
                async with session.ws_connect("/socket", **options) as socket:
                    for turn in range(100):
                        await socket.send_str(f"message {number} {turn}")
                        assert await socket.receive_str() == f"MESSAGE {number} {turn}"
                    data = payload(MIB + number, number)
                    await socket.send_bytes(data)
                    assert await socket.receive_bytes() == data
                    await socket.send_str("close")
                    message = await socket.receive()
                    assert message.type is aiohttp.WSMsgType.CLOSE
                    assert (message.data, message.extra) == (4001, "as you wish")

            await in_parallel(10, work=client)


async def test_a_unix_socket(loop, tmp_path):
    path = str(tmp_path / "site.sock")
    runner = web.AppRunner(Site().application())
    await runner.setup()
    await web.UnixSite(runner, path).start()
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(path)) as session:
        for turn in range(200):
            async with session.get(f"http://site/add/{turn}/1") as response:
                assert await response.json() == {"sum": turn + 1}
        async with session.get("http://site/large") as response:
            assert await response.read() == LARGE
    await runner.cleanup()


async def test_a_file_is_sent(loop, contexts, tmp_path):
    """aiohttp sends files by ``loop.sendfile``, which reads and writes them over TLS."""
    (tmp_path / "file").write_bytes(LARGE)
    app = web.Application()
    app.router.add_static("/files", tmp_path)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=contexts[0]).start()
    scheme = "http" if contexts[0] is None else "https"
    url = f"{scheme}://127.0.0.1:{runner.addresses[0][1]}/files/file"
    async with aiohttp.ClientSession(connector=connector_for(contexts[1])) as session:
        async with session.get(url) as response:
            assert await response.read() == LARGE
        async with session.get(url, headers={"Range": "bytes=1000-2000999"}) as response:
            assert response.status == 206
            assert await response.read() == LARGE[1000:2001000]
    await runner.cleanup()


RUN_APP = """
from aiohttp import web
from tests.apps.test_aiohttp import Site
from tests.loop.support import make_loop
web.run_app(Site().application(), host="127.0.0.1", port={port}, loop=make_loop("{kind}"))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
async def test_run_app(loop, kind, number):
    port = free_port()
    server = Process([sys.executable, "-c", RUN_APP.format(port=port, kind=kind)], kind)
    try:
        await server.printed("Running on")
        address = f"http://127.0.0.1:{port}"
        async with aiohttp.ClientSession(address, connector=connector_for()) as session:
            for turn in range(200):
                async with session.get(f"/add/{turn}/1") as response:
                    assert await response.json() == {"sum": turn + 1}
            server.signal(number)
            assert await server.ended() == 0, server.output()
            assert "Traceback" not in server.output()
    finally:
        server.close()
