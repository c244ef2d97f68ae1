"""How sure ratios are, rounds until they are, and what changed between two runs."""

import json
import random
from pathlib import Path

import pytest

from zerio_asyncio.bench import compare, intervals, runner
from zerio_asyncio.bench.command import main
from zerio_asyncio.bench.peers import Peer
from zerio_asyncio.bench.results import BenchError, Outcome, Row, document
from zerio_asyncio.bench.settings import ROUNDS_MAX, Settings
from zerio_asyncio.bench.workloads import Workload

OURS = Peer("zerio", "zerio", ours=True)
REFERENCE = Peer("uvloop", "uvloop")


def row(ours: list[float], reference: list[float], title: str = "a row") -> Row:
    def outcome(peer: Peer, values: list[float]) -> Outcome:
        return Outcome(peer, samples=[{"cpu_us": value} for value in values])

    outcomes = [outcome(REFERENCE, reference), outcome(OURS, ours)]
    return Row(title, "protocol", "cpu_us", outcomes)


def test_rounds_belong_together() -> None:
    """A machine twice as slow in some rounds leaves no doubt about the ratio."""
    reference = [1.0, 2.0, 1.0, 2.0, 1.0]
    assert intervals.of_ratio([0.5 * value for value in reference], reference) == (0.5, 0.5)


def test_noise_makes_it_wide_and_rounds_make_it_narrow() -> None:
    draw = random.Random(1)

    def width(rounds: int) -> float:
        found = intervals.of_ratio(
            [draw.uniform(0.8, 1.2) for _ in range(rounds)],
            [draw.uniform(0.8, 1.2) for _ in range(rounds)],
        )
        assert found is not None
        assert found[0] < found[1]
        return found[1] - found[0]

    assert width(500) < width(5) / 2


def test_the_true_ratio_is_nearly_always_within() -> None:
    draw = random.Random(2)
    hits = 0
    for _ in range(100):
        mine = [0.9 * draw.gauss(1.0, 0.05) for _ in range(15)]
        other = [draw.gauss(1.0, 0.05) for _ in range(15)]
        found = intervals.of_ratio(mine, other)
        assert found is not None
        hits += found[0] <= 0.9 <= found[1]
    assert hits >= 85


@pytest.mark.parametrize(
    ("mine", "other"),
    [([1.0, 2.0], [1.0, 2.0]), ([1.0] * 3, [1.0] * 4), ([], []), ([1.0] * 3, [1.0, 0.0, 1.0])],
)
def test_none_without_enough_rounds(mine: list[float], other: list[float]) -> None:
    assert intervals.of_ratio(mine, other) is None


def test_sure_rows() -> None:
    assert row([0.5] * 3, [1.0] * 3).is_sure(0.01)
    assert not row([0.5] * 2, [1.0] * 2).is_sure(1.0), "too few rounds to know"
    assert not row([0.5, 1.0, 2.0], [1.0] * 3).is_sure(0.5)
    alone = row([0.5, 1.0, 2.0], [])
    assert alone.is_sure(0.01), "there is no ratio"
    failed = row([0.5, 1.0, 2.0], [1.0] * 3)
    failed.outcomes[1].error = "it fell over"
    assert failed.is_sure(0.01)


class Measuring:
    """In the place of a measurement: noise for ten rounds, and no difference after them."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, workload: Workload, outcome: Outcome, certificate: object) -> None:
        self.count += 1
        value = 1.0 + (self.count % 7 if len(outcome.samples) < 5 else 0)
        outcome.samples.append({"cpu_us": value})


@pytest.mark.parametrize(("sure", "most"), [(None, 5), (1e-9, ROUNDS_MAX), (0.5, ROUNDS_MAX - 1)])
def test_rounds_are_added_until_it_is_sure(sure: float | None, most: int) -> None:
    settings = Settings(rounds=5, sure=sure)
    plan = runner.Plan([(Workload("protocol"), [REFERENCE, OURS])], [], settings)
    object.__setattr__(plan, "_measure", Measuring())
    (found,) = plan.run(lambda step: None)
    rounds = len(found.outcomes[0].samples)
    assert rounds == len(found.outcomes[1].samples)
    assert rounds == most if sure is None else 5 < rounds <= most
    if sure == 0.5:
        assert found.is_sure(0.5)


def test_a_peer_that_fails_ends_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: object, workload: object, outcome: Outcome, certificate: object) -> None:
        raise BenchError("it fell over")

    monkeypatch.setattr(runner.Plan, "_load_near", fail)
    plan = runner.Plan([(Workload("protocol"), [REFERENCE, OURS])], [], Settings(sure=0.01))
    (found,) = plan.run(lambda step: None)
    assert [outcome.error for outcome in found.outcomes] == ["it fell over"] * 2


def test_changes_beyond_noise(tmp_path: Path) -> None:
    noise = [1.0, 1.01, 0.99, 1.02, 0.98]
    times = {"better": (1.0, 0.8), "worse": (0.8, 1.0), "same": (1.0, 1.0)}
    old = [row([r * b for r in noise], noise, title) for title, (b, _) in times.items()]
    slower = [2 * value for value in noise]  # another machine: only ratios count
    new = [row([r * a for r in slower], slower, title) for title, (_, a) in times.items()]
    path = tmp_path / "old.json"
    path.write_text(json.dumps(document(old, [], {})))
    found = list(compare.changes(compare.read(path), new))
    assert [change.verdict for change in found] == ["better", "worse", "same"]
    assert [change.title for change in found] == list(times)
    assert "zerio 1.000 -> 0.800 times uvloop (-20.0% to -20.0%)" in str(found[0])


def test_rows_that_one_run_lacks_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "old.json"
    path.write_text(json.dumps(document([row([1.0] * 3, [1.0] * 3, "another")], [], {})))
    assert list(compare.changes(compare.read(path), [row([1.0] * 3, [1.0] * 3)])) == []


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": 0}', None])
def test_what_is_no_result_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None
) -> None:
    path = tmp_path / "old.json"
    if text is not None:
        path.write_text(text)
    assert main(["--mode", "protocol", "--compare", str(path)]) == 2
    assert str(path) in capsys.readouterr().err


def test_a_width_must_be_positive(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--mode", "protocol", "--until-sure", "0"]) == 2
    assert "--until-sure must be positive" in capsys.readouterr().err
