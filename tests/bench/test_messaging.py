"""Servers of messages: every peer in both modes, the framing they are compared by, the report."""

import json
import struct
from pathlib import Path

import pytest
from hdrh.histogram import HdrHistogram

from zerio_asyncio.bench import latencies, peers, processes, report, workloads
from zerio_asyncio.bench.messaging import Framed
from zerio_asyncio.bench.peers import Peer
from zerio_asyncio.bench.results import BenchError, Outcome, Row
from zerio_asyncio.bench.runner import sample_of_messages

from .support import finish
from .test_measuring import LOOPS, run

BENCH = ("-m", "zerio_asyncio.bench")
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize("name", LOOPS)
@pytest.mark.parametrize("connections", [1, 5])
def test_messages_one_way_to_every_loop(name: str, connections: int) -> None:
    row = run(workloads.Workload("messaging", size=64, connections=connections), name)
    (outcome,) = row.outcomes
    assert outcome.error is None
    assert outcome.ran == ("zerio" if name.startswith("zerio") else "protocol")
    (sample,) = outcome.samples
    assert row.figure == "message_ns"
    assert sample["message_ns"] > 0
    assert sample["messages"] > 0
    assert sample["messages_s"] * sample["message_ns"] / 1e9 == pytest.approx(sample["server_busy"])
    assert sample["collections_per_million"] >= 0
    assert "blocks_per_million" in sample


@pytest.mark.parametrize("name", [*LOOPS, "c-epoll", "c-epoll-spin", "zerio-spin", "zerio-hybrid"])
@pytest.mark.parametrize(("size", "burst"), [(0, 1), (64, 5), (300_000, 3)])
def test_messages_come_back_from_every_server(name: str, size: int, burst: int) -> None:
    workload = workloads.Workload("messaging-latency", size=size, connections=3, burst=burst)
    row = run(workload, name)
    (outcome,) = row.outcomes
    assert outcome.error is None
    assert row.figure == "p50_us"
    (sample,) = outcome.samples
    assert 0 < sample["p50_us"] <= sample["p99_us"] <= sample["p9999_us"] <= sample["max_us"]
    (text,) = outcome.histograms
    assert HdrHistogram.decode(text).get_total_count() > 0


def test_bursts_at_their_times() -> None:
    workload = workloads.Workload(
        "messaging-latency", size=64, connections=2, burst=2, delay_us=1000, load_spins=False
    )
    (outcome,) = run(workload, "c-epoll").outcomes
    assert outcome.error is None
    assert outcome.samples[0]["requests_s"] > 0


@pytest.mark.parametrize("size", [0, 1, 300_000])
def test_the_limit_server_counts(size: int) -> None:
    workload = workloads.Workload("messaging", size=size, connections=3)
    (outcome,) = run(workload, "c-epoll").outcomes
    assert outcome.error is None
    assert outcome.ran == "native"
    assert outcome.samples[0]["messages_s"] > 0
    assert "blocks_per_million" not in outcome.samples[0]


def test_a_server_cannot_be_asked_where_its_input_ends() -> None:
    """The limit server must not spin on the end of its input, but serve on."""
    with processes.serving("c-epoll", "messaging-latency", None, 3) as (child, at):
        child.tell()
        before = child.answer(5)
        assert child._process.stdin is not None
        child._process.stdin.close()
        figures = processes.run_courier(at, None, measure_s=0.1, warmup_s=0.0)
    assert before["messages"] == 0
    assert figures["requests"] > 0


class Server:
    """Answers as a server would that has had so many messages."""

    def __init__(self, *messages: int) -> None:
        self.messages = list(messages)

    def tell(self) -> None:
        pass

    def answer(self, _: float) -> dict[str, int]:
        return {"messages": self.messages.pop(0)}


def test_all_messages_are_waited_for() -> None:
    server = Server(1, 2, 3)
    processes._await_messages(server, 3)  # type: ignore[arg-type]
    assert server.messages == []


def test_messages_too_many_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BenchError, match="3 messages were sent, 4 were received"):
        processes._await_messages(Server(2, 4), 3)  # type: ignore[arg-type]


def test_lost_messages_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "SLACK_S", 0.0)
    with pytest.raises(BenchError, match="3 messages were sent, 2 were received"):
        processes._await_messages(Server(2), 3)  # type: ignore[arg-type]


class Transport:
    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.aborted = False

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def abort(self) -> None:
        self.aborted = True


def frame(message: bytes) -> bytes:
    return struct.pack("<I", len(message)) + message


@pytest.mark.parametrize("step", [1, 2, 3, 5, 64, 1000, 10**6])
def test_framing_in_every_cut(step: int) -> None:
    known: dict[str, Framed] = {}
    got: list[tuple[str, bytes]] = []
    messages = [bytes([n % 256]) * (n * n % 701) for n in range(100)] + [b"", b"x" * 70_000, b""]
    stream = b"".join(map(frame, [b"ann", *messages]))
    protocol, transport = Framed(known, lambda who, what: got.append((who, what))), Transport()
    protocol.connection_made(transport)  # type: ignore[arg-type]
    for at in range(0, len(stream), step):
        protocol.data_received(stream[at : at + step])
    assert got == [("ann", message) for message in messages]
    assert transport.written == [frame(b"ann")]
    assert known == {"ann": protocol}
    protocol.connection_lost(None)
    assert known == {}


def test_answers_of_one_chunk_leave_together() -> None:
    protocol, transport = Framed({}, lambda who, what: protocol.send(what)), Transport()
    protocol.connection_made(transport)  # type: ignore[arg-type]
    protocol.data_received(b"".join(map(frame, [b"ann", b"1", b"22", b"333"])) + b"\4\0")
    assert transport.written == [frame(b"ann"), frame(b"1") + frame(b"22") + frame(b"333")]


def test_a_length_out_of_bounds_ends_the_connection() -> None:
    protocol, transport = Framed({}, lambda who, what: None), Transport()
    protocol.connection_made(transport)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="4294967295 bytes"):
        protocol.data_received(frame(b"ann") + b"\xff" * 4)
    assert transport.aborted


def test_figures_per_message() -> None:
    first = {"messages": 10, "cpu_ns": 100, "wall_ns": 0, "user_s": 0, "system_s": 0.0}
    first |= {"blocks": 50, "collections": 3}
    last = {"messages": 510, "cpu_ns": 5100, "wall_ns": 10_000, "user_s": 0, "system_s": 1e-6}
    last |= {"blocks": 51, "collections": 5}
    sample = sample_of_messages(first, last, 2.5e-6)
    assert sample["message_ns"] == 10
    assert sample["messages_s"] == pytest.approx(500 / 10e-6)
    assert sample["server_busy"] == pytest.approx(0.5)
    assert sample["load_busy"] == pytest.approx(0.25)
    assert sample["blocks_per_million"] == pytest.approx(2000)
    assert sample["collections_per_million"] == pytest.approx(4000)
    assert sample["system_share"] == pytest.approx(0.2)
    with pytest.raises(BenchError, match="no message"):
        sample_of_messages(first, first, 0.0)


def test_rows_follow_what_is_asked() -> None:
    standard = workloads.choose(("messaging", "messaging-latency"), {})
    assert [row.title for row in standard] == [
        "messaging, 64 B × 1",
        "messaging, 64 B × 50",
        "messaging-latency, 64 B × 1",
        "messaging-latency, 64 B × 10, bursts of 2, every 500 µs",
    ]
    given = {"size": 9, "burst": 3, "delay_us": 70, "depth": 5, "load_spins": False}
    one_way, back = workloads.choose(("messaging", "messaging-latency"), given)
    assert one_way == workloads.Workload("messaging", size=9, connections=1)
    assert (back.size, back.burst, back.delay_us, back.depth, back.spin) == (9, 3, 70, 1, False)
    assert back.settings == {
        "size": 9, "connections": 1, "depth": 1, "burst": 3, "delay_us": 70,
    }  # fmt: skip


def encoded(*values_ns: int) -> str:
    histogram = HdrHistogram(1, latencies.LATENCY_NS_MAX, 3, b64_wrap=True)
    for value in values_ns:
        histogram.record_value(value)
    return histogram.encode().decode("ascii")


def test_percentile_files_have_all_rounds(tmp_path: Path) -> None:
    outcome = Outcome(Peer("zerio", "zerio", ours=True), samples=[{"p50_us": 2.0}])
    outcome.histograms = [encoded(1000, 2000), encoded(3000, 500_000)]
    row = Row("messaging-latency, 64 B × 1, every 5 µs", "messaging-latency", "p50_us", [outcome])
    (path,) = latencies.write_files([row], tmp_path / "deep" / "er")
    assert path.name == "messaging-latency-64-B-1-every-5-us-zerio.hgrm"
    lines = path.read_text().splitlines()
    assert lines[0].split() == ["Value", "Percentile", "TotalCount", "1/(1-Percentile)"]
    assert lines[2].split()[0] == "1.000"
    assert [line.split()[2] for line in lines if line.split()[1:2] == ["1.000000000000"]] == ["4"]
    mean, deviation = lines[-3].replace(",", "").replace("]", "").split()[2::3]
    assert float(mean) == pytest.approx(126.5, rel=0.001)
    assert float(deviation) == pytest.approx(215.6, rel=0.001)


def test_tables_of_messages() -> None:
    from rich.console import Console

    outcome = Outcome(Peer("zerio", "zerio", ours=True), "zerio")
    outcome.samples = [
        {"message_ns": 80.0, "messages_s": 1e7, "blocks_per_million": 0.5, "p50_us": 2.0}
    ]
    outcome.histograms = [encoded(2000, 9000)]
    rows = [
        Row("one way", "messaging", "message_ns", [outcome, Outcome(Peer("uvloop", "uvloop"))]),
        Row("back", "messaging-latency", "p50_us", [outcome, Outcome(Peer("uvloop", "uvloop"))]),
    ]
    console = Console(width=110, record=True)
    report.show(console, rows, [])
    text = console.export_text()
    for part in ("80.0", "10,000,000", "0.50", "9.0", "80.0 ns CPU per message"):
        assert part in text
    assert "…" not in text


@pytest.mark.timeout(150)  # measures eight times and more, on a busy machine slowly
def test_the_command(tmp_path: Path) -> None:
    data, picture, folder = tmp_path / "f.json", tmp_path / "f.png", tmp_path / "hgrm"
    status, out, err = finish(
        *(*BENCH, "--rounds", "2", "--seconds", "0.1", "--warmup", "0.05"),
        *("--mode", "messaging", "--mode", "messaging-latency", "--load-wait", "block"),
        *("--connections", "3", "--burst", "2", "--delay", "500"),
        *("--peer", "asyncio", "--peer", "c-epoll", "--peer", "zerio", "--peer", "zerio-spin"),
        *("--json", str(data), "--plot", str(picture), "--hgrm", str(folder)),
    )
    assert (status, err) == (0, "")
    assert "messaging-latency, 64 B × 3, bursts of 2, every 500 µs" in out
    one_way, back = json.loads(data.read_text())["rows"]
    assert [peer["peer"] for peer in one_way["peers"]] == ["asyncio", "c-epoll", "zerio"]
    assert [peer["peer"] for peer in back["peers"]][3:] == ["zerio-spin"]
    assert (back["burst"], back["delay_us"]) == (2, 500)
    assert all(len(peer["hdr"]) == 2 for peer in back["peers"])
    assert picture.read_bytes().startswith(PNG)
    assert len(list(folder.glob("*.hgrm"))) == 4


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (("--burst", "0"), "burst must be"),
        (("--delay", "-1"), "delay_us must be"),
        (("--size", "-1"), "size must be"),
        (("--hgrm", "/nowhere/at/all"), "there is no folder /nowhere/at"),
    ],
)
def test_mistakes_are_told_in_one_line(option: tuple[str, str], message: str) -> None:
    status, _, err = finish(*BENCH, "--mode", "messaging-latency", *option)
    assert status == 2
    assert message in err
    assert len(err.splitlines()) == 1


def test_every_way_to_wait_is_a_peer() -> None:
    found = {name: peers.find(name) for name in workloads.WAITING_PEERS}
    assert all(peer.spins for peer in found.values())
    assert all(peer.refusal is None for peer in found.values())
