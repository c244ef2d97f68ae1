"""``python -m tests.cpython.table RECORDS...``: the table of docs/compatibility.md.

Takes the files that ``python -m tests.cpython --json`` has written, one a run.
"""

from __future__ import annotations

import json
import pathlib
import sys
from typing import Any

HEAD = ("CPython", "loop", "passed", "failed", "failed in the baseline", "excluded", "skipped")
ORDER = ("uring", "epoll", "asyncio", "uvloop")


def row(told: dict[str, Any]) -> tuple[str, ...]:
    """One run: sums of its records."""
    name = f"zerio, {told['provider']}" if told["loop"] == "zerio" else told["loop"]
    sums = told["counts"]
    passed = f"{sums['passed']} ({sums['on_its_loop']})"
    rest = (sums[column] for column in ("failed", "baseline", "excluded", "skipped"))
    version = f" {told['version']}" if told["loop"] == "uvloop" else ""
    return (told["python"], name + version, passed, *map(str, rest))


def table(runs: list[dict[str, Any]]) -> str:
    """Markdown, by version and loop."""

    def place(told: dict[str, Any]) -> tuple[Any, ...]:
        version = tuple(int(part) for part in told["python"].split("."))
        return version, ORDER.index(told["provider"] or told["loop"])

    lines = [HEAD, ("---",) * len(HEAD), *(row(told) for told in sorted(runs, key=place))]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    print(table([json.loads(pathlib.Path(name).read_text()) for name in sys.argv[1:]]))
