"""Loads on what else a loop drives: processes, pipes, signals, threads."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from typing import Any

from .ground import KIB, LARGEST, Ground, Wrong, within


async def processes(ground: Ground) -> None:
    """Children that copy, that are killed, that close early, and a shell."""
    rnd = ground.random("processes")
    pipe = asyncio.subprocess.PIPE
    while ground.running():
        sent = ground.message(rnd)
        child = await asyncio.create_subprocess_exec("cat", stdin=pipe, stdout=pipe)
        back, _ = await within(child.communicate(sent), "cat")
        if child.returncode != 0:
            raise Wrong(f"cat ended with {child.returncode}")
        ground.same("processes", sent, back)

        child = await asyncio.create_subprocess_shell("exec sleep 60")
        await asyncio.sleep(rnd.random() / 100)
        child.kill()
        if await within(child.wait(), "killed child") != -signal.SIGKILL:
            raise Wrong(f"a killed child ended with {child.returncode}")

        code = rnd.randint(0, 255)
        child = await asyncio.create_subprocess_shell(f"exit {code}", stdin=pipe, stderr=pipe)
        await within(child.communicate(b"nobody reads this" * KIB), "early end")
        if child.returncode != code:
            raise Wrong(f"exit {code} became {child.returncode}")
        ground.counts["processes ended"] += 2


async def pipes(ground: Ground) -> None:
    """connect_write_pipe to connect_read_pipe."""
    rnd, loop = ground.random("pipes"), asyncio.get_running_loop()
    while ground.running():
        read_end, write_end = os.pipe()
        reader = asyncio.StreamReader(limit=2 * LARGEST)
        reading, _ = await loop.connect_read_pipe(
            lambda reader=reader: asyncio.StreamReaderProtocol(reader),  # type: ignore[misc]
            os.fdopen(read_end, "rb", 0),
        )
        writing, _ = await loop.connect_write_pipe(
            asyncio.streams.FlowControlMixin, os.fdopen(write_end, "wb", 0)
        )
        sent = ground.message(rnd)
        writing.write(sent)
        ground.same("pipes", sent, await within(reader.readexactly(len(sent)), "pipe"))
        writing.close()
        if await within(reader.read(), "pipe's end"):
            raise Wrong("bytes after a pipe's end")
        reading.close()


async def signals(ground: Ground) -> None:
    """A signal to ourselves, heard before the next."""
    loop = asyncio.get_running_loop()
    heard = asyncio.Event()
    loop.add_signal_handler(signal.SIGUSR1, heard.set)
    try:
        while ground.running():
            os.kill(os.getpid(), signal.SIGUSR1)
            await within(heard.wait(), "signal")
            heard.clear()
            ground.counts["signals"] += 1
            await asyncio.sleep(0.005)
    finally:
        loop.remove_signal_handler(signal.SIGUSR1)


async def threads(ground: Ground) -> None:
    """Other threads call into the loop: everything arrives once, each thread's in order."""
    loop = asyncio.get_running_loop()
    calls = 500

    def call(number: int, got: list[int], pause: Any) -> None:
        for value in range(calls):
            loop.call_soon_threadsafe(got.append, value)
            if value % 100 == number:
                pause.wait(0.001)  # the loop falls asleep in between
        future = asyncio.run_coroutine_threadsafe(asyncio.sleep(0, number), loop)
        got.append(-future.result(30))

    while ground.running():
        lists: list[list[int]] = [[] for _ in range(4)]
        workers = [asyncio.to_thread(call, i, x, threading.Event()) for i, x in enumerate(lists)]
        await within(asyncio.gather(*workers), "threads")
        for number, got in enumerate(lists):
            if got != [*range(calls), -number]:
                raise Wrong(f"calls of thread {number} came out of order or not at all")
        ground.counts["calls from threads"] += 4 * calls


async def lookups(_: Ground) -> None:
    """Names are looked up in the executor."""
    found = await asyncio.get_running_loop().getaddrinfo("localhost", 80)
    if not any(entry[4][0] in ("127.0.0.1", "::1") for entry in found):
        raise Wrong(f"localhost is {found}")


LOADS = (processes, pipes, signals, threads, lookups)

OF_THE_MAIN_THREAD = (processes, signals)
