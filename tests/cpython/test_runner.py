"""The judge itself: nothing that goes wrong in a test may look as if it went well."""

from __future__ import annotations

import json

import pytest

from tests.cpython.__main__ import main
from tests.cpython.exclusions import EXCLUSIONS, Exclusion
from tests.cpython.judge import Settings, judge, modules_of
from tests.cpython.table import table

PACKAGE = "tests.cpython.specimens"

pytestmark = pytest.mark.timeout(120)


EVERY_WAY = {
    "bad.Bad.test_1_fails": "failed",
    "bad.Bad.test_2_fails_everywhere": "baseline",
    "bad.Bad.test_3_fails_in_a_subtest": "baseline",
    "bad.Bad.test_4_crashes": "baseline",
    "bad.Bad.test_5_hangs": "baseline",
    "bad.Bad.test_6_passes": "passed",
}


def verdict_on(*modules, **settings):
    settings = {"limit": 20.0, "exclusions": (), "loopless": frozenset(), **settings}
    return judge(Settings(package=PACKAGE, **settings), modules)


def outcomes(verdict):
    return {record.name: record.outcome for record in verdict.records}


@pytest.mark.parametrize("kind", ["zerio", "asyncio"])
def test_what_is_good(kind):
    verdict = verdict_on("good", kind=kind)
    assert outcomes(verdict) == {
        "good.Good.test_passes": "passed",
        "good.Good.test_by_class_and_selector": "passed",
        "good.Good.test_skips": "skipped",
        "good.Good.test_fails_as_expected": "passed",
    }
    made = {record.name: record.loops for record in verdict.records}
    assert made["good.Good.test_passes"] == 1
    assert made["good.Good.test_by_class_and_selector"] == 2
    assert verdict.good


def test_failures_hangs_and_crashes_are_told_apart_and_end_nothing_else():
    verdict = verdict_on("bad", limit=2.0)
    assert outcomes(verdict) == EVERY_WAY
    details = {record.name: record.detail for record in verdict.records}
    assert "fails on zerio alone" in details["bad.Bad.test_1_fails"]
    assert "Segmentation fault" in details["bad.Bad.test_4_crashes"]
    assert "Timeout" in details["bad.Bad.test_5_hangs"]
    assert not verdict.good


def test_on_the_standard_loop_there_is_no_baseline_to_blame():
    found = outcomes(verdict_on("bad", kind="asyncio", limit=2.0))
    assert found["bad.Bad.test_1_fails"] == "passed"
    assert found["bad.Bad.test_2_fails_everywhere"] == "failed"
    assert found["bad.Bad.test_4_crashes"] == "crashed"
    assert found["bad.Bad.test_5_hangs"] == "hung"


def test_what_passes_alone_has_passed_on_its_second_run():
    verdict = verdict_on("sometimes")
    assert [(r.name, r.outcome, r.runs) for r in verdict.records] == [
        ("sometimes.Sometimes.test_1", "passed", 1),
        ("sometimes.Sometimes.test_2", "passed", 2),
    ]


def test_a_class_that_cannot_be_set_up_has_failed():
    verdict = verdict_on("unready")
    bad = [record for record in verdict.records if record.outcome == "failed"]
    assert len(bad) == 1
    assert "Unready" in bad[0].name
    assert not verdict.good


def test_a_module_for_another_platform_is_skipped():
    verdict = verdict_on("elsewhere")
    assert verdict.modules[0].skipped == "on purpose"
    assert verdict.good


def test_a_module_that_never_makes_our_loop_is_an_error():
    assert verdict_on("loopless").complaints == ["loopless never made a loop of zerio"]
    assert verdict_on("loopless", loopless=frozenset({"loopless"})).good


def test_a_process_that_does_not_end_well_is_an_error():
    verdict = verdict_on("stubborn")
    assert outcomes(verdict) == {
        "stubborn.Stubborn.test_passes": "passed",
        "stubborn (at its end)": "crashed",
    }
    assert not verdict.good


def test_a_module_that_does_not_exist_is_an_error():
    assert not verdict_on("absent").good


def test_exclusions_are_checked():
    fails = Exclusion("bad.Bad.test_1_*", "it fails on purpose")
    others = Exclusion("bad.Bad.test_[2-5]*", "so do they")
    verdict = verdict_on("bad", exclusions=(fails, others), limit=2.0)
    found = outcomes(verdict)
    assert found.pop("bad.Bad.test_6_passes") == "passed"
    assert set(found.values()) == {"excluded"}
    assert verdict.complaints == ["bad never made a loop of zerio"]

    verdict = verdict_on("good", exclusions=(Exclusion("good.Good.test_passes", "none"),))
    assert outcomes(verdict)["good.Good.test_passes"] == "excluded, but passed"
    assert verdict.complaints == ["good.Good.test_passes is excluded without need: it passed"]
    assert not verdict.good


def test_every_exclusion_has_its_own_reason():
    for exclusion in EXCLUSIONS:
        assert len(exclusion.reason) > 40, exclusion
        assert exclusion.pattern.count(".") == 2, exclusion


def test_the_command(tmp_path, capsys):
    written = tmp_path / "records.json"
    arguments = ["--package", PACKAGE, "--module", "good", "--json", str(written)]
    assert main([*arguments, "--provider", "epoll"]) == 0
    assert "good" in capsys.readouterr().out
    told = json.loads(written.read_text())
    assert (told["loop"], told["provider"]) == ("zerio", "epoll")
    assert told["counts"]["passed"] == 3
    assert main(["--package", PACKAGE, "--module", "unready"]) == 1
    told = capsys.readouterr().out
    assert "FAILED: setUpClass" in told
    assert "RuntimeError: on purpose" in told
    assert main(["--package", PACKAGE, "--module", "unready", "--brief"]) == 1
    assert "RuntimeError" not in capsys.readouterr().out


def test_a_python_without_the_package():
    with pytest.raises(LookupError, match="no package"):
        modules_of("absent.package")
    assert main(["--package", "absent.package"]) == 2


def test_the_table_is_in_the_order_of_versions_and_loops():
    counted = dict.fromkeys(("failed", "baseline", "excluded", "skipped"), 0)

    def run(python, loop, provider=None):
        counts = {**counted, "passed": 7, "on_its_loop": 5}
        told = {"python": python, "loop": loop, "provider": provider, "version": "1.0"}
        return {**told, "counts": counts}

    lines = table(
        [run("3.11.7", "uvloop"), run("3.9.1", "asyncio"), run("3.11.7", "zerio", "uring")]
    )
    assert lines.splitlines()[2:] == [
        "| 3.9.1 | asyncio | 7 (5) | 0 | 0 | 0 | 0 |",
        "| 3.11.7 | zerio, uring | 7 (5) | 0 | 0 | 0 | 0 |",
        "| 3.11.7 | uvloop 1.0 | 7 (5) | 0 | 0 | 0 | 0 |",
    ]
