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
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.cpython.child import Job

ROOT = pathlib.Path(__file__).parents[2]

GRACE = 20.0
"""Seconds beyond a test's limit in which its process must have ended by itself."""

STARTS = 2
"""Processes that may be started for a module, if they end before they come to its tests."""

LOOK_S = 0.03
"""Seconds between two looks at what a child reports."""

BAD = frozenset({"failed", "hung", "crashed"})


@dataclasses.dataclass(frozen=True)
class Interpreter:
    """The Python that runs the tests: this one, or one of another system under Wine."""

    command: tuple[str, ...] = (sys.executable,)
    environment: Mapping[str, str] | None = None
    tree: pathlib.Path = ROOT
    """The folder that has this package for it."""
    spelled: Callable[[pathlib.Path], str] = str
    """How it names a file of this system."""


THIS_PYTHON = Interpreter()


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
    about: dict[str, str] = dataclasses.field(default_factory=dict)
    """Versions of the Python, of the loop and of the system that ran it."""


class Process:
    """A child at work, its records, and how it ended."""

    def __init__(self, job: Job, interpreter: Interpreter) -> None:
        self.job = job
        self.about: dict[str, str] = {}
        self.found: list[str] | None = None
        self.skipped: str | None = None
        self.done = False
        self.records: list[Record] = []
        self._running: tuple[str, float] | None = None
        self._interpreter = interpreter

    def run(self) -> None:
        """Have the child run, to its end or to ours."""
        python = self._interpreter
        with tempfile.TemporaryDirectory(prefix="asyncio-job-", ignore_cleanup_errors=True) as name:
            folder = pathlib.Path(name)
            (folder / "job.json").write_text(json.dumps(dataclasses.asdict(self.job)))
            (folder / "reports").touch()
            with (
                (folder / "reports").open("rb", buffering=0) as reports,
                subprocess.Popen(
                    [*python.command, "-m", "tests.cpython.child", python.spelled(folder)],
                    cwd=python.tree,
                    env=python.environment,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,  # a file is none that every Wine can write to
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # what it leaves behind ends with it
                ) as child,
            ):
                assert child.stdout is not None
                output: list[bytes] = []
                reader = threading.Thread(target=output.extend, args=(child.stdout,), daemon=True)
                reader.start()
                stuck = not self._follow(child, reports)
                status = _end(child, 0.0 if stuck else GRACE)
                reader.join(GRACE)
                self._conclude(status, b"".join(output).decode(errors="replace")[-8000:])

    def _follow(self, child: subprocess.Popen[bytes], reports: IO[bytes]) -> bool:
        """Take reports until the child ends; False if it has been silent for too long."""
        rest = b""
        heard = time.monotonic()
        while True:
            ended = child.poll() is not None  # asked first: what it wrote before is read below
            data = reports.read()
            if data:
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    self._take(json.loads(line))
                heard = time.monotonic()
            elif ended:
                return True
            elif time.monotonic() - heard > self.job.limit + GRACE:
                return False
            else:
                time.sleep(LOOK_S)

    def _take(self, message: dict[str, Any]) -> None:
        event = message.pop("event")
        if event == "about":
            self.about = message
        elif event == "found":
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
        child.kill()
        return child.wait()
    finally:
        if hasattr(os, "killpg"):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)


def run_tests(job: Job, interpreter: Interpreter) -> Module:
    """Every test that ``job`` wants, in as many processes as that takes."""
    began = time.monotonic()
    result = Module(job.module)
    starts = 0  # without a word of its tests
    while True:
        process = Process(job, interpreter)
        process.run()
        if process.found is None and not process.done:
            starts += 1
            if starts < STARTS:
                continue
        result.records += process.records
        result.found = result.found or process.found or []
        result.skipped = process.skipped
        result.about = result.about or process.about
        if process.done or not process.records:
            break
        over = {record.name for record in result.records}
        left = [name for name in result.found if job.wants(name) and name not in over]
        if not left or left == job.chosen:
            break  # nothing to do, or no test more than last time
        job = dataclasses.replace(job, chosen=left)
    result.seconds = time.monotonic() - began
    return result
