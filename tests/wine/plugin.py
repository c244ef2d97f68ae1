"""A plugin of pytest, under Wine: tells the rig of each test as it starts and ends.

``ZERIO_WINE_JOB`` names a folder. ``job.json`` in it says what is left out: ``words``, by file,
parts of names; ``over``, names of tests that have run already. One JSON object a line goes to
``reports`` there, at once: the next thing may be a crash.
"""

from __future__ import annotations

import json
import os
import pathlib
from typing import Any

import pytest


class Reporter:
    """Writes what happens, and deselects what is left out."""

    def __init__(self, folder: pathlib.Path) -> None:
        self._job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
        self._out = (folder / "reports").open("a", encoding="utf-8", newline="\n", buffering=1)
        self._outcome, self._detail = "passed", ""

    def send(self, **message: Any) -> None:
        self._out.write(json.dumps(message) + "\n")

    def _wants(self, item: pytest.Item) -> bool:
        file, _, name = item.nodeid.partition("::")
        words = self._job["words"].get(file, [])
        return item.nodeid not in self._job["over"] and not any(word in name for word in words)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        left_out = [item for item in items if not self._wants(item)]
        items[:] = [item for item in items if self._wants(item)]
        config.hook.pytest_deselected(items=left_out)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.send(event="broken", name=report.nodeid, detail=str(report.longrepr))

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._outcome, self._detail = "passed", ""
        self.send(event="start", name=nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._outcome = "failed"
            self._detail += report.longreprtext
        elif report.skipped and self._outcome == "passed":
            self._outcome = "skipped"

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self.send(event="end", name=nodeid, outcome=self._outcome, detail=self._detail)

    def pytest_sessionfinish(self) -> None:
        self.send(event="done")


def pytest_configure(config: pytest.Config) -> None:
    folder = os.environ.get("ZERIO_WINE_JOB")
    if folder:
        config.pluginmanager.register(Reporter(pathlib.Path(folder)))
