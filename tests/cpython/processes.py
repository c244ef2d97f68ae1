"""Runs tests of one module in processes, through crashes and hangs.

A test that crashes or hangs ends its process: it gets its record, and a new process goes on with
the tests after it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.cpython.child import Job

ROOT = pathlib.Path(__file__).parents[2]

GRACE = 20.0
"""Seconds beyond a test's limit in which its process must have ended by itself."""

BAD = frozenset({"failed", "hung", "crashed"})


@dataclasses.dataclass
class Record:
    """What became of one test.

    ``outcome``: passed, skipped, excluded, failed, hung, crashed, or ``baseline``: it fails with
    the standard loop on this machine, too.
    """

    name: str
    outcome: str
    seconds: float = 0.0
    loops: int = 0
    """Loops of the kind under judgement that it made."""
    detail: str = ""
    """A traceback, or why it was skipped or excluded."""
    runs: int = 1
    """2 if it failed at first and passed alone."""


@dataclasses.dataclass
class Module:
    """The records of one module."""

    name: str
    found: list[str] = dataclasses.field(default_factory=list)
    """Every test that it has."""
    records: list[Record] = dataclasses.field(default_factory=list)
    skipped: str | None = None
    """Why the module as a whole has nothing to run here."""
    seconds: float = 0.0


class Process:
    """A child at work, its records, and how it ended."""

    def __init__(self, job: Job, python_options: Sequence[str]) -> None:
        self.job = job
        self.found: list[str] | None = None
        self.skipped: str | None = None
        self.done = False
        self.records: list[Record] = []
        self._running: tuple[str, float] | None = None
        self._python_options = python_options

    def run(self) -> None:
        ours, theirs = os.pipe()
        command = [sys.executable, *self._python_options, "-m", "tests.cpython.child", str(theirs)]
        with tempfile.TemporaryFile() as output, os.fdopen(ours, "rb", buffering=0) as reports:
            child = subprocess.Popen(
                command,
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=(theirs,),
                start_new_session=True,  # what it leaves behind ends with it
            )
            os.close(theirs)
            with child:
                assert child.stdin is not None
                child.stdin.write(json.dumps(dataclasses.asdict(self.job)).encode())
                child.stdin.close()
                stuck = not self._follow(child, reports.fileno())
                status = _end(child, 0.0 if stuck else GRACE)
            output.seek(0)
            self._conclude(status, output.read().decode(errors="replace")[-8000:])

    def _follow(self, child: subprocess.Popen[bytes], reports: int) -> bool:
        """Take reports until the child ends; False if it has been silent for too long."""
        rest = b""
        heard = time.monotonic()
        while True:
            readable, _, _ = select.select([reports], [], [], 1.0)
            if readable:
                data = os.read(reports, 65536)
                if not data:
                    return True
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    self._take(json.loads(line))
                heard = time.monotonic()
            elif child.poll() is not None:
                return True  # something that it started holds the pipe
            elif time.monotonic() - heard > self.job.limit + GRACE:
                return False

    def _take(self, message: dict[str, Any]) -> None:
        event = message.pop("event")
        if event == "found":
            self.found = message["names"]
        elif event == "skipped":
            self.skipped, self.done = message["reason"], True
        elif event == "start":
            self._running = (message["name"], time.monotonic())
        elif event == "end":
            self._running = None
            self.records.append(Record(**message))
        elif event == "done":
            self.done = True

    def _conclude(self, status: int, output: str) -> None:
        if self._running is not None:
            name, began = self._running
            seconds = time.monotonic() - began
            outcome = "hung" if seconds > self.job.limit * 0.9 else "crashed"
            detail = f"status {status}\n{output}"
            self.records.append(Record(name, outcome, round(seconds, 3), 0, detail))
        elif not self.done or status != 0:
            what = "at its end" if self.done else "between tests"
            detail = f"the process ended {what} with status {status}\n{output}"
            self.records.append(Record(f"{self.job.module} ({what})", "crashed", detail=detail))


def _end(child: subprocess.Popen[bytes], patience: float) -> int:
    try:
        return child.wait(patience)
    except subprocess.TimeoutExpired:
        return -signal.SIGKILL
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)


def run_tests(job: Job, python_options: Sequence[str] = ()) -> Module:
    """Every test that ``job`` wants, in as many processes as that takes."""
    began = time.monotonic()
    result = Module(job.module)
    while True:
        process = Process(job, python_options)
        process.run()
        result.records += process.records
        result.found = result.found or process.found or []
        result.skipped = process.skipped
        if process.done or not process.records:
            break
        over = {record.name for record in result.records}
        left = [name for name in result.found if job.wants(name) and name not in over]
        if not left or left == job.chosen:
            break  # nothing to do, or no test more than last time
        job = dataclasses.replace(job, chosen=left)
    result.seconds = time.monotonic() - began
    return result
