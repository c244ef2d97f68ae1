"""Each allocation of a scenario fails once: an error, no crash, no hang, and the loop closes.

The standard loop goes first: what is asked for here, it does.
"""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest

from tests.loop.support import PROVIDERS, WINDOWS, provider_refusal

from .failing import build
from .scenarios import OURS, SCENARIOS

ROOT = pathlib.Path(__file__).parents[2]

RUNS = int(os.environ.get("ZERIO_FAULT_RUNS", "40"))
"""Of one scenario, spread over its allocations (some hundred); 100000 tries each."""

KINDS = ("std", *PROVIDERS)

pytestmark = [
    pytest.mark.skipif(WINDOWS, reason="each run is a fork"),
    pytest.mark.timeout(600),
]


@pytest.fixture(scope="session")
def failing(tmp_path_factory):
    module = build(tmp_path_factory.mktemp("failing"))
    command = [sys.executable, "-m", "tests.faults.interpreter", str(module)]
    status = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=60).returncode
    if status < 0:
        pytest.skip(
            f"the interpreter itself dies of signal {-status} when a function has no memory"
        )
    assert status == 0
    return module


def run(failing, kind, scenario):
    command = [sys.executable, "-m", "tests.faults.allocations"]
    command += [str(failing), kind, scenario, str(RUNS)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=580)


@pytest.fixture(scope="session")
def of_the_standard_loop(failing):
    """What came of each scenario there; CPython 3.15.0 dies in its own modules."""
    done = {name: run(failing, "std", name) for name in SCENARIOS if name not in OURS}
    for name, process in done.items():
        if "WRONG: SIG" in process.stdout:
            pytest.skip(f"the interpreter dies under the standard loop, too ({name})")
    return done


@pytest.mark.parametrize(
    ("kind", "scenario"),
    [(k, s) for k in KINDS for s in SCENARIOS if k != "std" or s not in OURS],
)
def test_an_allocation_that_fails_is_an_error(failing, of_the_standard_loop, kind, scenario):
    if kind != "std" and (refusal := provider_refusal(kind)):
        pytest.skip(f"the system refuses the provider {kind}: {refusal}")
    done = of_the_standard_loop[scenario] if kind == "std" else run(failing, kind, scenario)
    said = f"{done.stdout}\n{done.stderr}"
    assert done.returncode == 0, said
    assert done.stdout.splitlines()[-1] == "0", said
    assert "ended with an error" in done.stdout, f"nothing failed: {said}"
