"""The rows of the benchmark: what every peer is asked to do."""

from __future__ import annotations

import dataclasses
from typing import Any

from zerio_asyncio.bench import messaging, pages, peers, system
from zerio_asyncio.bench.echo import DATAGRAM
from zerio_asyncio.bench.echo import MODES as ECHO_MODES

KIB = 1024

PINGPONG, CHURN, IDLE, THREADS = "pingpong", "churn", "idle", "threads"
SCHEDULER, SCHEDULER_LARGE = SCHEDULERS = ("scheduler", "scheduler-large")
TLS, HANDSHAKE, HTTPS, TLS_IDLE = TLS_MODES = ("tls", "handshake", pages.HTTPS, "tls-idle")
ONE_WAY, ROUND_TRIP = messaging.MODES
PLAIN_PAGES = tuple(mode for mode in pages.MODES if mode != HTTPS)
MODES = (*ECHO_MODES, DATAGRAM, CHURN, PINGPONG, ONE_WAY, ROUND_TRIP, *SCHEDULERS, *PLAIN_PAGES,
         TLS, HANDSHAKE, HTTPS, IDLE, TLS_IDLE, THREADS)  # fmt: skip
"""What ``--mode`` accepts."""

LATENCY_MODES = (PINGPONG, ROUND_TRIP)
"""Compared by latency, not by CPU time."""

MESSAGE = 64
"""Bytes of a message: a price, an order."""

_APART = (IDLE, TLS_IDLE, THREADS, *(() if system.DIALS_AGAIN else (CHURN,)))
DEFAULT_MODES = tuple(mode for mode in MODES if mode not in _APART)
"""All except the memory of idle connections, which needs a high descriptor limit, and loops in
threads, which need a CPU each."""

DEFAULT_PEERS = (
    *system.STANDARD,
    *system.OTHERS,
    *system.PATCHED,
    peers.LIMIT,
    *peers.BOTH_PROVIDERS,
    *peers.GATHERING,
)
SPINNING_PEERS = (peers.LIMIT_SPINNING, "zerio-spin")
WAITING_PEERS = (*SPINNING_PEERS, "zerio-hybrid")
"""For round trips of messages: every wait strategy."""
QUICK_PEERS = ("asyncio", peers.REFERENCE, peers.LIMIT, "zerio")

IDLE_CONNECTIONS = 10_000
IDLE_TLS_CONNECTIONS = 1000
"""Each costs a handshake, and some loops hundreds of KiB."""

HANDSHAKES = 16
"""Connections under way at a time."""


@dataclasses.dataclass(frozen=True)
class Workload:
    """One row: ``size`` in bytes, ``depth`` requests in flight on each of ``connections``.

    ``server`` is the server's mode. ``figure`` names the sample's entry used to compare peers.
    ``spin``: the generator polls, so its own wake-up is not in the latency. Round trips of messages
    have no depth: ``burst`` messages go together, every ``delay_us`` on each connection, or when
    all previous ones have come back. ``loops``: how many threads of the server have a loop each.
    Of handshakes, ``connections`` are under way at a time; ``resumed``: they resume a session.
    """

    mode: str
    size: int = KIB
    connections: int = 50
    depth: int = 1
    burst: int = 1
    delay_us: int = 0
    load_spins: bool = True
    loops: int = 1
    resumed: bool = False

    @property
    def server(self) -> str:
        """Mode of the server."""
        if self.tls and not self.page:
            return TLS
        return "protocol" if self.mode in (PINGPONG, CHURN, IDLE) else self.mode

    @property
    def spin(self) -> bool:
        """Whether the generator polls."""
        return self.mode in LATENCY_MODES and self.load_spins

    @property
    def anew(self) -> bool:
        """Whether each request has a connection of its own."""
        return self.mode == CHURN

    @property
    def datagrams(self) -> bool:
        """Whether messages are datagrams."""
        return self.mode == DATAGRAM

    @property
    def tls(self) -> bool:
        """Whether both sides speak TLS."""
        return self.mode in TLS_MODES

    @property
    def page(self) -> bool:
        """Whether a web server is asked for its page."""
        return self.mode in pages.MODES

    @property
    def idle(self) -> bool:
        """Whether memory is measured, and not time."""
        return self.mode in (IDLE, TLS_IDLE)

    @property
    def figure(self) -> str:
        """The entry of a sample used for comparison."""
        if self.idle:
            return "warm_bytes"
        if self.mode == ONE_WAY:
            return "message_ns"
        return "p50_us" if self.mode in LATENCY_MODES else "cpu_us"

    @property
    def title(self) -> str:
        """Name for tables."""
        depth = f", {self.depth} in flight" if self.depth > 1 else ""
        bursts = f", bursts of {self.burst}" if self.burst > 1 else ""
        delay = f", every {self.delay_us} µs" if self.delay_us else ""
        loops = f", {self.loops} loop{'s'[: self.loops > 1]}" if self.mode == THREADS else ""
        size = size_text(self.size)
        if self.page:
            return f"{self.mode}, {len(pages.BODY)} B × {self.connections}{depth}"
        if self.mode == HANDSHAKE:
            return f"{self.mode}, {'resumed' if self.resumed else 'full'} × {self.connections}"
        return f"{self.mode}, {size} × {self.connections}{depth}{bursts}{delay}{loops}"

    @property
    def settings(self) -> dict[str, int]:
        """What was asked, for the JSON form."""
        told = {"size": self.size, "connections": self.connections, "depth": self.depth}
        if self.mode == ROUND_TRIP:
            told |= {"burst": self.burst, "delay_us": self.delay_us}
        if self.mode == THREADS:
            told |= {"loops": self.loops}
        if self.mode == HANDSHAKE:
            told |= {"resumed": int(self.resumed)}
        return told


def size_text(size: int) -> str:
    """Bytes in human form."""
    return f"{size // KIB} KiB" if size >= KIB and size % KIB == 0 else f"{size} B"


_STANDARD: dict[str, tuple[Workload, ...]] = {
    "protocol": (
        Workload("protocol"),
        Workload("protocol", connections=500),
        Workload("protocol", connections=5000),
        Workload("protocol", size=64 * KIB),
    ),
    PINGPONG: (Workload(PINGPONG, connections=1),),
    ONE_WAY: (
        Workload(ONE_WAY, size=MESSAGE, connections=1),
        Workload(ONE_WAY, size=MESSAGE, connections=50),
    ),
    ROUND_TRIP: (
        Workload(ROUND_TRIP, size=MESSAGE, connections=1),
        Workload(ROUND_TRIP, size=MESSAGE, connections=10, burst=2, delay_us=500),
    ),
    IDLE: (Workload(IDLE, connections=IDLE_CONNECTIONS),),
    TLS: (Workload(TLS), Workload(TLS, size=64 * KIB)),
    HANDSHAKE: (
        Workload(HANDSHAKE, size=MESSAGE, connections=HANDSHAKES),
        Workload(HANDSHAKE, size=MESSAGE, connections=HANDSHAKES, resumed=True),
    ),
    TLS_IDLE: (Workload(TLS_IDLE, connections=IDLE_TLS_CONNECTIONS),),
    SCHEDULER: (),
    SCHEDULER_LARGE: (),
    THREADS: (Workload(THREADS), Workload(THREADS, loops=2)),
}


QUICK = (Workload("protocol"), Workload(PINGPONG, connections=1))
"""The rows of ``--quick``."""


_OWN: dict[str, tuple[str, ...]] = {
    ONE_WAY: ("size", "connections"),
    ROUND_TRIP: ("size", "connections", "burst", "delay_us", "load_spins"),
    **dict.fromkeys(pages.MODES, ("connections", "depth")),
    HANDSHAKE: ("size", "connections"),
}
_OF_ECHO = ("size", "connections", "depth")


def choose(modes: tuple[str, ...], given: dict[str, Any]) -> list[Workload]:
    """List the rows of these modes; one row per mode if a field of it is given (is not None).

    But rows of threads mean nothing without each other, and handshakes are of two kinds.
    """
    rows: list[Workload] = []
    for mode in modes:
        standard = _STANDARD.get(mode, (Workload(mode),))
        fields = _OWN.get(mode, _OF_ECHO)
        changes = {name: given[name] for name in fields if given.get(name) is not None}
        if changes and standard:
            kept = standard if mode in (THREADS, HANDSHAKE) else standard[:1]
            standard = tuple(dataclasses.replace(row, **changes) for row in kept)
        rows += standard
    return rows


def peers_for(workload: Workload, chosen: list[peers.Peer]) -> list[peers.Peer]:
    """Omit peers that have no part in a row: C serves no pages, spinning is for ping-pong."""

    def fits(peer: peers.Peer) -> bool:
        if peer.spins and workload.mode not in LATENCY_MODES:
            return False
        if peer.name in system.PATCHED and not workload.tls:
            return False
        if peer.name in peers.GATHERING and not workload.page:
            return False
        if peer.name in system.WITHOUT_TLS and workload.tls:
            return False
        return not (peer.native and (workload.page or workload.mode in (*SCHEDULERS, THREADS)))

    return [peer for peer in chosen if fits(peer)]


def schedulers(chosen: list[peers.Peer]) -> list[peers.Peer]:
    """The loops among them, each once: other transports make no other scheduler."""
    left_out = (*system.PATCHED, *peers.GATHERING)
    return [peer for peer in chosen if not (peer.native or peer.spins or peer.name in left_out)]
