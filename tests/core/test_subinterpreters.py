"""The compiled modules belong to one interpreter: another one of the process is told so."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
try:
    import zerio_asyncio
except ImportError as error:
    print(error)
"""


@pytest.mark.skipif(sys.version_info < (3, 14), reason="concurrent.interpreters is new in 3.14")
@pytest.mark.parametrize("imported", [False, True], ids=["first", "after the main one"])
def test_a_subinterpreter_cannot_import_it(imported):
    program = f"""
from concurrent import interpreters
{"import zerio_asyncio" if imported else ""}
other = interpreters.create()
other.exec({PROGRAM!r})
other.close()
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "zerio_asyncio" in done.stdout
    assert "does not support loading in subinterpreters" in done.stdout
