"""What the tests of subprocesses share."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .support import WINDOWS

PYTHON = sys.executable

KILLED = 1 if WINDOWS else -signal.SIGKILL
"""The status of a child that was killed: on Windows it is what TerminateProcess was told."""


PLAIN_LINES = """
import sys
for stream in filter(None, (sys.stdout, sys.stderr)):
    stream.reconfigure(newline="\\n")
"""
"""For a child on Windows: lines end there as they do elsewhere."""


async def program(code: str, *arguments: str, **options: Any) -> asyncio.subprocess.Process:
    """A child that runs some Python, without what makes its start slow."""
    code = (PLAIN_LINES if WINDOWS else "") + textwrap.dedent(code)
    return await asyncio.create_subprocess_exec(
        PYTHON, "-I", "-S", "-c", code, *arguments, **options
    )


@pytest.fixture
def watched(loop: asyncio.AbstractEventLoop) -> Iterator[asyncio.AbstractEventLoop]:
    """Before 3.12 the standard loop's subprocesses ask the policy for its child watcher."""
    asyncio.set_event_loop(loop)
    yield loop
    asyncio.set_event_loop(None)


def is_gone(pid: int) -> bool:
    """Neither running nor a zombie."""
    return not os.path.exists(f"/proc/{pid}")


def children() -> set[int]:
    """Processes whose parent we are, zombies too; Windows knows neither."""
    if WINDOWS:
        return set()
    found = set()
    for task in os.listdir("/proc/self/task"):
        with contextlib.suppress(FileNotFoundError):  # a thread that has just ended
            text = Path(f"/proc/self/task/{task}/children").read_text()
            found.update(map(int, text.split()))
    return found


@pytest.fixture
def no_children_left() -> Iterator[None]:
    before = children()
    yield
    assert children() <= before, "a child was left running or not waited for"
