"""The picture (matplotlib): a panel per row, a bar per peer, whiskers for the spread of rounds.

Round trips of messages are curves instead: latency over percentile, as HdrHistogram draws them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib as mpl
import matplotlib.pyplot as plt

from zerio_asyncio.bench import workloads
from zerio_asyncio.bench.latencies import TICKS, merged

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

    from zerio_asyncio.bench.results import Row

mpl.use("Agg")  # draws into files: no display is needed

UNITS = {
    "cpu_us": "server CPU, µs per request",
    "p50_us": "median latency, µs",
    "message_ns": "server CPU, ns per message",
    "ns": "CPU, ns per operation",
    "warm_bytes": "resident bytes per connection",
}
COLUMNS = 2
OURS, OTHERS, NATIVE = "#0b6e4f", "#9aa5b1", "#3d4852"


def draw(rows: list[Row], path: Path) -> None:
    """Write the picture; the file's suffix (.png, .svg, .pdf) selects the format."""
    drawn = [row for row in rows if any(outcome.samples for outcome in row.outcomes)]
    if not drawn:
        raise ValueError("nothing was measured: there is nothing to draw")
    lines = -(-len(drawn) // COLUMNS)
    columns = min(COLUMNS, len(drawn))
    figure, axes = plt.subplots(lines, columns, figsize=(7 * columns, 3 * lines), squeeze=False)
    for axis in axes.flat[len(drawn) :]:
        axis.set_visible(False)
    for axis, row in zip(axes.flat, drawn, strict=False):
        (_curves if row.mode == workloads.ROUND_TRIP else _panel)(axis, row)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _panel(axis: Axes, row: Row) -> None:
    outcomes = [outcome for outcome in row.outcomes if outcome.samples][::-1]
    values = [outcome.median(row.figure) or 0.0 for outcome in outcomes]
    spreads = [outcome.spread(row.figure) or (0.0, 0.0) for outcome in outcomes]
    low = [max(0.0, value - spread[0]) for value, spread in zip(values, spreads, strict=True)]
    high = [max(0.0, spread[1] - value) for value, spread in zip(values, spreads, strict=True)]
    peers = [outcome.peer for outcome in outcomes]
    colours = [OURS if p.ours else NATIVE if p.native else OTHERS for p in peers]
    bars = axis.barh([p.label for p in peers], values, xerr=[low, high], color=colours, capsize=3)
    axis.bar_label(bars, fmt="%.1f" if max(values) < 1000 else "%.0f", padding=8)
    axis.margins(x=0.15)
    axis.set_title(row.title, loc="left")
    axis.set_xlabel(UNITS[row.figure])
    axis.spines[["top", "right"]].set_visible(False)


def _curves(axis: Axes, row: Row) -> None:
    """Latency goes up, the share of slower messages to the right, both in powers of ten."""
    ends: list[float] = []
    for outcome in row.outcomes:
        if not outcome.histograms:
            continue
        # The iterator yields the same object again and again: its values are taken at once.
        steps = [
            (1 / (1 - step.percentile_level_iterated_to / 100), step.value_iterated_to / 1000)
            for step in merged(outcome.histograms).get_percentile_iterator(TICKS)
            if step.percentile_level_iterated_to < 100
        ]
        ends.append(steps[-1][0])
        axis.plot(*zip(*steps, strict=True), label=outcome.peer.label)
    nines = [10.0**power for power in range(len(str(int(max(ends, default=1.0)))))]
    axis.set(xscale="log", yscale="log", xlabel="percentile", ylabel="round trip, µs")
    axis.set_xticks(nines, [f"{100 - 100 / nine:.10g} %" for nine in nines])
    axis.minorticks_off()
    axis.set_title(row.title, loc="left")
    axis.grid(alpha=0.3)
    axis.legend(fontsize="small", loc="upper left")  # curves rise to the right
