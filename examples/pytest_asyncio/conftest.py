"""Runs every asynchronous test of this folder on each provider, with pytest-asyncio 1.4 or later.

python -m pytest -c examples/pytest_asyncio/pytest.ini examples/pytest_asyncio
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import zerio_asyncio
from zerio_asyncio.rio import available

if TYPE_CHECKING:
    from collections.abc import Callable


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], Any]]:
    """Name each loop: the name appears in the test's id."""
    return {
        provider.name: partial(
            zerio_asyncio.new_event_loop, zerio_asyncio.LoopOptions(provider=provider.name)
        )
        for provider in available()
    }
