"""The rows of the benchmark: what is asked of every peer."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from zerio_asyncio.bench.echo import MODES as ECHO_MODES

if TYPE_CHECKING:
    from zerio_asyncio.bench import peers

KIB = 1024

PINGPONG, SCHEDULER, IDLE = "pingpong", "scheduler", "idle"
MODES = (*ECHO_MODES, PINGPONG, SCHEDULER, IDLE)
"""What ``--mode`` takes."""

DEFAULT_MODES = tuple(mode for mode in MODES if mode != IDLE)
"""All but the memory of idle connections, which needs a high limit of descriptors."""

DEFAULT_PEERS = ("asyncio", "uvloop", "rloop", "c-epoll", "zerio-uring", "zerio-epoll")
SPINNING_PEERS = ("c-epoll-spin", "zerio-spin")
QUICK_PEERS = ("asyncio", "uvloop", "c-epoll", "zerio")

IDLE_CONNECTIONS = 10_000


@dataclasses.dataclass(frozen=True)
class Workload:
    """One row: ``size`` in bytes, ``depth`` requests in flight on each of ``connections``.

    ``server`` is the echo server's mode. ``figure`` names the sample's entry that peers are
    compared by. ``spin``: the generator polls, so that its own wake-up is not in the latency.
    """

    mode: str
    size: int = KIB
    connections: int = 50
    depth: int = 1

    @property
    def server(self) -> str:
        """Mode of the echo server."""
        return "protocol" if self.mode in (PINGPONG, IDLE) else self.mode

    @property
    def spin(self) -> bool:
        """Whether the generator polls."""
        return self.mode == PINGPONG

    @property
    def figure(self) -> str:
        """The entry of a sample that decides."""
        return "p50_us" if self.mode == PINGPONG else "cpu_us"

    @property
    def title(self) -> str:
        """Name for tables."""
        depth = f", {self.depth} in flight" if self.depth > 1 else ""
        return f"{self.mode}, {size_text(self.size)} × {self.connections}{depth}"


def size_text(size: int) -> str:
    """Bytes as people write them."""
    return f"{size // KIB} KiB" if size >= KIB and size % KIB == 0 else f"{size} B"


_STANDARD: dict[str, tuple[Workload, ...]] = {
    "protocol": (
        Workload("protocol"),
        Workload("protocol", connections=500),
        Workload("protocol", size=64 * KIB),
    ),
    PINGPONG: (Workload(PINGPONG, connections=1),),
    IDLE: (Workload(IDLE, connections=IDLE_CONNECTIONS),),
    SCHEDULER: (),
}


QUICK = (Workload("protocol"), Workload(PINGPONG, connections=1))
"""The rows of ``--quick``."""


def choose(
    modes: tuple[str, ...], size: int | None, connections: int | None, depth: int | None
) -> list[Workload]:
    """List the rows of these modes; one row a mode where a size, count or depth is given."""
    rows: list[Workload] = []
    for mode in modes:
        standard = _STANDARD.get(mode, (Workload(mode),))
        given = {"size": size, "connections": connections, "depth": depth}
        changes: dict[str, Any] = {
            name: value for name, value in given.items() if value is not None
        }
        if changes and standard:
            standard = (dataclasses.replace(standard[0], **changes),)
        rows += standard
    return rows


def peers_for(workload: Workload, chosen: list[peers.Peer]) -> list[peers.Peer]:
    """Leave out who has no part in a row: C servers have one mode, spinning is for ping-pong."""

    def fits(peer: peers.Peer) -> bool:
        if peer.spins and workload.mode != PINGPONG:
            return False
        return not (peer.native and workload.mode == SCHEDULER)

    return [peer for peer in chosen if fits(peer)]
