"""Runs the rows: in every round all peers, one after another, each in fresh pinned processes.

All peers run in every round, because a machine drifts (heat, neighbours): what disturbs a round
disturbs all peers. The order rotates from round to round, so no peer always follows the same one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import time
from typing import TYPE_CHECKING, Any

from zerio_asyncio.bench import memory, processes, tls, workloads
from zerio_asyncio.bench.distance import Cpus
from zerio_asyncio.bench.results import BenchError, Outcome, Row, Sample
from zerio_asyncio.bench.settings import ROUNDS_MAX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from zerio_asyncio.bench.peers import Peer
    from zerio_asyncio.bench.settings import Settings
    from zerio_asyncio.bench.workloads import Workload

TRIES = 5
"""How often a measurement is tried at most if the CPUs were apart before or after it."""

PATIENCE = 2.0
"""After this multiple of a run's estimated length, nothing is waited for or repeated any more."""

STARTS_S = 0.6
"""Two interpreters start for every measurement (to estimate its time)."""
SCHEDULER_S = {workloads.SCHEDULER: 4.0, workloads.SCHEDULER_LARGE: 6.0}
IDLE_S = 10.0


@dataclasses.dataclass(frozen=True)
class Plan:
    """What to run: the rows with their peers, and how often."""

    rows: list[tuple[Workload, list[Peer]]]
    scheduler: list[Peer]
    settings: Settings
    suites: tuple[str, ...] = (workloads.SCHEDULER,)

    @functools.cached_property
    def _cpus(self) -> Cpus:
        return Cpus(self.settings.server_core, self.settings.load_core)

    @functools.cached_property
    def _end_of_patience(self) -> float:
        return time.monotonic() + PATIENCE * self.seconds

    @property
    def steps(self) -> int:
        """Number of measurements."""
        count = sum(len(peers) * self._rounds(workload) for workload, peers in self.rows)
        return count + len(self.suites) * len(self.scheduler) * self.settings.rounds

    @property
    def seconds(self) -> float:
        """About how long it will take."""
        settings = self.settings
        each = settings.warmup_s + settings.measure_s + STARTS_S
        total = 0.0
        for workload, peers in self.rows:
            step = IDLE_S if workload.idle else each
            total += step * len(peers) * self._rounds(workload)
        suites_s = sum(SCHEDULER_S[suite] for suite in self.suites)
        return total + suites_s * len(self.scheduler) * settings.rounds

    def _rounds(self, workload: Workload) -> int:
        # Memory hardly varies; more rounds would only take time.
        return min(self.settings.rounds, 1 if workload.idle else 1 << 30)

    def run(self, progress: Callable[[str], None]) -> list[Row]:
        """Measure everything; before each step, ``progress`` is called with its description."""
        with contextlib.ExitStack() as kept:
            certificate: Path | None = None
            if any(workload.tls for workload, _ in self.rows):
                certificate = kept.enter_context(tls.certificate())
            rows = [
                self._run_row(workload, peers, progress, certificate)
                for workload, peers in self.rows
            ]
        for suite in self.suites if self.scheduler else ():
            rows += self._run_scheduler(suite, progress)
        return rows

    def _run_row(
        self,
        workload: Workload,
        peers: list[Peer],
        progress: Callable[[str], None],
        certificate: Path | None,
    ) -> Row:
        outcomes = [Outcome(peer) for peer in peers]
        row = Row(workload.title, workload.mode, workload.figure, outcomes, workload.settings)
        for turn in self._turns(self._rounds(workload), lambda: [row]):
            for outcome in _rotated(outcomes, turn):
                progress(f"{workload.title}: {outcome.peer.title}")
                if outcome.error is None:
                    self._measure(workload, outcome, certificate if workload.tls else None)
        if workload.mode == workloads.THREADS:
            taken = self.settings.cores_of(workload.loops)
            row.settings["beside_load"] = int(self.settings.load_core in taken)
        return row

    def _turns(self, rounds: int, rows: Callable[[], list[Row]]) -> Iterator[int]:
        """Number the rounds that were asked for, and those until the rows are sure."""
        yield from range(rounds)
        width = self.settings.sure
        if width is None or rounds < self.settings.rounds:
            return
        for turn in range(rounds, ROUNDS_MAX):
            if all(row.is_sure(width) for row in rows()):
                return
            yield turn

    def _measure(self, workload: Workload, outcome: Outcome, certificate: Path | None) -> None:
        try:
            if workload.idle:
                name = outcome.peer.name
                at, sample = memory.measure(name, workload, self.settings, certificate)
            else:
                at, sample, histogram = self._load_near(workload, outcome, certificate)
                sample |= {"distance_ns": self._cpus.last_ns}
                outcome.histograms += histogram
        except BenchError as error:
            outcome.error = str(error)
            return
        outcome.ran, outcome.provider = at.ran, at.provider
        outcome.samples.append(sample)

    def _load_near(
        self, workload: Workload, outcome: Outcome, certificate: Path | None
    ) -> tuple[processes.Address, Sample, list[str]]:
        """Load with the CPUs near each other or, if that is not possible, as they are."""
        load = self._send if workload.mode == workloads.ONE_WAY else self._load
        for left in reversed(range(TRIES)):
            patient = time.monotonic() < self._end_of_patience
            near = self._cpus.wait() if patient else self._cpus.are_near()
            found = load(workload, outcome.peer.name, certificate)
            if self._cpus.are_near() and near:
                break
            if not left or not patient:
                outcome.apart += 1
                break
            outcome.repeated += 1
        return found

    def _load(
        self, workload: Workload, peer: str, certificate: Path | None
    ) -> tuple[processes.Address, Sample, list[str]]:
        """Exchange requests and answers; with their histogram."""
        settings = self.settings
        connections, size = workload.connections, workload.size
        run, own = _generator(workload)
        with self._server(workload, peer, certificate) as at:
            figures = run(
                at,
                settings.load_core,
                connections=connections,
                size=size,
                warmup_s=settings.warmup_s,
                measure_s=settings.measure_s,
                **own,
            )
        return at, sample_of(figures), [figures["hdr"]]

    def _server(
        self, workload: Workload, peer: str, certificate: Path | None
    ) -> contextlib.AbstractContextManager[processes.Address]:
        settings, connections = self.settings, workload.connections
        if workload.mode == workloads.THREADS:
            cores = settings.cores_of(workload.loops)
            return processes.server_of_threads(peer, cores, connections, workload.loops)
        core = settings.server_core
        size = workload.size
        return processes.server(peer, workload.server, core, connections, size, certificate)

    def _send(
        self, workload: Workload, peer: str, _: Path | None
    ) -> tuple[processes.Address, Sample, list[str]]:
        """Send without a pause; there are no answers, so no latencies."""
        settings = self.settings
        core, connections, size = settings.server_core, workload.connections, workload.size
        with processes.serving(peer, workload.server, core, connections, size) as (server, at):
            first, last, load_s = processes.run_one_way(
                server,
                at,
                settings.load_core,
                settings.warmup_s,
                settings.measure_s,
                connections=connections,
                size=size,
            )
        return at, sample_of_messages(first, last, load_s), []

    def _run_scheduler(self, suite: str, progress: Callable[[str], None]) -> list[Row]:
        settings = self.settings
        by_operation: dict[str, list[Outcome]] = {}
        order = {peer.name: place for place, peer in enumerate(self.scheduler)}

        def rows() -> list[Row]:
            return [
                Row(name, suite, "ns", sorted(found, key=lambda o: order[o.peer.name]))
                for name, found in by_operation.items()
            ]

        for turn in self._turns(settings.rounds, rows):
            for peer in _rotated(self.scheduler, turn):
                progress(f"{suite}: {peer.title}")
                times: dict[str, float] = {}
                failure: str | None = None
                try:
                    times = processes.run_scheduler(
                        peer.name,
                        settings.server_core,
                        settings.scheduler_count,
                        settings.scheduler_repeats,
                        suite,
                    )
                except BenchError as error:
                    failure = str(error)
                _file(by_operation, suite, peer, times, failure)
        return rows()


def _generator(workload: Workload) -> tuple[Callable[..., dict[str, Any]], dict[str, Any]]:
    """Which one loads a row's servers, and the settings that only it knows."""
    if workload.mode == workloads.HANDSHAKE:
        return processes.run_handshakes, {"resumed": workload.resumed}
    if workload.mode == workloads.ROUND_TRIP:
        bursts = {"burst": workload.burst, "delay_us": workload.delay_us}
        return processes.run_courier, {"spin": workload.spin, **bursts}
    return processes.run_load, {
        "spin": workload.spin,
        "depth": workload.depth,
        "datagrams": workload.datagrams,
        "tls": workload.tls,
        "anew": workload.anew,
        "page": workload.page,
    }


def _file(
    by_operation: dict[str, list[Outcome]],
    suite: str,
    peer: Peer,
    times: dict[str, float],
    failure: str | None,
) -> None:
    """Add one scheduler run to the outcomes of its operations."""
    from zerio_asyncio.bench.scheduler import SUITES  # noqa: PLC0415

    for name in SUITES[suite]:
        outcomes = by_operation.setdefault(name, [])
        outcome = next((found for found in outcomes if found.peer is peer), None)
        if outcome is None:
            outcome = Outcome(peer, ran=suite)
            outcomes.append(outcome)
        outcome.error = failure
        if name in times:
            outcome.samples.append({"ns": times[name]})


def _rotated(items: list[Any], turn: int) -> list[Any]:
    start = turn % len(items) if items else 0
    return items[start:] + items[:start]


def sample_of(figures: dict[str, Any]) -> Sample:
    """Turn the generator's totals into figures per request; BenchError if nothing was served."""
    requests, wall_s = figures["requests"], figures["wall_s"]
    if not requests:
        raise BenchError("no request was completed in the window")
    latency = figures["latency_us"]
    return {
        "cpu_us": figures["server_cpu_s"] / requests * 1e6,
        "user_us": figures["server_user_s"] / requests * 1e6,
        "system_us": figures["server_system_s"] / requests * 1e6,
        "requests_s": requests / wall_s,
        **{f"{name}_us": value for name, value in latency.items()},
        "server_busy": figures["server_cpu_s"] / wall_s,
        "load_busy": figures["load_cpu_s"] / wall_s,
    }


MILLION = 1e6


def sample_of_messages(first: dict[str, Any], last: dict[str, Any], load_s: float) -> Sample:
    """Turn a server's two accounts into figures per message; BenchError if there were none."""
    passed = {name: last[name] - first[name] for name in first}
    messages, wall_s = passed["messages"], passed["wall_ns"] / 1e9
    if not messages:
        raise BenchError("no message was received in the window")
    sample = {
        "message_ns": passed["cpu_ns"] / messages,
        "messages_s": messages / wall_s,
        "messages": float(messages),
        "server_busy": passed["cpu_ns"] / 1e9 / wall_s,
        "load_busy": load_s / wall_s,
    }
    if "blocks" in passed:  # the C server has no Python memory
        sample["blocks_per_million"] = passed["blocks"] / messages * MILLION
        sample["collections_per_million"] = passed["collections"] / messages * MILLION
        sample["system_share"] = passed["system_s"] * 1e9 / passed["cpu_ns"]
    return sample
