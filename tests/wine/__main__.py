"""``python -m tests.wine setup|build|test|cpython|doctor``: Windows CPython under Wine."""

from __future__ import annotations

import argparse
import itertools
import os
import signal
import sys
from pathlib import Path

from . import wine
from .places import Places, RigError, default_cache


def parse(arguments: list[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """Read the command line; options that are not ours are pytest's."""
    parser = argparse.ArgumentParser(prog="python -m tests.wine", description=__doc__)
    parser.add_argument(
        "--cache", type=Path, default=default_cache(), help="(%(default)s, or ZERIO_WINE_CACHE)"
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("setup", help="Windows CPython, wheels and Wine's files, into the cache")
    commands.add_parser("build", help="cross-build this tree and install it into the cache")
    commands.add_parser(
        "cpython", add_help=False, help="CPython's own tests of asyncio, see tests/cpython"
    )
    test = commands.add_parser("test", help="run files of tests, by default those of green.txt")
    test.add_argument("--fake-rio", action="store_true", help="on the provider winsock")
    doctor = commands.add_parser("doctor", help="python -m zerio_asyncio doctor, with its options")
    doctor.add_argument("--fake-rio", action="store_true", help="with what winsock needs")
    return parser.parse_known_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Do one command; the exit status."""
    chosen, rest = parse(arguments)
    places = Places(chosen.cache.absolute())

    def end(number: int, _: object) -> None:
        """A time limit from outside leaves no server of Wine's behind, and so nothing under it."""
        wine.stop(places)
        os._exit(128 + number)

    signal.signal(signal.SIGTERM, end)
    try:
        if chosen.command == "cpython":
            from . import cpython

            return cpython.run(places, rest)
        if chosen.command == "test":
            from . import suite

            options = list(itertools.dropwhile(lambda one: not one.startswith("-"), rest))
            named = rest[: len(rest) - len(options)]
            return 0 if suite.run_all(places, named, options, chosen.fake_rio) else 1
        if chosen.command == "doctor":
            module = ["tests.wine.doctor"] if chosen.fake_rio else ["zerio_asyncio", "doctor"]
            print(wine.output(places, "-m", *module, *rest))
            return 0
        if rest:
            raise RigError(f"{chosen.command} takes no {rest[0]}")
        if chosen.command == "setup":
            from . import windows_python

            windows_python.set_up(places)
        else:
            from . import building

            building.build(places)
    except RigError as error:
        print(f"tests.wine: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
