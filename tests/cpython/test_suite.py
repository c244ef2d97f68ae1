"""CPython's suite on each provider, without what takes long and says little about a loop.

The whole is ``python -m tests.cpython``, see README.md.
"""

from __future__ import annotations

import os

import pytest

from tests.cpython.judge import Settings, judge, modules_of
from tests.cpython.report import text
from tests.loop.support import provider_refusal

# Two thirds of test_tasks run on a loop with a clock of its own, and it takes a third of the time.
LONG = frozenset({"test_tasks"})

wanted = os.environ.get("ZERIO_PROVIDER")


@pytest.mark.parametrize("provider", [wanted] if wanted else ["uring", "epoll"])
@pytest.mark.timeout(300)
def test_nothing_fails_that_the_standard_loop_passes(provider):
    if refusal := provider_refusal(provider):
        pytest.skip(f"the system refuses the provider {provider}: {refusal}")
    settings = Settings(provider=provider)
    try:
        present = modules_of(settings.package)
    except LookupError as missing:
        pytest.skip(f"{missing}; it is in Debian's libpython3-testsuite")
    modules = [name for name in present if name not in settings.loopless | LONG]
    assert "test_events" in modules
    verdict = judge(settings, modules)
    assert verdict.good, "\n" + text(settings, verdict, details=True)
    # A suite that shrank without anybody's notice would be as green as this one.
    assert sum(record.outcome == "passed" for record in verdict.records) > 700
