"""The tables (rich): one per row of the benchmark, with ratios to uvloop and to the C limit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.table import Table

from zerio_asyncio.bench import peers, workloads
from zerio_asyncio.bench.latencies import PERCENTILES, merged

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from zerio_asyncio.bench.results import Outcome, Row

BUSY = 0.95
"""From this share of a core on, its process is the bottleneck."""

DISTURBED = 0.8
"""If neither side had more than this share of its core, somebody else had the rest."""

NONE = "–"
RATIOS = (f"÷ {peers.REFERENCE}", "95 %", "÷ C")
"""The ratio to the reference, its interval, and the ratio to the limit."""
CPU_CAPTION = (
    "CPU µs: server's CPU time per request; p50, p99: latency, µs; busy: server, generator"
)
MESSAGES_CAPTION = (
    "CPU ns: server's CPU time per message; blocks, GC: Python's memory blocks more than before,"
    "\nand collections, per million messages; busy: server, generator; others frame in a Protocol"
)
ROUND_TRIP_CAPTION = (
    "round trips, µs, all rounds together, ratios of their medians; others frame in a Protocol"
)
HANDSHAKE_CAPTION = (
    "CPU µs: server's CPU time per connection; p50, p99: µs from the first packet to the echo of"
    "\none message; busy: server, generator"
)
LATENCY_CAPTION = (
    "p50, p99: latency, µs; CPU µs: server's CPU time per request; busy: server, generator"
)


def _number(value: float | None, digits: int = 1) -> str:
    if value is None:
        return NONE
    return f"{value:,.0f}" if value >= 1000 else f"{value:.{digits}f}"


def _times(value: float | None) -> str:
    return NONE if value is None else f"{value:.2f}×"


def _percent(value: float | None) -> str:
    return NONE if value is None else f"{value:.0%}"


def _name(row: Row, outcome: Outcome) -> str:
    """Title and version; with the server's real mode if it differs from the row's."""
    name = outcome.peer.label
    if outcome.provider and outcome.provider not in outcome.peer.title:
        name += f" ({outcome.provider})"
    if row.mode == workloads.THREADS and outcome.ran:
        name += f" ({outcome.ran})"
    if row.mode == "registered" and outcome.ran == "protocol":
        name += " (Protocol)"
    return name


def _ratios(row: Row, outcome: Outcome) -> tuple[str, str, str]:
    interval = row.interval(outcome, peers.REFERENCE)
    if outcome.peer.name == peers.REFERENCE or interval is None:
        sure = NONE
    else:
        sure = f"{interval[0]:.2f}–{interval[1]:.2f}"
    return (
        _times(row.ratio(outcome, peers.REFERENCE)),
        sure,
        _times(row.ratio(outcome, row.limit(outcome))),
    )


def _table(title: str, first: str, *headings: str) -> Table:
    """Make an empty table: names left-aligned, numbers right-aligned, no line broken."""
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.caption_justify = "left"
    table.add_column(first, no_wrap=True)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def load_table(row: Row) -> Table:
    """Show one echo row; the figure used for comparison comes first."""
    by_latency = row.figure == "p50_us"
    first, second = ("p50", "CPU µs") if by_latency else ("CPU µs", "p50")
    rate = "conn/s" if row.mode == workloads.HANDSHAKE else "req/s"
    headings = (first, *RATIOS, rate, second, "p99", "busy")
    table = _table(row.title, "server", *headings)
    table.caption = LATENCY_CAPTION if by_latency else CPU_CAPTION
    if row.mode == workloads.HANDSHAKE:
        table.caption = HANDSHAKE_CAPTION
    other = "cpu_us" if by_latency else "p50_us"
    for outcome in row.outcomes:
        if not outcome.samples:
            table.add_row(_name(row, outcome), *[NONE] * len(headings))
            continue
        table.add_row(
            _name(row, outcome),
            _number(outcome.median(row.figure), 2),
            *_ratios(row, outcome),
            _number(outcome.median("requests_s")),
            _number(outcome.median(other)),
            _number(outcome.median("p99_us")),
            _busy(outcome),
            style="bold" if outcome.peer.ours else "",
        )
    return table


def _busy(outcome: Outcome) -> str:
    return f"{_percent(outcome.median('server_busy'))} {_percent(outcome.median('load_busy'))}"


def messages_table(row: Row) -> Table:
    """Show messages one way."""
    headings = ("CPU ns", *RATIOS, "messages/s", "blocks", "GC", "busy")
    table = _table(row.title, "server", *headings)
    table.caption = MESSAGES_CAPTION
    for outcome in row.outcomes:
        if not outcome.samples:
            table.add_row(_name(row, outcome), *[NONE] * len(headings))
            continue
        table.add_row(
            _name(row, outcome),
            _number(outcome.median(row.figure)),
            *_ratios(row, outcome),
            _number(outcome.median("messages_s")),
            _number(outcome.median("blocks_per_million"), 2),
            _number(outcome.median("collections_per_million"), 2),
            _busy(outcome),
            style="bold" if outcome.peer.ours else "",
        )
    return table


def round_trip_table(row: Row) -> Table:
    """Show messages there and back; ratios are of the rounds' medians."""
    percentiles = {name: at for name, at in PERCENTILES.items() if name != "max"}
    headings = (*RATIOS, *(f"p{at:g}" for at in percentiles.values()), "max")
    table = _table(row.title, "server", *headings)
    table.caption = ROUND_TRIP_CAPTION
    for outcome in row.outcomes:
        if not outcome.samples:
            table.add_row(_name(row, outcome), *[NONE] * len(headings))
            continue
        histogram = merged(outcome.histograms)
        values = [histogram.get_value_at_percentile(at) / 1000 for at in PERCENTILES.values()]
        table.add_row(
            _name(row, outcome),
            *_ratios(row, outcome),
            *(_number(value) for value in values),
            style="bold" if outcome.peer.ours else "",
        )
    return table


def idle_table(row: Row) -> Table:
    """Show the memory of idle connections."""
    table = _table(row.title, "server", "opened", "after a message", *RATIOS, "after closing")
    for outcome in row.outcomes:
        table.add_row(
            _name(row, outcome),
            _number(outcome.median("idle_bytes"), 0),
            _number(outcome.median("warm_bytes"), 0),
            *_ratios(row, outcome),
            _number(outcome.median("closed_bytes"), 0),
            style="bold" if outcome.peer.ours else "",
        )
    table.caption = "resident bytes of the server per connection"
    return table


def scheduler_table(rows: list[Row]) -> Table:
    """Show the operations of a suite, a line per loop, ratios to uvloop in brackets."""
    title = f"{rows[0].mode}, CPU ns per operation"
    table = _table(title, "loop", *[row.title for row in rows])
    for place, outcome in enumerate(rows[0].outcomes):
        cells = []
        for row in rows:
            mine = row.outcomes[place]
            ratio = _times(row.ratio(mine, peers.REFERENCE))
            cells.append(f"{_number(mine.median('ns'), 0)}  ({ratio})")
        style = "bold" if outcome.peer.ours else ""
        table.add_row(_name(rows[0], outcome), *cells, style=style)
    table.caption = f"in brackets: times {peers.REFERENCE}"
    return table


def notes(rows: list[Row], refused: list[peers.Peer]) -> Iterator[str]:
    """Report what a reader must know: who failed, who is missing, where the load was too weak."""
    for peer in refused:
        yield f"{peer.title} cannot run here: {peer.refusal}"
    yield from _more_loops(rows)
    for row in rows:
        for outcome in row.outcomes:
            if outcome.error is not None:
                yield f"{row.title}: {outcome.peer.title} failed: {outcome.error}"
        repeated = sum(outcome.repeated for outcome in row.outcomes)
        if repeated:
            yield f"{row.title}: {repeated} measurements repeated, as the CPUs were moved apart"
        apart = ", ".join(o.peer.title for o in row.outcomes if o.apart)
        if apart:
            yield f"{row.title}: the CPUs stayed apart, so times are up to doubled ({apart})"
        if row.mode in workloads.LATENCY_MODES:
            continue  # both sides wait for each other, and the generator polls
        starved = ", ".join(o.peer.title for o in row.outcomes if _starved(o))
        if starved:
            yield f"{row.title}: the generator was the bottleneck of {starved}"
        disturbed = ", ".join(o.peer.title for o in row.outcomes if _disturbed(o))
        if disturbed:
            yield f"{row.title}: other work held the cores; try again ({disturbed})"


def _more_loops(rows: list[Row]) -> Iterator[str]:
    """Compare what a request costs on several loops with its cost on one loop alone."""
    rows = [row for row in rows if row.mode == workloads.THREADS]
    for row in rows[1:]:
        if row.settings.get("beside_load"):
            yield f"{row.title}: a loop shared the generator's CPU; this machine has too few"
        for outcome in row.outcomes:
            alone = rows[0].outcome(outcome.peer.name)
            before = alone.median(row.figure) if alone is not None else None
            now = outcome.median(row.figure)
            if now is not None and before:
                yield f"{row.title}: {_name(row, outcome)} {_times(now / before)} one loop alone"


def _starved(outcome: Outcome) -> bool:
    server, load = outcome.median("server_busy"), outcome.median("load_busy")
    return server is not None and load is not None and server < BUSY <= load


def _disturbed(outcome: Outcome) -> bool:
    """In a closed loop one side is always busy, unless it is kept from its core."""
    server, load = outcome.median("server_busy"), outcome.median("load_busy")
    return server is not None and load is not None and max(server, load) < DISTURBED


_TABLES = {
    workloads.IDLE: idle_table,
    workloads.TLS_IDLE: idle_table,
    workloads.ONE_WAY: messages_table,
    workloads.ROUND_TRIP: round_trip_table,
}


def show(console: Console, rows: list[Row], refused: list[peers.Peer]) -> None:
    """Print everything."""
    for row in rows:
        if row.mode not in workloads.SCHEDULERS:
            console.print(_TABLES.get(row.mode, load_table)(row))
    for suite in workloads.SCHEDULERS:
        operations = [row for row in rows if row.mode == suite]
        if operations:
            console.print(scheduler_table(operations))
    for note in notes(rows, refused):
        console.print(f"note: {note}", style="yellow", markup=False)
    console.print(summary(rows), markup=False)


def summary(rows: list[Row]) -> str:
    """Summarise in a sentence, with the measured figures; many rows get a line each."""
    parts = [part for row in rows if (part := _sentence(row)) is not None]
    if not parts:
        return "Nothing to compare: no loop of ours was measured."
    return ("; " if len(parts) <= 2 else ";\n").join(parts) + "."


_WORDS = {
    "cpu_us": "µs CPU per request",
    "p50_us": "µs median latency",
    "message_ns": "ns CPU per message",
    "ns": "ns",
    "warm_bytes": "bytes per connection",
}


def _sentence(row: Row) -> str | None:
    ours = [o for o in row.outcomes if o.peer.ours and o.samples and not o.peer.spins]
    if not ours:
        return None
    best = min(ours, key=lambda outcome: outcome.median(row.figure) or 0.0)
    digits = {"cpu_us": 2, "p50_us": 2, "message_ns": 1}.get(row.figure, 0)
    value = _number(best.median(row.figure), digits)
    words = _WORDS[row.figure]
    if row.mode == workloads.HANDSHAKE:
        words = "µs CPU per connection"
    text = f"{row.title}: {_name(row, best)} {value} {words}"
    compared = []
    for name in ("asyncio", peers.REFERENCE, row.limit(best)):
        ratio, other = row.ratio(best, name), row.outcome(name)
        if ratio is not None and other is not None:
            value = _number(other.median(row.figure), digits)
            compared.append(f"{_times(ratio)} {other.peer.label} ({value})")
    return f"{text}, {', '.join(compared)}" if compared else text
