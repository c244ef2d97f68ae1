"""httpx on the loop under test: HTTP/1.1 against uvicorn, HTTP/2 against hypercorn."""

from __future__ import annotations

import asyncio
import contextlib

import httpx
import pytest
from hypercorn.asyncio import serve
from hypercorn.config import Config

from . import site, visitors
from .support import KIB, MIB, digest, in_parallel, parts_of, payload


@contextlib.asynccontextmanager
async def serving(certificate, **settings):
    """hypercorn on this very loop."""
    config = Config()
    config.bind = ["127.0.0.1:0"]
    config.errorlog = None
    config.certfile, config.keyfile = str(certificate.file), str(certificate.key)
    for name, value in settings.items():
        setattr(config, name, value)
    bound = config.create_sockets
    ports = []

    def create_sockets():
        sockets = bound()
        ports.extend(sock.getsockname()[1] for sock in sockets.secure_sockets)
        return sockets

    config.create_sockets = create_sockets
    stop = asyncio.Event()
    server = asyncio.create_task(serve(site.application, config, shutdown_trigger=stop.wait))
    while not ports:
        await asyncio.sleep(0)
    try:
        yield f"https://localhost:{ports[0]}"
    finally:
        stop.set()
        await server


@pytest.fixture(params=[False, True], ids=["http1", "http2"])
def http2(request):
    return request.param


def client(address, certificate, http2, **options):
    return httpx.AsyncClient(
        base_url=address, verify=certificate.client(), http2=http2, timeout=60, **options
    )


async def test_many_requests(loop, kind, certificate, http2):
    async with serving(certificate) as address:
        async with client(address, certificate, http2) as http:
            response = await http.get("/loop")
            assert response.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
            assert response.json() == {"loop": visitors.LOOPS[kind], "provider": kind}

            async def small(number):
                for turn in range(30):
                    body = f"{number}/{turn}".encode()
                    assert (await http.post("/echo", content=body)).content == body

            await in_parallel(10, work=small)


async def test_bodies(loop, certificate, http2):
    body = payload(3 * MIB)

    async def chunks():
        for part in parts_of(body, 50_021):
            yield part

    async with serving(certificate) as address:
        async with client(address, certificate, http2) as http:
            for size in (0, 1, 16 * KIB, 64 * KIB + 1, MIB):
                part = body[:size]
                assert (await http.post("/echo", content=part)).content == part
            assert (await http.post("/digest", content=chunks())).text == digest(body)
            async with http.stream("GET", "/large") as response:
                parts = [part async for part in response.aiter_raw()]
            assert digest(parts) == digest([site.PART] * site.LARGE_PARTS)


async def test_streams_at_once(loop, certificate, http2):
    async with serving(certificate) as address:
        async with client(address, certificate, http2) as http:

            async def stream(number):
                body = payload(200 * KIB, number)
                assert (await http.post("/digest", content=body)).text == digest(body)
                assert (await http.post("/echo", content=body)).content == body

            await in_parallel(12, work=stream)


async def test_a_client_that_leaves_midway(loop, certificate):
    # With HTTP/2, hypercorn notices such a client only when it is itself shut down, on any loop.
    async with serving(certificate) as address:
        for _ in range(3):
            async with client(address, certificate, http2=False) as http:
                async with http.stream("GET", "/endless") as response:
                    received = b""
                    async for part in response.aiter_raw():
                        received += part
                        if len(received) >= MIB:
                            break
                assert received[:MIB] == site.PART * 16
        async with client(address, certificate, http2=False) as http:
            assert (await http.post("/echo", content=b"still there?")).content == b"still there?"


async def test_timeouts_and_cancellations(loop, certificate):
    # HTTP/1.1 alone: a request that is given up takes its connection with it, and the server sees.
    async with serving(certificate) as address:
        async with client(address, certificate, http2=False) as http:
            assert (await http.post("/echo", content=b"connected")).content == b"connected"
            with pytest.raises(httpx.ReadTimeout):
                await http.get("/wait", timeout=httpx.Timeout(60, read=0.05))
            before = site.calls["/wait"]
            tasks = [asyncio.create_task(http.get("/wait")) for _ in range(20)]
            while site.calls["/wait"] < before + len(tasks):
                await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(isinstance(result, asyncio.CancelledError) for result in results)
            assert (await http.get("/slow")).text == "at last"
