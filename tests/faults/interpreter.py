"""Whether this interpreter bears an allocation that fails: ``tests.faults.interpreter MODULE``.

CPython 3.12.1 and 3.13.0 crash when a function has no memory; nothing of ours is loaded here.
"""

from __future__ import annotations

import sys
from typing import Any

from .failing import load


def make(failing: Any) -> object:
    """A function of which the first allocation fails."""
    failing.failing_begin(0)
    try:
        return lambda: 0
    finally:
        failing.failing_end()


if __name__ == "__main__":
    failing = load(sys.argv[1])
    failing.failing_install()
    for _ in range(10):
        try:
            make(failing)
        except MemoryError:
            continue
        sys.exit("no allocation failed")
