"""Libraries that change asyncio, as installed: runs inside of runs, clocks, monitors, notebooks.

Each program runs in a process of its own, for what such a library has changed stays changed.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from ..loop.support import provider_refusal
from .support import ROOT

LONGEST = 100.0

NESTED = [[0, 1, 2, 3, 4, "two deep", 10000, [0, 1, 2], 6, "timeout", "child\n", True], 3000]
CELLS = [None, None, "'nested'", "'run'", "'awaited'", "3000"]

EXPECTED = {
    "nest_asyncio": NESTED,
    "nest_asyncio2": NESTED,
    "nest_asyncio, running": NESTED,
    "nest_asyncio2, running": NESTED,
    "freezegun": [0.0, [], [1], 3000],
    "looptime": [86400.0, 90000.0, [300, 200, 100], 90300.0, True],
    "aiodebug": [True, True, True],
}


def printed(program: str, kind: str) -> list:
    if refusal := provider_refusal(kind):
        pytest.skip(f"the system refuses the provider {kind}: {refusal}")
    command = [sys.executable, "-m", "tests.apps.patched", program, kind]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LONGEST)
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout.splitlines()[-1])


@pytest.mark.parametrize("program", EXPECTED)
def test_a_library_that_changes_asyncio(kind, program):
    if sys.version_info >= (3, 14) and program in {"nest_asyncio", "nest_asyncio, running"}:
        pytest.skip("nest_asyncio ended with 3.13, on every loop; nest_asyncio2 goes on")
    assert printed(program, kind) == EXPECTED[program]


@pytest.mark.parametrize("library", ["nest_asyncio", "nest_asyncio2"])
def test_runs_nested_in_the_cells_of_a_notebook(kind, library):
    named, *shown = printed(f"kernel, {library}", kind)
    assert kind in named or kind == "std"
    assert shown == CELLS
