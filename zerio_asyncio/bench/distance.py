"""Whether the two CPUs of a run are close to each other, checked around every measurement.

A hosting system may move the CPUs of a virtual machine between cores that share a cache and cores
that do not. The same work then takes up to twice as long on both sides, for every peer: 64 KiB
echoes took 25 or 55 us, with the same counts of segments, pages, interrupts and switches. The round
trip of a cache line between the CPUs distinguishes the two states without looking at any result.
"""

from __future__ import annotations

import time

from zerio_asyncio.bench._native import ffi, lib
from zerio_asyncio.bench.system import words_of

FAR = 2.0
"""CPUs count as apart from this multiple of the shortest distance seen; measured were 55 to 70
against 300 to 400 ns."""

PATIENCE_S = 10.0
"""How long a measurement waits for CPUs that are apart to come together again."""

LOOKS = 25
PAUSE_S = 0.02
"""To learn the shortest distance before the first measurement: half a second of checks."""


class Cpus:
    """The server's CPU and the generator's; None if a process is not pinned.

    Distances are in ns. Without two CPUs there is no distance, and they count as near.
    """

    def __init__(self, server_core: int | None, load_core: int | None) -> None:
        self._pair = None
        if server_core is not None and load_core is not None and server_core != load_core:
            self._pair = (load_core, server_core)
        self._nearest = float("inf")
        self.last_ns = 0.0

    def _look(self) -> float:
        assert self._pair is not None
        found = ffi.new("uint64_t *")
        status = lib.distance_ns(*self._pair, found)
        if status:
            raise OSError(-status, f"distance of CPUs {self._pair}: {words_of(-status)}")
        self.last_ns = float(found[0])
        self._nearest = min(self._nearest, self.last_ns)
        return self.last_ns

    def are_near(self) -> bool:
        """Look now."""
        if self._pair is None:
            return True
        if self._nearest == float("inf"):
            for _ in range(LOOKS):
                self._look()
                time.sleep(PAUSE_S)
        return self._look() <= FAR * self._nearest

    def wait(self) -> bool:
        """Check until they are near; False if that took longer than ``PATIENCE_S``."""
        deadline = time.monotonic() + PATIENCE_S
        while not self.are_near():
            if time.monotonic() > deadline:
                return False
            time.sleep(PAUSE_S)
        return True
