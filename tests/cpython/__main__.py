"""``python -m tests.cpython``: CPython's own tests of asyncio on our loop, or on another."""

from __future__ import annotations

import argparse
import json
import pathlib
import sys
from dataclasses import replace

from tests.cpython import loops, report
from tests.cpython.judge import Settings, judge, modules_of
from tests.cpython.processes import THIS_PYTHON


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m tests.cpython",
        description="Runs the package test.test_asyncio of this Python on a loop of your choice. "
        "The status is 0 if nothing failed that does not fail on the standard loop, too.",
    )
    made.add_argument("--loop", choices=loops.KINDS, default="zerio")
    made.add_argument("--provider", help="of zerio; without it, what a program would get")
    made.add_argument("--module", nargs="+", metavar="NAME", help="such as test_events; else all")
    made.add_argument("--package", default="test.test_asyncio", help="the package of the tests")
    made.add_argument("--limit", type=float, default=30.0, help="seconds for one test")
    made.add_argument("--jobs", type=int, default=2, help="processes at the same time")
    made.add_argument("--dev", action="store_true", help="run them with -X dev")
    made.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write every record")
    made.add_argument("--brief", action="store_true", help="no tracebacks")
    return made


def settings_of(chosen: argparse.Namespace) -> Settings:
    """What the command line asks for, on this Python."""
    options = ("-X", "dev") if chosen.dev else ()
    return Settings(
        kind=chosen.loop,
        provider=chosen.provider,
        package=chosen.package,
        limit=chosen.limit,
        jobs=chosen.jobs,
        interpreter=replace(THIS_PYTHON, command=(*THIS_PYTHON.command, *options)),
    )


def run(settings: Settings, modules: list[str], chosen: argparse.Namespace) -> int:
    """Judge the modules, print, and answer the status."""
    verdict = judge(settings, modules, lambda module: print(report.line_of(module), flush=True))
    print(report.text(settings, verdict, details=not chosen.brief))
    if chosen.json:
        chosen.json.write_text(json.dumps(report.as_json(settings, verdict), indent=1))
    return 0 if verdict.good else 1


def main(arguments: list[str] | None = None) -> int:
    """Run on this Python; the status."""
    chosen = parser().parse_args(arguments)
    settings = settings_of(chosen)
    try:
        known = modules_of(settings.package)
    except LookupError as error:
        print(f"{error}: it is in Debian's libpython3-testsuite, and pyenv installs it")
        return 2
    return run(settings, chosen.module or known, chosen)


if __name__ == "__main__":
    sys.exit(main())
