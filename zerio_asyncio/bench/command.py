"""The command line of the benchmark: ``python -m zerio_asyncio bench``."""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zerio_asyncio.bench.results import Row
    from zerio_asyncio.bench.runner import Plan

EXTRA = "install what the benchmark needs: pip install 'zerio-asyncio[bench]'"

DESCRIPTION = """\
Runs echo servers on every event loop and loads each with the same native generator; server and
generator have a core each. Shows the server's CPU time per request (the figure that counts),
requests per second, and latencies. A server in C shows what the kernel alone costs."""

FILE_WIDTH = 150
"""Columns if the output is not a terminal, so no table breaks."""

_QUICK = {"rounds": 2, "warmup_s": 0.3, "measure_s": 0.8}
"""Two rows, four peers, two rounds of 1.1 s and two starts of Python: under half a minute."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options; imports nothing heavy."""
    parser.description = DESCRIPTION
    parser.add_argument(
        "--quick", action="store_true", help="run two rows in under 30 s, for a first impression"
    )
    parser.add_argument(
        "--mode",
        action="append",
        metavar="MODE",
        help="protocol, buffered, registered, streams, sock, datagram, churn, pingpong,"
        " messaging, messaging-latency, scheduler, scheduler-large, http, uvicorn, aiohttp, tls,"
        " handshake, https, idle, tls-idle, threads; may be repeated (default: all but idle,"
        " tls-idle and threads)",
    )
    parser.add_argument(
        "--peer",
        action="append",
        metavar="PEER",
        help="a loop or a server in C, such as asyncio, uvloop, uvloop-aiofastnet, winloop, zerio,"
        " zerio-epoll, zerio-winsock, zerio-spin, c-epoll, c-iocp; --list has them all; may be"
        " repeated",
    )
    parser.add_argument("--rounds", type=int, help="rounds in which all peers take turns (5)")
    parser.add_argument(
        "--until-sure",
        type=float,
        dest="sure",
        metavar="WIDTH",
        help="add rounds, up to 30, until the 95 %% intervals of our ratios to"
        " uvloop (winloop) are no wider than this, such as 0.05",
    )
    parser.add_argument("--seconds", type=float, help="length of the measured window (1.5)")
    parser.add_argument("--warmup", type=float, help="uncounted seconds before the window (0.5)")
    parser.add_argument("--connections", type=int, help="instead of the rows' own numbers")
    parser.add_argument("--size", type=int, help="bytes of a message, instead of the rows' own")
    parser.add_argument("--depth", type=int, help="requests in flight on each connection (1)")
    parser.add_argument("--burst", type=int, help="messaging-latency: messages sent together")
    parser.add_argument(
        "--delay",
        type=int,
        dest="delay_us",
        metavar="MICROSECONDS",
        help="messaging-latency: from one burst to the next; 0 waits until all are back",
    )
    parser.add_argument(
        "--load-wait",
        choices=("spin", "block"),
        help="messaging-latency: whether the clients poll (default) or sleep",
    )
    parser.add_argument("--server-core", type=int, help="CPU of the servers (the first one)")
    parser.add_argument("--load-core", type=int, help="CPU of the generator (the second one)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures")
    parser.add_argument(
        "--compare",
        type=Path,
        metavar="FILE",
        help="say what got better or worse since the run that wrote this by --json",
    )
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw (.png, .svg, .pdf)")
    parser.add_argument(
        "--hgrm",
        type=Path,
        metavar="FOLDER",
        help="write latency percentiles, a file each",
    )
    parser.add_argument("--list", action="store_true", help="list the peers and exit")


def run(options: argparse.Namespace) -> int:
    """Carry out the options; return the exit status."""
    try:
        return _run(options)
    except ImportError as error:
        missing = error.name or ""
        if missing == "zerio_asyncio.bench._native":
            message = "the benchmark needs its compiled part, which wheels contain"
        elif missing.partition(".")[0] in ("rich", "hdrh", "matplotlib"):
            message = f"{missing.partition('.')[0]} is missing: {EXTRA}"
        else:
            raise
    except ValueError as error:
        message = str(error)
    print(f"bench: {message}", file=sys.stderr)
    return 2


def _run(options: argparse.Namespace) -> int:
    _check_extras(options)
    from zerio_asyncio.bench import compare, latencies, peers, results  # noqa: PLC0415 - compiled

    earlier = None if options.compare is None else compare.read(options.compare)
    plan, refused = _plan(options)
    if options.list:
        for peer in map(peers.find, peers.NAMES):
            print(f"{peer.name:14} {peer.label:24} {peer.refusal or 'ready'}")
        return 0
    if not plan.steps:
        reasons = "; ".join(f"{peer.title}: {peer.refusal}" for peer in refused)
        raise ValueError(f"nothing to run{': ' + reasons if reasons else ''}")
    rows = _show(plan, refused)
    if earlier is not None:
        found = list(compare.changes(earlier, rows))
        print(*found, sep="\n") if found else print("compare: no row of ours is in both runs")
    if options.json is not None:
        settings = dataclasses.asdict(plan.settings)
        text = json.dumps(results.document(rows, refused, settings), indent=1)
        options.json.write_text(text + "\n", encoding="utf-8")
    if options.hgrm is not None:
        latencies.write_files(rows, options.hgrm)
    if options.plot is not None:
        from zerio_asyncio.bench.plot import draw  # noqa: PLC0415 - matplotlib is an extra

        draw(rows, options.plot)
    return int(any(outcome.error for row in rows for outcome in row.outcomes))


def _check_extras(options: argparse.Namespace) -> None:
    """Import what will be needed now, not after minutes of measuring."""
    import hdrh.histogram  # noqa: F401, PLC0415
    import rich  # noqa: F401, PLC0415

    if options.plot is not None:
        import matplotlib as mpl  # noqa: PLC0415

        mpl.use("Agg")
    for path in (options.json, options.plot, options.hgrm):
        if path is not None and not path.absolute().parent.is_dir():
            raise ValueError(f"there is no folder {path.absolute().parent}")


def _check_names(modes: tuple[str, ...], names: tuple[str, ...]) -> None:
    """ValueError for what there is not, or not on this system."""
    from zerio_asyncio.bench import peers, system, workloads  # noqa: PLC0415

    for mode in modes:
        if mode not in workloads.MODES:
            raise ValueError(f"no mode {mode!r}; there are {', '.join(workloads.MODES)}")
    if workloads.CHURN in modes and not system.DIALS_AGAIN:
        raise ValueError("the mode churn has no generator on this system")
    if workloads.THREADS in modes and not system.SHARES_PORTS:
        raise ValueError("the mode threads needs SO_REUSEPORT, which this system lacks")
    for mode in modes:
        refusal = _refusal(mode)
        if refusal is not None:
            raise ValueError(f"the mode {mode} cannot run here: {refusal}")
    for name in names:
        if name not in peers.NAMES:
            raise ValueError(f"no peer {name!r}; there are {', '.join(peers.NAMES)}")


def _refusal(mode: str) -> str | None:
    """Why a mode cannot run here, if it is one of TLS or of HTTP."""
    from zerio_asyncio.bench import pages, tls, workloads  # noqa: PLC0415

    refusal = tls.refusal() if mode in workloads.TLS_MODES else None
    if refusal is None and mode in pages.MODES:
        refusal = pages.refusal(mode)
    return refusal


def _default_modes() -> tuple[tuple[str, ...], list[Any]]:
    """What runs if no mode is named; with what would and cannot, as peers that are refused."""
    from zerio_asyncio.bench import peers, workloads  # noqa: PLC0415

    reasons = {mode: _refusal(mode) for mode in workloads.DEFAULT_MODES}
    modes = tuple(mode for mode, reason in reasons.items() if reason is None)
    refused = [
        peers.Peer(mode, f"the mode {mode}", refusal=reason)
        for mode, reason in reasons.items()
        if reason is not None
    ]
    return modes, refused


def _plan(options: argparse.Namespace) -> tuple[Plan, list[Any]]:
    from zerio_asyncio.bench import peers, workloads  # noqa: PLC0415
    from zerio_asyncio.bench.runner import Plan  # noqa: PLC0415

    modes = tuple(dict.fromkeys(options.mode or ()))
    without: list[Any] = []
    if not modes and options.quick:
        modes = ("protocol", "pingpong")
    elif not modes:
        modes, without = _default_modes()
    names = tuple(options.peer or ())
    _check_names(modes, names)
    if not names:
        names = workloads.QUICK_PEERS if options.quick else workloads.DEFAULT_PEERS
        if workloads.ROUND_TRIP in modes and not options.quick:
            names += workloads.WAITING_PEERS
        elif workloads.PINGPONG in modes and not options.quick:
            names += workloads.SPINNING_PEERS
    ready, refused = peers.usable(names)
    given = dict(vars(options))
    if options.load_wait is not None:
        given["load_spins"] = options.load_wait == "spin"
    rows = workloads.choose(modes, given)
    if options.quick and options.mode is None:
        rows = [row for row in rows if row in workloads.QUICK]
    settings = _settings(options)
    for row in rows:
        settings.check(row)
    suites = tuple(mode for mode in modes if mode in workloads.SCHEDULERS)
    scheduler = workloads.schedulers(ready) if suites else []
    with_peers = [(row, workloads.peers_for(row, ready)) for row in rows]
    return Plan(with_peers, scheduler, settings, suites), refused + without


def _settings(options: argparse.Namespace) -> Any:
    from zerio_asyncio.bench.settings import Settings  # noqa: PLC0415
    from zerio_asyncio.bench.system import cores  # noqa: PLC0415

    mine = cores()
    given = {
        "rounds": options.rounds,
        "sure": options.sure,
        "measure_s": options.seconds,
        "warmup_s": options.warmup,
        "server_core": options.server_core,
        "load_core": options.load_core,
    }
    chosen: dict[str, Any] = {"server_core": mine[0], "load_core": mine[-1 if len(mine) < 2 else 1]}
    if options.quick:
        chosen |= _QUICK
    chosen |= {name: value for name, value in given.items() if value is not None}
    settings = Settings(**chosen)
    if settings.rounds < 1 or settings.measure_s <= 0 or settings.warmup_s < 0:
        raise ValueError("--rounds and --seconds must be positive, --warmup not negative")
    if settings.sure is not None and settings.sure <= 0:
        raise ValueError("--until-sure must be positive")
    for core in (settings.server_core, settings.load_core):
        if core not in mine:
            raise ValueError(f"CPU {core} is not among those of this process: {mine}")
    return settings


def _show(plan: Plan, refused: list[Any]) -> list[Row]:
    """Measure behind a progress bar, then print the tables."""
    from rich.console import Console  # noqa: PLC0415 - an extra
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    from zerio_asyncio.bench import report  # noqa: PLC0415
    from zerio_asyncio.bench.system import pin  # noqa: PLC0415

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # µ and × are not in every code page
    console = Console()
    if not console.is_terminal:
        console.width = FILE_WIDTH
    settings = plan.settings
    if settings.server_core == settings.load_core:
        console.print("note: one CPU for both sides, latencies mean little", style="yellow")
    pin(settings.load_core)  # the progress bar must not run on the server's core
    columns = (BarColumn(), TextColumn("{task.completed}/{task.total}"), TimeElapsedColumn())
    about = f"about {plan.seconds:.0f} s"
    # Twice a second: a livelier bar would disturb the measurement.
    with Progress(
        *columns, TextColumn("{task.description}"), console=console, refresh_per_second=2
    ) as bar:
        task = bar.add_task(about, total=plan.steps)
        started = 0

        def progress(step: str) -> None:
            nonlocal started
            total = max(plan.steps, started + 1)  # more if rounds are added
            bar.update(task, completed=started, total=total, description=step)
            started += 1

        rows = plan.run(progress)
        bar.update(task, completed=started, total=started, description="done")
    report.show(console, rows, refused)
    return rows


def main(arguments: list[str] | None = None) -> int:
    """Run from ``python -m zerio_asyncio.bench``."""
    parser = argparse.ArgumentParser(prog="python -m zerio_asyncio.bench")
    add_arguments(parser)
    return run(parser.parse_args(arguments))
