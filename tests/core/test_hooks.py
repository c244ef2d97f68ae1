"""What a loop class defines for the engine stands in core/hooks.pyx, and loops define it."""

from __future__ import annotations

import pathlib
import re

import pytest

import zerio_asyncio
from tests.loop.support import WINDOWS
from zerio_asyncio.core.hooks import LoopHooks

CORE = pathlib.Path(zerio_asyncio.__file__).parent / "core"
HOOKS = sorted(name for name in vars(LoopHooks) if not name.startswith("__"))


def test_the_engine_asks_a_loop_for_these_alone():
    texts = [path.read_text(encoding="utf-8") for path in CORE.glob("*.pyx")]
    asked = {name for text in texts for name in re.findall(r"self\.(_port_\w+)\(", text)}
    assert asked <= set(HOOKS)
    assert len(asked) == 3


@pytest.mark.parametrize("name", HOOKS)
def test_a_loop_defines_them(name):
    defined = getattr(zerio_asyncio.RioEventLoop, name) is not getattr(LoopHooks, name)
    assert defined or (name == "_port_packet" and not WINDOWS)  # nothing else has such packets


@pytest.mark.parametrize("name", HOOKS)
def test_one_that_is_missing_is_told(name):
    arguments = {"_port_ready": 1, "_port_accepted": 4, "_port_packet": 4, "_wake_waiters": 1}
    with pytest.raises(NotImplementedError):
        getattr(LoopHooks(), name)(*[None] * arguments[name])
