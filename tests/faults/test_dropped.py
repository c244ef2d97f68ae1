"""What the collector shows of a loop can be looked at, and a loop that is dropped goes in order."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import pytest

from tests.loop.support import PROVIDERS, WINDOWS, provider_refusal

ROOT = pathlib.Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(WINDOWS, reason="descriptors are counted in /proc")


@pytest.fixture(params=("std", *PROVIDERS))
def kind(request):
    if request.param != "std" and (refusal := provider_refusal(request.param)):
        pytest.skip(f"the system refuses the provider {request.param}: {refusal}")
    return request.param


def run(deed: str, kind: str, *options: str) -> None:
    command = [sys.executable, *options, "-m", "tests.faults.dropped", deed, kind]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "done\n"


def test_the_collector_shows_no_list_with_holes(kind):
    run("look", kind)


@pytest.mark.parametrize("action", ["ignore", "error"])
def test_a_loop_dropped_unclosed_leaves_nothing(kind, action):
    run("drop", kind, "-W", f"{action}::ResourceWarning")


@pytest.mark.parametrize("action", ["ignore", "error"])
def test_a_loop_kept_until_the_interpreter_ends(kind, action):
    run("exit", kind, "-W", f"{action}::ResourceWarning")
