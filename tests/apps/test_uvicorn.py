"""uvicorn as its users start it, on the loop that ``--loop`` names."""

from __future__ import annotations

import asyncio
import contextlib
import signal

import aiohttp
import pytest

from . import visitors
from .support import process

FACTORY = "zerio_asyncio:new_event_loop"
GATHERING = "tests.apps.site:gathering_loop"

HTTP = ["httptools", "h11"]
WEBSOCKETS = ["websockets", "websockets-sansio", "wsproto"]


@contextlib.asynccontextmanager
async def uvicorn(kind, *arguments, workers=1, factory=FACTORY):
    command = ["uvicorn", "tests.apps.site:application", "--port", "0", "--no-access-log"]
    command += ["--loop", "asyncio" if kind == "std" else factory, *arguments]
    async with process(command, kind) as server:
        ready = await server.printed(r"running on (https?)://127\.0\.0\.1:(\d+)")
        await server.printed("startup complete", times=workers)
        server.port = int(ready[2])
        server.address = f"{ready[1]}://127.0.0.1:{server.port}"
        yield server


async def end(server, number=signal.SIGTERM):
    server.signal(number)
    status = await server.ended()
    # uvicorn gives itself the signal again when all is done, as a well-behaved program does.
    assert status in (0, -number)
    output = server.output()
    assert "Finished server process" in output
    assert "lifespan.shutdown" in output
    assert "Traceback" not in output
    assert "Error" not in output


@pytest.mark.parametrize("http", HTTP)
async def test_requests(loop, kind, http):
    async with uvicorn(kind, "--http", http) as server:
        await visitors.visit(server.address, kind)
        await server.printed("the client of /endless left")
        await end(server)


@pytest.mark.ours
@pytest.mark.parametrize("http", HTTP)
async def test_answers_that_leave_at_the_end_of_a_turn(loop, kind, http):
    async with uvicorn(kind, "--http", http, factory=GATHERING) as server:
        await visitors.visit(server.address, kind)
        await server.printed("the client of /endless left")
        await end(server)


@pytest.mark.parametrize("http", HTTP)
async def test_requests_over_tls(loop, kind, http, certificate):
    files = ["--ssl-certfile", str(certificate.file), "--ssl-keyfile", str(certificate.key)]
    async with uvicorn(kind, "--http", http, *files) as server:
        await visitors.visit(server.address, kind, certificate.client())
        await server.printed("the client of /endless left")
        await end(server)


@pytest.mark.parametrize("ws", WEBSOCKETS)
@pytest.mark.parametrize("http", HTTP)
async def test_websockets(loop, kind, http, ws):
    async with uvicorn(kind, "--http", http, "--ws", ws) as server:
        address = f"ws://127.0.0.1:{server.port}"
        await visitors.talk(address)
        await visitors.break_off(address)
        await server.printed("websocket left with 1006|websocket left with 1005")
        await end(server)


async def test_websockets_over_tls(loop, kind, certificate):
    files = ["--ssl-certfile", str(certificate.file), "--ssl-keyfile", str(certificate.key)]
    async with uvicorn(kind, *files) as server:
        await visitors.talk(f"wss://localhost:{server.port}", certificate.client())
        await end(server)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
async def test_a_signal_lets_requests_finish(loop, kind, number):
    async with uvicorn(kind) as server, visitors.client(server.address) as http:
        await visitors.runs_on(http, kind)  # stays open, idle
        slow = asyncio.create_task(visitors.post(http, "/slow", b""))
        await server.printed("/slow begins")
        server.signal(number)
        assert await slow == b"at last"
        assert await server.ended() in (0, -number)
        assert "lifespan.shutdown" in server.output()
        assert "Traceback" not in server.output()
        with pytest.raises(aiohttp.ClientConnectorError):
            await visitors.runs_on(http, kind)


async def test_two_workers(loop, kind):
    async with uvicorn(kind, "--workers", "2", workers=2) as server:
        await visitors.visit(server.address, kind)
        server.signal(signal.SIGTERM)
        assert await server.ended() in (0, -signal.SIGTERM)
        assert server.output().count("lifespan.shutdown") == 2
        assert "Traceback" not in server.output()


async def test_a_unix_socket(loop, kind, tmp_path):
    path = str(tmp_path / "uvicorn.sock")
    command = ["uvicorn", "tests.apps.site:application", "--uds", path]
    command += ["--loop", "asyncio" if kind == "std" else FACTORY]
    async with process(command, kind) as server:
        await server.printed("running on unix socket")
        await visitors.visit("http://uvicorn", kind, None, path)
        await end(server)
