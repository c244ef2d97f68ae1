"""setup.py where processes are spawned, as on Windows, and not forked: each imports it anew.

Cython writes its C in several processes. Where they are spawned, each reads setup.py again, and
must not begin to build there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from .sources import ROOT

SPAWNS = """
import multiprocessing, os, sys

multiprocessing.set_start_method("spawn", force=True)
with open(os.environ["STARTED"], "a") as file:
    file.write(" ".join(sys.orig_argv) + "\\n")
"""


@pytest.fixture
def tree(tmp_path):
    """A tree with what setup.py reads, and two small modules for it to compile."""
    pytest.importorskip("Cython", reason="needs Cython, of the extra dev")
    pytest.importorskip("setuptools", reason="needs setuptools, of the extra dev")
    shutil.copy(ROOT / "setup.py", tmp_path)
    left_out = shutil.ignore_patterns("*.so", "*.pyd", "__pycache__")
    rio = "zerio_asyncio/rio"
    shutil.copytree(ROOT / rio, tmp_path / rio, ignore=left_out)
    core = tmp_path / "zerio_asyncio" / "core"
    core.mkdir()
    for package in (core.parent, core):
        (package / "__init__.py").touch()
    for name in ("one", "two"):
        (core / f"{name}.pyx").write_text("cpdef int twice(int n):\n    return 2 * n\n")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(SPAWNS)
    return tmp_path


def test_no_process_begins_to_build_again(tree):
    started = tree / "started"
    done = subprocess.run(
        [sys.executable, "setup.py", "--name"],
        cwd=tree, capture_output=True, text=True, timeout=50,
        env={**os.environ, "PYTHONPATH": str(tree / "site"), "STARTED": str(started)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    written = {path.name for path in (tree / "zerio_asyncio" / "core").glob("*.c")}
    assert written == {"one.c", "two.c"}
    lines = started.read_text().splitlines()
    ours = [line for line in lines if "setup.py" in line]
    spawned = [line for line in lines if "spawn_main" in line]
    assert len(ours) == 1
    if (os.cpu_count() or 1) > 1:
        assert len(spawned) >= 2, "Cython had no processes of its own"
    assert "bootstrapping" not in done.stderr
