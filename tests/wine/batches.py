"""Several files of tests in one process under Wine, through crashes and hangs.

A test that ends its process, or makes it hang, has failed; a new process goes on behind it. What
fails is run again, alone, and then once more: Wine itself fails now and then, and so do programs on
a busy machine.
"""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import wine
from .places import Places, windows

TEST_TIMEOUT_S = 60
GOOD = frozenset({0, 1, 5})
"""Statuses of pytest: all passed, some failed, nothing was left to do."""

STARTS = 2
"""Processes that may be started for a test, if they end before they come to it."""

PROCESS = "(the process)"
"""Stands for a test in a record of what no test did."""

MOST_AGAIN = 5
"""Failures of a batch that are run again. More are no accident."""

RUNS_ALONE = 2

SILENCE_S = 180
"""Without a word for so long, a process is ended. A test may allow itself more than the limit."""


@dataclass
class Record:
    """What became of one test: passed, failed or skipped."""

    name: str
    outcome: str
    detail: str = ""
    runs: int = 1
    """More than 1 if it failed at first and passed alone."""


@dataclass
class Batch:
    """Files of tests, or single tests of files, and what became of them."""

    names: list[str]
    words: dict[str, list[str]]
    """By file: parts of the names of tests that are left out."""
    options: list[str]
    """For pytest."""
    records: list[Record] = field(default_factory=list)


@dataclass
class Start:
    """What one process told."""

    records: list[Record] = field(default_factory=list)
    running: str | None = None
    done: bool = False
    heard: float = field(default_factory=time.monotonic)

    def take(self, message: dict[str, Any]) -> None:
        """One line of its reports."""
        self.heard = time.monotonic()
        event = message.pop("event")
        if event == "start":
            self.running = message["name"]
        elif event == "end":
            self.running = None
            self.records.append(Record(**message))
        elif event == "broken":
            self.records.append(Record(message["name"], "failed", message["detail"]))
        elif event == "done":
            self.done = True


def run_batch(places: Places, batch: Batch, log: Path) -> None:
    """Run every test of the batch, in as many processes as that takes."""
    _run_through(places, batch, log)
    failures = [record for record in batch.records if record.outcome == "failed"]
    for number, record in enumerate(failures[:MOST_AGAIN]):
        if "::" in record.name and not record.name.endswith(PROCESS):
            for run in range(RUNS_ALONE):
                alone = Batch([record.name], {}, batch.options)
                _run_through(places, alone, log.with_suffix(f".{number}.{run}.log"))
                if [one.outcome for one in alone.records] == ["passed"]:
                    record.outcome, record.runs = "passed", 2 + run
                    break


def _run_through(places: Places, batch: Batch, log: Path) -> None:
    starts = 0  # without a test
    while True:
        start, trouble = _run_once(places, batch, log)
        batch.records += start.records
        if start.running is not None:
            batch.records.append(Record(start.running, "failed", trouble))
            continue
        if not trouble:
            return
        if not start.records and not start.done:  # it did not get as far as to a test
            starts += 1
            if starts < STARTS:
                continue
        batch.records.append(Record(f"{batch.names[0]}::{PROCESS}", "failed", trouble))
        if start.done or not start.records:
            return


def _run_once(places: Places, batch: Batch, log: Path) -> tuple[Start, str]:
    """One process; what it told, and how it ended if that was not well."""
    with tempfile.TemporaryDirectory(prefix="wine-job-") as name:
        folder = Path(name)
        over = [record.name for record in batch.records]
        (folder / "job.json").write_text(json.dumps({"words": batch.words, "over": over}))
        reports = folder / "reports"
        reports.touch()
        start = Start()
        with reports.open("rb", buffering=0) as lines:
            rest = b""

            def watch() -> bool:
                nonlocal rest
                *whole, rest = (rest + lines.read()).split(b"\n")
                for line in whole:
                    start.take(json.loads(line))
                return time.monotonic() - start.heard < SILENCE_S

            status = wine.logged(
                places, log, watch, {"ZERIO_WINE_JOB": windows(folder)},
                "-m", "pytest", "-p", "no:cacheprovider", "-p", "tests.wine.plugin",
                f"--timeout={TEST_TIMEOUT_S}", *batch.options,
                *[one.replace("/", "\\", one.partition("::")[0].count("/")) for one in batch.names],
            )  # fmt: skip
            watch()
    told = log.read_text(errors="replace")[-6000:]
    if status is None:
        return start, f"said nothing for {SILENCE_S} s\n{told}"
    if not start.done or status not in GOOD:
        return start, f"ended with status {status}\n{told}"
    return start, ""
