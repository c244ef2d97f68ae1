"""``python -m tests.fuzz --seeds 0:2000``: random programs over all public calls; see README.md.

Exit status 0 means that no seed crashed, hung, left anything or saw a wrong byte.
"""

from __future__ import annotations

import argparse
import os
import sys
import time

from .child import CANARIES
from .kinds import KINDS, OURS, TAME
from .watching import Watcher
from .world import FEATURES


def seeds(text: str) -> tuple[int, int]:
    """``A:B``, or one number."""
    first, _, last = text.partition(":")
    return int(first), int(last) if last else int(first) + 1


def names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seeds", type=seeds, default=(0, 2000), metavar="A:B", help="(0:2000)")
    parser.add_argument(
        "--provider", default="uring", choices=("uring", "epoll", "std"), help="std: asyncio's loop"
    )
    parser.add_argument("--kinds", type=names, default=list(KINDS), help=",".join(KINDS))
    parser.add_argument("--without", type=names, default=[], help=",".join(FEATURES))
    parser.add_argument(
        "--hostile", action="store_true", help="collect at almost every allocation, and act there"
    )
    parser.add_argument("--canary", choices=CANARIES, help="break something: it must be found")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes at once")
    parser.add_argument("--batch", type=int, default=50, help="seeds of one process (50)")
    parser.add_argument("--limit", type=float, default=20.0, help="seconds of one seed (20)")
    parser.add_argument("--seconds", type=float, help="begin no batch after so many")
    parser.add_argument("--bad", type=int, default=20, help="give up after so many bad seeds (20)")
    parser.add_argument("--trail", action="store_true", help="show the actions of bad seeds")
    options = parser.parse_args(arguments)
    unknown = set(options.kinds) - set(KINDS) | set(options.without) - set(FEATURES)
    if unknown:
        parser.error(f"no such kind or feature: {', '.join(sorted(unknown))}")
    if options.provider == "std":
        options.kinds = [name for name in options.kinds if name not in OURS]
    if options.hostile:
        options.kinds = [name for name in options.kinds if name not in TAME]
    return options


def main(arguments: list[str] | None = None) -> int:
    """Run it; 1 if any seed was bad."""
    options = parse(arguments)
    began = time.monotonic()
    watcher = Watcher(options)
    watcher.run()
    seconds = time.monotonic() - began
    for line in watcher.lines:
        print(line)
    print(
        f"{options.provider}{', hostile' if options.hostile else ''}: {watcher.good} seeds good, "
        f"{len(watcher.lines)} bad, {seconds:.0f} s"
    )
    return int(bool(watcher.lines) or not watcher.good)


if __name__ == "__main__":
    sys.exit(main())
