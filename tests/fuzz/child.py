"""One process that runs seeds, one after the other, and says how each went.

A line for each on standard output: ``begin N``, then ``good N`` or ``bad N`` with what was wrong as
JSON behind it. A process ends with its first bad seed, so that the next begins in a sound one.
"""

from __future__ import annotations

import argparse
import ctypes
import faulthandler
import gc
import json
import logging
import sys
import threading

from .kinds import KINDS
from .world import Choice, World

CANARIES = ("byte", "crash", "hang")
"""What can be broken on purpose: a peer flips a bit, a seed in three kills its process or hangs."""


def sing(canary: str) -> None:
    """Do what a fault of the loop would do."""
    if canary == "crash":
        ctypes.string_at(0)
    elif canary == "hang":
        threading.Event().wait()


def run(options: argparse.Namespace) -> int:
    """Run the seeds of ``options``; 1 if one is bad."""
    first, last = options.seeds
    choice = Choice(
        options.provider,
        [KINDS[name] for name in options.kinds],
        tuple(options.without),
        options.hostile,
        options.canary == "byte",
    )
    faulthandler.enable()
    logging.disable(logging.CRITICAL)
    gc.collect()
    gc.freeze()  # the seeds' own garbage is soon collected, the modules' would take most of it
    for seed in range(first, last):
        print("begin", seed, flush=True)
        faulthandler.dump_traceback_later(options.limit, exit=True)
        world = World(seed, choice)
        faults = world.run()
        if options.canary and seed % 3 == 2:
            sing(options.canary)
        faulthandler.cancel_dump_traceback_later()
        if faults:
            told = {"faults": faults, "trail": world.trail, "features": sorted(world.features)}
            print("bad", seed, json.dumps(told), flush=True)
            return 1
        print("good", seed, flush=True)
    return 0


if __name__ == "__main__":
    from .__main__ import parse

    sys.exit(run(parse()))
