"""A worker of which several share one listener, on Windows; each answer names its process.

``python -m tests.loop.windows_worker`` reads what ``socket.share()`` gave for it, in hex, from its
input. ``application`` is the same for uvicorn, whose supervisor shares its listener likewise.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import socket
import sys
import time

import zerio_asyncio

FAKE = "ZERIO_TEST_FAKE"
"""In the environment: the module that brings Registered I/O where the system has none."""

WORK_SECONDS = 0.005


def new_event_loop() -> asyncio.AbstractEventLoop:
    if FAKE in os.environ:
        importlib.import_module(os.environ[FAKE]).install()
    return zerio_asyncio.new_event_loop()


def work() -> bytes:
    """Blocks the loop, as a computation does: meanwhile others can take the next client."""
    time.sleep(WORK_SECONDS)
    return b"%d %s" % (os.getpid(), asyncio.get_running_loop().provider.encode())


async def application(scope, receive, send):
    assert scope["type"] == "http"
    body = work()
    headers = [(b"content-length", b"%d" % len(body)), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def answer(reader, writer):
    while not (await reader.readline()).isspace():  # of the request's head
        pass
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + work())
    writer.close()


async def main(sock: socket.socket) -> None:
    async with await asyncio.start_server(answer, sock=sock) as server:
        await server.serve_forever()


if __name__ == "__main__":
    loop = new_event_loop()
    loop.run_until_complete(main(socket.fromshare(bytes.fromhex(sys.stdin.readline()))))
