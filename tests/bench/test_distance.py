"""The distance of the two CPUs: measured for real, and what a run does when it changes."""

import math
import os
import time

import pytest

from tests.bench.test_measuring import SHORT, ready
from zerio_asyncio.bench import distance, processes, workloads
from zerio_asyncio.bench._native import ffi, lib
from zerio_asyncio.bench.distance import Cpus
from zerio_asyncio.bench.runner import TRIES, Plan
from zerio_asyncio.bench.system import cores


class Moved(Cpus):
    """CPUs at given distances; the last one stays."""

    def __init__(self, *distances: float) -> None:
        super().__init__(0, 1)
        self._distances = list(distances)
        self._nearest = 50.0

    def _look(self) -> float:
        self.last_ns = self._distances.pop(0) if len(self._distances) > 1 else self._distances[0]
        return self.last_ns


def test_two_cpus_are_some_nanoseconds_apart() -> None:
    mine = cores()
    if len(mine) < 2:
        pytest.skip("one CPU only")
    before = os.sched_getaffinity(0)
    found = ffi.new("uint64_t *")
    assert lib.distance_ns(mine[0], mine[1], found) == 0
    assert 1 < found[0] < 1_000_000
    assert os.sched_getaffinity(0) == before


@pytest.mark.parametrize(("first", "second"), [(0, 0), (-1, 0), (0, -1), (0, 1 << 20)])
def test_no_distance_between_what_are_not_two_cpus(first: int, second: int) -> None:
    assert lib.distance_ns(first, second, ffi.new("uint64_t *")) < 0


@pytest.mark.parametrize("pair", [(None, 1), (0, None), (1, 1)])
def test_without_two_cpus_they_count_as_near(pair: tuple[int | None, int | None]) -> None:
    cpus = Cpus(*pair)
    assert cpus.are_near()
    assert cpus.wait()
    assert cpus.last_ns == 0


def test_it_waits_until_they_are_near() -> None:
    cpus = Moved(300, 400, 300, 60)
    assert cpus.wait()
    assert cpus.last_ns == 60


def test_it_waits_no_longer_than_its_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distance, "PATIENCE_S", 0.1)
    assert not Moved(300).wait()


def measured(monkeypatch: pytest.MonkeyPatch, cpus: Cpus, end_of_patience: float = math.inf):
    """Outcome of one short measurement, and how often the load was run."""
    loads = 0
    run_load = processes.run_load

    def counted(*args: object, **kwargs: object):
        nonlocal loads
        loads += 1
        return run_load(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(processes, "run_load", counted)
    plan = Plan([(workloads.Workload("protocol", connections=2), [ready("c-epoll")])], [], SHORT)
    monkeypatch.setitem(plan.__dict__, "_cpus", cpus)
    monkeypatch.setitem(plan.__dict__, "_end_of_patience", end_of_patience)
    (row,) = plan.run(lambda _: None)
    (outcome,) = row.outcomes
    assert outcome.error is None
    return outcome, loads


def test_a_measurement_is_repeated_when_they_were_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    outcome, loads = measured(monkeypatch, Moved(50, 300, 50, 60))
    assert (outcome.repeated, outcome.apart, loads) == (1, 0, 2)
    assert [sample["distance_ns"] for sample in outcome.samples] == [60]


def test_the_last_try_is_kept_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distance, "PATIENCE_S", 0.01)
    outcome, loads = measured(monkeypatch, Moved(300))
    assert (outcome.repeated, outcome.apart, loads) == (TRIES - 1, 1, TRIES)
    assert [sample["distance_ns"] for sample in outcome.samples] == [300]


def test_patience_with_a_whole_run_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    outcome, loads = measured(monkeypatch, Moved(300), end_of_patience=-math.inf)
    assert (outcome.repeated, outcome.apart, loads) == (0, 1, 1)


def test_patience_with_a_run_is_twice_its_estimate() -> None:
    plan = Plan([(workloads.Workload("protocol", connections=2), [ready("c-epoll")])], [], SHORT)
    before = time.monotonic()
    assert before <= plan._end_of_patience - 2 * plan.seconds <= time.monotonic()
