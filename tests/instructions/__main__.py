"""Counts the instructions of one operation and compares them with what was kept.

    python -m tests.instructions            compare; the status is 1 if one needs 3 % more
    python -m tests.instructions --keep     keep what was counted

Instructions are the same on a busy machine, so a small loss is seen where times would hide it.
valgrind counts them, of Python and the core alike, on the provider ``epoll``: it does not know all
of io_uring. An operation's count is the difference between two runs, one of which does it three
times as often. Other Pythons and compilers need other counts: each has its own entry in kept.json,
and one without an entry is told and not judged.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

from tests.instructions.programs import PROGRAMS

KEPT = Path(__file__).with_name("kept.json")
MORE = 0.03
"""The share from which on more instructions are a failure."""

SECONDS = 300


def surroundings() -> str:
    """What the counts depend on, in a line."""
    compiler = subprocess.run(["gcc", "-dumpversion"], capture_output=True, text=True, check=True)
    return f"CPython {platform.python_version()}, gcc {compiler.stdout.strip()}"


def collected(name: str, count: int) -> int:
    """Instructions of one run."""
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]
    command += [sys.executable, "-m", "tests.instructions.programs", name, "epoll", str(count)]
    done = subprocess.run(
        command,
        env=os.environ | {"PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode or found is None:
        raise SystemExit(f"{name} failed:\n{done.stderr[-2000:]}")
    return int(found[1])


def of_one(name: str) -> int:
    """Instructions of one operation."""
    count = PROGRAMS[name][1]
    return round((collected(name, 3 * count) - collected(name, count)) / (2 * count))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.instructions")
    parser.add_argument("--keep", action="store_true", help="write what was counted to kept.json")
    keeps = parser.parse_args().keep
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        counts = dict(zip(PROGRAMS, pool.map(of_one, PROGRAMS), strict=True))
    all_kept = json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.exists() else {}
    here = surroundings()
    kept = all_kept.get(here, {})
    worse = []
    print(f"instructions an operation; {here}")
    for name, count in counts.items():
        before = kept.get(name)
        change = "" if before is None else f"{count / before - 1:+8.1%} of {before:,}"
        print(f"{name:12} {count:10,} {change}")
        if before is not None and count > before * (1 + MORE):
            worse.append(name)
    if keeps:
        all_kept[here] = counts
        KEPT.write_text(json.dumps(all_kept, indent=1) + "\n", encoding="utf-8")
        return 0
    if not kept:
        print(f"nothing was kept for {here}: not judged")
    if worse:
        print(f"ERROR: more instructions than before: {', '.join(worse)}")
    return int(bool(worse))


if __name__ == "__main__":
    sys.exit(main())
