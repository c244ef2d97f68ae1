"""The engine's parts, through loops of our own; what asyncio demands of them is in tests/loop."""

from __future__ import annotations

import asyncio
import os

import pytest

import zerio_asyncio
from tests.loop.support import PROVIDERS


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "provider" in metafunc.fixturenames:
        wanted = os.environ.get("ZERIO_PROVIDER")
        metafunc.parametrize("provider", [wanted] if wanted else PROVIDERS)


@pytest.fixture
def make_loop(provider):
    made = []

    def make(**options):
        try:
            loop = zerio_asyncio.new_event_loop(
                zerio_asyncio.LoopOptions(provider=provider, **options)
            )
        except OSError as refusal:
            pytest.skip(f"the system refuses the provider {provider}: {refusal}")
        made.append(loop)
        return loop

    yield make
    for loop in made:
        if not loop.is_closed():
            loop.run_until_complete(asyncio.sleep(0))
            loop.close()


@pytest.fixture
def loop(make_loop):
    return make_loop()
