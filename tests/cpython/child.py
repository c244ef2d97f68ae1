"""One process that runs tests of one module, and reports each as it starts and ends.

``python -m tests.cpython.child FOLDER`` reads a ``Job`` from ``job.json`` in the folder and writes
one JSON object a line to ``reports``: files, because they work between any two processes, those of
Wine included. What tests print goes to standard output and error.
"""

from __future__ import annotations

import dataclasses
import faulthandler
import fnmatch
import importlib
import json
import os
import pathlib
import platform
import signal
import sys
import tempfile
import threading
import time
import traceback
import unittest
from collections.abc import Iterator
from typing import Any

from tests.cpython import loops


@dataclasses.dataclass
class Job:
    """What one process has to do."""

    package: str
    module: str
    kind: str
    provider: str | None
    limit: float
    """Seconds for one test."""
    chosen: list[str] | None = None
    """Names of the tests to run; None runs all."""
    left_out: list[str] = dataclasses.field(default_factory=list)
    """Patterns of names."""

    def wants(self, name: str) -> bool:
        if self.chosen is not None and name not in self.chosen:
            return False
        return not any(fnmatch.fnmatchcase(name, pattern) for pattern in self.left_out)


class Reporter(unittest.TestResult):
    """Writes what happens to the parent, at once: the next thing may be a crash."""

    def __init__(self, job: Job, reports: pathlib.Path) -> None:
        super().__init__()
        self._job = job
        self._out = reports.open("a", encoding="utf-8", newline="\n", buffering=1)
        self._began = 0.0
        self._made = 0
        self._outcome, self._detail = "passed", ""

    def send(self, **message: Any) -> None:
        self._out.write(json.dumps(message) + "\n")

    def name_of(self, test: Any) -> str:
        return test.id().removeprefix(self._job.package + ".")

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        self._outcome, self._detail = "passed", ""
        self._began = time.monotonic()
        self.send(event="start", name=self.name_of(test))
        faulthandler.dump_traceback_later(self._job.limit, exit=True)

    def stopTest(self, test: unittest.TestCase) -> None:
        faulthandler.cancel_dump_traceback_later()
        super().stopTest(test)
        # Since the last test's end: IsolatedAsyncioTestCase makes its loop before the test starts.
        made, self._made = loops.Made.count - self._made, loops.Made.count
        self.send(
            event="end",
            name=self.name_of(test),
            outcome=self._outcome,
            seconds=round(time.monotonic() - self._began, 3),
            loops=made,
            detail=self._detail,
        )

    def _failed(self, test: Any, error: Any) -> None:
        self._outcome = "failed"
        self._detail += "".join(traceback.format_exception(*error))
        if not isinstance(test, unittest.TestCase):  # the set-up of a class or a module
            self.send(event="start", name=self.name_of(test))
            self.send(
                event="end",
                name=self.name_of(test),
                outcome="failed",
                seconds=0.0,
                loops=0,
                detail=self._detail,
            )

    def addError(self, test: Any, err: Any) -> None:
        self._failed(test, err)

    def addFailure(self, test: Any, err: Any) -> None:
        self._failed(test, err)

    def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:
        if err is not None:
            self._failed(test, err)

    def addUnexpectedSuccess(self, test: Any) -> None:
        self._outcome, self._detail = "failed", "passed, and was expected to fail"

    def addSkip(self, test: Any, reason: str) -> None:
        # A test may be skipped as a whole or within; what failed before stays failed.
        if self._outcome == "passed":
            self._outcome, self._detail = "skipped", reason


def each(suite: Any) -> Iterator[unittest.TestCase]:
    for test in suite:
        if isinstance(test, unittest.TestCase):
            yield test
        else:
            yield from each(test)


def run(job: Job, reports: pathlib.Path) -> None:
    """Install the loop, import the module, run what was chosen."""
    loops.install(job.kind, job.provider)
    reporter = Reporter(job, reports)
    reporter.send(
        event="about",
        python=platform.python_version(),
        system=platform.platform(terse=True),
        version=loops.version_of(job.kind),
    )
    try:
        module = importlib.import_module(f"{job.package}.{job.module}")
        suite = unittest.defaultTestLoader.loadTestsFromModule(module)
    except unittest.SkipTest as skip:
        reporter.send(event="skipped", reason=str(skip))
        return
    tests = list(each(suite))
    kept = [test for test in tests if job.wants(reporter.name_of(test))]
    reporter.send(event="found", names=[reporter.name_of(test) for test in tests])
    unittest.TestSuite(kept).run(reporter)
    reporter.send(event="done")


def main() -> None:
    folder = pathlib.Path(sys.argv[1])
    job = Job(**json.loads((folder / "job.json").read_text()))
    # The suite expects a shell's signals, whatever started us.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    faulthandler.enable()
    with tempfile.TemporaryDirectory(
        prefix="asyncio-tests-", ignore_cleanup_errors=True
    ) as directory:
        os.chdir(directory)
        tempfile.tempdir = directory
        try:
            run(job, folder / "reports")
        finally:
            os.chdir("/")
    # A thread or an executor that a test left behind is not to keep us.
    sys.stdout.flush()
    sys.stderr.flush()
    if threading.active_count() > 1:
        os._exit(0)


if __name__ == "__main__":
    main()
