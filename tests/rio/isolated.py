"""Runs a function of a test module in a process of its own: for crashes, forks and limits."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

FAKE = "tests.wine.fake_rio"
"""What pytest runs with is what the function runs with, too."""

ROOT = Path(__file__).parent.parent.parent


def isolated(function: Any, *arguments: Any, seconds: float = 50) -> str:
    """Call ``function(*arguments)`` in a fresh interpreter; its output, or an assertion error.

    Arguments are literals. A crash shows as the signal's negative number.
    """
    call = f"{function.__name__}({', '.join(map(repr, arguments))})"
    before = "import faulthandler; faulthandler.enable(); "
    if FAKE in sys.modules:
        before += f"import {FAKE}; {FAKE}.install(); "
    code = f"{before}import {function.__module__} as m; m.{call}"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, f"{call} ended with {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout
