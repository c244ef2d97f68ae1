"""Loads on the scheduler: timers, and tasks that are cancelled wherever they wait."""

from __future__ import annotations

import asyncio
import random
import socket

from .ground import Echo, Ground, Wrong, serving, within

EARLY = 1e-3
"""Seconds that a timer may fire before its time: asyncio's own clock resolution, rounded up."""


async def timers(ground: Ground) -> None:
    """A thousand timers at once: none early, none lost, none after it was cancelled, in order."""
    rnd = ground.random("timers")
    while ground.running():
        await thousand(rnd)
        ground.counts["timers"] += 1000


async def thousand(rnd: random.Random) -> None:
    loop = asyncio.get_running_loop()
    fired: list[tuple[float, int]] = []
    due = [loop.time() + rnd.random() / 5 for _ in range(1000)]

    def fire(number: int) -> None:
        if loop.time() < due[number] - EARLY:
            raise Wrong(f"a timer fired {due[number] - loop.time()} s early")
        fired.append((due[number], number))

    handles = [loop.call_at(when, fire, number) for number, when in enumerate(due)]
    cancelled = set(rnd.sample(range(1000), 500))
    for number in cancelled:
        handles[number].cancel()
    await asyncio.sleep(0.25)
    if fired != sorted(fired):
        raise Wrong("timers fired out of order")
    if {number for _, number in fired} != set(range(1000)) - cancelled:
        raise Wrong("timers were lost, or fired though cancelled")


async def stream(port: int) -> None:
    """Echo through streams until cancelled."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        while True:
            writer.write(b"x" * 100_000)
            await writer.drain()
            await reader.readexactly(100_000)
    finally:
        writer.transport.abort()


async def low(port: int) -> None:
    """Echo through the low-level calls until cancelled."""
    loop = asyncio.get_running_loop()
    with socket.socket() as sock:
        sock.setblocking(False)
        await loop.sock_connect(sock, ("127.0.0.1", port))
        while True:
            await loop.sock_sendall(sock, b"x" * 100_000)
            rest = 100_000
            while rest:
                data = await loop.sock_recv(sock, rest)
                if not data:
                    raise Wrong("the echo server ended a connection")
                rest -= len(data)


async def sleeper(port: int) -> None:
    """Sleep until cancelled; not through wait_for, which may swallow that before 3.12."""
    while True:
        await asyncio.sleep(port % 10 / 1000)


async def process(_: int) -> None:
    """Wait for a child until cancelled, then end it."""
    child = await asyncio.create_subprocess_exec("sleep", "60")
    try:
        await child.wait()
    finally:
        child.kill()
        await child.wait()


KINDS = (*[stream] * 8, *[low] * 8, *[sleeper] * 4, process)


async def cancellations(ground: Ground) -> None:
    """Tasks that connect, send, receive, sleep and wait, cancelled at any moment."""
    rnd = ground.random("cancellations")
    while ground.running():
        async with serving(Echo) as port:
            tasks = [asyncio.ensure_future(kind(port)) for kind in KINDS]
            while tasks:
                # The first go before they have begun, the last after some exchanges.
                await asyncio.sleep(rnd.random() / 50 if len(tasks) < len(KINDS) - 4 else 0)
                task = tasks.pop(rnd.randrange(len(tasks)))
                if not task.cancel():
                    raise Wrong(f"a task ended by itself: {task!r}")
                await within(asyncio.wait([task]), "cancelled task")
                if not task.cancelled():
                    raise Wrong(f"a cancelled task ended otherwise: {task!r}")
                ground.counts["cancellations"] += 1


LOADS = (timers, cancellations)
