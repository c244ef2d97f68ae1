"""What got better or worse since an earlier run, beyond noise: ``bench --compare OLD.json``.

Machines differ from day to day, so it is not times that are compared but ratios to the reference,
which ran in the same rounds. A change counts if the interval of new ratio / old ratio leaves 1 out.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
from typing import TYPE_CHECKING, Any

from zerio_asyncio.bench import intervals, peers
from zerio_asyncio.bench.results import SCHEMA

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from zerio_asyncio.bench.results import Row


@dataclasses.dataclass(frozen=True)
class Change:
    """One peer in one row: its ratios to the reference, and the interval of their quotient."""

    title: str
    peer: str
    before: float
    after: float
    interval: intervals.Interval

    @property
    def verdict(self) -> str:
        """In a word."""
        low, high = self.interval
        if high < 1:
            return "better"
        return "worse" if low > 1 else "same"

    def __str__(self) -> str:
        low, high = self.interval
        return (
            f"{self.verdict}: {self.title}: {self.peer} {self.before:.3f} -> {self.after:.3f} "
            f"times {peers.REFERENCE} ({low - 1:+.1%} to {high - 1:+.1%})"
        )


def read(path: Path) -> dict[str, Any]:
    """What ``--json`` wrote; ValueError if it is something else, or of another version."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None
    except ValueError:
        found = None
    if not isinstance(found, dict) or found.get("schema") != SCHEMA:
        raise ValueError(f"{path} is no result that this benchmark wrote by --json")
    return found


def changes(old: dict[str, Any], rows: list[Row]) -> Iterator[Change]:
    """Compare our loops in the rows that both runs have."""
    before = {line["title"]: line for line in old["rows"]}
    for row in rows:
        line = before.get(row.title)
        if line is None or line["figure"] != row.figure:
            continue
        earlier = {
            peer["peer"]: [sample[row.figure] for sample in peer["rounds"]]
            for peer in line["peers"]
        }
        for outcome in row.outcomes:
            if not outcome.peer.ours:
                continue
            change = _change(row, outcome.peer, earlier)
            if change is not None:
                yield change


def _change(row: Row, peer: peers.Peer, earlier: dict[str, list[float]]) -> Change | None:
    reference = row.outcome(peers.REFERENCE)
    mine = row.outcome(peer.name)
    if reference is None or mine is None:
        return None
    after = intervals.drawn_ratios(mine.values(row.figure), reference.values(row.figure))
    before = intervals.drawn_ratios(earlier.get(peer.name, []), earlier.get(peers.REFERENCE, []))
    if after is None or before is None:
        return None
    quotients = [new / old for new, old in zip(after, before, strict=True)]
    return Change(
        row.title,
        peer.title,
        statistics.median(before),
        statistics.median(after),
        intervals.middle(quotients),
    )
