"""Medians, spreads, ratios and their JSON form, from made-up samples."""

import json

import pytest

from zerio_asyncio.bench import report, workloads
from zerio_asyncio.bench.peers import Peer
from zerio_asyncio.bench.results import SCHEMA, Outcome, Row, document


def outcome(name: str, *values: float, **fields: bool) -> Outcome:
    samples = [
        {"cpu_us": v, "p50_us": 10 * v, "server_busy": 1.0, "load_busy": 0.5} for v in values
    ]
    return Outcome(Peer(name, name, "1.0", **fields), "protocol", None, samples)  # type: ignore[arg-type]


@pytest.fixture
def row() -> Row:
    outcomes = [
        outcome("uvloop", 8.0, 12.0, 10.0),
        outcome("c-epoll", 4.0, native=True),
        outcome("zerio", 5.0, 6.0, ours=True),
        outcome("asyncio"),
    ]
    return Row("protocol, 1 KiB × 50", "protocol", "cpu_us", outcomes, {"size": 1024})


def test_median_and_spread(row: Row) -> None:
    assert row.outcomes[0].median("cpu_us") == 10.0
    assert row.outcomes[0].spread("cpu_us") == (8.0, 12.0)
    assert row.outcomes[3].median("cpu_us") is None
    assert row.outcomes[3].spread("cpu_us") is None


def test_ratios(row: Row) -> None:
    assert row.ratio(row.outcomes[2], "uvloop") == 0.55
    assert row.ratio(row.outcomes[2], "c-epoll") == 1.375
    assert row.ratio(row.outcomes[2], "rloop") is None
    assert row.ratio(row.outcomes[3], "uvloop") is None


def test_spinning_is_held_against_spinning(row: Row) -> None:
    assert row.limit(outcome("zerio-spin", 1.0, spins=True)) == "c-epoll-spin"
    assert row.limit(row.outcomes[0]) == "c-epoll"


def test_json(row: Row) -> None:
    refused = [Peer("rloop", "rloop", "", "No module named 'rloop'")]
    text = json.dumps(document([row], refused, {"rounds": 3}))
    read = json.loads(text)
    assert read["schema"] == SCHEMA
    assert set(read) == {
        "schema",
        "when",
        "machine",
        "settings",
        "reference",
        "limit",
        "rows",
        "refused",
    }
    assert {"kernel", "processor", "cores", "python", "load_average"} == set(read["machine"])
    (line,) = read["rows"]
    assert (line["mode"], line["figure"], line["size"]) == ("protocol", "cpu_us", 1024)
    zerio = line["peers"][2]
    assert zerio["median"]["cpu_us"] == 5.5
    assert zerio["spread"]["cpu_us"] == [5.0, 6.0]
    assert zerio["ratio_reference"] == 0.55
    assert zerio["ratio_limit"] == 1.375
    assert zerio["interval_reference"] is None, "two rounds are too few"
    assert read["refused"] == [{"peer": "rloop", "reason": "No module named 'rloop'"}]


def test_the_sentence_has_the_figures(row: Row) -> None:
    text = report.summary([row])
    assert "5.50 µs CPU per request" in text
    assert "0.55× uvloop 1.0 (10.00)" in text
    assert "1.38× c-epoll 1.0 (4.00)" in text


def test_every_figure_can_be_said() -> None:
    for figure in ("cpu_us", "p50_us", "ns", "warm_bytes"):
        ours, other = (Outcome(Peer(n, n, ours=n == "zerio")) for n in ("zerio", "uvloop"))
        ours.samples, other.samples = [{figure: 3.0}], [{figure: 4.0}]
        text = report.summary([Row("row", "idle", figure, [ours, other])])
        assert "0.75× uvloop" in text


def test_without_ours_the_sentence_claims_nothing(row: Row) -> None:
    row.outcomes = row.outcomes[:2]
    assert report.summary([row]).startswith("Nothing to compare")


def test_a_weak_generator_is_noted(row: Row) -> None:
    row.outcomes[2].samples = [{"cpu_us": 5.0, "server_busy": 0.6, "load_busy": 0.99}]
    row.outcomes[3].error = "it fell over"
    notes = list(report.notes([row], []))
    assert any("generator was the bottleneck of zerio" in note for note in notes)
    assert any("asyncio failed: it fell over" in note for note in notes)


def test_a_busy_machine_is_noted(row: Row) -> None:
    row.outcomes[2].samples = [{"cpu_us": 5.0, "server_busy": 0.4, "load_busy": 0.3}]
    (note,) = report.notes([row], [])
    assert note.endswith("other work held the cores; try again (zerio)")


def test_rows_follow_what_is_asked() -> None:
    standard = workloads.choose(("protocol",), {})
    assert [(w.size, w.connections) for w in standard] == [
        (1024, 50),
        (1024, 500),
        (1024, 5000),
        (65536, 50),
    ]
    (own,) = workloads.choose(("protocol",), {"size": 100, "connections": 7, "depth": 2})
    assert (own.size, own.connections, own.depth) == (100, 7, 2)
    assert own.title == "protocol, 100 B × 7, 2 in flight"
    assert workloads.choose(("scheduler",), {"size": 100}) == []


def test_spinning_servers_take_part_in_ping_pong_only() -> None:
    spinning = Peer("c-epoll-spin", "C", native=True, spins=True)
    assert workloads.peers_for(workloads.Workload("protocol"), [spinning]) == []
    assert workloads.peers_for(workloads.Workload("pingpong"), [spinning]) == [spinning]
