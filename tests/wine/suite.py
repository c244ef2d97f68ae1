"""Run files of tests one by one under Wine and count what they say."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from . import wine
from .places import Places, RigError, windows

# One line a file; what is here is known to pass under Wine, and has to. A word with "!" before it
# is a test that does not.
GREEN = Path(__file__).resolve().parent / "green.txt"

FILE_TIMEOUT_S = 180
TEST_TIMEOUT_S = 60


@dataclass
class Outcome:
    """Of one file of tests."""

    name: str
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0
    trouble: str = ""

    @property
    def good(self) -> bool:
        """Whether something ran and nothing failed."""
        return not self.failed and not self.trouble and self.passed + self.skipped > 0


def green() -> dict[str, list[str]]:
    """The files that are known to pass, each with pytest's options for what does not."""
    found = {}
    for line in GREEN.read_text().splitlines():
        name, *known = line.partition("#")[0].split() or [""]
        if name:
            left_out = " and ".join(f"not {word.removeprefix('!')}" for word in known)
            found[name] = ["-k", left_out] if left_out else []
    return found


def files(places: Places, named: list[str]) -> list[str]:
    """Each file of tests that ``named`` (files, folders, or a file with ``::test``) means."""
    found = []
    for one in named:
        path = places.site / one.partition("::")[0]
        if path.is_dir():
            inside = sorted(path.rglob("test_*.py"))
            found += [str(file.relative_to(places.site)) for file in inside]
        elif path.is_file():
            found.append(one)
        else:
            raise RigError(f"{one}: there is no such file of tests")
    return found


def _count(report: Path, outcome: Outcome) -> None:
    for suite in ElementTree.parse(report).getroot().iter("testsuite"):
        keys = ("tests", "failures", "errors", "skipped")
        number = {key: int(suite.get(key, "0")) for key in keys}
        bad = number["failures"] + number["errors"]
        outcome.failed += bad
        outcome.skipped += number["skipped"]
        outcome.passed += number["tests"] - bad - number["skipped"]


def run(places: Places, name: str, options: list[str]) -> Outcome:
    """Run one file; its log and its report stay in the cache."""
    places.results.mkdir(parents=True, exist_ok=True)
    stem = name.replace("/", ".").replace("::", "-").replace("[", "-").replace("]", "")
    log, report = places.results / f"{stem}.log", places.results / f"{stem}.xml"
    report.unlink(missing_ok=True)
    began = time.monotonic()
    status = wine.logged(
        places, log, FILE_TIMEOUT_S, "-m", "pytest", "-p", "no:cacheprovider",
        f"--timeout={TEST_TIMEOUT_S}", f"--junitxml={windows(report)}", *options,
        name.replace("/", "\\", name.partition("::")[0].count("/")),
    )  # fmt: skip
    outcome = Outcome(name, seconds=time.monotonic() - began)
    if report.exists():
        _count(report, outcome)
    if status is None:
        outcome.trouble = f"stopped after {FILE_TIMEOUT_S} s"
    elif not report.exists() or status not in {0, 1}:
        outcome.trouble = f"ended with status {status}"
    if not outcome.good:
        print(log.read_text(errors="replace")[-6000:])
    return outcome


def show(outcomes: list[Outcome]) -> None:
    """Print the table."""
    width = max((len(one.name) for one in outcomes), default=0)
    print(f"\n{'':{width}}  passed  failed  skipped")
    for one in outcomes:
        line = f"{one.name:{width}}{one.passed:8}{one.failed:8}{one.skipped:9}"
        print(f"{line}  {one.trouble}".rstrip())
    total = [sum(getattr(one, key) for one in outcomes) for key in ("passed", "failed", "skipped")]
    print(f"{'all':{width}}{total[0]:8}{total[1]:8}{total[2]:9}")


def run_all(places: Places, named: list[str], options: list[str]) -> bool:
    """Run every file; whether all of them are good."""
    if not places.site.exists():
        raise RigError(f"nothing is built in {places.cache}: run python -m tests.wine build")
    outcomes = []
    chosen = {} if named else green()
    for name in files(places, named or list(chosen)):
        outcome = run(places, name, [*options, *chosen.get(name, [])])
        print(
            f"{outcome.name}: {outcome.passed} passed, {outcome.failed} failed, "
            f"{outcome.skipped} skipped in {outcome.seconds:.0f} s {outcome.trouble}".rstrip(),
            flush=True,
        )
        outcomes.append(outcome)
    wine.stop(places)
    show(outcomes)
    return all(one.good for one in outcomes)
