"""What a loop's scheduler costs: CPU nanoseconds per operation, no socket involved.

    call_soon        a callback that schedules itself: one callback per iteration
    burst            1000 callbacks scheduled at once, then run: the ready queue
    sleep0           a task that awaits asyncio.sleep(0): one task step per iteration
    timer            call_later and cancel, 1000 before each iteration: timeouts that never happen
    future           await a future that call_soon resolves: a wake-up

``python -m zerio_asyncio.bench.scheduler --peer uvloop --core 0`` prints one JSON line. Each
operation is repeated and the least time counts: anything above it is interruption, and the runner's
median over processes guards against a lucky one.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import sys
import time
from typing import TYPE_CHECKING

from zerio_asyncio.bench import peers
from zerio_asyncio.bench._native import lib
from zerio_asyncio.bench.system import pin

if TYPE_CHECKING:
    from collections.abc import Callable

BURST = 1000
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


OPERATIONS: dict[str, Callable[[asyncio.AbstractEventLoop, int], None]] = {
    "call_soon": chain,
    "burst": burst,
    "sleep0": sleep_zero,
    "timer": timer_cancel,
    "future": future_wake,
}


def measure(name: str, peer: str, count: int, repeats: int) -> float:
    """CPU time of one operation in ns: the least of ``repeats`` runs of ``count`` operations."""
    loop = peers.new_loop(peer)
    run = OPERATIONS[name]
    try:
        run(loop, max(BURST, count // 10))  # warm up: the interpreter specialises, lists grow
        times = []
        for _ in range(repeats):
            gc.collect()  # so that each repeat starts with the same garbage: none
            begin = time.process_time_ns()
            run(loop, count)
            times.append(time.process_time_ns() - begin)
    finally:
        loop.close()
    return min(times) / count


def main(arguments: list[str] | None = None) -> int:
    """Measure every operation and print nanoseconds as JSON."""
    parser = argparse.ArgumentParser(prog="python -m zerio_asyncio.bench.scheduler")
    parser.add_argument("--peer", default="asyncio")
    parser.add_argument("--count", type=int, default=100_000, help="operations of one repeat")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--core", type=int, help="pin to this CPU")
    options = parser.parse_args(arguments)
    lib.process_die_with_parent(os.getppid())
    pin(options.core)
    if options.count < BURST or options.count % BURST:
        parser.error(f"--count must be a multiple of {BURST}")
    try:
        answer: dict[str, object] = {
            "ns": {
                name: measure(name, options.peer, options.count, options.repeats)
                for name in OPERATIONS
            }
        }
    except (ImportError, OSError, ValueError) as error:
        answer = {"error": str(error)}
    print(json.dumps(answer), flush=True)
    return "error" in answer


if __name__ == "__main__":
    sys.exit(main())
