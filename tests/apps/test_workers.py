"""Servers with several workers: each of them serves its part, and all of them end."""

from __future__ import annotations

import asyncio
import collections
import os
import signal
import socket

import pytest

from .support import SECONDS, free_port, process, until_it_accepts

WORKERS = 4
ROUNDS = 10
AT_ONCE = 12
VISITS = 6

PART = 0.08
"""Of all requests, what the least busy worker must serve. A quarter would be even; with one
listener for all, who wakes first takes what there is, and the standard loop's come near this."""

APPLICATION = "tests.apps.workers:application"
GUNICORN = ["gunicorn", "--workers", str(WORKERS), "--bind", "127.0.0.1:{port}"]

SERVERS = {
    "uvicorn": [
        *["uvicorn", APPLICATION, "--workers", str(WORKERS), "--port", "{port}"],
        *["--loop", "{loop}", "--no-access-log"],
    ],
    "gunicorn with aiohttp": [
        *[*GUNICORN, "--worker-class", "tests.apps.workers.AiohttpWorker"],
        "tests.apps.workers:web_application",
    ],
    "gunicorn with aiohttp, preloaded": [
        *[*GUNICORN, "--preload", "--worker-class", "tests.apps.workers.EarlyWorker"],
        "tests.apps.workers:web_application",
    ],
    "gunicorn with uvicorn": [
        *[*GUNICORN, "--worker-class", "tests.apps.workers.UvicornWorker", APPLICATION]
    ],
    "hypercorn": [
        *["hypercorn", APPLICATION, "--workers", str(WORKERS), "--bind", "127.0.0.1:{port}"]
    ],
    "granian": ["tests.apps.workers", "{port}", str(WORKERS)],
}


def ask(port: int) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port), SECONDS)
    sock.sendall(b"GET /work HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")
    return sock


def answer_of(sock: socket.socket) -> str:
    """Process and provider of who answered."""
    answer = b""
    with sock:
        while part := sock.recv(65536):
            answer += part
    head, _, body = answer.decode().partition("\r\n\r\n")
    assert " 200 " in head.splitlines()[0], answer
    return body


def visit(port: int) -> collections.Counter[str]:
    """Some clients at a time, on connections of their own."""
    count: collections.Counter[str] = collections.Counter()
    for _ in range(ROUNDS):
        count.update([answer_of(sock) for sock in [ask(port) for _ in range(AT_ONCE)]])
    return count


async def until_all_serve(port: int) -> None:
    """Servers say that they listen before their workers do."""
    found: set[str] = set()
    deadline = asyncio.get_running_loop().time() + SECONDS
    while len(found) < WORKERS:
        assert asyncio.get_running_loop().time() < deadline, found
        found.update(await asyncio.to_thread(visit, port))


@pytest.mark.parametrize("server", SERVERS)
async def test_every_worker_serves_its_part(loop, kind, server):
    if kind == "std" and "preloaded" in server:
        pytest.skip("a standard loop that was made before a fork is one for all workers")
    port = free_port()
    loop_of = "asyncio" if kind == "std" else "zerio_asyncio:new_event_loop"
    command = [part.format(port=port, loop=loop_of) for part in SERVERS[server]]
    variables = {"ZERIO_LOOP": "std" if kind == "std" else "ours"}
    async with process(command, kind, variables=variables) as running:
        await until_it_accepts(port)
        await until_all_serve(port)
        count: collections.Counter[str] = collections.Counter()
        for _ in range(VISITS):  # one may be uneven, on a busy machine more so
            count.update(await asyncio.to_thread(visit, port))
            if min(count.values()) >= PART * sum(count.values()) and len(count) == WORKERS:
                break
        providers = {answer.split()[1] for answer in count}
        pids = {int(answer.split()[0]) for answer in count}
        assert providers == {kind}
        assert len(pids) == WORKERS, count
        assert min(count.values()) >= PART * sum(count.values()), count
        running.signal(signal.SIGTERM)
        assert await running.ended() in (0, -signal.SIGTERM), running.output()
        assert "Traceback" not in running.output(), running.output()
    assert not [pid for pid in pids if os.path.exists(f"/proc/{pid}")]
