"""Every peer in every mode, shortly: real processes, real figures, verified bytes."""

import sys

import pytest

from zerio_asyncio.bench import peers, processes, scheduler, system, workloads
from zerio_asyncio.bench.report import notes
from zerio_asyncio.bench.results import BenchError
from zerio_asyncio.bench.runner import Plan, sample_of
from zerio_asyncio.bench.settings import Settings

LOOPS = ("asyncio", "uvloop", "rloop", "zerio-uring", "zerio-epoll")
GIL = getattr(sys, "_is_gil_enabled", lambda: True)()
SHORT = Settings(
    rounds=1,
    warmup_s=0.02,
    measure_s=0.05,
    server_core=None,
    load_core=None,
    scheduler_count=1000,
    scheduler_repeats=1,
)


def ready(name: str) -> peers.Peer:
    peer = peers.find(name)
    if peer.refusal is not None:
        pytest.skip(f"{name}: {peer.refusal}")
    return peer


def run(workload: workloads.Workload, *names: str, settings: Settings = SHORT):
    plan = Plan([(workload, [ready(name) for name in names])], [], settings)
    (row,) = plan.run(lambda _: None)
    return row


@pytest.mark.parametrize("name", LOOPS)
@pytest.mark.parametrize("mode", ["protocol", "buffered", "registered", "streams", "sock"])
def test_every_mode_on_every_loop(name: str, mode: str) -> None:
    row = run(workloads.Workload(mode, connections=5), name)
    (outcome,) = row.outcomes
    assert outcome.error is None
    (sample,) = outcome.samples
    assert sample["cpu_us"] > 0
    assert sample["requests_s"] > 0
    assert 0 < sample["p50_us"] <= sample["p99_us"] <= sample["max_us"]
    with_registered = name.startswith("zerio")
    expected = mode if mode != "registered" or with_registered else "protocol"
    assert outcome.ran == expected
    assert outcome.provider == (name.partition("-")[2] or None)


@pytest.mark.parametrize("name", [*LOOPS, "c-epoll"])
@pytest.mark.parametrize("size", [1, 1024, 60_000])
def test_datagrams(name: str, size: int) -> None:
    row = run(workloads.Workload("datagram", size=size, connections=3), name)
    (outcome,) = row.outcomes
    assert outcome.error is None
    assert outcome.ran == ("native" if name == "c-epoll" else "datagram")
    assert outcome.samples[0]["cpu_us"] > 0
    assert outcome.samples[0]["requests_s"] > 0


@pytest.mark.parametrize("name", LOOPS)
def test_loops_in_threads(name: str) -> None:
    """One row a number of loops; the tables tell what more of them make of a request."""
    chosen = workloads.choose(("threads",), {"connections": 8})
    assert [row.title for row in chosen] == [
        "threads, 1 KiB × 8, 1 loop",
        "threads, 1 KiB × 8, 2 loops",
    ]
    rows = [run(workload, name) for workload in chosen]
    for row, loops in zip(rows, (1, 2), strict=True):
        (outcome,) = row.outcomes
        assert outcome.error is None
        assert outcome.samples[0]["cpu_us"] > 0
        assert row.settings["loops"] == loops
        assert outcome.ran == f"GIL {'on' if GIL else 'off'}"
        assert outcome.provider == (name.partition("-")[2] or None)
    (note,) = [note for note in notes(rows, []) if "one loop alone" in note]
    assert note.startswith("threads, 1 KiB × 8, 2 loops: ")


def test_where_loops_in_threads_run() -> None:
    """On CPUs of their own as long as there are any; the load's is the last."""
    mine = system.cores()
    settings = Settings(server_core=mine[0], load_core=mine[-1])
    others = [core for core in mine if core not in (mine[0], mine[-1])]
    assert settings.cores_of(1) == mine[:1]
    assert settings.cores_of(len(mine)) == [mine[0], *others, mine[-1]]
    assert SHORT.cores_of(2) == []


@pytest.mark.parametrize("name", LOOPS)
def test_large_pipelined_messages_come_back_whole(name: str) -> None:
    workload = workloads.Workload("protocol", size=300_000, connections=3, depth=3)
    (outcome,) = run(workload, name).outcomes
    assert outcome.error is None
    assert outcome.samples


@pytest.mark.parametrize("name", ["c-epoll", "c-epoll-spin"])
@pytest.mark.parametrize("size", [1, 1024, 1_000_000])
def test_the_limit_server(name: str, size: int) -> None:
    workload = workloads.Workload("protocol", size=size, connections=5, depth=2)
    (outcome,) = run(workload, name).outcomes
    assert outcome.error is None
    assert outcome.ran == "native"
    assert outcome.samples[0]["requests_s"] > 0


def test_ping_pong_compares_latencies() -> None:
    row = run(workloads.Workload("pingpong", connections=1), "asyncio", "c-epoll")
    assert row.figure == "p50_us"
    assert row.outcomes[0].median("p50_us")


def test_rounds_go_in_turn() -> None:
    import dataclasses

    settings = dataclasses.replace(SHORT, rounds=3)
    chosen = [ready("asyncio"), ready("c-epoll")]
    plan = Plan([(workloads.Workload("protocol"), chosen)], chosen[:1], settings)
    steps: list[str] = []
    rows = plan.run(steps.append)
    names = [step.rpartition(": ")[2] for step in steps]
    pair = ["asyncio", "C epoll"]
    assert names == [*pair, *pair[::-1], *pair, "asyncio", "asyncio", "asyncio"]
    assert len(steps) == plan.steps
    assert [len(outcome.samples) for outcome in rows[0].outcomes] == [3, 3]


@pytest.mark.parametrize("name", LOOPS)
@pytest.mark.parametrize("suite", workloads.SCHEDULERS)
def test_the_scheduler_of_every_loop(name: str, suite: str) -> None:
    rows = Plan([], [ready(name)], SHORT, (suite,)).run(lambda _: None)
    assert [row.title for row in rows] == list(scheduler.SUITES[suite])
    for row in rows:
        assert row.outcomes[0].error is None
        assert row.outcomes[0].samples[0]["ns"] > 0


@pytest.mark.parametrize("name", LOOPS)
def test_memory_of_idle_connections(name: str) -> None:
    row = run(workloads.Workload("idle", connections=200), name)
    (outcome,) = row.outcomes
    assert outcome.error is None
    assert set(outcome.samples[0]) == {"idle_bytes", "warm_bytes", "closed_bytes", "start_bytes"}
    assert outcome.samples[0]["start_bytes"] > 1_000_000


def test_a_server_that_cannot_start_is_an_error_not_a_crash() -> None:
    missing = peers.Peer("nobody", "nobody")
    plan = Plan([(workloads.Workload("protocol"), [missing, ready("c-epoll")])], [], SHORT)
    (row,) = plan.run(lambda _: None)
    assert row.outcomes[0].error
    assert not row.outcomes[0].samples
    assert row.outcomes[1].samples


def test_more_connections_than_descriptors_is_an_error_that_tells_the_cure() -> None:
    with processes.server("c-epoll", "protocol", None, 10) as at:
        with pytest.raises(BenchError, match=r"descriptors.*hard limit|connect"):
            processes.run_load(at, None, connections=100_000, measure_s=0.1, warmup_s=0.0)


def test_a_window_without_requests_is_no_measurement() -> None:
    with pytest.raises(BenchError, match="no request"):
        sample_of({"requests": 0, "wall_s": 1.0})


def test_servers_end_with_their_block() -> None:
    import os

    with processes.server("asyncio", "protocol", None, 10) as at:
        os.kill(at.pid, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(at.pid, 0)
