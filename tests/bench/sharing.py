"""What a request costs of one loop, and of two: in two threads, and in two processes.

    PYTHON_GIL=0 python -m tests.bench.sharing [--rounds 5] [--touch 10] [zerio-uring asyncio …]

Two processes share no memory that they write, so what two threads of one cost more than they do is
what loops of one process take from each other. Each loop has both ends of its connections, so on
two CPUs nothing else runs: the row ``threads`` of the benchmark needs a third for its generator.

``--touch``: how often each request refers to one object of all threads, whose count is in a line of
the cache that all of them then write. It tells how much such a line would cost here.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import statistics
import threading
import time
from typing import Any

from zerio_asyncio.bench import peers

CONNECTIONS, SIZE = 50, 1024
SHARED = [object()]


class Server(asyncio.Protocol):
    def __init__(self, touch: int) -> None:
        self.touch = touch

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        for _ in range(self.touch):
            _shared = SHARED
        self.transport.write(data)


class Client(asyncio.Protocol):
    def __init__(self) -> None:
        self.answers = self.missing = 0
        self.message = os.urandom(SIZE)

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.ask()

    def ask(self) -> None:
        self.missing = SIZE
        self.transport.write(self.message)

    def data_received(self, data: bytes) -> None:
        self.missing -= len(data)
        if not self.missing:
            self.answers += 1
            self.ask()


async def measure(ready: Any, seconds: float, touch: int) -> float:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Server(touch), "127.0.0.1", 0)
    name = server.sockets[0].getsockname()
    pairs = [await loop.create_connection(Client, *name) for _ in range(CONNECTIONS)]
    clients = [client for _, client in pairs]
    ready.wait()
    await asyncio.sleep(seconds / 3)  # all run by now
    counts, spent = sum(client.answers for client in clients), time.thread_time()
    await asyncio.sleep(seconds)
    spent, counts = time.thread_time() - spent, sum(c.answers for c in clients) - counts
    ready.wait()
    server.close()
    for transport, _ in pairs:
        transport.abort()
    await asyncio.sleep(0.1)
    return spent / counts * 1e6


def run(number: int, ready: Any, tell: Any, peer: str, seconds: float, touch: int) -> None:
    cpus = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cpus[number % len(cpus)]})
    loop = peers.new_loop(peer)
    tell(loop.run_until_complete(measure(ready, seconds, touch)))
    loop.close()
    os.sched_setaffinity(0, set(cpus))


def two_processes(*how: Any) -> list[float]:
    context = multiprocessing.get_context("spawn")
    ready, told = context.Barrier(2), context.SimpleQueue()
    processes = [context.Process(target=run, args=(n, ready, told.put, *how)) for n in range(2)]
    for process in processes:
        process.start()
    found = [told.get() for _ in processes]
    for process in processes:
        process.join()
    return found


def threads(count: int, *how: Any) -> list[float]:
    ready, found = threading.Barrier(count), []
    others = [
        threading.Thread(target=run, args=(n, ready, found.append, *how)) for n in range(1, count)
    ]
    for thread in others:
        thread.start()
    run(0, ready, found.append, *how)
    for thread in others:
        thread.join()
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("peers", nargs="*", default=["zerio-uring", "zerio-epoll", "asyncio"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--touch", type=int, default=0)
    options = parser.parse_args()
    costs: dict[tuple[str, str], list[float]] = {}
    for _ in range(options.rounds):
        for peer in options.peers:
            how = (peer, options.seconds, options.touch)
            for name, found in (
                ("one", threads(1, *how)),
                ("threads", threads(2, *how)),
                ("processes", two_processes(*how)),
            ):
                costs.setdefault((peer, name), []).append(statistics.mean(found))
    for peer in options.peers:
        one, two, apart = (
            statistics.median(costs[peer, name]) for name in ("one", "threads", "processes")
        )
        print(
            f"{peer}: one loop {one:.2f} µs a request, two in two threads {two:.2f}"
            f" ({two / one:.2f}×), in two processes {apart:.2f} (÷ {two / apart:.3f})"
        )


if __name__ == "__main__":
    main()
