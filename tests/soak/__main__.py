"""``python -m tests.soak --seconds 120``: load the loop with everything, then tell what it left.

Exit status 0 means that every byte was right, that nothing reached the loop's exception handler,
and that nothing was left behind.
"""

from __future__ import annotations

import argparse
import functools
import sys

from tests.loop.support import make_loop

from . import scheduling, sockets, streams, system
from .laps import Report, Soak

LOADS = (*streams.LOADS, *sockets.LOADS, *system.LOADS, *scheduling.LOADS)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=120.0, help="how long (120)")
    parser.add_argument("--lap", type=float, default=5.0, help="seconds between two looks (5)")
    parser.add_argument("--seed", type=int, default=1, help="of the loads' choices (1)")
    parser.add_argument(
        "--provider", default="uring", choices=("uring", "epoll", "std"), help="std: asyncio's loop"
    )
    parser.add_argument("--threads", type=int, default=1, help="with a loop each (1)")
    names = [load.__name__ for load in LOADS]
    parser.add_argument("--load", action="append", choices=names, help="only these; repeatable")
    return parser.parse_args(arguments)


def show(report: Report) -> None:
    """Print the report."""
    print(f"\n{report.provider}: {len(report.laps)} laps in {report.seconds:.0f} s")
    for name, count in sorted(report.counts.items()):
        print(f"  {name:24}{count:>16,}")
    if report.laps:
        print(f"  before     {report.before}")
        print(f"  first lap  {report.laps[0]}")
        print(f"  last lap   {report.laps[-1]}")
    for fault in report.faults:
        print(f"FAULT {fault}")
    print("nothing wrong, nothing left" if not report.faults else f"{len(report.faults)} faults")


def main(arguments: list[str] | None = None) -> int:
    """Run it; 1 if anything was wrong or left."""
    options = parse(arguments)
    loads = [load for load in LOADS if not options.load or load.__name__ in options.load]
    beside = [functools.partial(make_loop, options.provider)] * (options.threads - 1)
    soak = Soak(
        make_loop(options.provider),
        loads,
        options.seconds,
        options.lap,
        options.seed,
        beside=beside,
    )
    report = soak.run(lambda text: print(text, flush=True))
    show(report)
    return int(bool(report.faults))


if __name__ == "__main__":
    sys.exit(main())
