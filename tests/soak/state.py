"""What a process holds: descriptors, slices, tasks, threads, children, memory."""

from __future__ import annotations

import asyncio
import ctypes
import dataclasses
import gc
import os
import sys
import threading
from pathlib import Path
from typing import Any

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclasses.dataclass(frozen=True)
class State:
    """Counts at a moment when nothing should be going on; ``resident`` in bytes.

    ``instances``: epoll instances, which are not among ``descriptors``. A port makes a second one
    when a descriptor is first needed for two things, and keeps it.
    """

    descriptors: int
    instances: int
    slices: int
    connections: int
    tasks: int
    threads: int
    children: int
    readers: int
    blocks: int
    resident: int

    def exact(self) -> dict[str, int]:
        """What must be the same after every lap: not memory, nor threads, which executors keep."""
        counts = dataclasses.asdict(self)
        del counts["blocks"], counts["resident"], counts["threads"], counts["instances"]
        return counts


def open_descriptors() -> dict[int, str]:
    """Descriptors of this process and what each one is."""
    found = {}
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found[int(entry.name)] = str(entry.readlink())
        except OSError:
            pass  # the listing's own
    return found


def children() -> int:
    """Children of this process, zombies among them."""
    path = Path(f"/proc/self/task/{os.getpid()}/children")
    return len(path.read_text(encoding="ascii").split())


def read(loop: Any) -> State:
    """Collect garbage, have the C library give back what is free, then count."""
    for _ in range(3):
        gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    slices = connections = 0
    if hasattr(loop, "rio_stats"):
        statistics = loop.rio_stats()
        slices, connections = statistics.slices_in_use, statistics.connections
    resident = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    descriptors = open_descriptors()
    instances = sum("eventpoll" in what for what in descriptors.values())
    return State(
        descriptors=len(descriptors) - instances,
        instances=instances,
        slices=slices,
        connections=connections,
        tasks=len(asyncio.all_tasks(loop)),
        threads=threading.active_count(),
        children=children(),
        readers=len(loop._selector.get_map()),
        blocks=sys.getallocatedblocks(),
        resident=resident * PAGE_BYTES,
    )
