"""What was measured: rows of outcomes, one outcome per peer, one sample per round; its JSON form.

A sample is a plain mapping of figures to numbers. Units are in the names: ``cpu_us`` is CPU time
of the server per request in microseconds, ``ns`` CPU nanoseconds per operation, ``idle_bytes``
resident memory per connection, ``message_ns`` CPU time of the server per message in nanoseconds,
``server_busy`` a share of one core.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import platform
import statistics
from typing import TYPE_CHECKING, Any

from zerio_asyncio.bench import intervals, peers
from zerio_asyncio.bench.system import cores, load_average, processor

if TYPE_CHECKING:
    from collections.abc import Iterable

SCHEMA = 1
"""Version of the JSON form; raised when an entry changes its meaning."""

Sample = dict[str, float]


class BenchError(RuntimeError):
    """A peer could not be measured: its server or the generator failed."""


@dataclasses.dataclass
class Outcome:
    """One peer in one row.

    ``ran`` is the server's real mode, ``histograms`` the rounds' HdrHistogram texts, ``error`` the
    reason why there are no (more) samples. ``repeated`` counts measurements discarded because the
    CPUs were apart (distance.py); ``apart`` counts samples kept in spite of it, after the last try.
    """

    peer: peers.Peer
    ran: str = ""
    provider: str | None = None
    samples: list[Sample] = dataclasses.field(default_factory=list)
    histograms: list[str] = dataclasses.field(default_factory=list)
    error: str | None = None
    repeated: int = 0
    apart: int = 0

    def values(self, figure: str) -> list[float]:
        """One a round, in order."""
        return [sample[figure] for sample in self.samples if figure in sample]

    def median(self, figure: str) -> float | None:
        """Median over the rounds; None without samples."""
        values = self.values(figure)
        return statistics.median(values) if values else None

    def spread(self, figure: str) -> tuple[float, float] | None:
        """Least and greatest over the rounds."""
        values = self.values(figure)
        return (min(values), max(values)) if values else None

    def as_json(self) -> dict[str, Any]:
        """Medians, spreads and all samples."""
        figures = list(self.samples[0]) if self.samples else []
        return {
            "peer": self.peer.name,
            "title": self.peer.title,
            "version": self.peer.version,
            "provider": self.provider,
            "ran": self.ran,
            "error": self.error,
            "median": {figure: self.median(figure) for figure in figures},
            "spread": {figure: self.spread(figure) for figure in figures},
            "repeated": self.repeated,
            "apart": self.apart,
            "rounds": self.samples,
            "hdr": self.histograms,
        }


@dataclasses.dataclass
class Row:
    """One workload for all peers; ``figure`` is the entry used to compare them."""

    title: str
    mode: str
    figure: str
    outcomes: list[Outcome]
    settings: dict[str, int] = dataclasses.field(default_factory=dict)

    def outcome(self, name: str) -> Outcome | None:
        """One peer's outcome, if it took part and has samples."""
        for outcome in self.outcomes:
            if outcome.peer.name == name and outcome.samples:
                return outcome
        return None

    def ratio(self, outcome: Outcome, to: str) -> float | None:
        """This one's median as a multiple of another peer's; below 1 is better."""
        reference = self.outcome(to)
        if reference is None:
            return None
        mine, other = outcome.median(self.figure), reference.median(self.figure)
        return mine / other if mine is not None and other else None

    def interval(self, outcome: Outcome, to: str) -> intervals.Interval | None:
        """Where this ratio is in 95 of 100 such runs; None after few rounds."""
        reference = self.outcome(to)
        if reference is None:
            return None
        return intervals.of_ratio(outcome.values(self.figure), reference.values(self.figure))

    def is_sure(self, width: float) -> bool:
        """Whether our loops' ratios to the reference have intervals no wider than this.

        Rounds cannot make what failed any surer, nor what stands alone.
        """
        reference = self.outcome(peers.REFERENCE)
        if reference is None or reference.error is not None:
            return True
        for outcome in self.outcomes:
            if not outcome.peer.ours or outcome.error is not None:
                continue
            found = self.interval(outcome, peers.REFERENCE)
            if found is None or found[1] - found[0] > width:
                return False
        return True

    def limit(self, outcome: Outcome) -> str:
        """Name of the C server that this peer is compared with: spinning against spinning."""
        return peers.LIMIT_SPINNING if outcome.peer.spins else peers.LIMIT

    def as_json(self) -> dict[str, Any]:
        """The row with ratios."""
        return {
            "title": self.title,
            "mode": self.mode,
            "figure": self.figure,
            **self.settings,
            "peers": [
                {
                    **outcome.as_json(),
                    "ratio_reference": self.ratio(outcome, peers.REFERENCE),
                    "ratio_limit": self.ratio(outcome, self.limit(outcome)),
                    "interval_reference": self.interval(outcome, peers.REFERENCE),
                    "interval_limit": self.interval(outcome, self.limit(outcome)),
                }
                for outcome in self.outcomes
            ],
        }


def machine() -> dict[str, Any]:
    """Describe where the figures come from."""
    return {
        "kernel": platform.release(),
        "processor": processor() or platform.machine(),
        "cores": cores(),
        "python": platform.python_version(),
        "load_average": load_average(),
    }


def document(
    rows: Iterable[Row], refused: Iterable[peers.Peer], settings: dict[str, Any]
) -> dict[str, Any]:
    """Everything, for ``--json``."""
    return {
        "schema": SCHEMA,
        "when": dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds"),
        "machine": machine(),
        "settings": settings,
        "reference": peers.REFERENCE,
        "limit": peers.LIMIT,
        "rows": [row.as_json() for row in rows],
        "refused": [{"peer": peer.name, "reason": peer.refusal} for peer in refused],
    }
