"""How to measure: rounds, times, cores."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from zerio_asyncio.bench import messaging
from zerio_asyncio.bench.courier import CourierConfig
from zerio_asyncio.bench.handshakes import HandshakesConfig
from zerio_asyncio.bench.load import LoadConfig
from zerio_asyncio.bench.system import cores
from zerio_asyncio.bench.workloads import HANDSHAKE

if TYPE_CHECKING:
    from zerio_asyncio.bench.workloads import Workload

SCHEDULER_COUNT = 100_000

ROUNDS_MAX = 30
"""How many rounds a row gets at most until it is sure."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """How to measure; times in seconds, cores None if a process is left free.

    ``sure``: rounds are added until our ratios' intervals are no wider; None adds none.
    """

    rounds: int = 5
    sure: float | None = None
    warmup_s: float = 0.5
    measure_s: float = 1.5
    server_core: int | None = 0
    load_core: int | None = 1
    scheduler_count: int = SCHEDULER_COUNT
    scheduler_repeats: int = 5

    def cores_of(self, loops: int) -> list[int]:
        """CPUs for ``loops`` loops: the server's, then other free ones, then the load's."""
        if self.server_core is None:
            return []
        first = [self.server_core]
        others = [core for core in cores() if core not in (self.server_core, self.load_core)]
        if self.load_core is not None:
            others.append(self.load_core)
        return (first + others)[:loops]

    def check(self, workload: Workload) -> None:
        """Refuse now, with ValueError, what the generator would refuse later."""
        if workload.mode in messaging.MODES:
            CourierConfig(
                connections=workload.connections,
                size=workload.size,
                burst=workload.burst,
                delay_us=workload.delay_us,
                warmup_s=self.warmup_s,
                measure_s=self.measure_s,
            )
            return
        if workload.mode == HANDSHAKE:
            HandshakesConfig(
                connections=workload.connections,
                size=workload.size,
                warmup_s=self.warmup_s,
                measure_s=self.measure_s,
            )
            return
        LoadConfig(
            connections=workload.connections,
            size=workload.size,
            depth=workload.depth,
            datagrams=workload.datagrams,
            anew=workload.anew,
            warmup_s=self.warmup_s,
            measure_s=self.measure_s,
        )
