"""From the native half's counts to HdrHistogram: percentiles, its text form, its files."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

from zerio_asyncio.bench._native import ffi, lib

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from zerio_asyncio.bench.results import Outcome, Row

LATENCY_NS_MAX = 1 << 36
"""Highest latency that is distinguished, in ns: the C histogram's own limit (native.h)."""

PERCENTILES = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p999": 99.9, "p9999": 99.99, "max": 100.0}

TICKS = 5
"""Lines in a file per halving of the distance to 100 %: HdrHistogram's own default."""


def _empty() -> Any:
    from hdrh.histogram import HdrHistogram  # noqa: PLC0415 - an extra, needed only here

    return HdrHistogram(1, LATENCY_NS_MAX, 3, b64_wrap=True)


def histogram_of(counts: Any) -> Any:
    """Make a histogram of LOAD_COUNTS counts."""
    histogram = _empty()
    for index, count in enumerate(ffi.unpack(counts, lib.LOAD_COUNTS)):
        if count:
            histogram.record_value(max(1, lib.load_value_ns(index)), count)
    return histogram


def figures_of(result: Any, counts: Any) -> dict[str, Any]:
    """Put the totals and latencies of a run into the object that becomes one JSON line."""
    histogram = histogram_of(counts)
    microseconds = {
        name: histogram.get_value_at_percentile(percentile) / 1000
        for name, percentile in PERCENTILES.items()
    }
    return {
        "requests": result.requests,
        "requests_all": result.requests_all,
        "wall_s": result.wall_ns / 1e9,
        "load_cpu_s": result.load_cpu_ns / 1e9,
        "server_cpu_s": result.server_cpu_ns / 1e9,
        "server_user_s": result.server_user_ns / 1e9,
        "server_system_s": result.server_system_ns / 1e9,
        "latency_us": microseconds,
        "hdr": histogram.encode().decode("ascii"),
    }


def merged(texts: Iterable[str]) -> Any:
    """Add up encoded histograms, such as those of all rounds."""
    histogram = _empty()
    for text in texts:
        histogram.decode_and_add(text)
    return histogram


def percentile_lines(histogram: Any) -> str:
    """The usual percentile distribution (``.hgrm``), in µs."""
    file = io.BytesIO()
    histogram.output_percentile_distribution(file, 1000, TICKS)
    text = file.getvalue().decode("ascii")
    # The library leaves only this value in the unit of the counts.
    deviation = f"{histogram.get_stddev() / 1000:12.3f}"
    return re.sub(r"(StdDeviation   = ) *[\d.]+", rf"\g<1>{deviation}", text)


def file_name(row: Row, outcome: Outcome) -> str:
    """Name a row's and peer's file with letters, digits, dots and hyphens only."""
    return re.sub(r"[^\w.]+", "-", f"{row.title}-{outcome.peer.name}".replace("µ", "u")) + ".hgrm"


def write_files(rows: list[Row], folder: Path) -> list[Path]:
    """Write a ``.hgrm`` for each row and peer that has latencies, all rounds together."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for row in rows:
        for outcome in row.outcomes:
            if outcome.histograms:
                path = folder / file_name(row, outcome)
                path.write_text(percentile_lines(merged(outcome.histograms)), encoding="ascii")
                written.append(path)
    return written
