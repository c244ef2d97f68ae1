"""Compiled classes bear what Python lets anybody do: half made, made twice, copied, pickled.

Nothing crashes or hangs, whatever is called after a bare ``__new__``; and nothing can be copied or
pickled, because two objects would own one slice, one chunk, one place in the heap of timers.
"""

from __future__ import annotations

import pathlib
import subprocess
import sys

import pytest

from tests.loop.support import PROVIDERS, WINDOWS, provider_refusal

from .specimens import LIVE, classes, compiled_classes

ROOT = pathlib.Path(__file__).parents[2]

pytestmark = [
    pytest.mark.skipif(WINDOWS, reason="each deed is a fork"),
    pytest.mark.timeout(300),
]

ENOUGH = 12


@pytest.fixture(scope="module", params=sorted(classes()))
def outcomes(request):
    provider = next(name for name in PROVIDERS if not provider_refusal(name))
    command = [sys.executable, "-m", "tests.faults.half_made", request.param, provider]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done
    return request.param, dict(line.split("\t") for line in done.stdout.splitlines())


def test_nothing_crashes_or_hangs(outcomes):
    name, deeds = outcomes
    assert len(deeds) > ENOUGH
    crashed = {deed: what for deed, what in deeds.items() if what.startswith("SIG") or not what}
    assert not crashed, f"{len(crashed)} of {len(deeds)} deeds with {name}: {crashed}"


def test_copies_and_pickles_are_type_errors(outcomes):
    name, deeds = outcomes
    words = (": copy", ": deepcopy", ": pickle", ": __reduce")
    copying = {deed: what for deed, what in deeds.items() if any(word in deed for word in words)}
    assert len(copying) >= 15
    allowed = {deed: what for deed, what in copying.items() if what != "raised TypeError"}
    assert not allowed, f"{name}: {allowed}"


def test_there_is_no_way_to_set_a_state(outcomes):
    name, deeds = outcomes
    setting = {deed: what for deed, what in deeds.items() if ": state " in deed}
    assert setting
    refused = ("raised AttributeError", "raised TypeError")
    allowed = {deed: what for deed, what in setting.items() if what not in refused}
    assert not allowed, f"{name}: {allowed}"


def test_a_live_object_is_one(outcomes):
    """The deeds with live objects mean something: without a deed, all goes well."""
    name, deeds = outcomes
    if name in LIVE:
        assert deeds["live: nothing"] == "went"


def test_the_classes_are_found():
    found = compiled_classes()
    assert {"Engine", "Handle", "StreamTransport", "SliceView", "SendingRing"} <= set(found)
    assert set(LIVE) - {"RioEventLoop"} <= set(found)
