"""What a loop's scheduler costs: CPU nanoseconds per operation, no socket involved.

    call_soon        a callback that schedules itself: one callback per iteration
    burst            1000 callbacks scheduled at once, then run: the ready queue
    sleep0           a task that awaits asyncio.sleep(0): one task step per iteration
    timer            call_later and cancel, 1000 before each iteration: timeouts that never happen
    future           await a future that call_soon resolves: a wake-up
    gather           gather of 100 tasks, each of which yields once; per task
    threadsafe       call_soon_threadsafe from one other thread, while the loop is busy with it
    threadsafe4      the same from four
    resolve          getaddrinfo of an address and a number: nothing to ask anybody

With 300,000 alive (``--suite scheduler-large``) it is about cost that grows:

    burst            300,000 callbacks scheduled at once, then run
    timer            call_later and cancel while 300,000 others wait
    timeouts         300,000 timers made, then cancelled, the oldest first
    due              300,000 timers that fall due together

``python -m zerio_asyncio.bench.scheduler --peer uvloop --core 0`` prints one JSON line. Each
operation is repeated and the least time counts: anything above it is interruption, and the runner's
median over processes guards against a lucky one.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import gc
import json
import os
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING

from zerio_asyncio.bench import peers
from zerio_asyncio.bench._native import lib
from zerio_asyncio.bench.system import pin

if TYPE_CHECKING:
    from collections.abc import Callable

BURST = 1000
GATHERED = 100
TIMER_S = 60.0
"""Longer than any run: these timers never come due."""


def _nothing() -> None:
    pass


def chain(loop: asyncio.AbstractEventLoop, count: int) -> None:
    """Schedule each callback from the previous one."""
    left = count

    def step() -> None:
        nonlocal left
        left -= 1
        if left:
            loop.call_soon(step)
        else:
            loop.stop()

    loop.call_soon(step)
    loop.run_forever()


def burst(loop: asyncio.AbstractEventLoop, count: int) -> None:
    """Schedule many callbacks for one iteration, repeatedly."""

    async def main() -> None:
        for _ in range(count // BURST):
            for _ in range(BURST):
                loop.call_soon(_nothing)
            await asyncio.sleep(0)

    loop.run_until_complete(main())


def sleep_zero(loop: asyncio.AbstractEventLoop, count: int) -> None:
    """Yield to the loop at each step."""

    async def main() -> None:
        for _ in range(count):
            await asyncio.sleep(0)

    loop.run_until_complete(main())


def timer_cancel(loop: asyncio.AbstractEventLoop, count: int) -> None:
    """Arm and disarm timers, as a timeout around every request does."""

    async def main() -> None:
        for _ in range(count // BURST):
            for _ in range(BURST):
                loop.call_later(TIMER_S, _nothing).cancel()
            await asyncio.sleep(0)

    loop.run_until_complete(main())


def future_wake(loop: asyncio.AbstractEventLoop, count: int) -> None:
    """Wait for a result that another callback sets."""

    async def main() -> None:
        for _ in range(count):
            future: asyncio.Future[None] = loop.create_future()
            loop.call_soon(future.set_result, None)
            await future

    loop.run_until_complete(main())


def gathered(loop: asyncio.AbstractEventLoop, count: int) -> None:
    """Wait for many small tasks at once, repeatedly."""

    async def main() -> None:
        for _ in range(count // GATHERED):
            await asyncio.gather(*[asyncio.sleep(0) for _ in range(GATHERED)])

    loop.run_until_complete(main())


def from_threads(loop: asyncio.AbstractEventLoop, count: int, threads: int) -> None:
    """Let other threads schedule callbacks, all at the same time."""

    async def main() -> None:
        left = threads
        done = loop.create_future()

        def ended() -> None:
            nonlocal left
            left -= 1
            if not left:
                done.set_result(None)

        def work() -> None:
            for _ in range(count // threads):
                loop.call_soon_threadsafe(_nothing)
            loop.call_soon_threadsafe(ended)

        workers = [threading.Thread(target=work) for _ in range(threads)]
        for worker in workers:
            worker.start()
        await done
        for worker in workers:
            worker.join()

    loop.run_until_complete(main())


def from_thread(loop: asyncio.AbstractEventLoop, count: int) -> None:
    """Schedule from one other thread."""
    from_threads(loop, count, 1)


def from_four_threads(loop: asyncio.AbstractEventLoop, count: int) -> None:
    """Schedule from four other threads."""
    from_threads(loop, count, 4)


def resolve(loop: asyncio.AbstractEventLoop, count: int) -> None:
    """Resolve what is an address already."""

    async def main() -> None:
        for _ in range(count):
            await loop.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM)

    loop.run_until_complete(main())


def large_burst(loop: asyncio.AbstractEventLoop, count: int) -> None:
    """Schedule all callbacks for one iteration."""

    async def main() -> None:
        for _ in range(count):
            loop.call_soon(_nothing)
        await asyncio.sleep(0)

    loop.run_until_complete(main())


def timeouts(loop: asyncio.AbstractEventLoop, count: int) -> None:
    """Arm that many timers, then disarm them."""

    async def main() -> None:
        for timer in [loop.call_later(TIMER_S, _nothing) for _ in range(count)]:
            timer.cancel()
        await asyncio.sleep(0)

    loop.run_until_complete(main())


def due(loop: asyncio.AbstractEventLoop, count: int) -> None:
    """Let that many timers fire at one time."""

    async def main() -> None:
        start = loop.time()
        for number in range(count):
            loop.call_at(start + number * 1e-9, _nothing)
        fired = loop.create_future()
        loop.call_at(start + count * 1e-9, fired.set_result, None)
        await fired

    loop.run_until_complete(main())


@dataclasses.dataclass(frozen=True)
class Operation:
    """``part``: done once where others are done so often. ``alive``: timers wait meanwhile."""

    run: Callable[[asyncio.AbstractEventLoop, int], None]
    part: int = 1
    alive: bool = False


OPERATIONS: dict[str, Operation] = {
    "call_soon": Operation(chain),
    "burst": Operation(burst),
    "sleep0": Operation(sleep_zero),
    "timer": Operation(timer_cancel),
    "future": Operation(future_wake),
    "gather": Operation(gathered),
    "threadsafe": Operation(from_thread),
    "threadsafe4": Operation(from_four_threads),
    "resolve": Operation(resolve, part=10),  # some loops ask a thread each time
}

LARGE_OPERATIONS: dict[str, Operation] = {
    "burst": Operation(large_burst),
    "timer": Operation(timer_cancel, alive=True),
    "timeouts": Operation(timeouts),
    "due": Operation(due),
}

SUITES = {"scheduler": OPERATIONS, "scheduler-large": LARGE_OPERATIONS}
"""The operations of each mode."""

LARGE = 3
"""So many times the count is done, and alive, in the large suite: 300,000."""


def measure(operation: Operation, peer: str, count: int, repeats: int) -> float:
    """CPU time of one operation in ns: the least of ``repeats`` runs of ``count`` operations."""
    loop = peers.new_loop(peer)
    times = []
    alive: list[asyncio.TimerHandle] = []
    asked = max(count // operation.part, BURST)
    try:
        if operation.alive:
            alive += [loop.call_later(TIMER_S + each, _nothing) for each in range(count)]
        # Warm up: the interpreter specialises, lists grow.
        operation.run(loop, max(BURST, asked // 10))
        for _ in range(repeats):
            gc.collect()  # so that each repeat starts with the same garbage: none
            begin = time.process_time_ns()
            operation.run(loop, asked)
            times.append(time.process_time_ns() - begin)
    finally:
        for timer in alive:
            timer.cancel()
        loop.close()
    return min(times) / asked


def main(arguments: list[str] | None = None) -> int:
    """Measure every operation and print nanoseconds as JSON."""
    parser = argparse.ArgumentParser(prog="python -m zerio_asyncio.bench.scheduler")
    parser.add_argument("--peer", default="asyncio")
    parser.add_argument("--suite", choices=SUITES, default="scheduler")
    parser.add_argument("--count", type=int, default=100_000, help="operations of one repeat")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--core", type=int, help="pin to this CPU")
    options = parser.parse_args(arguments)
    lib.process_die_with_parent(os.getppid())
    pin(options.core)
    if options.count < BURST or options.count % BURST:
        parser.error(f"--count must be a multiple of {BURST}")
    count = options.count * (LARGE if options.suite == "scheduler-large" else 1)
    try:
        answer: dict[str, object] = {
            "ns": {
                name: measure(operation, options.peer, count, options.repeats)
                for name, operation in SUITES[options.suite].items()
            }
        }
    except (ImportError, OSError, ValueError) as error:
        answer = {"error": str(error)}
    print(json.dumps(answer), flush=True)
    return "error" in answer


if __name__ == "__main__":
    sys.exit(main())
