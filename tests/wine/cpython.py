"""CPython's own tests of asyncio with the Windows CPython of the cache (tests/cpython/README.md).

That Python comes without its package ``test``; the one of a Linux CPython of the same minor version
is written in Python and the same for every system.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from tests.cpython import __main__ as runner
from tests.cpython import judge
from tests.cpython.exclusions import WINDOWS
from tests.cpython.processes import Interpreter

from . import windows_python, wine
from .places import Places, RigError, windows

MINOR = "3.13"

ASK = (
    "import pathlib, platform, test.test_asyncio as t; "
    "print(platform.python_version(), pathlib.Path(t.__file__).parents[1])"
)

NEEDED = ("__init__.py", "support", "test_asyncio", "certdata")


def find_package() -> tuple[str, Path]:
    """Version and folder of a package ``test`` of that minor version on this machine."""
    places = sorted(Path.home().glob(f".pyenv/versions/{MINOR}.*/bin/python"), reverse=True)
    for candidate in (sys.executable, shutil.which(f"python{MINOR}"), *map(str, places)):
        if candidate is None:
            continue
        asked = subprocess.run([candidate, "-c", ASK], capture_output=True, text=True)
        version, _, folder = asked.stdout.strip().partition(" ")
        if asked.returncode == 0 and version.startswith(f"{MINOR}."):
            return version, Path(folder)
    raise RigError(
        f"no CPython {MINOR} with its package test.test_asyncio on this machine: "
        f"pyenv installs it, and Debian's libpython{MINOR}-testsuite where there is one"
    )


def install_package(places: Places) -> str:
    """Copy what the tests of asyncio need, if it is not there; the version it is of."""
    target = places.python / "Lib" / "test"
    origin = target / "version"
    if not origin.exists():
        version, folder = find_package()
        shutil.rmtree(target, ignore_errors=True)
        for name in NEEDED:
            source = folder / name
            if source.is_dir():
                skip = shutil.ignore_patterns("__pycache__")
                shutil.copytree(source, target / name, ignore=skip)
            else:
                target.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, target)
        origin.write_text(version)
    return origin.read_text()


def run(places: Places, arguments: list[str]) -> int:
    """Run the tests as ``arguments`` of ``python -m tests.cpython`` say; the status."""
    if not places.site.exists():
        raise RigError(f"nothing is built in {places.cache}: run python -m tests.wine build")
    chosen = runner.parser().parse_args(arguments)
    environment = wine.environment(places)
    if chosen.loop == "winloop":
        windows_python.fetch_peers(places)
        environment["PYTHONPATH"] += f";{windows(places.peers)}"
    version = install_package(places)
    print(f"CPython's tests of asyncio, as of {version}", flush=True)
    options = ["-X", "dev"] if chosen.dev else []
    settings = replace(
        runner.settings_of(chosen),
        interpreter=Interpreter(
            tuple(wine.command(places, *options)), environment, places.site, windows
        ),
        exclusions=WINDOWS.exclusions,
        collapsed=WINDOWS.collapsed,
        loopless=WINDOWS.loopless,
    )
    known = judge.modules_in([places.python / "Lib" / "test" / "test_asyncio"])
    with wine.server(places):
        return runner.run(settings, chosen.module or known, chosen)
